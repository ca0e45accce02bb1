//! Checks the configuration and reports all of its errors.

use super::report::DoctorReport;
use crate::cli::settings::Global;
use crate::config::{Config, ConfigError};
use keyward_rules::provider::document::Problem;

const ID: &str = "config";

/// The configuration, when it can be read.
pub(super) fn read(global: &Global, report: &mut DoctorReport) -> Option<Config> {
    match Config::load(global.config.as_deref(), global.data.as_deref()) {
        Ok(config) => {
            report.ok(ID, "the configuration is valid");
            Some(config)
        }
        Err(ConfigError::Problems(problems)) => {
            for problem in problems {
                let remedy = problem.remedy.clone();
                let told = Problem { remedy: String::new(), ..problem };
                report.fail(ID, told.to_string(), remedy);
            }
            None
        }
        Err(error) => {
            let hint = error.hint().unwrap_or("check its path, and whether this user can read it");
            report.fail(ID, error.to_string(), hint);
            None
        }
    }
}
