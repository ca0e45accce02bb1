//! The installation that is diagnosed, and its resources.

use std::path::PathBuf;

use crate::cli::settings::Global;
use keyward_app::config::Config;
use keyward_model::{Agent, App, Connection, RuleShown, Shown};

/// The context of the checks.
pub(super) struct CheckedInstallation<'a> {
    pub(super) global: &'a Global,
    pub(super) data: PathBuf,
    pub(super) config: Config,
}

/// Agents, connections, apps and rules, as the API shows them.
pub(super) struct Resources {
    pub(super) agents: Vec<Shown<Agent>>,
    pub(super) connections: Vec<Shown<Connection>>,
    pub(super) apps: Vec<Shown<App>>,
    /// Empty if the rules are refused, which the check of the configuration reports.
    pub(super) rules: Vec<RuleShown>,
}

impl Resources {
    /// Rules that grant a connection to the agents that they name.
    pub(super) fn grants(&self) -> impl Iterator<Item = (&[String], &str)> {
        self.rules.iter().filter_map(|rule| {
            Some((rule.spec.agents.as_deref()?, rule.spec.use_connection.as_deref()?))
        })
    }
}
