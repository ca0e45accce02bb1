//! `keyward doctor`: diagnoses the installation, and prints a remedy for each problem. It creates
//! nothing; the only change is that opening the store repairs what a crash left. With a program, it runs
//! the program against a probe instead (`probe.rs`).
//!
//! Each part of the diagnosis has one file. A part is skipped if it needs a part that failed.

mod access;
mod apps;
mod authority;
mod configuration;
mod data;
mod gateway;
mod key;
mod owner;
mod plugins;
mod private;
mod probe;
mod processes;
mod reach;
mod report;
mod settings;
mod store;
mod variables;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as Arguments;

use self::gateway::Found;
use self::report::Report;
use super::client::Client;
use super::environment::DEFAULT_AGENT;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use crate::config::Config;
use keyward_api::wire::AgentView;
use keyward_model::{App, Connection, Shown};

#[derive(Debug, Arguments)]
#[command(after_help = "examples:\n  keyward doctor\n  keyward doctor -- python app.py\n  \
                        keyward doctor --agent claude --json -- npm test\n\n\
                        exit code: 0 if no check failed, else 1; warnings do not count;\n126 and \
                        127 when CMD cannot be run, as `run` has them")]
pub(crate) struct Args {
    /// the agent whose placeholders the program gets
    #[arg(long, default_value = DEFAULT_AGENT)]
    agent: String,
    /// run this program against a probe, and report whether it would use the gateway
    #[arg(last = true, value_name = "CMD")]
    program: Vec<OsString>,
}

/// The context of the checks.
struct Install<'a> {
    global: &'a Global,
    /// The data directory.
    data: PathBuf,
    config: Config,
}

/// Agents, connections and apps, as the API shows them.
struct People {
    agents: Vec<AgentView>,
    connections: Vec<Shown<Connection>>,
    apps: Vec<Shown<App>>,
}

impl Args {
    /// Whether a program is given; it must run in an unchanged process environment.
    pub(crate) fn has_program(&self) -> bool {
        !self.program.is_empty()
    }

    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let report = match self.has_program() {
            true => Box::pin(probe::run(global, &self.agent, &self.program)).await?,
            false => Box::pin(look(global)).await,
        };
        output::show(global.json, &report, |report| report.text(output::colours()))?;
        match report.failed() {
            true => Err(Failure::silent(Exit::Failed)),
            false => Ok(()),
        }
    }
}

/// Runs all checks, each after those that it needs.
async fn look(global: &Global) -> Report {
    let mut report = Report::default();
    let config = configuration::read(global, &mut report);
    let people = match (global.data_dir(), config) {
        (Ok(data), Some(config)) => {
            let install = Install { global, data, config };
            Box::pin(look_at(&install, &mut report)).await
        }
        (Ok(data), None) => {
            data::look(&data, &mut report);
            None
        }
        // The configuration's complaint as well.
        (Err(_), _) => None,
    };
    let connections = people.map_or_else(Vec::new, |people| people.connections);
    settings::look(&mut report);
    private::look(&connections, &mut report);
    report
}

/// The checks of an install whose configuration can be read.
async fn look_at(install: &Install<'_>, report: &mut Report) -> Option<People> {
    let is_made = data::look(&install.data, report);
    let found = gateway::look(install, report).await;
    let serves = matches!(found, Found::Serving(_));
    let owner = owner::of(install);
    // What root writes while it looks would be root's, and lock the gateway out.
    let opens_files = owner::may_open(owner, report, (serves, &install.global.keyward()));
    let keys = key::look(install, (serves, owner), report);
    let (mut opens, mut signs) = (false, false);
    if opens_files || serves {
        opens = store::look(install, keys, serves, report).await;
        signs = authority::look(install, &found, report).await;
    }
    authority::clock(install, report);
    let client = match &found {
        Found::Serving(_) => None,
        // All that the services make when it is absent was there.
        Found::Nobody if is_made && opens && signs => Client::open(install.global).await.ok(),
        Found::Nobody => None,
    };
    let gateway = match &found {
        Found::Serving(client) => Some(client),
        Found::Nobody => None,
    };
    let client = gateway.or(client.as_ref());
    let mut people = None;
    if let Some(client) = client {
        people = access::look(install, client, report).await;
        if people.is_some() {
            plugins::look(install, client, report).await;
        }
    }
    let connections = people.as_ref().map_or(&[][..], |people: &People| &people.connections);
    reach::look(install, gateway, connections, report).await;
    variables::look(&install.config, connections, report);
    people
}
