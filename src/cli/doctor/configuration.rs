//! Checks the configuration and reports all of its errors: those of the file, and those that `keyward plan` finds.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::gateway::GatewayState;
use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use keyward_api::wire::{PlanProblem, PlanRequest, PlanView, Status};
use keyward_app::Services;
use keyward_app::config::{Config, ConfigError, VariableSource};
use keyward_rules::provider::document::Problem;

const ID: &str = "config";

/// The options with the configuration file of the running gateway of this machine, unless another one is named. `None` if
/// that file cannot be read: the default one would be judged as the gateway's.
pub(super) async fn named(global: &Global, report: &mut DoctorReport) -> Option<Global> {
    let Some(file) = file_of_gateway(global).await else { return Some(global.clone()) };
    match File::open(&file) {
        Ok(_) => Some(Global { config: Some(file), ..global.clone() }),
        Err(error) => {
            let message =
                format!("the gateway runs with {}, which cannot be read: {error}", file.display());
            let hint = "run this as the gateway's user, where that file is; without it, only the data directory \
                        is checked";
            report.warn(ID, message, hint);
            None
        }
    }
}

/// `None` also for the default file, which may be absent.
async fn file_of_gateway(global: &Global) -> Option<PathBuf> {
    if global.config.is_some() || VariableSource::Process.path("KEYWARD_CONFIG").is_some() {
        return None;
    }
    let client = Client::running_here(global).await?;
    let Status { config, data, .. } = client.status().await?;
    let is_default = Path::new(&config) == Path::new(&data).join("keyward.yaml");
    (!config.is_empty() && !is_default).then(|| config.into())
}

/// The configuration, when it can be read.
pub(super) fn read(global: &Global, report: &mut DoctorReport) -> Option<Config> {
    match Config::load(global.config.as_deref(), global.data.as_deref()) {
        Ok(config) => Some(config),
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

/// Judges names, rules and secrets as a start or a reload would: a running gateway is asked, because it has its own
/// environment. `opens`: this process may open what the gateway opens.
pub(super) async fn judge(
    install: &CheckedInstallation<'_>,
    found: &GatewayState,
    opens: bool,
    report: &mut DoctorReport,
) {
    let plan = match found {
        GatewayState::Running(client) => client.post("/api/v1/plan", &PlanRequest::default()).await,
        GatewayState::Absent if opens => {
            Box::pin(Services::plan(&install.config)).await.map_err(Failure::from)
        }
        GatewayState::Absent => Err(Failure::new(Exit::Failed, "the store was not opened")),
    };
    let hint = match found {
        GatewayState::Running(_) => "`keyward reload` would refuse this configuration",
        GatewayState::Absent => {
            "`keyward serve` would refuse this configuration in the environment of this command"
        }
    };
    match plan {
        Ok(PlanView { problems, .. }) if problems.is_empty() => {
            report.ok(ID, "the configuration is valid");
        }
        Ok(PlanView { problems, .. }) => {
            for problem in &problems {
                report.fail(ID, message(problem), problem.remedy.as_deref().unwrap_or(hint));
            }
        }
        Err(failure) => {
            let why = failure.message();
            let message =
                format!("the file is valid; its secrets, rules and names were not checked ({why})");
            report.ok(ID, message);
        }
    }
}

/// Without the remedy, which is the hint.
fn message(problem: &PlanProblem) -> String {
    let remedy = problem.remedy.as_ref().map(|remedy| format!("; {remedy}"));
    let text = problem.text.as_str();
    remedy.and_then(|remedy| text.strip_suffix(&*remedy)).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_of_an_error_of_the_file_is_its_hint_and_not_in_its_message() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keyward.yaml");
        std::fs::write(&file, "listen: { proxy: here }\n").unwrap();
        let data = Some(dir.path().join("data"));
        let global = Global { config: Some(file), data, ..Global::default() };
        let mut report = DoctorReport::default();
        assert!(read(&global, &mut report).is_none());
        let [told] = &report.checks[..] else { panic!("{report:?}") };
        let message = "keyward.yaml:1: listen.proxy: `here` is not an address with a port";
        assert!(told.message.ends_with(message), "{told:?}");
        assert_eq!(told.hint.as_deref(), Some("write numbers, such as `127.0.0.1:8080`"));
    }

    #[test]
    fn the_message_of_a_problem_omits_its_remedy() {
        let problem = |text: &str, remedy: Option<&str>| PlanProblem {
            text: text.to_owned(),
            file: None,
            line: None,
            path: None,
            message: String::new(),
            remedy: remedy.map(str::to_owned),
        };
        assert_eq!(message(&problem("a.yaml:1: x; y", Some("y"))), "a.yaml:1: x");
        assert_eq!(message(&problem("a.yaml:1: x; y", None)), "a.yaml:1: x; y");
    }
}
