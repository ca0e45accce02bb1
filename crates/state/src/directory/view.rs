//! [`View`]: all records in memory, as of one moment. The data path and the rulebook read it.

mod contents;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use super::collection::{
    Collection, ConnectTokens, FormerToken, LoginTokens, SessionTokens, UniqueIndex,
};
use super::holders::HolderIndex;
use super::org_catalogue::OrgCatalogue;
use super::records::{
    AgentRecord, AppRecord, ConnectionRecord, Person, PluginRecord, Selected, UserCredential,
};
#[cfg(test)]
use super::stored::Stored;

use crate::crypto::token::TokenHash;
use keyward_base::agent::Agent;
use keyward_base::id::{
    AgentId, AppId, ConnectionId, HoneytokenId, OrgId, OwnProviderId, PluginId, TokenId, UserId,
};
use keyward_base::shared_map::{Difference, SharedMap};
use keyward_model::{
    App, ConnectSession, Connection, DatabaseListener, Honeytoken, Hook, Login, Org, OwnProvider,
    Plugin, Record, Role, Rule, Scope, Session, Source, User, Webhook,
};
use keyward_rules::inject::placeholder::PlaceholderCore;
use keyward_rules::provider::Provider;

/// All records, in memory. Immutable: a change replaces the whole view by one that shares the unchanged parts with it.
/// Lookups by hash map, O(1). Iteration is in no particular order.
#[derive(Clone, Debug, Default)]
pub struct View {
    orgs: SharedMap<OrgId, Arc<OrgView>>,
    tokens: UniqueIndex<TokenHash, Arc<Holder>>,
    personal: UniqueIndex<TokenHash, Arc<PersonalHolder>>,
    revoked: UniqueIndex<TokenHash, FormerToken>,
    pub(super) selected: Selected,
    pub(super) sessions: SessionTokens,
    pub(super) connect_tokens: ConnectTokens,
    pub(super) logins: LoginTokens,
}

/// The records of one organisation, and their indexes.
#[derive(Clone, Debug, Default)]
pub struct OrgView {
    record: Option<Arc<Record<Org>>>,
    pub(super) users: Collection<User>,
    pub(super) agents: Collection<keyward_model::Agent>,
    pub(super) connections: Collection<Connection>,
    pub(super) apps: Collection<App>,
    pub(super) plugins: Collection<Plugin>,
    pub(super) webhooks: Collection<Webhook>,
    pub(super) hooks: Collection<Hook>,
    pub(super) database_listeners: Collection<DatabaseListener>,
    pub(super) sources: Collection<Source>,
    pub(super) honeytokens: Collection<Honeytoken>,
    pub(super) own_providers: Collection<OwnProvider>,
    /// The compiled own providers by the ids of their records, as far as their definitions are valid.
    pub(super) compiled_providers: SharedMap<OwnProviderId, Arc<Provider>>,
    /// The catalogue with the own providers; replaced at each change of them.
    pub(super) catalogue: OrgCatalogue,
    pub(super) rules: Collection<Rule>,
    pub(super) sessions: Collection<Session>,
    pub(super) connect_sessions: Collection<ConnectSession>,
    pub(super) logins: Collection<Login>,
    pub(super) honeytoken_cores: UniqueIndex<PlaceholderCore, HoneytokenId>,
    pub(super) holders: HolderIndex,
    /// The number of connections by the code of their state; codes without connections are absent.
    pub(super) in_state: BTreeMap<&'static str, usize>,
    plugins_of: SharedMap<AgentId, Arc<PluginsByName>>,
}

/// The id is part of the key, because a plugin and its successor may both be in the view for a moment.
type PluginsByName = BTreeMap<(Arc<str>, PluginId), Arc<PluginRecord>>;

/// The records in which two views differ, of the kinds that policies are compiled from.
#[derive(Debug, Default)]
pub struct Differences<'a> {
    pub agents: Vec<Difference<'a, Arc<AgentRecord>>>,
    pub connections: Vec<Difference<'a, Arc<ConnectionRecord>>>,
    pub apps: Vec<Difference<'a, Arc<AppRecord>>>,
    pub providers: Vec<Difference<'a, Arc<Record<OwnProvider>>>>,
    pub plugins: Vec<Difference<'a, Arc<PluginRecord>>>,
    pub rules: Vec<Difference<'a, Arc<Record<Rule>>>>,
    pub sessions: Vec<Difference<'a, Arc<Record<Session>>>>,
    pub users: Vec<Difference<'a, Arc<Record<User>>>>,
}

/// The agent of a token.
#[derive(Clone, Debug)]
struct Holder {
    hash: TokenHash,
    agent: Agent,
    expires: Option<Timestamp>,
}

/// The user of a personal token.
#[derive(Clone, Debug)]
struct PersonalHolder {
    hash: TokenHash,
    user: Arc<Record<User>>,
    token: TokenId,
    scopes: Arc<[Scope]>,
    expires: Option<Timestamp>,
}

impl OrgView {
    /// Whether an agent may act: it is not paused, and its owner, if it has one, exists and is not paused.
    fn is_active(&self, agent: &AgentRecord) -> bool {
        let owner = agent.facts.owner.as_ref().map(|owner| self.users.get(owner));
        !agent.facts.is_paused() && owner.is_none_or(|owner| owner.is_some_and(|user| !user.paused))
    }
}

impl View {
    /// A view of only these records. Of two records with the same name, the name finds the later one.
    #[cfg(test)]
    pub(crate) fn of(
        agents: impl IntoIterator<Item = Arc<AgentRecord>>,
        connections: impl IntoIterator<Item = Arc<ConnectionRecord>>,
    ) -> Self {
        let mut view = Self::default();
        agents.into_iter().for_each(|agent| view.put(agent));
        connections.into_iter().for_each(|connection| view.put(connection));
        view
    }

    /// This view with one more record, or with another version of a record.
    #[cfg(test)]
    pub(crate) fn with<R: Stored>(mut self, record: Arc<Record<R>>) -> Self {
        self.put(record);
        self
    }

    /// The differences from an earlier view. If this view was derived from the earlier one by changes, the cost depends
    /// only on the differences. A record that was put again counts as changed.
    pub fn differences<'a>(&'a self, before: &'a Self) -> Differences<'a> {
        static NOTHING: LazyLock<OrgView> = LazyLock::new(OrgView::default);
        let mut all = Differences::default();
        for org in self.orgs.differences(&before.orgs, Arc::ptr_eq) {
            let [before, now] = [org.before, org.now].map(|org| org.map_or(&*NOTHING, |org| org));
            all.agents.extend(now.agents.by_id().differences(before.agents.by_id(), Arc::ptr_eq));
            let (now_there, there) = (now.connections.by_id(), before.connections.by_id());
            let connections = now_there.differences(there, Arc::ptr_eq);
            all.connections.extend(connections);
            let (now_there, there) = (now.apps.by_id(), before.apps.by_id());
            all.apps.extend(now_there.differences(there, Arc::ptr_eq));
            let (now_there, there) = (now.own_providers.by_id(), before.own_providers.by_id());
            all.providers.extend(now_there.differences(there, Arc::ptr_eq));
            all.plugins
                .extend(now.plugins.by_id().differences(before.plugins.by_id(), Arc::ptr_eq));
            all.rules.extend(now.rules.by_id().differences(before.rules.by_id(), Arc::ptr_eq));
            let (now_there, there) = (now.sessions.by_id(), before.sessions.by_id());
            all.sessions.extend(now_there.differences(there, Arc::ptr_eq));
            all.users.extend(now.users.by_id().differences(before.users.by_id(), Arc::ptr_eq));
        }
        all
    }

    pub(super) fn each_org(&self) -> impl Iterator<Item = &OrgView> {
        self.orgs.values().map(|org| &**org)
    }

    pub(super) fn of_org(&self, id: &OrgId) -> Option<&OrgView> {
        self.orgs.get(id).map(|org| &**org)
    }

    pub(super) fn org_mut(&mut self, id: &OrgId) -> &mut OrgView {
        Arc::make_mut(self.orgs.entry(id.clone()))
    }

    pub(super) fn known_org_mut(&mut self, id: &OrgId) -> Option<&mut OrgView> {
        self.orgs.get_mut(id).map(Arc::make_mut)
    }

    /// The user of a personal token, looked up as [`View::authenticate`] does. `None` if the token is unknown or
    /// expired, and if the user was removed, is paused, or is an end user.
    pub fn person(&self, token: &str, now: Timestamp) -> Option<Person> {
        let hash = TokenHash::of(token);
        let holder = self.personal.get(&hash).filter(|holder| holder.hash.matches(&hash))?;
        // The index alone does not prove that the user exists.
        let user = self.one::<User>(&holder.user.org, &holder.user.id)?;
        let held = user.facts.tokens.iter().any(|token| token.id == holder.token);
        let live = held && holder.expires.is_none_or(|expires| now < expires);
        let live = live && !user.paused && user.role != Role::EndUser;
        live.then(|| Person {
            user: user.clone(),
            credential: UserCredential::Token(holder.token.clone()),
            scopes: holder.scopes.clone(),
            ends: holder.expires,
            token_ends: holder.expires,
        })
    }

    /// Whether the agent or its owner is paused, or its owner was removed.
    pub fn is_inactive(&self, agent: &AgentRecord) -> bool {
        !self.orgs.get(&agent.org).is_some_and(|org| org.is_active(agent))
    }

    pub fn orgs(&self) -> impl Iterator<Item = &Arc<Record<Org>>> {
        self.orgs.values().filter_map(|org| org.record.as_ref())
    }

    pub fn org(&self, id: &OrgId) -> Option<&Arc<Record<Org>>> {
        self.orgs.get(id)?.record.as_ref()
    }

    /// The organisation that an app belongs to: its redirect URI contains only the id.
    pub fn org_of_app(&self, id: &AppId) -> Option<&OrgId> {
        self.orgs.iter().find(|(_, org)| org.apps.get(id).is_some()).map(|(id, _)| id)
    }

    /// An agent or connection that a user owns: its kind and name.
    pub(super) fn record_owned_by(
        &self,
        org: &OrgId,
        user: &UserId,
    ) -> Option<(&'static str, String)> {
        let org = self.orgs.get(org)?;
        let agent = org.agents.values().find(|one| one.facts.owner.as_ref() == Some(user));
        let connection = || {
            let one =
                org.connections.values().find(|one| one.facts.owner.as_ref() == Some(user))?;
            Some(("connection", one.name.clone()))
        };
        agent.map(|one| ("agent", one.name.clone())).or_else(connection)
    }

    /// The agent of a token: hash look-up, then constant-time comparison. `None` if the token is unknown or expired,
    /// and if the agent or its owner is paused.
    pub fn authenticate(&self, token: &str, now: Timestamp) -> Option<Agent> {
        let hash = TokenHash::of(token);
        // The map compares hashes, whose bits reveal nothing about the tokens. The comparison below decides.
        let Some(holder) = self.tokens.get(&hash).filter(|holder| holder.hash.matches(&hash))
        else {
            return self.agent_of_session(&hash, now);
        };
        let live = holder.expires.is_none_or(|expires| now < expires);
        live.then(|| holder.agent.clone())
    }

    /// The agent that has a listener of its own, by name. `None` if there is none, or it is paused.
    pub fn agent_of_listener(&self, org: &OrgId, name: &str) -> Option<Agent> {
        let org = self.orgs.get(org)?;
        let record = org.agents.find(name).filter(|it| it.name() == name && org.is_active(it))?;
        let (id, org) = (record.id.clone(), record.org.clone());
        Some(Agent { id, org, name: record.name.as_str().into(), token: None, session: None })
    }

    /// Whether the authentication of an agent is still valid; open streams check this after each change. Its token or
    /// session must be valid; on a listener of its own, the agent must exist and not be paused.
    pub fn is_still_authenticated(&self, agent: &Agent, now: Timestamp) -> bool {
        let Some(org) = self.orgs.get(&agent.org) else { return false };
        org.agents.get(&agent.id).is_some_and(|record| {
            let live = |id: &TokenId| {
                record.facts.tokens.iter().any(|token| token.id == *id && token.is_live(now))
            };
            let proved = match &agent.session {
                Some(session) => self.is_session_valid(&agent.org, &session.id, now),
                None => agent.token.as_ref().is_none_or(live),
            };
            org.is_active(record) && proved
        })
    }

    /// All agents of all orgs.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<AgentRecord>> {
        self.orgs.values().flat_map(|org| org.agents.values())
    }

    /// All tokens, of agents and of people.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenId> {
        let agents =
            self.agents().flat_map(|agent| agent.facts.tokens.iter().map(|token| &token.id));
        agents.chain(self.personal.entries().map(|holder| &holder.token))
    }

    /// All connections of all orgs.
    pub fn connections(&self) -> impl Iterator<Item = &Arc<ConnectionRecord>> {
        self.orgs.values().flat_map(|org| org.connections.values())
    }

    /// The number of connections of all orgs in states with this code.
    pub fn connections_in_state(&self, code: &str) -> usize {
        self.orgs.values().filter_map(|org| org.in_state.get(code)).sum()
    }

    /// All apps of all orgs.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<AppRecord>> {
        self.orgs.values().flat_map(|org| org.apps.values())
    }

    /// All plugins of all orgs.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<PluginRecord>> {
        self.orgs.values().flat_map(|org| org.plugins.values())
    }

    /// All stored rules of all orgs.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Record<Rule>>> {
        self.orgs.values().flat_map(|org| org.rules.values())
    }

    /// The plugins of an agent, by name.
    pub fn plugins_of(
        &self,
        org: &OrgId,
        agent: &AgentId,
    ) -> impl Iterator<Item = &Arc<PluginRecord>> {
        let of_agent = self.orgs.get(org).and_then(|org| org.plugins_of.get(agent));
        of_agent.into_iter().flat_map(|plugins| plugins.values())
    }

    pub fn plugin(&self, org: &OrgId, id: &PluginId) -> Option<&Arc<PluginRecord>> {
        self.one::<Plugin>(org, id)
    }

    pub fn agent_of(&self, plugin: &PluginRecord) -> Option<&Arc<AgentRecord>> {
        self.agent(&plugin.org, plugin.agent.id()?)
    }

    /// The agents whose bindings or plugins' slots name the connection, in no particular order.
    pub fn holders<'a>(
        &'a self,
        org: &OrgId,
        connection: &ConnectionId,
    ) -> impl Iterator<Item = &'a Arc<AgentRecord>> + use<'a> {
        let of_org = self.of_org(org);
        let holders = of_org.map(|org| org.holders.of(connection));
        let agents = holders.into_iter().flatten();
        agents.filter_map(move |agent| of_org.and_then(|org| org.agents.get(agent)))
    }

    pub fn app(&self, org: &OrgId, id: &AppId) -> Option<&Arc<AppRecord>> {
        self.orgs.get(org)?.apps.get(id)
    }

    /// By name or id. No name looks like an id.
    pub fn find_app(&self, org: &OrgId, name_or_id: &str) -> Option<&Arc<AppRecord>> {
        self.find::<App>(org, name_or_id)
    }

    pub fn agent(&self, org: &OrgId, id: &AgentId) -> Option<&Arc<AgentRecord>> {
        self.one::<keyward_model::Agent>(org, id)
    }

    pub fn connection(&self, org: &OrgId, id: &ConnectionId) -> Option<&Arc<ConnectionRecord>> {
        self.orgs.get(org)?.connections.get(id)
    }

    /// By name or id. No name looks like an id.
    pub fn find_agent(&self, org: &OrgId, name_or_id: &str) -> Option<&Arc<AgentRecord>> {
        self.find::<keyward_model::Agent>(org, name_or_id)
    }

    /// By name or id. No name looks like an id.
    pub fn find_connection(&self, org: &OrgId, name_or_id: &str) -> Option<&Arc<ConnectionRecord>> {
        self.find::<Connection>(org, name_or_id)
    }

    /// Adds the tokens of an agent to the index.
    pub(super) fn put_tokens(&mut self, agent: &AgentRecord) {
        let name: Arc<str> = agent.name().into();
        let holder = |token: &TokenId| Agent {
            id: agent.id.clone(),
            org: agent.org.clone(),
            name: Arc::clone(&name),
            token: Some(token.clone()),
            session: None,
        };
        for former in &agent.facts.revoked {
            let Some(hash) = TokenHash::from_hex(&former.hash) else { continue };
            let (by, token) = (holder(&former.id), former.id.clone());
            let former = FormerToken { agent: by, token, reason: "revoked" };
            self.revoked.put(hash, former, |former| former.agent.id == agent.id);
        }
        if !self.org_mut(&agent.org).is_active(agent) {
            return;
        }
        for token in &agent.facts.tokens {
            // A malformed hash was refused at open, and authenticates no agent here.
            let Some(hash) = TokenHash::from_hex(&token.hash) else { continue };
            let holder = Holder { hash, agent: holder(&token.id), expires: token.expires };
            self.tokens.put(hash, Arc::new(holder), |holder| holder.agent.id == agent.id);
        }
    }

    /// Removes the tokens of an agent from the index.
    pub(super) fn remove_tokens(&mut self, agent: &AgentRecord) {
        for hash in agent.facts.tokens.iter().filter_map(|token| TokenHash::from_hex(&token.hash)) {
            self.tokens.remove(&hash, |holder| holder.agent.id == agent.id);
        }
        let revoked = agent.facts.revoked.iter();
        for hash in revoked.filter_map(|former| TokenHash::from_hex(&former.hash)) {
            self.revoked.remove(&hash, |former| former.agent.id == agent.id);
        }
    }

    pub(super) fn put_org(&mut self, org: Arc<Record<Org>>) {
        let id = org.id.clone();
        self.org_mut(&id).record = Some(org);
    }

    /// The caller has taken out its records.
    pub(super) fn forget_org(&mut self, id: &OrgId) {
        self.orgs.remove(id);
    }

    /// Adds the personal tokens of a user to the index.
    pub(super) fn add_tokens_of(&mut self, user: &Arc<Record<User>>) {
        for token in &user.facts.tokens {
            let Some(hash) = TokenHash::from_hex(&token.hash) else { continue };
            let holder = PersonalHolder {
                hash,
                user: Arc::clone(user),
                token: token.id.clone(),
                scopes: token.spec.scopes.clone().into(),
                expires: token.expires,
            };
            self.personal.put(hash, Arc::new(holder), |holder| holder.user.id == user.id);
        }
    }

    /// Removes the personal tokens of a user from the index.
    pub(super) fn remove_tokens_of(&mut self, user: &Record<User>) {
        for token in &user.facts.tokens {
            if let Some(hash) = TokenHash::from_hex(&token.hash) {
                self.personal.remove(&hash, |holder| holder.user.id == user.id);
            }
        }
    }

    /// Updates the tokens of the agents of an owner, because their validity depends on the owner.
    pub(super) fn update_agents_of(&mut self, org: &OrgId, owner: &UserId) {
        let Some(of_org) = self.orgs.get(org) else { return };
        let theirs =
            of_org.agents.values().filter(|agent| agent.facts.owner.as_ref() == Some(owner));
        for agent in theirs.cloned().collect::<Vec<_>>() {
            self.put(agent);
        }
    }

    /// Adds a plugin to those of its agent.
    pub(super) fn put_plugin_of_agent(&mut self, plugin: &Arc<PluginRecord>) {
        let Some(agent) = plugin.agent.id() else { return };
        let org = self.org_mut(&plugin.org);
        let of_agent = Arc::make_mut(org.plugins_of.entry(agent.clone()));
        of_agent.insert(name_and_id(plugin), Arc::clone(plugin));
    }

    pub(super) fn remove_plugin_of_agent(&mut self, plugin: &PluginRecord) {
        let Some(agent) = plugin.agent.id() else { return };
        let org = self.org_mut(&plugin.org);
        if let Some(of_agent) = org.plugins_of.get_mut(agent).map(Arc::make_mut) {
            of_agent.remove(&name_and_id(plugin));
            if of_agent.is_empty() {
                org.plugins_of.remove(agent);
            }
        }
    }
}

fn name_and_id(plugin: &PluginRecord) -> (Arc<str>, PluginId) {
    (plugin.name().into(), plugin.id.clone())
}
