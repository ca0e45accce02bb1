//! The installation that is diagnosed, its resources, and values of secret sources that cannot be fetched.

use std::path::PathBuf;

use crate::cli::settings::Global;
use keyward_app::config::Config;
use keyward_model::{
    Agent, App, Connection, Failures, FetchedView, FieldReference, RuleShown, Shown,
};

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

/// Since when values cannot be fetched, and until when the last ones are used.
pub(super) fn not_fetched(failing: &Failures, fetched: Option<&FetchedView>) -> String {
    let kept = fetched.map_or_else(
        || "no earlier value may be used".to_owned(),
        |it| format!("the last ones are used until {:.0}", it.kept_until),
    );
    format!(
        "cannot be fetched since {:.0}; {} attempts failed ({}); {kept}",
        failing.since,
        failing.count,
        failing.message.as_deref().unwrap_or("no answer")
    )
}

/// What to look at when values cannot be fetched.
pub(super) fn source_remedy(reference: Option<&FieldReference>, global: &Global) -> String {
    let from = reference.map_or("", |it| it.from.as_str());
    global.remedy(&format!("`keyward source show {from}`"))
}
