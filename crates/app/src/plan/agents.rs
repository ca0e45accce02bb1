//! Steps for agents of the configuration: their specs, tokens and bindings.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::planning::{Basis, Planning, TOKEN_LABEL, differing, members};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::{AgentChange, AgentWork, FreedSlots};
use crate::config::{Declared, UseItem};
use keyward_base::id::{ConnectionId, OrgId, TokenId};
use keyward_base::secret::Secret;
use keyward_model::{
    Agent, AgentFacts, BINDINGS_MAX, BindingLimits, Connection, User, unknown_action,
};
use keyward_rules::provider::decode::nearest;
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::{
    AgentRecord, BindingRecord, ConnectionRecord, ManagedBy, TokenRecord, View, may_be_used_by,
};

/// The holders of tokens, by the hash of the token.
#[derive(Default)]
pub(super) struct TokenHolders(HashMap<String, TokenHolder>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum TokenHolder {
    Agent(OrgId, String),
    User(String),
}

/// Changes of the bindings of an agent.
struct BindingChanges {
    bindings: Vec<BindingRecord>,
    unbinds: Vec<ConnectionId>,
    binds: Vec<UseItem>,
    defaults: Option<Vec<String>>,
}

impl Planning<'_> {
    pub(super) fn agents(&mut self, tokens: Vec<Option<Secret>>) {
        let Basis { config, view, .. } = self.basis;
        let are_given = tokens.iter().any(Option::is_some);
        let mut holders = if are_given { TokenHolders::of(view) } else { TokenHolders::default() };
        let of_file = view.agents().filter(|it| it.managed_by == ManagedBy::File);
        let unnamed: Vec<_> =
            of_file.filter(|it| !self.declared_agents.contains(&(&it.org, it.name()))).collect();
        self.free_tokens(&unnamed, &tokens, &mut holders);
        for (declared, token) in config.agents.iter().zip(tokens) {
            let record = self.agent(declared, token, &mut holders);
            self.put_planned(record, view.find_agent(&declared.org, &declared.name));
        }
        for found in unnamed {
            if !found.facts.paused {
                let subject = StepSubject::new("agent", &found.org, &found.name);
                let work = Work::Agent(Box::new(AgentWork::Pause(found.id.clone())));
                self.pauses.push(Step::new(subject, PlannedAction::Pause, work));
                let mut record = AgentRecord::clone(found);
                record.facts.paused = true;
                self.planned.put(Arc::new(record));
            }
        }
    }

    /// Revokes tokens of agents that the file no longer names and gives to others, as of a renamed agent: before these get
    /// them.
    fn free_tokens(
        &mut self,
        unnamed: &[&Arc<AgentRecord>],
        given: &[Option<Secret>],
        holders: &mut TokenHolders,
    ) {
        let given: HashSet<_> =
            given.iter().flatten().map(|token| TokenHash::of_secret(token).to_hex()).collect();
        for found in unnamed.iter().copied() {
            let moved = tokens_of_file(Some(found)).filter(|token| given.contains(&token.hash));
            let revokes: Vec<_> = moved.map(|token| token.id.clone()).collect();
            if revokes.is_empty() {
                continue;
            }
            holders.release(Some(found));
            let subject = StepSubject::new("agent", &found.org, &found.name);
            let change = AgentChange { revokes, ..AgentChange::default() };
            let work = Work::Agent(Box::new(AgentWork::Change(found.id.clone(), change)));
            // It stays as it is if it is paused.
            let step = Step::of_existing(subject, false, vec!["token".to_owned()], work);
            self.steps.push(step);
        }
    }

    /// Plans an agent. Returns the future record, even if there is a problem.
    fn agent(
        &mut self,
        declared: &Declared<Agent>,
        token: Option<Secret>,
        holders: &mut TokenHolders,
    ) -> AgentRecord {
        let subject = StepSubject::new("agent", &declared.org, &declared.name).at(&declared.place);
        let before = self.problems.len();
        let found = self.basis.view.find_agent(&declared.org, &declared.name);
        if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
            self.refuse_stored(&subject);
        }
        let revokes = tokens_without_declaration(declared, found);
        if !revokes.is_empty() {
            holders.release(found);
        }
        let token = token.map(|token| TokenHash::of_secret(&token));
        let token = token.filter(|token| is_other_token(found, token));
        if let Some(token) = &token
            && let Err(other) = holders.give(declared, found, token)
        {
            self.refuse(&subject, format!("{other} has its token"), "choose another");
        }
        let mut record = match found {
            Some(found) => AgentRecord::clone(found),
            None => to_be_made(declared),
        };
        record.spec.clone_from(&declared.spec);
        record.facts.paused = false;
        let BindingChanges { bindings, unbinds, binds, defaults } =
            self.bindings(&subject, declared, &record);
        record.facts.bindings = bindings;
        if self.problems.len() > before {
            return record;
        }
        let Some(found) = found else {
            let change = AgentChange { token, binds, defaults, ..AgentChange::default() };
            let work = Work::Agent(Box::new(AgentWork::Make(declared.spec.clone(), change)));
            self.steps.push(Step::new(subject, PlannedAction::Make, work));
            return record;
        };
        let mut changes = members(&found.spec, &declared.spec);
        changes.extend(differing([
            ("token", token.is_some() || !revokes.is_empty()),
            ("defaults", defaults.is_some()),
            ("use", !(unbinds.is_empty() && binds.is_empty())),
        ]));
        let change = AgentChange {
            frees: self.freed(found, declared),
            unbinds,
            revokes,
            describes: (found.spec != declared.spec).then(|| declared.spec.clone()),
            resumes: found.facts.paused,
            token,
            binds,
            defaults,
        };
        let work = Work::Agent(Box::new(AgentWork::Change(found.id.clone(), change)));
        self.steps.push(Step::of_existing(subject, found.facts.paused, changes, work));
        record
    }

    /// Finds the connections that the agent uses among the future ones.
    fn bindings(
        &mut self,
        subject: &StepSubject,
        declared: &Declared<Agent>,
        agent: &AgentRecord,
    ) -> BindingChanges {
        let view = self.basis.view;
        let (mut wanted, mut binds) = (Vec::new(), Vec::new());
        let is_bound = |id: &ConnectionId, limits: &BindingLimits| {
            let mut all = agent.facts.bindings.iter();
            all.any(|it| it.direct && it.connection == *id && it.limits == *limits)
        };
        for it in &declared.with.uses {
            let UseItem { connection: name, limits } = it;
            let Some(connection) = self.planned.find_connection(&declared.org, name).cloned()
            else {
                let near = self.nearest_connection(&declared.org, name);
                self.report_missing_connection(subject, name, near);
                continue;
            };
            if !may_be_used_by(&connection, agent) {
                let message = format!(
                    "`use` names connection `{name}`, which is private and has another owner"
                );
                self.refuse(subject, message, "share it, or name another");
            }
            self.actions(subject, &connection, limits);
            if !is_bound(&connection.id, limits) {
                binds.push(it.clone());
            }
            wanted.push(connection);
        }
        let wanted_ids: HashSet<_> = wanted.iter().map(|it| &it.id).collect();
        // Bindings to a connection that is replaced go with it.
        let is_replaced = |id: &ConnectionId| {
            view.connection(&agent.org, id).is_some()
                && self.planned.connection(&agent.org, id).is_none()
        };
        let of_file =
            agent.facts.bindings.iter().filter(|it| it.direct && it.managed_by == ManagedBy::File);
        let gone = of_file.filter(|it| !wanted_ids.contains(&it.connection));
        let unbinds = gone.map(|it| it.connection.clone()).filter(|id| !is_replaced(id));
        let unbinds: Vec<_> = unbinds.collect();
        // What is there for slots of plugins is looked at with them.
        let stored = |it: &&BindingRecord| it.managed_by == ManagedBy::Store && it.direct;
        let mut bindings: Vec<_> = agent.facts.bindings.iter().filter(stored).cloned().collect();
        let stored =
            bindings.iter().filter_map(|it| self.planned.connection(&agent.org, &it.connection));
        let all: Vec<_> = stored.chain(&wanted).cloned().collect();
        bindings.extend(wanted.iter().map(binding));
        let stays =
            |it: &&BindingRecord| !unbinds.contains(&it.connection) && !is_replaced(&it.connection);
        let stay = agent.facts.bindings.iter().filter(stays).count();
        let added = wanted.iter().filter(|it| agent.facts.binding(&it.id).is_none()).count();
        if stay + added > BINDINGS_MAX {
            let message = format!("it would have more than {BINDINGS_MAX} bindings");
            self.refuse(subject, message, "declare another agent");
        }
        self.environments(subject, agent, &all);
        let defaults = other_defaults(declared, agent, &wanted);
        BindingChanges { bindings, unbinds, binds, defaults }
    }

    /// The most similar name of a connection to come. Many agents may use one that only the store has, so each name is
    /// compared with the others once.
    fn nearest_connection(&mut self, org: &OrgId, name: &str) -> Option<String> {
        let planned = &self.planned;
        let compared = || {
            let known = planned.all::<Connection>(org);
            nearest(name, known.map(|it| it.name())).map(str::to_owned)
        };
        self.nearest.entry((org.clone(), name.to_owned())).or_insert_with(compared).clone()
    }

    /// Refuses limits to actions that the connection's provider does not have.
    fn actions(
        &mut self,
        subject: &StepSubject,
        connection: &ConnectionRecord,
        limits: &BindingLimits,
    ) {
        // A provider of the store is compared when the rulebook compiles the binding.
        let found = self.basis.catalogue.get(&connection.provider);
        let Some(provider) = found else { return };
        for (name, near) in limits.unknown(provider) {
            let (message, remedy) = unknown_action(provider, name, near);
            self.refuse(subject, format!("`use`: {message}"), &remedy);
        }
    }

    /// Refuses connections of another environment than the agent's.
    fn environments(
        &mut self,
        subject: &StepSubject,
        agent: &AgentRecord,
        connections: &[Arc<ConnectionRecord>],
    ) {
        for connection in connections {
            if let Some((own, other)) = agent.environment_mismatch(connection) {
                let name = &connection.name;
                let message =
                    format!("it is in environment `{own}`, connection `{name}` in `{other}`");
                self.refuse(subject, message, "use one of its own");
            }
        }
    }

    /// Plugins of the file whose slots have connections of another environment than the agent's future one. These
    /// slots are emptied first, because agents are changed before plugins and must match their bindings.
    pub(super) fn freed(&self, found: &AgentRecord, declared: &Declared<Agent>) -> Vec<FreedSlots> {
        let fits = |id: &ConnectionId| {
            let connection = self.planned.connection(&found.org, id);
            connection.is_none_or(|it| declared.environment_mismatch(it).is_none())
        };
        let plugins = self.basis.view.plugins_of(&found.org, &found.id);
        let freed = plugins.filter(|it| it.managed_by == ManagedBy::File).map(|plugin| {
            let mut spec = plugin.spec.clone();
            spec.slots.retain(|_, connection| connection.id().is_some_and(fits));
            (plugin, spec)
        });
        let freed = freed.filter(|(plugin, spec)| plugin.spec != *spec);
        let freed = freed.map(|(plugin, spec)| FreedSlots {
            plugin: plugin.id.clone(),
            spec,
            is_paused: plugin.facts.paused,
        });
        freed.collect()
    }
}

impl TokenHolders {
    fn of(view: &View) -> Self {
        let mut holders = HashMap::new();
        for agent in view.agents() {
            let holder = || TokenHolder::Agent(agent.org.clone(), agent.name.clone());
            holders.extend(agent.facts.tokens.iter().map(|token| (token.hash.clone(), holder())));
        }
        for user in view.orgs().flat_map(|org| view.all::<User>(&org.id)) {
            let holder = || TokenHolder::User(user.name.clone());
            holders.extend(user.facts.tokens.iter().map(|token| (token.hash.clone(), holder())));
        }
        Self(holders)
    }

    /// Gives an agent a token, which replaces an earlier one of the file.
    fn give(
        &mut self,
        declared: &Declared<Agent>,
        found: Option<&Arc<AgentRecord>>,
        token: &TokenHash,
    ) -> Result<(), String> {
        let (hash, agent) =
            (token.to_hex(), TokenHolder::Agent(declared.org.clone(), declared.name.clone()));
        match self.0.get(&hash) {
            Some(other) if *other != agent => return Err(other.to_string()),
            _ => {}
        }
        self.release(found);
        self.0.insert(hash, agent);
        Ok(())
    }

    /// Frees the token that the file has given an agent.
    fn release(&mut self, found: Option<&Arc<AgentRecord>>) {
        for token in tokens_of_file(found) {
            self.0.remove(&token.hash);
        }
    }
}

impl std::fmt::Display for TokenHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(_, name) => write!(f, "agent `{name}`"),
            Self::User(name) => write!(f, "user `{name}`"),
        }
    }
}

fn is_of_file(token: &TokenRecord) -> bool {
    token.managed_by == ManagedBy::File && token.spec.label.as_deref() == Some(TOKEN_LABEL)
}

fn tokens_of_file(found: Option<&Arc<AgentRecord>>) -> impl Iterator<Item = &TokenRecord> {
    let all = found.into_iter().flat_map(|found| &found.facts.tokens);
    all.filter(|token| is_of_file(token))
}

/// Tokens from the file of an agent for which the file has none any more.
fn tokens_without_declaration(
    declared: &Declared<Agent>,
    found: Option<&Arc<AgentRecord>>,
) -> Vec<TokenId> {
    let found = found.filter(|_| declared.with.token.is_none());
    tokens_of_file(found).map(|token| token.id.clone()).collect()
}

/// Whether the agent does not have this token from the file, and no other one.
fn is_other_token(found: Option<&Arc<AgentRecord>>, token: &TokenHash) -> bool {
    let Some(found) = found else { return true };
    let hash = token.to_hex();
    let has_it = |it: &TokenRecord| it.hash == hash && is_of_file(it) && it.expires.is_none();
    let has_other = |it: &TokenRecord| it.hash != hash && is_of_file(it);
    !found.facts.tokens.iter().any(has_it) || found.facts.tokens.iter().any(has_other)
}

/// The defaults to come, if they differ from those of the agent's bindings.
fn other_defaults(
    declared: &Declared<Agent>,
    agent: &AgentRecord,
    wanted: &[Arc<ConnectionRecord>],
) -> Option<Vec<String>> {
    let defaults = &declared.with.defaults;
    let differs = wanted.iter().any(|connection| {
        let binding = agent.facts.binding(&connection.id);
        let is_default = binding.is_some_and(|binding| binding.preferred.is_some());
        let is_named = |name: &String| *name == connection.name || *name == connection.id.as_str();
        is_default != defaults.iter().any(is_named)
    });
    differs.then(|| defaults.clone())
}

fn binding(connection: &Arc<ConnectionRecord>) -> BindingRecord {
    BindingRecord {
        connection: connection.id.clone(),
        created: Timestamp::UNIX_EPOCH,
        managed_by: ManagedBy::File,
        placeholders: keyward_model::Placeholders::default(),
        direct: true,
        preferred: None,
        limits: BindingLimits::default(),
    }
}

/// With an id that it will not have.
fn to_be_made(declared: &Declared<Agent>) -> AgentRecord {
    let (by, spec) = (ManagedBy::File, declared.spec.clone());
    AgentRecord::new(&declared.org, by, spec, AgentFacts::default(), Timestamp::UNIX_EPOCH)
}
