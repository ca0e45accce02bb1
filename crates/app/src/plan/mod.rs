//! [`Plan`]: the steps that bring the store in line with a configuration. Pure: nothing is read or written here.
//!
//! The whole configuration is checked, its rules against the future agents and connections, and all problems are
//! reported at once. A plan exists only without problems, so `apply.rs` executes it without further checks.

mod agents;
mod apps;
mod connections;
mod hooks;
mod inputs;
mod known;
mod planned;
pub(super) mod planning;
mod plugins;
pub(super) mod problem;
mod rules;
mod sources;
pub(super) mod step;
mod view;
mod webhooks;
mod work;

use std::collections::HashSet;

use crate::config::{Config, ignored_variables};
use keyward_base::id::OrgId;
use keyward_model::{App, Honeytoken, Hook, OwnProvider, Rule, Source, Webhook};
use keyward_rules::provider::document::{Problem, key_of};
use keyward_state::rulebook::RulebookError;

use self::planning::{Basis, Planning};
use self::problem::{AbsentName, problem, unplaced};
use self::step::{Plan, PlannedAction, Step, StepSubject, Work};
pub(super) use inputs::unusual_keys;
pub(super) use inputs::{Fields, Inputs};
pub(super) use planning::differing;
pub(super) use rules::FilePolicy;
pub(super) use rules::{step_of_section, steps_of_providers, steps_of_sections};
pub use view::refused_plan;
pub(super) use view::view;
pub(super) use work::{
    AgentChange, AgentWork, ConnectionInput, ConnectionWork, FreedSlots, PlannedConnection,
    PluginWork, ResourceWork,
};

/// What becomes of a configuration, with all that is wrong with it.
pub(super) struct Judgement {
    steps: Vec<Step>,
    pub(super) problems: Vec<Problem>,
    /// Names that do not exist.
    pub(super) absent: Vec<AbsentName>,
    /// What is accepted, and most likely means something else.
    pub(super) warnings: Vec<Problem>,
}

/// Compares a configuration with the directory.
///
/// # Errors
/// Everything that is wrong with the configuration, each with its place in the file.
pub(super) fn plan(basis: Basis<'_>, inputs: Inputs) -> Result<Plan, Vec<Problem>> {
    let Judgement { steps, mut problems, absent, warnings } = judge(basis, inputs);
    problems.extend(absent.into_iter().map(|absent| *absent.problem));
    problems.extend(without_file(basis.config, &steps));
    if problems.is_empty() { Ok(Plan { steps, warnings }) } else { Err(problems) }
}

/// Refuses to end everything that a file declared, or to lose its rules, only because the file was not named. The rules are
/// counted by the last start, because they are not stored.
fn without_file(config: &Config, steps: &[Step]) -> Option<Problem> {
    let ends = |step: &Step| matches!(step.action, PlannedAction::Pause | PlannedAction::Remove);
    let (ended, lost) = (steps.iter().filter(|step| ends(step)).count(), config.rules_missing());
    let counts = [(ended, "resource"), (lost, "rule")];
    let counted = counts.into_iter().filter(|(count, _)| *count > 0);
    let these = counted.map(|(count, what)| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    });
    let these = these.collect::<Vec<_>>().join(" and ");
    let is_declared = lost == 0 && ended < steps.len();
    if config.has_file() || these.is_empty() || is_declared {
        return None;
    }
    let before = config.file_before().filter(|file| *file != config.file());
    let before = before.map(|file| file.display().to_string());
    let before = before.as_deref().unwrap_or("FILE");
    Some(problem(
        &config.file().display().to_string(),
        format!(
            "there is no configuration file here, and {these} that an earlier configuration declared would be paused, removed or lost"
        ),
        format!(
            "add `--config {before}`, or set the `KEYWARD__` variables that declared them; or make an empty file here, \
             which pauses or removes them"
        ),
    ))
}

/// The same refusal, for the rules alone.
pub(super) fn forgotten_rules(config: &Config) -> Option<Problem> {
    without_file(config, &[])
}

/// The same as [`plan`], with names that do not exist apart.
pub(super) fn judge(basis: Basis<'_>, inputs: Inputs) -> Judgement {
    let Inputs { apps, sources, connections, tokens, webhooks, hooks, manifests, oidc: _ } = inputs;
    let mut planning = Planning::new(basis);
    planning.warnings.extend(ignored_variables(basis.config));
    planning.providers();
    planning.orgs();
    // Webhooks first, so that they receive events of the following steps.
    planning.items::<Webhook>(webhooks);
    planning.end_unnamed::<Webhook>();
    planning.end_unnamed::<Honeytoken>();
    planning.items::<Honeytoken>(basis.config.honeytokens.iter().map(|_| Some(())).collect());
    planning.items::<Source>(sources);
    planning.items::<App>(apps);
    planning.end_unnamed::<App>();
    planning.connections(connections);
    planning.end_unnamed::<Source>();
    planning.items::<Hook>(hooks);
    planning.end_unnamed::<Hook>();
    planning.agents(tokens);
    planning.plugins(manifests);
    planning.rules();
    let Planning { steps, pauses, problems, absent, warnings, .. } = planning;
    Judgement { steps: steps.into_iter().chain(pauses).collect(), problems, absent, warnings }
}

/// What a start would refuse in the rules of a configuration: they may name agents and connections that the start makes.
/// Other problems of the configuration do not count.
pub(super) fn refused_rules(basis: Basis<'_>) -> Vec<Problem> {
    let mut planning = Planning::new(basis);
    planning.connections(basis.config.connections.iter().map(|_| None).collect());
    planning.agents(basis.config.agents.iter().map(|_| None).collect());
    planning.problems.clear();
    planning.absent.clear();
    planning.rules();
    let Planning { problems, absent, .. } = planning;
    problems.into_iter().chain(absent.into_iter().map(|absent| *absent.problem)).collect()
}

impl Planning<'_> {
    /// A provider of the file with the id of a stored one: connections of the file and of the store would mean
    /// different services by it. In other organisations their own counts.
    fn providers(&mut self) {
        let Basis { config, view, .. } = self.basis;
        let is_stored = |id: &str| view.find::<OwnProvider>(&OrgId::default_org(), id).is_some();
        for provider in config.providers.iter().filter(|provider| is_stored(provider.id())) {
            self.problems.push(unplaced(&format!(
                "providers: `{id}` is stored as well: choose another id, or first `keyward provider \
                 remove {id}`",
                id = provider.id()
            )));
        }
    }

    /// Creates the organisations that the file names. Others stay with their resources.
    fn orgs(&mut self) {
        let Basis { config, view, .. } = self.basis;
        for org in config.orgs().into_iter().filter(|org| view.org(org).is_none()) {
            let subject = StepSubject::new("organisation", org, org.name());
            self.steps.push(Step::new(subject, PlannedAction::Make, Work::Org));
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
        self.warnings.extend(sources.warnings(&self.planned).into_iter().map(|(rule, warning)| {
            let place = key_of(&rule.place, &warning.field);
            problem(&place, warning.message, warning.remedy)
        }));
        let Err(errors) = sources.check(&self.planned) else { return };
        let places: HashSet<&str> = config.rules.iter().map(|rule| &*rule.place).collect();
        for error in errors {
            let text = error.to_string();
            // A place has a colon too.
            let mut ends = text.match_indices(": ").map(|(end, _)| text.split_at(end));
            let placed = ends.find(|(place, _)| places.contains(place));
            let placed = placed.map(|(place, rest)| problem(place, &rest[": ".len()..], ""));
            let problem = Box::new(placed.unwrap_or_else(|| unplaced(&text)));
            let (kind, name, nearest) = match error {
                RulebookError::UnknownAgent { name, nearest, .. } => ("agent", name, nearest),
                RulebookError::UnknownConnection { name, nearest, .. } => {
                    ("connection", name, nearest)
                }
                RulebookError::UnknownProvider { provider, .. } => ("provider", provider, None),
                _ => {
                    self.problems.push(*problem);
                    continue;
                }
            };
            self.absent.push(AbsentName { kind, name, nearest, problem });
        }
    }
}
