//! The account of a connection in the policy, derived from its record and its provider.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::directory::{
    AgentRecord, AppRecord, BrokenReason, ConnectionRecord, ConnectionState, Remedies, RemedyCause,
};
use keyward_base::database::DatabaseEndpoint;
use keyward_base::pattern::{HostPattern, PathPattern};
use keyward_base::settings::Settings;
use keyward_model::LostConnection;
use keyward_rules::inject::own_authorization::Signs;
use keyward_rules::inject::path_prefix::PathPrefix;
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::inject::placement::Scoped;
use keyward_rules::policy::{Account, AccountState, Endpoint, LostAccount};
use keyward_rules::provider::{Catalogue, Instance, Provider};

/// Derived data of a connection.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ConnectionFacts {
    pub(super) account: Account,
    pub(super) own: OwnHosts,
    /// Why it cannot be used, if its provider or variables are no longer valid.
    problem: Option<Arc<str>>,
}

/// The hosts and OAuth endpoints that a connection adds to those of the catalogue.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct OwnHosts {
    /// Hosts without wildcards.
    pub(super) known: Vec<HostPattern>,
    pub(super) oauth_endpoints: Vec<Endpoint>,
}

/// Most kinds of connections whose common parts are kept; far more than a catalogue has.
const PARTS_MAX: usize = 10_000;

/// The common parts of connections of one provider and auth method without variables. Connections share pointers to
/// them, and the provider is evaluated once.
#[derive(Debug, Default)]
pub(super) struct ProviderParts {
    /// Hosts and OAuth endpoints of the catalogue, which apply in every org.
    shared_hosts: HashSet<HostPattern>,
    shared_endpoints: HashSet<Endpoint>,
    /// By provider and auth method.
    known: Mutex<HashMap<Arc<str>, PartsByMethod>>,
}

type PartsByMethod = HashMap<Box<str>, KnownPart>;

/// The part of a provider's auth method.
#[derive(Debug)]
struct KnownPart {
    of: Arc<Provider>,
    part: ProviderPart,
}

/// The data that is derived from a connection's provider, method and variables.
#[derive(Clone, Debug, Default)]
struct ProviderPart {
    hosts: Arc<[HostPattern]>,
    paths: Arc<[PathPattern]>,
    places: Arc<[Scoped<Option<PathPrefix>>]>,
    signs: Option<Signs>,
    has_slashes_in_segments: bool,
    database: Option<Arc<DatabaseEndpoint>>,
    is_ssh: bool,
    oauth_endpoints: Arc<[Endpoint]>,
    /// Whether a connection with this part may add hosts or endpoints to those of the catalogue.
    may_add: bool,
}

impl ProviderParts {
    /// No parts yet, for connections with the hosts of `catalogue`, which apply in every org.
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let shared_hosts = catalogue.known_hosts().collect();
        let shared_endpoints = catalogue.oauth_endpoints().collect();
        Self { shared_hosts, shared_endpoints, known: Mutex::default() }
    }

    /// The hosts and endpoints that a connection adds to those of the catalogue. Logs a warning if the connection
    /// cannot be used.
    pub(super) fn own_hosts(&self, record: &ConnectionRecord, catalogue: &Catalogue) -> OwnHosts {
        match self.part(record, catalogue) {
            Ok(part) => self.own_of(&part),
            Err(why) => {
                warn_if_unusable(record, &why);
                OwnHosts::default()
            }
        }
    }

    /// The part of a connection with its discovered endpoints, or an error.
    fn part(
        &self,
        record: &ConnectionRecord,
        catalogue: &Catalogue,
    ) -> Result<ProviderPart, String> {
        let mut part = self.of_provider(record, catalogue)?;
        let found = record.facts.discovered.iter().flat_map(|urls| [&urls.token, &urls.revoke]);
        let mut found = found.flatten().filter_map(|url| endpoint(url)).peekable();
        if found.peek().is_some() {
            let provider = provider_id(record, catalogue);
            let found = found.map(|(host, path)| (provider.clone(), host, path));
            part.oauth_endpoints = part.oauth_endpoints.iter().cloned().chain(found).collect();
            part.may_add = true;
        }
        Ok(part)
    }

    fn of_provider(
        &self,
        record: &ConnectionRecord,
        catalogue: &Catalogue,
    ) -> Result<ProviderPart, String> {
        let provider =
            catalogue.get(&record.provider).ok_or("its provider is not known any more")?;
        let auth =
            provider.auth(record.auth.as_deref()).ok_or("its auth method no longer exists")?;
        let variables = record.host_variables();
        if variables.is_empty()
            && let Some(known) =
                self.known.lock().get(&provider.id).and_then(|it| it.get(&*auth.id))
            && Arc::ptr_eq(&known.of, provider)
        {
            return Ok(known.part.clone());
        }
        let instance = provider.instantiate(auth, &variables).map_err(|error| error.to_string())?;
        let mut part = ProviderPart::of(instance, &provider.id);
        part.may_add = !self.own_of(&part).is_nothing();
        if variables.is_empty() {
            let mut known = self.known.lock();
            if known.values().map(HashMap::len).sum::<usize>() >= PARTS_MAX {
                known.clear();
            }
            let of_provider = known.entry(provider.id.clone()).or_default();
            let new = KnownPart { of: Arc::clone(provider), part: part.clone() };
            of_provider.insert(auth.id.as_str().into(), new);
        }
        Ok(part)
    }

    /// The hosts and endpoints that the part adds to those of the catalogue.
    fn own_of(&self, part: &ProviderPart) -> OwnHosts {
        if !part.may_add {
            return OwnHosts::default();
        }
        let known = part.hosts.iter().filter(|host| host.literal().is_some());
        let known = known.filter(|host| !self.shared_hosts.contains(host)).cloned().collect();
        let endpoints = part.oauth_endpoints.iter();
        let endpoints = endpoints.filter(|endpoint| !self.shared_endpoints.contains(endpoint));
        OwnHosts { known, oauth_endpoints: endpoints.cloned().collect() }
    }
}

impl OwnHosts {
    pub(super) fn is_nothing(&self) -> bool {
        self.known.is_empty() && self.oauth_endpoints.is_empty()
    }
}

impl ProviderPart {
    fn of(instance: Instance, provider: &Arc<str>) -> Self {
        let endpoints = instance.oauth_endpoints.iter();
        let endpoints =
            endpoints.map(|(host, path)| (provider.clone(), host.clone(), path.clone()));
        Self {
            oauth_endpoints: endpoints.collect(),
            places: instance.places().into(),
            signs: instance.signs,
            has_slashes_in_segments: instance.has_slashes_in_segments,
            database: instance.database.map(Arc::new),
            is_ssh: instance.is_ssh,
            hosts: instance.hosts.into(),
            paths: instance.paths.into(),
            may_add: true,
        }
    }
}

/// The removed connections of an agent, with their former hosts; none if the provider was removed too.
pub(super) fn lost_accounts(agent: &AgentRecord, catalogue: &Catalogue) -> Vec<LostAccount> {
    let found = |lost: &LostConnection| {
        let provider = catalogue.get(&lost.provider)?;
        let auth = provider.auth(lost.auth.as_deref())?;
        let hosts = provider.instantiate(auth, &lost.variables).ok()?.hosts;
        let cores = lost.placeholders.as_ref();
        let cores = cores.map(|own| own.values().map(Placeholder::core).collect());
        Some(LostAccount { name: lost.name.as_str().into(), hosts, cores })
    };
    agent.facts.lost.iter().filter_map(found).collect()
}

/// Derives the data of a connection. `app`: the app of its tokens, whose settings it inherits.
///
/// A connection whose provider or variables are no longer valid owns no host and is broken; it must not prevent
/// compiling the policy for the others.
pub(super) fn connection_facts(
    record: &ConnectionRecord,
    app: Option<&AppRecord>,
    catalogue: &Catalogue,
    parts: &ProviderParts,
) -> ConnectionFacts {
    let provider = provider_id(record, catalogue);
    let (part, problem) = match parts.part(record, catalogue) {
        Ok(part) => (part, None),
        Err(_) if is_draft(record) => (ProviderPart::default(), None),
        Err(why) => (ProviderPart::default(), Some(Arc::from(why))),
    };
    let state = match &problem {
        Some(why) => AccountState::Broken(Arc::clone(why)),
        None => state(&record.facts),
    };
    let own = parts.own_of(&part);
    let (id, name) = (record.id.clone(), record.name.as_str().into());
    let mut settings = match app {
        Some(app) => record.settings.with_defaults(&app.settings.requests),
        None => Settings::clone(&record.settings),
    };
    if settings.upgrades.is_none() {
        let provided = catalogue.get(&record.provider).map(|provider| &provider.about.upgrades);
        settings.upgrades = provided.filter(|upgrades| !upgrades.is_empty()).cloned();
    }
    let settings = (!settings.is_empty()).then(|| Arc::new(settings));
    let remedy = Remedies::new(record, app, catalogue).remedy(RemedyCause::Use).map(Into::into);
    let ProviderPart { hosts, paths, places, signs, database, is_ssh, .. } = part;
    let has_slashes_in_segments = part.has_slashes_in_segments;
    let account = Account {
        id,
        name,
        provider,
        hosts,
        paths,
        places,
        signs,
        has_slashes_in_segments,
        state,
        remedy,
        settings,
        database,
        is_ssh,
    };
    ConnectionFacts { account, own, problem }
}

impl ConnectionFacts {
    /// Logs a warning if the connection cannot be used.
    pub(super) fn log_problem(&self, record: &ConnectionRecord) {
        if let Some(why) = &self.problem {
            warn_if_unusable(record, why);
        }
    }
}

/// A draft may lack values that the provider has not sent yet.
fn is_draft(record: &ConnectionRecord) -> bool {
    matches!(record.facts.state, ConnectionState::Draft { .. })
}

fn warn_if_unusable(record: &ConnectionRecord, why: &str) {
    if !is_draft(record) {
        let (connection, provider) = (&record.name, &record.provider);
        tracing::warn!(%connection, %provider, %why, "a connection cannot be used");
    }
}

/// The id of its provider, shared with the provider if that is known.
fn provider_id(record: &ConnectionRecord, catalogue: &Catalogue) -> Arc<str> {
    match catalogue.get(&record.provider) {
        Some(known) => known.id.clone(),
        None => record.provider.as_str().into(),
    }
}

fn state(facts: &keyward_model::ConnectionFacts) -> AccountState {
    match &facts.state {
        ConnectionState::Active | ConnectionState::Testing => AccountState::Active,
        // A verdict on its client does not end its token: the vault refuses when that has ended.
        ConnectionState::Broken { .. } if facts.usable_until.is_some() => AccountState::Active,
        ConnectionState::Draft { failure } => {
            AccountState::Draft(failure.as_deref().map(Into::into))
        }
        ConnectionState::Paused => AccountState::Paused,
        ConnectionState::Broken { reason, detail } => {
            AccountState::Broken(broken(*reason, detail.as_deref()))
        }
    }
}

/// A reason with detail: `revoked (invalid_grant)`.
pub(super) fn broken(reason: BrokenReason, detail: Option<&str>) -> Arc<str> {
    let reason = reason.code();
    match detail {
        Some(detail) => format!("{reason} ({detail})").into(),
        None => reason.into(),
    }
}

/// Host and path of a URL that was checked.
pub(super) fn endpoint(url: &str) -> Option<(HostPattern, PathPattern)> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    Some((HostPattern::parse(authority).ok()?, PathPattern::parse(path).ok()?))
}
