//! `keyward config check`: whether a configuration file is valid, for CI. Only the file and the manifests that it names
//! are read: no store, no key, no secret and no gateway.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use crate::app::{Services, refused_plan};
use crate::config::{Config, ConfigError};
use keyward_api::wire::PlanProblem;

const EXAMPLES: &str = "\
Variables and files of secrets may be missing. `keyward plan` reads them, and compares with the store.

examples:
  keyward config check keyward.yaml
  keyward --json config check keyward.yaml

exit codes: 0 valid, 1 not valid; every problem is printed with its line";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// check a file and print every problem with its line
    #[command(after_help = EXAMPLES)]
    Check {
        /// configuration file; default: the gateway's own
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Serialize)]
struct CheckResult {
    file: PathBuf,
    problems: Vec<PlanProblem>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self::Check { file } = self;
        let file = file.as_deref().or(global.config.as_deref());
        match Config::load(file, global.data.as_deref()) {
            Ok(config) => {
                let problems = Services::check(&config).await?.problems;
                let text = format!("{} is valid\n", config.file().display());
                report(global, CheckResult { file: config.file().to_owned(), problems }, &text)
            }
            Err(ConfigError::Problems(problems)) => {
                let file = file.map(ToOwned::to_owned).unwrap_or_default();
                let problems = refused_plan(&problems).problems;
                report(global, CheckResult { file, problems }, "")
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn report(global: &Global, checked: CheckResult, valid: &str) -> Result<(), Failure> {
    let is_valid = checked.problems.is_empty();
    if is_valid || global.json {
        output::show(global.json, &checked, |_| valid.to_owned())?;
    }
    match is_valid {
        true => Ok(()),
        false if global.json => Err(Failure::silent(Exit::Failed)),
        false => {
            let texts = checked.problems.into_iter().map(|problem| problem.text).collect();
            Err(Failure::several(texts).hint("a start or a reload would refuse this configuration"))
        }
    }
}
