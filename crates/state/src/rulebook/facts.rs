//! [`Facts`]: which agents and sessions a change of the directory affects, by indexes. Derived from the directory's
//! view, without I/O. The cost of an update depends only on the changes of the view.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::account::{OwnHosts, endpoint};
use super::names::{binding_inputs, connection_inputs, rule_inputs};
use super::session_index::SessionIndex;
use super::source::AgentSource;
use crate::directory::{AgentRecord, AppRecord, ConnectionRecord, PluginRecord, View};
use keyward_base::id::{AgentId, AppId, ConnectionId, OrgId, SessionId};
use keyward_base::pattern::HostPattern;
use keyward_base::shared_map::Difference;
use keyward_base::threads;
use keyward_model::{Connection, OwnProvider, Record};
use keyward_rules::inject::placeholder::token_endpoints;
use keyward_rules::policy::{DefaultAction, PolicyInput, Rule, hosts_of_sets};
use keyward_rules::provider::Catalogue;

/// The indexes of one view.
#[derive(Debug)]
pub(super) struct Facts {
    source: Arc<AgentSource>,
    orgs: HashMap<OrgId, OrgFacts, RandomState>,
}

/// Indexes of one org.
#[derive(Debug, Default)]
pub(super) struct OrgFacts {
    /// The connections that get their tokens through an app.
    of_app: HashMap<AppId, HashSet<ConnectionId>>,
    pub(super) sessions: SessionIndex,
}

/// The effect of a newer view on the policy.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Agents whose bindings or slots changed.
    pub(super) agents: HashSet<(OrgId, AgentId)>,
    /// Sessions that have ended, or whose connections or hosts changed.
    pub(super) sessions: HashSet<(OrgId, SessionId)>,
    /// Orgs whose stored rules changed.
    pub(super) rules: HashSet<OrgId>,
    /// Names and ids whose meaning in rules has changed.
    pub(super) named: HashSet<(OrgId, Arc<str>)>,
    /// Added references to hosts and OAuth endpoints.
    pub(super) added: Vec<(OrgId, OwnHosts)>,
    /// Removed references to hosts and OAuth endpoints.
    pub(super) removed: Vec<(OrgId, OwnHosts)>,
}

/// The endpoints of an app's own authorization servers; those of an MCP server may be on its host.
fn own_of_app(app: &AppRecord) -> OwnHosts {
    let provider: Arc<str> = app.provider.as_str().into();
    let all = std::iter::once(&app.urls).chain(app.facts.discovered.values());
    let own = all.flat_map(|urls| [&urls.token, &urls.revoke, &urls.device]);
    let own = own.flatten().filter_map(|url| endpoint(url));
    let own = own.map(|(host, path)| (provider.clone(), host, path));
    OwnHosts { known: Vec::new(), oauth_endpoints: own.collect() }
}

impl Facts {
    /// Indexes `view`.
    pub(super) fn new(catalogue: Arc<Catalogue>, view: Arc<View>) -> Self {
        let source = Arc::new(AgentSource::new(catalogue, Arc::clone(&view)));
        let mut facts = Self { source, orgs: HashMap::default() };
        for session in view.sessions() {
            facts.of_org_mut(&session.org).sessions.set(session, true);
        }
        for connection in view.connections() {
            facts.note_app(None, Some(connection));
            facts.note_owner([None, Some(connection)]);
        }
        facts
    }

    /// Updates to a newer view; returns what changed.
    pub(super) fn follow(&mut self, view: Arc<View>) -> Changed {
        let source = Arc::new(self.source.of(Arc::clone(&view)));
        let source_before = std::mem::replace(&mut self.source, source);
        let differences = view.differences(source_before.view());
        let mut changed = Changed::default();
        let rules = differences.rules.iter().filter_map(|rule| rule.now.or(rule.before));
        changed.rules.extend(rules.map(|rule| rule.org.clone()));
        let mut affected = HashSet::new();
        for app in differences.apps {
            self.app_changed(app, &mut affected, &mut changed);
        }
        for provider in differences.providers {
            self.provider_changed(provider, &mut affected, &mut changed);
        }
        for agent in differences.agents {
            self.agent_changed(agent, &mut changed);
        }
        for plugin in differences.plugins {
            self.plugin_changed(plugin, &mut changed);
        }
        for session in differences.sessions {
            self.session_changed(session, &mut changed);
        }
        for user in differences.users {
            self.user_changed(user, &mut changed);
        }
        let mut known = HashMap::new();
        for Difference { before, now } in differences.connections {
            let Some(record) = now.or(before) else { continue };
            let (org, id) = (record.org.clone(), record.id.clone());
            self.note_app(before, now);
            affected.insert((org.clone(), id.clone()));
            known.insert((org, id), before);
        }
        for at in affected {
            // Only the app has changed; the connection itself is the same.
            let now = view.connection(&at.0, &at.1);
            let before = known.get(&at).copied().unwrap_or(now);
            self.note_owner([before, now]);
            self.connection_changed(&source_before, Difference { before, now }, &mut changed);
            if self.orgs.get(&at.0).is_some_and(OrgFacts::is_empty) {
                self.orgs.remove(&at.0);
            }
        }
        self.add_sessions_of_agents(&mut changed);
        changed
    }

    fn app_changed(
        &self,
        Difference { before, now }: Difference<'_, Arc<AppRecord>>,
        affected: &mut HashSet<(OrgId, ConnectionId)>,
        changed: &mut Changed,
    ) {
        let own = |app: &Arc<AppRecord>| (app.org.clone(), own_of_app(app));
        changed.removed.extend(before.map(own));
        changed.added.extend(now.map(own));
        let Some(app) = now.or(before) else { return };
        let of_app = self.orgs.get(&app.org).and_then(|of_org| of_org.of_app.get(&app.id));
        affected.extend(of_app.into_iter().flatten().map(|id| (app.org.clone(), id.clone())));
    }

    /// Rules, bindings and slots name actions of an own provider; slots without a connection block its hosts.
    fn provider_changed(
        &self,
        Difference { before, now }: Difference<'_, Arc<Record<OwnProvider>>>,
        affected: &mut HashSet<(OrgId, ConnectionId)>,
        changed: &mut Changed,
    ) {
        let Some(provider) = now.or(before) else { return };
        let (org, id) = (&provider.org, provider.name());
        changed.rules.insert(org.clone());
        let uses = |it: &&Arc<ConnectionRecord>| it.provider == id;
        for connection in self.view().all::<Connection>(org).filter(uses) {
            affected.insert((org.clone(), connection.id.clone()));
            let holders = self.view().holders(org, &connection.id);
            changed.agents.extend(holders.map(|agent| (org.clone(), agent.id.clone())));
            let sessions = self.orgs.get(org).map(|of_org| &of_org.sessions);
            let using = sessions.map(|it| it.using(&connection.id, [None, Some(connection)]));
            let using = using.into_iter().flatten();
            changed.sessions.extend(using.map(|session| (org.clone(), session.clone())));
        }
        let names = |it: &&Arc<PluginRecord>| {
            it.org == *org && it.manifest.connections.iter().any(|slot| slot.provider == id)
        };
        for plugin in self.view().plugins().filter(names) {
            let agent = plugin.agent.id().map(|agent| (org.clone(), agent.clone()));
            changed.agents.extend(agent);
        }
    }

    fn agent_changed(
        &self,
        Difference { before, now }: Difference<'_, Arc<AgentRecord>>,
        changed: &mut Changed,
    ) {
        let Some(agent) = now.or(before) else { return };
        let (org, id) = (&agent.org, &agent.id);
        if before.map(|it| binding_inputs(it)) != now.map(|it| binding_inputs(it)) {
            changed.agents.insert((org.clone(), id.clone()));
        }
        if before.map(|it| rule_inputs(it)) != now.map(|it| rule_inputs(it)) {
            let names = [before, now].into_iter().flatten().map(|agent| &*agent.name);
            changed.name(org, names.chain([id.as_str()]));
        }
    }

    fn plugin_changed(
        &self,
        Difference { before, now }: Difference<'_, Arc<PluginRecord>>,
        changed: &mut Changed,
    ) {
        // A plugin never changes its agent, but both versions are handled independently.
        for plugin in [before, now].into_iter().flatten() {
            let agent = plugin.agent.id().map(|agent| (plugin.org.clone(), agent.clone()));
            changed.agents.extend(agent);
        }
    }

    /// Records the app of a connection.
    fn note_app(
        &mut self,
        before: Option<&Arc<ConnectionRecord>>,
        now: Option<&Arc<ConnectionRecord>>,
    ) {
        if let Some((record, app)) = before.and_then(|it| Some((it, it.app_id()?))) {
            let of_org = self.orgs.entry(record.org.clone()).or_default();
            if let Some(all) = of_org.of_app.get_mut(app) {
                all.remove(&record.id);
                if all.is_empty() {
                    of_org.of_app.remove(app);
                }
            }
        }
        if let Some((record, app)) = now.and_then(|it| Some((it, it.app_id()?))) {
            let of_org = self.orgs.entry(record.org.clone()).or_default();
            of_org.of_app.entry(app.clone()).or_default().insert(record.id.clone());
        }
    }

    /// Handles a changed connection. `before` is derived from the old source, whose apps and providers may differ.
    fn connection_changed(
        &self,
        source_before: &AgentSource,
        Difference { before, now }: Difference<'_, Arc<ConnectionRecord>>,
        changed: &mut Changed,
    ) {
        let Some(ConnectionRecord { org, id, .. }) = now.or(before).map(|it| &**it) else { return };
        let old = before.map(|it| source_before.facts(it));
        let new = now.map(|it| self.source.facts(it));
        if let Some((record, facts)) = now.zip(new.as_ref()) {
            facts.log_problem(record);
        }
        let is_same = old == new;
        if !is_same {
            changed.removed.extend(old.map(|it| (org.clone(), it.own)));
            changed.added.extend(new.map(|it| (org.clone(), it.own)));
        }
        if is_same && before.map(|it| connection_inputs(it)) == now.map(|it| connection_inputs(it))
        {
            return;
        }
        let holders = self.view().holders(org, id);
        changed.agents.extend(holders.map(|agent| (org.clone(), agent.id.clone())));
        let of_org = self.orgs.get(org).into_iter();
        let using = of_org.flat_map(|of_org| of_org.sessions.using(id, [before, now]));
        changed.sessions.extend(using.map(|session| (org.clone(), session.clone())));
        let names = [before, now].into_iter().flatten().map(|record| &*record.name);
        changed.name(org, names.chain([id.as_str()]));
    }

    /// The source of what agents may use.
    pub(super) fn source(&self) -> &Arc<AgentSource> {
        &self.source
    }

    /// The view that this data is of.
    pub(super) fn view(&self) -> &Arc<View> {
        self.source.view()
    }

    /// The input for compiling a policy, without the bindings of agents and sessions, which are compiled one by one.
    pub(super) fn spec(&self, rules: Vec<Rule>, default: DefaultAction) -> PolicyInput {
        // The inputs check the limit. Rules above it stay in force, because they may refuse requests.
        let hostless_rules_max = usize::MAX;
        let mut spec = PolicyInput { default, rules, hostless_rules_max, ..PolicyInput::default() };
        let catalogue = self.source.catalogue();
        spec.known.extend(catalogue.known_hosts());
        spec.oauth_endpoints.extend(catalogue.oauth_endpoints());
        spec.known.extend(hosts_of_sets().cloned());
        spec.known.extend(token_endpoints().filter_map(|(host, _)| HostPattern::parse(host).ok()));
        spec.oauth_endpoints.sort();
        spec.oauth_endpoints.dedup();
        spec
    }

    /// The hosts and endpoints that each app and connection adds to those of the catalogue. Logs a warning for each
    /// connection that cannot be used.
    pub(super) fn own_hosts(&self) -> Vec<(OrgId, OwnHosts)> {
        let apps = self.view().apps().map(|app| (app.org.clone(), own_of_app(app)));
        let connections: Vec<_> = self.view().connections().collect();
        let own = threads::chunks(&connections, |part| {
            let own = part.iter().map(|it| (it.org.clone(), self.source.own_hosts(it)));
            own.filter(|(_, own)| !own.is_nothing()).collect::<Vec<_>>()
        });
        apps.chain(own.into_iter().flatten()).collect()
    }

    pub(super) fn of_org(&self, org: &OrgId) -> Option<&OrgFacts> {
        self.orgs.get(org)
    }

    pub(super) fn of_org_mut(&mut self, org: &OrgId) -> &mut OrgFacts {
        self.orgs.entry(org.clone()).or_default()
    }
}

impl OrgFacts {
    fn is_empty(&self) -> bool {
        self.of_app.is_empty() && self.sessions.is_empty()
    }
}

impl Changed {
    fn name<'a>(&mut self, org: &OrgId, names: impl Iterator<Item = &'a str>) {
        self.named.extend(names.map(|name| (org.clone(), name.into())));
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! Samples of directory records.

    use jiff::Timestamp;

    use super::super::PlacedRule;
    use super::*;
    use crate::directory::BindingRecord;
    use crate::directory::ManagedBy;
    use keyward_base::agent::Agent;
    use keyward_base::id::TokenId;
    use keyward_model::{AgentFacts, AgentSpec, ConnectionFacts, ConnectionSpec, Record, RuleSpec};
    use keyward_rules::inject::placeholder::Placeholder;

    /// Agents and connections of the default org.
    pub(in crate::rulebook) struct Samples {
        pub(in crate::rulebook) agents: Vec<AgentRecord>,
        pub(in crate::rulebook) connections: Vec<ConnectionRecord>,
    }

    /// A rule without `use` and `action`.
    pub(in crate::rulebook) fn text(name: &str, hosts: &[&str]) -> RuleSpec {
        RuleSpec {
            name: Some(name.to_owned()),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            ..RuleSpec::default()
        }
    }

    /// The rule of the default org, at `rules[NAME]`.
    pub(in crate::rulebook) fn placed(spec: RuleSpec) -> PlacedRule {
        let place = format!("rules[{}]", spec.name.as_deref().unwrap_or("r"));
        PlacedRule { org: OrgId::default_org(), spec, place }
    }

    impl Samples {
        pub(in crate::rulebook) fn new() -> Self {
            Self { agents: Vec::new(), connections: Vec::new() }
        }

        pub(in crate::rulebook) fn agent(&mut self, name: &str) -> Agent {
            let spec = AgentSpec { name: name.to_owned(), ..AgentSpec::default() };
            let (by, facts, now) = (ManagedBy::Store, AgentFacts::default(), Timestamp::UNIX_EPOCH);
            let record = AgentRecord::new(&OrgId::default_org(), by, spec, facts, now);
            let (id, org) = (record.id.clone(), record.org.clone());
            self.agents.push(record);
            Agent { id, org, name: name.into(), token: Some(TokenId::random()), session: None }
        }

        pub(in crate::rulebook) fn connection(&mut self, name: &str, of: &str) -> ConnectionId {
            let record = self.made(name, of);
            self.connections.push(record);
            self.connections[self.connections.len() - 1].id.clone()
        }

        pub(in crate::rulebook) fn made(&self, name: &str, of: &str) -> ConnectionRecord {
            let catalogue = Catalogue::built_in();
            let auth = catalogue.get(of).and_then(|provider| provider.auth(None));
            let spec = ConnectionSpec {
                name: name.to_owned(),
                provider: of.to_owned(),
                auth: auth.map(|auth| auth.id.clone()),
                ..ConnectionSpec::default()
            };
            let (org, by) = (OrgId::default_org(), ManagedBy::Store);
            Record::new(&org, by, spec, ConnectionFacts::default(), Timestamp::UNIX_EPOCH)
        }

        pub(in crate::rulebook) fn bind(&mut self, agent: &Agent, connection: &ConnectionId) {
            let binding = BindingRecord {
                connection: connection.clone(),
                created: Timestamp::UNIX_EPOCH,
                managed_by: ManagedBy::Store,
                placeholders: [("key".to_owned(), Placeholder::issue("sk-", None))].into(),
                direct: true,
                preferred: None,
                limits: keyward_model::BindingLimits::default(),
            };
            let record = self.agents.iter_mut().find(|record| record.id == agent.id);
            record.expect("the agent is a sample's").facts.bindings.push(binding);
        }

        pub(in crate::rulebook) fn view(&self) -> Arc<View> {
            let agents = self.agents.iter().cloned().map(Arc::new);
            let connections = self.connections.iter().cloned().map(Arc::new);
            Arc::new(View::of(agents, connections))
        }

        pub(in crate::rulebook) fn facts(&self) -> Facts {
            Facts::new(Arc::new(Catalogue::built_in()), self.view())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::Samples;
    use super::*;
    use crate::directory::BrokenReason;
    use crate::directory::ConnectionState;
    use keyward_base::pattern::HostPattern;
    use keyward_rules::policy::{AccountBinding, AccountState, BindingSource};

    /// What the agents may use.
    fn bindings(samples: &Samples) -> Vec<AccountBinding> {
        let facts = samples.facts();
        let held = samples.agents.iter().map(|it| facts.source().bindings(&it.org, &it.id));
        held.flat_map(|held| held.bindings).collect()
    }

    fn spec(samples: &Samples) -> PolicyInput {
        samples.facts().spec(Vec::new(), DefaultAction::Deny)
    }

    #[test]
    fn a_connection_without_its_provider_is_broken_and_owns_no_hosts() {
        let mut samples = Samples::new();
        let agent = samples.agent("ci");
        let (lost, kept) = (samples.connection("lost", "gone"), samples.connection("k", "openai"));
        samples.bind(&agent, &lost);
        samples.bind(&agent, &kept);
        let bindings = bindings(&samples);
        assert_eq!(bindings.len(), 2);
        let lost = bindings.iter().find(|bound| bound.account.id == lost).expect("it is there");
        assert!(lost.account.hosts.is_empty());
        assert!(matches!(&lost.account.state, AccountState::Broken(why) if why.contains("known")));
    }

    #[test]
    fn a_binding_to_another_orgs_connection_does_not_exist() {
        let mut samples = Samples::new();
        let agent = samples.agent("ci");
        let connection = samples.connection("work", "openai");
        samples.bind(&agent, &connection);
        samples.connections[0].org = OrgId::random();
        assert!(bindings(&samples).is_empty());
    }

    #[test]
    fn a_paused_agent_has_no_bindings() {
        let mut samples = Samples::new();
        let agent = samples.agent("ci");
        let connection = samples.connection("work", "openai");
        samples.bind(&agent, &connection);
        samples.agents[0].facts.paused = true;
        assert!(bindings(&samples).is_empty());
        samples.agents[0].facts.paused = false;
        samples.agents[0].facts.held = true;
        assert!(bindings(&samples).is_empty());
    }

    #[test]
    fn an_account_has_the_state_of_its_connection_with_the_reason() {
        let mut samples = Samples::new();
        samples.connection("work", "openai");
        let reason = BrokenReason::NoRefreshToken;
        for (given, told) in [
            (ConnectionState::Paused, AccountState::Paused),
            (ConnectionState::Testing, AccountState::Active),
            (ConnectionState::Draft { failure: None }, AccountState::Draft(None)),
            (
                ConnectionState::Draft { failure: Some("declined".to_owned()) },
                AccountState::Draft(Some("declined".into())),
            ),
            (
                ConnectionState::Broken { reason, detail: Some("bad_grant".to_owned()) },
                AccountState::Broken("no_refresh_token (bad_grant)".into()),
            ),
        ] {
            samples.connections[0].facts.state = given;
            let facts = samples.facts();
            let named = facts.source().names().connection(&OrgId::default_org(), "work");
            assert_eq!(named.expect("it is there").1.state, told);
        }
    }

    #[test]
    fn hosts_and_oauth_endpoints_of_the_catalogue_are_in_the_policy_spec() {
        let spec = spec(&Samples::new());
        let openai = HostPattern::parse("api.openai.com").expect("a pattern");
        assert!(spec.known.contains(&openai));
        assert!(spec.known.iter().all(|host| host.literal().is_some() || host.suffix().is_some()));
        assert!(spec.oauth_endpoints.iter().any(|(provider, _, _)| &**provider == "github"));
    }
}
