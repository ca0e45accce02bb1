//! [`Plan`]: the steps that bring the store in line with a configuration. Pure: nothing is read or written here.
//!
//! A configuration is judged whole, its rules against the agents and connections to come, and all problems are found
//! at once. There is no plan where there is one, so `apply.rs` executes what it is given and has no rule of its own.

mod agents;
mod apps;
mod connections;
mod hooks;
mod inputs;
mod known;
mod plugins;
mod resources;
mod sources;
mod view;
mod webhooks;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use keyward_base::id::OrgId;
use keyward_model::{Honeytoken, OwnProvider, Record, Rule};
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::document::Problem;
use keyward_state::directory::{Stored, View};
use keyward_state::rulebook::Sources;

pub(super) use agents::{AgentChange, AgentWork, Freed};
pub(super) use apps::AppWork;
pub(super) use connections::{ConnectionWork, Given, NewlyConnected};
pub(super) use hooks::HookWork;
pub(super) use inputs::Inputs;
pub(super) use plugins::PluginWork;
pub(super) use resources::{Declarable, ResourceWork};
pub(super) use sources::SourceWork;
pub use view::refused_plan;
pub(super) use view::view;
pub(super) use webhooks::WebhookWork;

/// The label of the token that the file gives an agent.
pub(super) const TOKEN_LABEL: &str = "configuration";

/// What a plan is made from.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    pub(super) config: &'a Config,
    /// The directory as it is.
    pub(super) view: &'a View,
    /// The providers of the configuration.
    pub(super) catalogue: &'a Catalogue,
    /// The rules of the configuration.
    pub(super) sources: &'a Sources,
}

/// The steps from the directory as it is to what the configuration declares, in the order of their execution.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

/// What becomes of one resource.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) subject: Subject,
    pub(super) action: Action,
    /// The keys of the file that say otherwise than the store.
    pub(super) changes: Vec<String>,
    /// Its secret is compared with the stored one when the step is applied: a plan opens no secret.
    pub(super) compares_secret: bool,
    pub(super) work: Work,
}

/// The resource of a step.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// `connection`, as in messages.
    pub(super) kind: &'static str,
    pub(super) org: OrgId,
    pub(super) name: String,
    /// The agent of a plugin.
    pub(super) agent: Option<String>,
    /// `keyward.yaml:12: connections[0]`; `None`: the file does not name it.
    pub(super) place: Option<String>,
}

/// What becomes of a resource, for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Make,
    Change,
    /// Removed and made again: what is bound to the one of before has to be bound again.
    Replace,
    /// The file no longer names it.
    Pause,
    /// The file names it again; keys may change as well.
    Resume,
    Remove,
    Nothing,
}

/// What is written for a step.
#[derive(Debug)]
pub(super) enum Work {
    Nothing,
    Org,
    Webhook(WebhookWork),
    Honeytoken(ResourceWork<Honeytoken>),
    App(Box<AppWork>),
    Connection(Box<ConnectionWork>),
    Hook(Box<HookWork>),
    Source(Box<SourceWork>),
    Agent(Box<AgentWork>),
    Plugin(Box<PluginWork>),
}

/// A plan in the making.
struct Planning<'a> {
    basis: Basis<'a>,
    steps: Vec<Step>,
    /// Pauses of what others may still be bound to: executed after all other steps.
    pauses: Vec<Step>,
    problems: Vec<Problem>,
    /// The directory with the agents and connections to come, as far as they are known. Those still to be made have other
    /// ids than they will get. It shares with the present one what stays.
    to_come: View,
}

/// Compares a configuration with the directory.
///
/// # Errors
/// Everything that is wrong with the configuration, each with its place in the file.
pub(super) fn plan(basis: Basis<'_>, inputs: Inputs) -> Result<Plan, Vec<Problem>> {
    let Inputs { apps, sources, connections, tokens, webhooks, hooks, manifests, oidc: _ } = inputs;
    let mut planning = Planning {
        basis,
        steps: Vec::new(),
        pauses: Vec::new(),
        problems: Vec::new(),
        to_come: basis.view.clone(),
    };
    planning.providers();
    planning.orgs();
    // First: they are told of what follows.
    planning.webhooks(webhooks);
    planning.resources(&basis.config.honeytokens);
    planning.sources(sources);
    planning.apps(apps);
    planning.connections(connections);
    planning.unnamed_sources();
    planning.hooks(hooks);
    planning.agents(tokens);
    planning.plugins(manifests);
    planning.rules();
    match planning.problems.is_empty() {
        true => Ok(Plan { steps: planning.steps.into_iter().chain(planning.pauses).collect() }),
        false => Err(planning.problems),
    }
}

impl Planning<'_> {
    /// A provider of the file with the id of a stored one: connections of the file and of the store would mean
    /// different services by it. In other organisations their own counts.
    fn providers(&mut self) {
        let Basis { config, view, .. } = self.basis;
        let is_stored = |id: &str| view.find::<OwnProvider>(&OrgId::default_org(), id).is_some();
        for provider in config.providers.iter().filter(|provider| is_stored(&provider.id)) {
            self.problems.push(unplaced(&format!(
                "providers: `{id}` is stored as well: choose another id, or first `keyward provider \
                 remove {id}`",
                id = provider.id
            )));
        }
    }

    /// Organisations that are named are made. One that is no longer named stays, with what it has.
    fn orgs(&mut self) {
        let Basis { config, view, .. } = self.basis;
        for org in config.orgs().into_iter().filter(|org| view.org(org).is_none()) {
            let subject = Subject::new("organisation", org, org.name());
            self.steps.push(Step::new(subject, Action::Make, Work::Org));
        }
    }

    fn rules(&mut self) {
        let Basis { config, view, sources, .. } = self.basis;
        for rule in &config.rules {
            let stored = rule.name.as_ref().and_then(|name| view.find::<Rule>(&rule.org, name));
            if let Some(stored) = stored {
                let message = format!("a stored rule has the name `{}`", stored.name());
                self.problems.push(problem(&rule.place, message, "rename one of them"));
            }
        }
        let Err(errors) = sources.check(&self.to_come) else { return };
        for text in errors.iter().map(ToString::to_string) {
            let placed = self.basis.config.rules.iter().find_map(|rule| {
                let message = text.strip_prefix(&rule.place)?.strip_prefix(": ")?;
                Some(problem(&rule.place, message, ""))
            });
            self.problems.push(placed.unwrap_or_else(|| unplaced(&text)));
        }
    }

    /// Puts a record to come in the place of the one that has its name now.
    fn comes<R: Stored>(&mut self, record: Record<R>, found: Option<&Arc<Record<R>>>) {
        if let Some(found) = found.filter(|found| found.id != record.id) {
            self.to_come.take_out::<R>(&found.org, &found.id);
        }
        self.to_come.put(Arc::new(record));
    }

    /// A problem of `subject`, at its place.
    fn refuse(&mut self, subject: &Subject, message: impl fmt::Display, remedy: &str) {
        let Subject { kind, name, .. } = subject;
        let place = subject.place.as_deref().unwrap_or_default();
        self.problems.push(problem(place, format!("{kind} `{name}`: {message}"), remedy));
    }

    /// Two of one name cannot be: one is stored.
    fn refuse_stored(&mut self, subject: &Subject) {
        let message = format!("a stored {} has this name", subject.kind);
        self.refuse(subject, message, "rename one of them");
    }
}

impl Step {
    fn new(subject: Subject, action: Action, work: Work) -> Self {
        Self { subject, action, changes: Vec::new(), compares_secret: false, work }
    }

    /// Of what is there already, where these keys differ.
    fn of_existing(subject: Subject, is_paused: bool, changes: Vec<String>, work: Work) -> Self {
        let action = match (is_paused, changes.is_empty()) {
            (true, _) => Action::Resume,
            (false, false) => Action::Change,
            (false, true) => Action::Nothing,
        };
        Self { changes, ..Self::new(subject, action, work) }
    }
}

impl Subject {
    fn new(kind: &'static str, org: &OrgId, name: &str) -> Self {
        Self { kind, org: org.clone(), name: name.to_owned(), agent: None, place: None }
    }

    fn at(self, place: &str) -> Self {
        Self { place: Some(place.to_owned()), ..self }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

/// A problem at `place`, which is `keyward.yaml:12: connections[0]`.
pub(super) fn problem(
    place: &str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Problem {
    let (origin, path) = place.split_once(": ").unwrap_or((place, ""));
    let line = origin.rsplit_once(':').and_then(|(_, line)| line.parse().ok());
    Problem {
        origin: origin.to_owned(),
        line,
        path: path.to_owned(),
        message: message.into(),
        remedy: remedy.into(),
    }
}

/// A problem whose text names what is wrong, before the first colon.
pub(super) fn unplaced(text: &str) -> Problem {
    let (origin, message) = text.split_once(": ").unwrap_or(("configuration", text));
    Problem {
        origin: origin.to_owned(),
        line: None,
        path: String::new(),
        message: message.to_owned(),
        remedy: String::new(),
    }
}

/// The keys that differ.
fn differing<const N: usize>(keys: [(&str, bool); N]) -> Vec<String> {
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

/// What the file names of one kind.
fn named<'a, T>(
    all: &'a [T],
    of: impl Fn(&'a T) -> (&'a OrgId, &'a str),
) -> HashSet<(&'a OrgId, &'a str)> {
    all.iter().map(of).collect()
}
