//! What the directory will hold once it is in line with a configuration. Pure: a configuration is
//! judged whole, its rules against the agents and connections to come, before anything is written.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::declared::apps::consents;
use super::declared::kept::STORED;
use super::declared::plugins::World;
use super::declared::{Held, new_connection, same_account};
use crate::config::{Config, Declared, DeclaredConnection, InFile};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{Agent, AgentFacts, Record};
use keyward_rules::provider::Catalogue;
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::{
    About, AgentRecord, BindingRecord, ConnectionRecord, ConnectionState, Kept, ManagedBy,
    SecretFacts, View, Visibility,
};
use keyward_vault::Vault;

/// Agents and connections to come, and what stands in the way.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    pub(super) agents: Vec<Arc<AgentRecord>>,
    pub(super) connections: Vec<Arc<ConnectionRecord>>,
    pub(super) problems: Vec<String>,
}

/// Looks ahead. Ids of what is still to be made are not those that it will have.
pub(super) fn foresee(
    config: &Config,
    held: &Held,
    view: &View,
    catalogue: &Catalogue,
) -> Foreseen {
    let mut foreseen = Foreseen::default();
    foreseen.apps(config, view);
    foreseen.connections(config, held, view, catalogue);
    foreseen.agents(config, held, view);
    foreseen.plugins(config, held, view);
    foreseen.webhooks(config, view);
    foreseen.kept(&config.honeytokens, view);
    foreseen
}

impl Foreseen {
    fn webhooks(&mut self, config: &Config, view: &View) {
        for declared in &config.webhooks {
            let found = view.find_webhook(&declared.org, &declared.name);
            if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
                let (place, name) = (&declared.place, &declared.name);
                let why = "a stored webhook has this name: rename one of them";
                self.problems.push(format!("{place}: webhook `{name}`: {why}"));
            }
        }
    }

    fn kept<R: Kept + InFile>(&mut self, all: &[Declared<R>], view: &View) {
        let (one, max) = (R::KIND.one, R::KIND.max);
        let is_stored = |it: &&Arc<Record<R>>| it.managed_by == ManagedBy::Store;
        let mut room: BTreeMap<&OrgId, usize> = BTreeMap::new();
        for declared in all {
            let (org, place, name) = (&declared.org, &declared.place, declared.name());
            let stored = || view.all::<R>(org).filter(is_stored).count();
            let room = room.entry(org).or_insert_with(|| max.saturating_sub(stored()));
            if view.find::<R>(org, name).is_some_and(|found| is_stored(&found)) {
                self.problems.push(format!("{place}: {one} `{name}`: a stored {one} {STORED}"));
            } else if *room == 0 {
                let why = format!("its organisation has {max} already: remove some");
                self.problems.push(format!("{place}: {one} `{name}`: {why}"));
            }
            *room = room.saturating_sub(1);
        }
    }

    fn apps(&mut self, config: &Config, view: &View) {
        for declared in &config.apps {
            let found = view.find_app(&declared.org, &declared.name);
            let why = match found {
                Some(found) if found.managed_by == ManagedBy::Store => {
                    "a stored app has this name: rename one of them"
                }
                Some(found) if found.provider != declared.provider => {
                    "it was of another provider: give the other one another name"
                }
                _ => continue,
            };
            self.problems.push(format!("{}: app `{}`: {why}", declared.place, declared.name));
        }
        for declared in &config.connections {
            let Some(name) = &declared.app else { continue };
            let is_declared = config.apps.iter().any(|app| app.name == *name);
            if !is_declared && view.find_app(&declared.org, name).is_none() {
                self.problems.push(format!(
                    "{}: connection `{}`: `app` names app `{name}`, which does not exist: declare or \
                     add it",
                    declared.place, declared.name
                ));
            }
        }
    }

    fn connections(&mut self, config: &Config, held: &Held, view: &View, catalogue: &Catalogue) {
        for (declared, fields) in config.connections.iter().zip(&held.connections) {
            let found = view.find_connection(&declared.org, &declared.name);
            let new = new_connection(declared);
            let refused = match found {
                Some(found) if found.managed_by == ManagedBy::Store => {
                    Some("a stored connection has this name: rename one of them".to_owned())
                }
                _ if fields.is_empty() && consents(catalogue, &new) => None,
                _ => Vault::check(catalogue, &new, fields.clone()).err().map(|e| e.to_string()),
            };
            if let Some(why) = refused {
                let place = &declared.place;
                self.problems.push(format!("{place}: connection `{}`: {why}", declared.name));
            }
            let kept = found.filter(|found| same_account(found, declared));
            self.connections.push(Arc::new(match kept {
                Some(kept) => resumed(kept, declared),
                None => to_be_made(declared, catalogue),
            }));
        }
        let named: HashSet<_> = config.connections.iter().map(|c| (&c.org, &c.name)).collect();
        for stored in view.connections().filter(|c| !named.contains(&(&c.org, &c.name))) {
            let mut record = ConnectionRecord::clone(stored);
            if record.managed_by == ManagedBy::File && record.state.is_usable() {
                record.state = ConnectionState::Paused;
            }
            self.connections.push(Arc::new(record));
        }
    }

    fn agents(&mut self, config: &Config, held: &Held, view: &View) {
        for (declared, token) in config.agents.iter().zip(&held.tokens) {
            let found = view.find_agent(&declared.org, declared.name());
            let mut problem = |why: String| {
                let place = &declared.place;
                self.problems.push(format!("{place}: agent `{}`: {why}", declared.name()));
            };
            if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
                problem("a stored agent has this name: rename one of them".to_owned());
            }
            let hash = token.as_ref().map(|token| TokenHash::of_secret(token).to_hex());
            let taken = |agent: &&Arc<AgentRecord>| {
                agent.name() != declared.name()
                    && agent.facts.tokens.iter().any(|token| Some(&token.hash) == hash.as_ref())
            };
            if let Some(other) = view.agents().find(taken) {
                problem(format!("agent `{}` has its token: choose another", other.name()));
            }
            let mut record = match found {
                Some(found) => AgentRecord::clone(found),
                None => agent_to_be_made(declared),
            };
            record.spec.clone_from(&declared.spec);
            record.facts.paused = false;
            // What is there for slots of plugins is looked at with them.
            record.facts.bindings.retain(|it| it.managed_by == ManagedBy::Store && it.direct);
            for why in bind(&mut record, declared, &self.connections) {
                problem(why);
            }
            self.agents.push(Arc::new(record));
        }
        let named: HashSet<_> = config.agents.iter().map(|a| (&a.org, a.name())).collect();
        for stored in view.agents().filter(|a| !named.contains(&(&a.org, a.name()))) {
            let mut record = AgentRecord::clone(stored);
            record.facts.paused |= record.managed_by == ManagedBy::File;
            self.agents.push(Arc::new(record));
        }
    }

    fn plugins(&mut self, config: &Config, held: &Held, view: &View) {
        let world = World { agents: &self.agents, connections: &self.connections };
        let each = config.plugins.iter().zip(&held.manifests);
        let refused = each.filter_map(|one| world.fit((config, view), one).err());
        let problems: Vec<_> = refused.flatten().collect();
        self.problems.extend(problems);
    }
}

/// Binds what the agent is to use; answers what it cannot.
fn bind(
    agent: &mut AgentRecord,
    declared: &Declared<Agent>,
    connections: &[Arc<ConnectionRecord>],
) -> Vec<String> {
    let mut problems = Vec::new();
    for name in &declared.with.uses {
        let named = |c: &&Arc<ConnectionRecord>| {
            c.org == declared.org && (c.name == *name || c.id.as_str() == name)
        };
        let Some(connection) = connections.iter().find(named) else {
            problems.push(format!(
                "`use` names connection `{name}`, which does not exist: declare or add it"
            ));
            continue;
        };
        agent.facts.bindings.push(BindingRecord {
            connection: connection.id.clone(),
            created: Timestamp::UNIX_EPOCH,
            managed_by: ManagedBy::File,
            placeholders: BTreeMap::new(),
            direct: true,
        });
    }
    for binding in &agent.facts.bindings {
        let connection = connections.iter().find(|c| c.id == binding.connection);
        let Some(connection) = connection else { continue };
        if let (Some(own), Some(other)) = (&agent.spec.environment, &connection.environment)
            && own != other
        {
            let name = &connection.name;
            problems.push(format!(
                "it is in environment `{own}`, connection `{name}` in `{other}`: use one of its own"
            ));
        }
    }
    problems
}

fn resumed(kept: &ConnectionRecord, declared: &DeclaredConnection) -> ConnectionRecord {
    let mut record = ConnectionRecord { settings: declared.settings.clone(), ..kept.clone() };
    if record.state == ConnectionState::Paused {
        record.state = ConnectionState::Active;
    }
    record
}

pub(super) fn to_be_made(declared: &DeclaredConnection, catalogue: &Catalogue) -> ConnectionRecord {
    let provider = catalogue.get(&declared.provider);
    let auth = provider.and_then(|provider| provider.auth(declared.auth.as_deref()));
    ConnectionRecord {
        id: ConnectionId::random(),
        org: declared.org.clone(),
        name: declared.name.clone(),
        provider: declared.provider.clone(),
        auth: auth.map(|auth| auth.id.clone()).unwrap_or_default(),
        variables: declared.variables.clone(),
        environment: declared.environment.clone(),
        settings: declared.settings.clone(),
        captured: BTreeMap::new(),
        discovered: None,
        app: None,
        scopes: declared.scopes.clone(),
        granted: Vec::new(),
        account: None,
        account_id: None,
        ends: None,
        about: About::default(),
        secret: SecretFacts::default(),
        owner: None,
        visibility: Visibility::Shared,
        state: match consents(catalogue, &new_connection(declared)) && declared.fields.is_empty() {
            true => ConnectionState::Draft { failure: None },
            false => ConnectionState::Active,
        },
        managed_by: ManagedBy::File,
        created: Timestamp::UNIX_EPOCH,
        updated: Timestamp::UNIX_EPOCH,
    }
}

fn agent_to_be_made(declared: &Declared<Agent>) -> AgentRecord {
    let (by, spec) = (ManagedBy::File, declared.spec.clone());
    AgentRecord::new(&declared.org, by, spec, AgentFacts::default(), Timestamp::UNIX_EPOCH)
}
