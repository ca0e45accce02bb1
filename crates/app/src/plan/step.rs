//! The steps of a plan.

use std::fmt;

use super::inputs::Fields;
use super::work::{AgentWork, ConnectionWork, PluginWork, ResourceWork};
use keyward_base::id::OrgId;
use keyward_inbox::NewKeys;
use keyward_model::{App, Honeytoken, Hook, Source, Webhook};
use keyward_rules::provider::document::Problem;
use keyward_vault::events::WebhookSigningKey;

/// The steps from the directory as it is to what the configuration declares, in the order of their execution.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// What is accepted, and most likely means something else.
    pub(crate) warnings: Vec<Problem>,
}

/// The step for one resource.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) subject: StepSubject,
    pub(crate) action: PlannedAction,
    /// The keys in which file and store differ.
    pub(crate) changes: Vec<String>,
    /// Its secret is compared with the stored one when the step is applied: a plan opens no secret.
    pub(crate) compares_secret: bool,
    pub(crate) work: Work,
}

/// The resource of a step.
#[derive(Clone, Debug)]
pub(crate) struct StepSubject {
    /// `connection`, as in messages.
    pub(crate) kind: &'static str,
    pub(crate) org: OrgId,
    pub(crate) name: String,
    /// The agent of a plugin.
    pub(crate) agent: Option<String>,
    /// `keyward.yaml:12: connections[0]`; `None`: the file does not name it.
    pub(crate) place: Option<String>,
}

/// The action of a step, as shown to people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PlannedAction {
    Make,
    Change,
    /// Removed and created again: agents must be bound to it again.
    Replace,
    /// The file no longer names it.
    Pause,
    /// The file names it again; keys may change as well.
    Resume,
    Remove,
    Nothing,
}

/// The writes of a step.
#[derive(Debug)]
pub(crate) enum Work {
    Nothing,
    Org,
    Webhook(Box<ResourceWork<Webhook, WebhookSigningKey>>),
    Honeytoken(Box<ResourceWork<Honeytoken, ()>>),
    App(Box<ResourceWork<App, Fields>>),
    Connection(Box<ConnectionWork>),
    Hook(Box<ResourceWork<Hook, NewKeys>>),
    Source(Box<ResourceWork<Source, Fields>>),
    Agent(Box<AgentWork>),
    Plugin(Box<PluginWork>),
}

impl Plan {
    /// Logs the warnings.
    pub(crate) fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!(id = "config_doubtful", "{warning}");
        }
    }
}

impl Step {
    pub(super) fn new(subject: StepSubject, action: PlannedAction, work: Work) -> Self {
        Self { subject, action, changes: Vec::new(), compares_secret: false, work }
    }

    /// A step for an existing resource in which these keys differ.
    pub(super) fn of_existing(
        subject: StepSubject,
        is_paused: bool,
        changes: Vec<String>,
        work: Work,
    ) -> Self {
        let action = match (is_paused, changes.is_empty()) {
            (true, _) => PlannedAction::Resume,
            (false, false) => PlannedAction::Change,
            (false, true) => PlannedAction::Nothing,
        };
        Self { changes, ..Self::new(subject, action, work) }
    }
}

impl StepSubject {
    pub(super) fn new(kind: &'static str, org: &OrgId, name: &str) -> Self {
        Self { kind, org: org.clone(), name: name.to_owned(), agent: None, place: None }
    }

    pub(super) fn at(self, place: &str) -> Self {
        Self { place: Some(place.to_owned()), ..self }
    }
}

impl fmt::Display for StepSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{} `{}`", self.kind, self.name)
    }
}
