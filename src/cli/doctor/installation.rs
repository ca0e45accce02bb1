//! The installation that is diagnosed, and its resources.

use std::path::PathBuf;

use crate::cli::settings::Global;
use crate::config::Config;
use keyward_model::{Agent, App, Connection, Shown};

/// The context of the checks.
pub(super) struct CheckedInstallation<'a> {
    pub(super) global: &'a Global,
    pub(super) data: PathBuf,
    pub(super) config: Config,
}

/// Agents, connections and apps, as the API shows them.
pub(super) struct Resources {
    pub(super) agents: Vec<Shown<Agent>>,
    pub(super) connections: Vec<Shown<Connection>>,
    pub(super) apps: Vec<Shown<App>>,
}
