//! [`Facts`]: what the names in rules can mean, and which accounts bindings lead to. Made from the
//! directory's records and the catalogue, without I/O.

use std::collections::HashMap;
use std::sync::Arc;

use super::plugins::Plugins;
use crate::base::id::{ConnectionId, OrgId};
use crate::base::pattern::{HostPattern, PathPattern};
use crate::directory::{
    AgentRecord, AppRecord, BrokenReason, ConnectionRecord, ConnectionState, PluginRecord,
    may_be_used_by,
};
use crate::policy::{Account, AccountState, Bound, DefaultAction, Empty, Extent, Rule, Spec};
use crate::provider::{Catalogue, Instance};

/// An OAuth endpoint: provider, host, path.
type Endpoint = (Arc<str>, HostPattern, PathPattern);

/// Agents, accounts and hosts, as they are now.
#[derive(Debug)]
pub(super) struct Facts {
    agents: HashMap<OrgId, Named<Arc<AgentRecord>>>,
    accounts: HashMap<OrgId, Named<Connection>>,
    known: Vec<HostPattern>,
    carved: Vec<Endpoint>,
    carved_in: Vec<(OrgId, Endpoint)>,
    plugins: Plugins,
}

/// Host and path of a URL that was checked.
fn endpoint(url: &str) -> Option<(HostPattern, PathPattern)> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    Some((HostPattern::parse(authority).ok()?, PathPattern::parse(path).ok()?))
}

/// A connection as the directory and as policy see it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) record: Arc<ConnectionRecord>,
    pub(super) account: Arc<Account>,
}

/// Things of one org, found by name or id.
#[derive(Debug)]
struct Named<T> {
    all: Vec<T>,
    at: HashMap<String, usize>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { all: Vec::new(), at: HashMap::new() }
    }
}

impl<T> Named<T> {
    fn push(&mut self, name: &str, id: &str, one: T) {
        self.at.entry(name.to_owned()).or_insert(self.all.len());
        self.at.insert(id.to_owned(), self.all.len());
        self.all.push(one);
    }

    fn find(&self, name_or_id: &str) -> Option<&T> {
        self.at.get(name_or_id).map(|at| &self.all[*at])
    }
}

impl Facts {
    /// `app`: the one that a connection's tokens are of, whose settings it inherits.
    ///
    /// A connection whose provider or variables do not fit any more owns no host and is broken;
    /// it must not keep the others' policy from being made.
    pub(super) fn gather(
        agents: impl Iterator<Item = Arc<AgentRecord>>,
        connections: impl Iterator<Item = Arc<ConnectionRecord>>,
        catalogue: &Catalogue,
        app: &dyn Fn(&ConnectionRecord) -> Option<Arc<AppRecord>>,
    ) -> Self {
        let mut facts = Self {
            agents: HashMap::new(),
            accounts: HashMap::new(),
            known: Vec::new(),
            carved: Vec::new(),
            carved_in: Vec::new(),
            plugins: Plugins::default(),
        };
        for provider in catalogue.all() {
            facts.known.extend(provider.known_hosts());
            let carved = provider.carved.iter().cloned();
            facts.carved.extend(carved.map(|(host, path)| (provider.id.clone(), host, path)));
        }
        for agent in agents {
            let of_org = facts.agents.entry(agent.org.clone()).or_default();
            of_org.push(&agent.name, agent.id.as_str(), agent.clone());
        }
        for record in connections {
            let account = facts.account(&record, app(&record).as_deref(), catalogue);
            let account = Arc::new(account);
            let of_org = facts.accounts.entry(record.org.clone()).or_default();
            let (name, id) = (record.name.clone(), record.id.clone());
            of_org.push(&name, id.as_str(), Connection { record, account });
        }
        facts.carved.sort();
        facts.carved.dedup();
        facts.carved_in.sort();
        facts.carved_in.dedup();
        facts
    }

    /// With the endpoints of apps' own authorization servers carved out: an MCP server's may be on its
    /// host.
    pub(super) fn carving<'a>(mut self, apps: impl Iterator<Item = &'a Arc<AppRecord>>) -> Self {
        for app in apps {
            let provider: Arc<str> = app.provider.as_str().into();
            let all = std::iter::once(&app.urls).chain(app.discovered.values());
            let own = all.flat_map(|urls| [&urls.token, &urls.revoke, &urls.device]);
            let endpoints = own.flatten().filter_map(|url| endpoint(url));
            let own =
                endpoints.map(|(host, path)| (app.org.clone(), (provider.clone(), host, path)));
            self.carved_in.extend(own);
        }
        self.carved_in.sort();
        self.carved_in.dedup();
        self
    }

    /// With the slots that these plugins' connections are in.
    pub(super) fn plugged<'a>(
        mut self,
        plugins: impl Iterator<Item = &'a Arc<PluginRecord>>,
        catalogue: &Catalogue,
    ) -> Self {
        let mut plugged = Plugins::default();
        for plugin in plugins {
            let find = |id: &ConnectionId| {
                self.connection(&plugin.org, id.as_str()).map(|found| &*found.record)
            };
            plugged.add(plugin, &plugin.missing(find), catalogue);
        }
        self.plugins = plugged;
        self
    }

    fn account(
        &mut self,
        record: &ConnectionRecord,
        app: Option<&AppRecord>,
        catalogue: &Catalogue,
    ) -> Account {
        let provider: Arc<str> = record.provider.as_str().into();
        let (hosts, paths, state) = match instance(record, catalogue) {
            Ok(instance) => {
                let carved = instance.carved.into_iter();
                let own = |(host, path)| (record.org.clone(), (provider.clone(), host, path));
                self.carved_in.extend(carved.map(own));
                (instance.hosts, instance.paths, state(&record.state))
            }
            // What its provider has not told yet is no fault of a connection that was never made.
            Err(_) if matches!(record.state, ConnectionState::Draft { .. }) => {
                (Vec::new(), Vec::new(), state(&record.state))
            }
            Err(why) => {
                let (connection, provider) = (&record.name, &record.provider);
                tracing::warn!(%connection, %provider, %why, "a connection cannot be used");
                (Vec::new(), Vec::new(), AccountState::Broken(why.into()))
            }
        };
        let (id, name) = (record.id.clone(), record.name.as_str().into());
        let settings = match app {
            Some(app) => record.settings.over(&app.settings.requests()),
            None => record.settings.clone(),
        };
        let settings = (!settings.is_empty()).then(|| Arc::new(settings));
        Account { id, name, provider, hosts, paths, state, settings }
    }

    /// By name or id.
    pub(super) fn agent(&self, org: &OrgId, name: &str) -> Option<&AgentRecord> {
        self.agents.get(org)?.find(name).map(|agent| &**agent)
    }

    /// By name or id.
    pub(super) fn connection(&self, org: &OrgId, name: &str) -> Option<&Connection> {
        self.accounts.get(org)?.find(name)
    }

    /// The names of the org's agents.
    pub(super) fn agent_names(&self, org: &OrgId) -> impl Iterator<Item = &str> {
        let all = self.agents.get(org).into_iter().flat_map(|named| &named.all);
        all.map(|agent| agent.name.as_str())
    }

    /// The names of the org's connections.
    pub(super) fn connection_names(&self, org: &OrgId) -> impl Iterator<Item = &str> {
        let all = self.accounts.get(org).into_iter().flat_map(|named| &named.all);
        all.map(|one| one.record.name.as_str())
    }

    /// Everything that a policy is compiled from.
    pub(super) fn spec(
        &self,
        rules: Vec<Rule>,
        default: DefaultAction,
        hostless_rules_max: usize,
    ) -> Spec {
        let bindings = self.bindings();
        let (known, carved) = (self.known.clone(), self.carved.clone());
        let carved_in = self.carved_in.clone();
        let paused = |empty: &&Empty| {
            self.agent(&empty.org, empty.agent.as_str()).is_none_or(|agent| agent.paused)
        };
        let empty = self.plugins.empty.iter().filter(|it| !paused(it)).cloned().collect();
        Spec { default, rules, bindings, empty, known, carved, carved_in, hostless_rules_max }
    }

    fn bindings(&self) -> Vec<Bound> {
        let agents = self.agents.values().flat_map(|named| &named.all);
        let working = agents.filter(|agent| !agent.paused);
        let each = working.flat_map(|agent| agent.bindings.iter().map(move |one| (agent, one)));
        each.filter_map(|(agent, binding)| {
            let connection = self.connection(&agent.org, binding.connection.as_str())?;
            // No binding is made across owners; one that came about otherwise binds nothing.
            if !may_be_used_by(&connection.record, agent) {
                return None;
            }
            let extent = match binding.direct {
                true => Extent::Whole,
                // Without a slot it allows nothing.
                false => Extent::Slots(self.plugins.slots(&agent.id, &binding.connection)?),
            };
            Some(Bound {
                org: agent.org.clone(),
                agent: agent.id.clone(),
                account: connection.account.clone(),
                placeholders: binding.placeholders.values().cloned().collect(),
                extent,
            })
        })
        .collect()
    }
}

/// What the connection owns, or why nothing.
fn instance(record: &ConnectionRecord, catalogue: &Catalogue) -> Result<Instance, String> {
    let provider = catalogue.get(&record.provider).ok_or("its provider is not known any more")?;
    let auth = provider.auth(Some(&record.auth)).ok_or("its provider lost the way to log in")?;
    provider.instantiate(auth, &record.host_variables()).map_err(|error| error.to_string())
}

fn state(state: &ConnectionState) -> AccountState {
    match state {
        ConnectionState::Active | ConnectionState::Testing => AccountState::Active,
        ConnectionState::Draft { failure } => {
            AccountState::Draft(failure.as_deref().map(Into::into))
        }
        ConnectionState::Paused => AccountState::Paused,
        ConnectionState::Broken { reason, detail } => {
            AccountState::Broken(broken(*reason, detail.as_deref()))
        }
    }
}

/// `revoked (invalid_grant)`.
pub(super) fn broken(reason: BrokenReason, detail: Option<&str>) -> Arc<str> {
    let reason = reason.code();
    match detail {
        Some(detail) => format!("{reason} ({detail})").into(),
        None => reason.into(),
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! Records as the directory would hold them.

    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::base::agent::Agent;
    use crate::base::id::{AgentId, TokenId};
    use crate::base::settings::Settings;
    use crate::directory::{About, BindingRecord, ManagedBy, SecretFacts, Visibility};
    use crate::inject::placeholder::Placeholder;
    use crate::rulebook::RuleText;

    /// Agents and connections of the default org.
    pub(in crate::rulebook) struct Samples {
        pub(in crate::rulebook) agents: Vec<AgentRecord>,
        pub(in crate::rulebook) connections: Vec<ConnectionRecord>,
    }

    /// A rule that says nothing yet.
    pub(in crate::rulebook) fn text(name: &str, hosts: &[&str]) -> RuleText {
        RuleText {
            name: Some(name.to_owned()),
            org: OrgId::default_org(),
            agents: None,
            hosts: hosts.iter().map(ToString::to_string).collect(),
            methods: Vec::new(),
            paths: Vec::new(),
            action: None,
            use_connection: None,
            allow_plaintext: false,
            place: format!("rules[{name}]"),
        }
    }

    impl Samples {
        pub(in crate::rulebook) fn new() -> Self {
            Self { agents: Vec::new(), connections: Vec::new() }
        }

        pub(in crate::rulebook) fn agent(&mut self, name: &str) -> Agent {
            let agent = Agent {
                id: AgentId::random(),
                org: OrgId::default_org(),
                name: name.into(),
                token: Some(TokenId::random()),
            };
            self.agents.push(AgentRecord {
                owner: None,
                id: agent.id.clone(),
                org: agent.org.clone(),
                name: name.to_owned(),
                labels: BTreeMap::new(),
                environment: None,
                managed_by: ManagedBy::Store,
                created: Timestamp::UNIX_EPOCH,
                paused: false,
                tokens: Vec::new(),
                bindings: Vec::new(),
                revoked: Vec::new(),
            });
            agent
        }

        pub(in crate::rulebook) fn connection(&mut self, name: &str, of: &str) -> ConnectionId {
            let catalogue = Catalogue::built_in();
            let auth = catalogue.get(of).and_then(|provider| provider.auth(None));
            let record = ConnectionRecord {
                id: ConnectionId::random(),
                org: OrgId::default_org(),
                name: name.to_owned(),
                provider: of.to_owned(),
                auth: auth.map(|auth| auth.id.clone()).unwrap_or_default(),
                variables: BTreeMap::new(),
                environment: None,
                settings: Settings::default(),
                captured: BTreeMap::new(),
                app: None,
                scopes: Vec::new(),
                granted: Vec::new(),
                account: None,
                ends: None,
                about: About::default(),
                secret: SecretFacts::default(),
                owner: None,
                visibility: Visibility::Shared,
                state: ConnectionState::Active,
                managed_by: ManagedBy::Store,
                created: Timestamp::UNIX_EPOCH,
                updated: Timestamp::UNIX_EPOCH,
            };
            self.connections.push(record);
            self.connections[self.connections.len() - 1].id.clone()
        }

        pub(in crate::rulebook) fn bind(&mut self, agent: &Agent, connection: &ConnectionId) {
            let binding = BindingRecord {
                connection: connection.clone(),
                created: Timestamp::UNIX_EPOCH,
                managed_by: ManagedBy::Store,
                placeholders: [("key".to_owned(), Placeholder::issue("sk-", None))].into(),
                direct: true,
            };
            let record = self.agents.iter_mut().find(|record| record.id == agent.id);
            record.expect("the agent is a sample's").bindings.push(binding);
        }

        pub(in crate::rulebook) fn facts(&self) -> Facts {
            Facts::gather(
                self.agents.iter().cloned().map(Arc::new),
                self.connections.iter().cloned().map(Arc::new),
                &Catalogue::built_in(),
                &|_| None,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::Samples;
    use super::*;

    fn spec(samples: &Samples) -> Spec {
        samples.facts().spec(Vec::new(), DefaultAction::Deny, 10)
    }

    #[test]
    fn a_connection_without_its_provider_owns_nothing_and_stops_nobody() {
        let mut samples = Samples::new();
        let agent = samples.agent("ci");
        let (lost, kept) = (samples.connection("lost", "gone"), samples.connection("k", "openai"));
        samples.bind(&agent, &lost);
        samples.bind(&agent, &kept);
        let bindings = spec(&samples).bindings;
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
        assert!(spec(&samples).bindings.is_empty());
    }

    #[test]
    fn a_paused_agent_has_no_bindings() {
        let mut samples = Samples::new();
        let agent = samples.agent("ci");
        let connection = samples.connection("work", "openai");
        samples.bind(&agent, &connection);
        samples.agents[0].paused = true;
        assert!(spec(&samples).bindings.is_empty());
    }

    #[test]
    fn states_and_reasons_are_told() {
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
            samples.connections[0].state = given;
            let facts = samples.facts();
            let work = facts.connection(&OrgId::default_org(), "work").expect("it is there");
            assert_eq!(work.account.state, told);
        }
    }

    #[test]
    fn hosts_of_the_catalogue_are_known_and_its_token_endpoints_carved() {
        let spec = spec(&Samples::new());
        let openai = HostPattern::parse("api.openai.com").expect("a pattern");
        assert!(spec.known.contains(&openai));
        assert!(spec.known.iter().all(|host| host.literal().is_some() || host.suffix().is_some()));
        assert!(spec.carved.iter().any(|(provider, _, _)| &**provider == "github"));
    }
}
