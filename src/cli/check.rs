//! `keyward config check`: whether a configuration file is valid, for CI. Only the file and the manifests that it names
//! are read: no store, no key, no secret and no gateway. Names that only a store may have are notes.

use std::io;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use keyward_api::wire::PlanProblem;
use keyward_app::config::{Config, ConfigError};
use keyward_app::{FileCheck, Services, refused_plan};

const EXAMPLES: &str = "\
Variables and files of secrets may be missing. Names that the file does not
declare are reported as notes: the store may have them. `keyward plan` reads the
secrets, and compares with the store.

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
    /// Names that the file does not declare. The store may have them.
    not_in_file: Vec<PlanProblem>,
    /// What is accepted, and most likely means something else.
    warnings: Vec<PlanProblem>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self::Check { file } = self;
        let file = file.as_deref().or(global.config.as_deref());
        match Config::load(file, global.data.as_deref()) {
            // Also without a file a gateway starts; there is nothing to check, and the path may be misspelt.
            Ok(config) if !config.file().exists() => Err(without_file(&config)),
            Ok(config) => {
                let checked = Services::check(&config).await?;
                let (file, not_in_file) = (config.file().to_owned(), checked.not_in_file());
                let FileCheck { problems, warnings, .. } = checked;
                report(global, CheckResult { file, problems, not_in_file, warnings })
            }
            Err(ConfigError::Problems(problems)) => {
                let file = file.map(ToOwned::to_owned).unwrap_or_default();
                let problems = refused_plan(&problems).problems;
                let (not_in_file, warnings) = (Vec::new(), Vec::new());
                report(global, CheckResult { file, problems, not_in_file, warnings })
            }
            // The usual hint is for a gateway, which also starts without a file.
            Err(error) if is_missing(&error) => {
                Err(Failure::from(error).hint("name a file that exists"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn is_missing(error: &ConfigError) -> bool {
    matches!(error, ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn without_file(config: &Config) -> Failure {
    let message = format!("there is no configuration file, {}", config.file().display());
    Failure::new(Exit::Failed, message).hint("name it: `keyward config check FILE`")
}

fn report(global: &Global, checked: CheckResult) -> Result<(), Failure> {
    let file = checked.file.display();
    let is_valid = checked.problems.is_empty();
    if !global.json {
        output::notes("warning", checked.warnings.iter().map(|warning| &warning.text));
        output::notes("note", checked.not_in_file.iter().map(|absent| &absent.text));
        if !checked.not_in_file.is_empty() {
            output::note(&format!("note: the store may have them: `keyward plan {file}` compares"));
        }
    }
    if is_valid || global.json {
        output::show(global.json, &checked, |_| format!("{file} is valid\n"))?;
    }
    match is_valid {
        true => Ok(()),
        false if global.json => Err(Failure::silent(Exit::Failed)),
        false => Err(Failure::refused_configuration(&checked.problems)),
    }
}
