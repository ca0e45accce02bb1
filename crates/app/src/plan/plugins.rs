//! Steps for plugins of the configuration. What a manifest asks for is compared with what its slots are given, among
//! the agents and connections to come.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::planning::{Basis, Planning, differing};
use super::problem::{AbsentName, problem};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::PluginWork;
use crate::config::{DeclaredByName, DeclaredPlugin};
use keyward_base::id::{AgentId, ConnectionId, OrgId};
use keyward_model::{PLUGINS_MAX, PluginSpec, Reference};
use keyward_rules::provider::decode::did_you_mean;
use keyward_rules::provider::document::Problem;
use keyward_state::directory::{
    AgentRecord, ConnectionRecord, ManagedBy, Manifest, PluginRecord, may_be_used_by,
};

/// A declared plugin whose names are resolved.
struct ResolvedPlugin {
    agent: AgentId,
    agent_name: String,
    slots: BTreeMap<String, Reference<ConnectionId>>,
}

/// Why a declared plugin cannot be installed.
#[derive(Default)]
struct PluginProblems {
    problems: Vec<Problem>,
    absent: Vec<AbsentName>,
}

impl Planning<'_> {
    pub(super) fn plugins(&mut self, manifests: Vec<Manifest>) {
        let Basis { config, view, .. } = self.basis;
        let mut fitted = Vec::new();
        let mut refused = PluginProblems::default();
        for (declared, manifest) in config.plugins.iter().zip(manifests) {
            let lacking = lacking(declared, &manifest);
            match self.fit(declared, &manifest) {
                Ok(fits) if lacking.is_empty() => fitted.push((declared, manifest, fits)),
                Ok(_) => refused.problems.extend(lacking),
                Err(more) => {
                    refused.problems.extend(lacking.into_iter().chain(more.problems));
                    refused.absent.extend(more.absent);
                }
            }
        }
        self.problems.extend(refused.problems);
        self.absent.extend(refused.absent);
        let (mut seen, mut counts) = (HashSet::new(), HashMap::new());
        for (declared, manifest, ResolvedPlugin { agent, agent_name, slots }) in fitted {
            let mut installed = view.plugins_of(&declared.org, &agent);
            let found = installed.find(|plugin| plugin.name() == manifest.plugin);
            let count = counts
                .entry(agent.clone())
                .or_insert_with(|| view.plugins_of(&declared.org, &agent).count());
            *count += usize::from(found.is_none());
            let (place, name) = (&declared.place, manifest.plugin.clone());
            if !seen.insert((agent.clone(), name.clone())) {
                let message = format!("plugin `{name}` is declared for agent `{agent_name}` twice");
                self.problems.push(problem(place, message, "remove one"));
            } else if *count > PLUGINS_MAX {
                let message = format!("agent `{agent_name}` has more than {PLUGINS_MAX} plugins");
                self.problems.push(problem(place, message, "declare another agent"));
            } else {
                let subject = subject(&declared.org, &name, agent_name).at(place);
                self.steps.push(step(subject, found, declared, manifest, &slots));
            }
        }
        self.plugins_gone(&seen);
    }

    fn plugins_gone(&mut self, declared: &HashSet<(AgentId, String)>) {
        let Basis { config, view, .. } = self.basis;
        let agents = DeclaredByName::of(&config.agents);
        for found in view.plugins().filter(|found| found.managed_by == ManagedBy::File) {
            let agent = found.agent.id().cloned();
            if agent.is_some_and(|id| declared.contains(&(id, found.name().to_owned()))) {
                continue;
            }
            let agent = view.agent_of(found);
            let described =
                agent.and_then(|agent| Some((agent, agents.find(&agent.org, &agent.name)?)));
            let freed = described.map(|(agent, described)| self.freed(agent, described));
            let is_freed = freed.into_iter().flatten().any(|freed| freed.plugin == found.id);
            let changes = differing([("slots", is_freed)]);
            let (action, work) = match (found.facts.paused, is_freed) {
                (false, _) => (
                    PlannedAction::Pause,
                    Work::Plugin(Box::new(PluginWork::Pause(found.id.clone()))),
                ),
                // Its agent's step frees them.
                (true, true) => (PlannedAction::Change, Work::Nothing),
                (true, false) => continue,
            };
            let agent =
                agent.map_or_else(|| found.agent.to_string(), |agent| agent.name().to_owned());
            let subject = subject(&found.org, found.name(), agent);
            self.steps.push(Step { changes, ..Step::new(subject, action, work) });
        }
    }
}

impl Planning<'_> {
    /// The agent and the connections that a plugin names.
    fn fit(
        &self,
        declared: &DeclaredPlugin,
        manifest: &Manifest,
    ) -> Result<ResolvedPlugin, PluginProblems> {
        let alone = |absent| PluginProblems { absent: vec![absent], ..PluginProblems::default() };
        let agent = self.named_agent(declared).map_err(alone)?;
        let mut refused = PluginProblems::default();
        let mut plugins = self.basis.view.plugins_of(&declared.org, &agent.id);
        let same = plugins.find(|plugin| plugin.name() == manifest.plugin);
        if same.is_some_and(|same| same.managed_by == ManagedBy::Store) {
            let (name, agent) = (&manifest.plugin, &agent.name);
            let remedy = format!("remove it with `keyward plugin remove {name} --agent {agent}`");
            refused.problems.push(problem(
                &declared.place,
                "a stored plugin has this name",
                remedy,
            ));
        }
        let mut slots = BTreeMap::new();
        for (slot, (name, place)) in &declared.slots {
            let provider = manifest.slot(slot).map(|slot| slot.provider.as_str());
            let found = match self.named_connection(&declared.org, name, place) {
                Ok(found) => found,
                Err(absent) => {
                    refused.absent.push(absent);
                    continue;
                }
            };
            match fits(name, found, agent, provider) {
                Ok(id) => drop(slots.insert(slot.clone(), Reference::Id(id))),
                Err((message, remedy)) => refused.problems.push(problem(place, message, remedy)),
            }
        }
        match refused.problems.is_empty() && refused.absent.is_empty() {
            true => Ok(ResolvedPlugin {
                agent: agent.id.clone(),
                agent_name: agent.name().to_owned(),
                slots,
            }),
            false => Err(refused),
        }
    }
}

/// Whether the connection may be in a slot for this provider: what is wrong, and what to do.
fn fits(
    name: &str,
    found: &ConnectionRecord,
    agent: &AgentRecord,
    provider: Option<&str>,
) -> Result<ConnectionId, (String, String)> {
    let (message, remedy) = match (provider, agent.environment_mismatch(found)) {
        (Some(wanted), _) if found.provider != wanted => (
            format!(
                "the slot requires an account at `{wanted}`, and connection `{name}` is one at `{}`",
                found.provider
            ),
            "name another",
        ),
        (_, Some((own, other))) => (
            format!(
                "agent `{}` is in environment `{own}`, connection `{name}` in `{other}`",
                agent.name
            ),
            "use one of its own",
        ),
        _ if !may_be_used_by(found, agent) => (
            format!("connection `{name}` is private, and agent `{}` has another owner", agent.name),
            "share it, or name another",
        ),
        _ => return Ok(found.id.clone()),
    };
    Err((message, remedy.to_owned()))
}

/// Problems with slots: slots that the manifest does not declare, and required ones without a connection.
fn lacking(declared: &DeclaredPlugin, manifest: &Manifest) -> Vec<Problem> {
    let (name, mut problems) = (&manifest.plugin, Vec::new());
    let slots = || manifest.connections.iter().map(|slot| slot.slot.as_str());
    for (slot, (_, place)) in &declared.slots {
        if manifest.slot(slot).is_none() {
            let all = || format!("it has {}", slots().collect::<Vec<_>>().join(", "));
            let remedy = did_you_mean(slot, slots()).unwrap_or_else(all);
            problems.push(problem(place, format!("plugin `{name}` has no slot `{slot}`"), remedy));
        }
    }
    for slot in manifest.connections.iter().filter(|slot| slot.required) {
        if !declared.slots.contains_key(&slot.slot) {
            let (place, provider) = (format!("{}.slots", declared.place), &slot.provider);
            let message = format!("slot `{}` of plugin `{name}` is required", slot.slot);
            let remedy =
                format!("add `{}: ` with the name of a connection of `{provider}`", slot.slot);
            problems.push(problem(&place, message, remedy));
        }
    }
    problems
}

fn subject(org: &OrgId, name: &str, agent: String) -> StepSubject {
    StepSubject { agent: Some(agent), ..StepSubject::new("plugin", org, name) }
}

fn step(
    subject: StepSubject,
    found: Option<&Arc<PluginRecord>>,
    declared: &DeclaredPlugin,
    manifest: Manifest,
    slots: &BTreeMap<String, Reference<ConnectionId>>,
) -> Step {
    let names = declared.slots.iter();
    let names = names.map(|(slot, (name, _))| (slot.clone(), Reference::new(name)));
    let spec =
        PluginSpec { manifest, agent: Reference::new(&declared.agent), slots: names.collect() };
    let Some(found) = found else {
        let work = Work::Plugin(Box::new(PluginWork::Make(spec)));
        return Step::new(subject, PlannedAction::Make, work);
    };
    let changes = differing([
        ("manifest", found.manifest != spec.manifest),
        ("slots", found.slots != *slots),
    ]);
    let work = match changes.is_empty() && !found.facts.paused {
        true => Work::Nothing,
        false => Work::Plugin(Box::new(PluginWork::Change(found.id.clone(), spec))),
    };
    Step::of_existing(subject, found.facts.paused, changes, work)
}
