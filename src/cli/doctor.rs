//! `keyward doctor`: diagnoses the installation, and prints a remedy for each problem. It creates
//! nothing; the only change is that opening the store repairs what a crash left. With a program, it examines
//! the program instead (`probe.rs`).
//!
//! Each part of the diagnosis has one file. A part is skipped if it needs a part that failed.

mod access;
mod apps;
mod authority;
mod configuration;
mod data;
mod gateway;
mod installation;
mod key;
mod private;
mod probe;
mod processes;
mod reach;
mod replicas;
mod report;
mod settings;
mod store;

use std::ffi::OsString;

use clap::Args as Arguments;

use self::gateway::GatewayState;
use self::installation::{CheckedInstallation, Resources};
use self::report::DoctorReport;
use super::client::Client;
use super::environment::DEFAULT_AGENT;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use keyward_app::Services;

#[derive(Debug, Arguments)]
#[command(after_help = "examples:\n  keyward doctor\n  keyward doctor -- python app.py\n  \
                        keyward doctor --agent claude --json -- npm test\n\n\
                        exit code: 0 if no check failed, else 1; warnings do not count;\n126 and \
                        127 when CMD cannot be run, as `run` has them")]
pub(crate) struct Args {
    /// the agent whose placeholders the program gets
    #[arg(long, default_value = DEFAULT_AGENT)]
    pub(super) agent: String,
    /// run this program, send nothing, and report whether it uses the gateway
    #[arg(last = true, value_name = "CMD")]
    pub(super) program: Vec<OsString>,
}

impl Args {
    /// Whether a program is given; it must run in an unchanged process environment.
    pub(crate) fn has_program(&self) -> bool {
        !self.program.is_empty()
    }

    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let report = match self.has_program() {
            true => Box::pin(probe::run(global, &self.agent, &self.program)).await?,
            false => Box::pin(check(global)).await,
        };
        output::show(global.json, &report, |report| report.text(output::colours()))?;
        if report.failed() { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
    }
}

/// Runs all checks, each after those that it needs.
async fn check(global: &Global) -> DoctorReport {
    let mut report = DoctorReport::default();
    // Remedies name the options that were given: a running gateway needs no others.
    let named = configuration::named(global, &mut report).await;
    let config = named.and_then(|named| configuration::read(&named, &mut report));
    let resources = match (global.data_dir(), config) {
        (Ok(data), Some(config)) => {
            let install = CheckedInstallation { global, data, config };
            Box::pin(check_installation(&install, &mut report)).await
        }
        (Ok(data), None) => {
            data::check(&data, &mut report);
            None
        }
        // The check of the configuration reports the same error.
        (Err(_), _) => None,
    };
    let connections = resources.map_or_else(Vec::new, |resources| resources.connections);
    settings::check(&mut report);
    private::check(&connections, &mut report);
    report
}

/// The checks of an install whose configuration can be read.
async fn check_installation(
    install: &CheckedInstallation<'_>,
    report: &mut DoctorReport,
) -> Option<Resources> {
    let has_data = data::check(&install.data, report);
    let found = gateway::check(install, report).await;
    let serves = matches!(found, GatewayState::Running(_));
    let owner = data::owner_of(install);
    // Files that root creates here would lock the gateway out.
    let opens_files = data::may_open(owner, serves, install, report);
    let keys = key::check(install, serves, owner, report);
    if let (GatewayState::Running(client), Some(keys)) = (&found, &keys) {
        key::compare(client, keys, report).await;
    }
    let (mut opens, mut signs) = (false, false);
    if opens_files || serves {
        opens = store::check(install, keys, serves, report).await;
        signs = authority::check(install, &found, report).await;
    }
    authority::clock(install, report);
    let is_new = !Services::are_stored(&install.config);
    let may_judge = opens_files && (is_new || has_data && opens && signs);
    configuration::judge(install, &found, may_judge, report).await;
    let client = match found {
        GatewayState::Running(client) => Some(*client),
        // Every file that the services create if it is missing exists.
        GatewayState::Absent if has_data && opens && signs => {
            Client::open(install.global).await.ok()
        }
        GatewayState::Absent => None,
    };
    let client = client.as_ref();
    if client.is_none() && opens_files && !is_new {
        let message = "agents, connections and plugins were not checked: the store was not opened";
        report.ok("connections", message);
    }
    let mut resources = None;
    if let Some(client) = client {
        resources = access::check(install, client, report).await;
        if resources.is_some() {
            access::check_plugin(install, client, report).await;
        }
    }
    let connections =
        resources.as_ref().map_or(&[][..], |resources: &Resources| &resources.connections);
    reach::check(install, client, resources.as_ref(), report).await;
    private::check_variables(install, connections, report);
    store::check_backups(install, report);
    resources
}
