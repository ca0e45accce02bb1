//! The account of a connection in the policy, derived from its record and its provider.

use std::collections::HashMap;
use std::sync::Arc;

use crate::directory::{
    AgentRecord, AppRecord, BrokenReason, ConnectionRecord, ConnectionState, Need, Remedies,
};
use keyward_base::database::DatabaseEndpoint;
use keyward_base::pattern::{HostPattern, PathPattern};
use keyward_base::settings::Settings;
use keyward_model::LostConnection;
use keyward_rules::inject::path_prefix::PathPrefix;
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::inject::scoped::Scoped;
use keyward_rules::policy::{Account, AccountState, Endpoint, LostAccount};
use keyward_rules::provider::{Catalogue, Instance, Provider};

/// Derived data of a connection.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ConnectionFacts {
    pub(super) account: Arc<Account>,
    /// OAuth endpoints on the connection's own hosts.
    pub(super) oauth_endpoints: Arc<[Endpoint]>,
}

/// Kinds of connections whose common parts are kept; far more than a catalogue has.
const PARTS_MAX: usize = 10_000;

/// What connections of one provider and auth method without variables have in common, so that each has only pointers to
/// it, and the provider is not evaluated for each.
#[derive(Debug, Default)]
pub(super) struct ProviderParts(HashMap<(Arc<str>, Arc<str>), KnownPart>);

/// The part of a provider's auth method.
#[derive(Debug)]
struct KnownPart {
    of: Arc<Provider>,
    part: ProviderPart,
}

/// What follows from a connection's provider, method and variables.
#[derive(Clone, Debug, Default)]
struct ProviderPart {
    hosts: Arc<[HostPattern]>,
    paths: Arc<[PathPattern]>,
    prefixes: Arc<[Scoped<Option<PathPrefix>>]>,
    database: Option<Arc<DatabaseEndpoint>>,
    is_ssh: bool,
    oauth_endpoints: Arc<[Endpoint]>,
}

impl ProviderParts {
    /// The part of a connection, or an error.
    fn part(
        &mut self,
        record: &ConnectionRecord,
        catalogue: &Catalogue,
    ) -> Result<ProviderPart, String> {
        let provider =
            catalogue.get(&record.provider).ok_or("its provider is not known any more")?;
        let auth =
            provider.auth(record.auth.as_deref()).ok_or("its provider lost the way to log in")?;
        let variables = record.host_variables();
        let key = (provider.id.clone(), Arc::from(auth.id.as_str()));
        match self.0.get(&key) {
            Some(known) if variables.is_empty() && Arc::ptr_eq(&known.of, provider) => {
                return Ok(known.part.clone());
            }
            _ => {}
        }
        let instance = provider.instantiate(auth, &variables).map_err(|error| error.to_string())?;
        let part = ProviderPart::of(instance, &provider.id);
        if variables.is_empty() {
            if self.0.len() >= PARTS_MAX {
                self.0.clear();
            }
            self.0.insert(key, KnownPart { of: Arc::clone(provider), part: part.clone() });
        }
        Ok(part)
    }
}

impl ProviderPart {
    fn of(instance: Instance, provider: &Arc<str>) -> Self {
        let endpoints = instance.oauth_endpoints.iter();
        let endpoints =
            endpoints.map(|(host, path)| (provider.clone(), host.clone(), path.clone()));
        Self {
            oauth_endpoints: endpoints.collect(),
            prefixes: instance.path_prefixes().into(),
            database: instance.database.map(Arc::new),
            is_ssh: instance.is_ssh,
            hosts: instance.hosts.into(),
            paths: instance.paths.into(),
        }
    }
}

/// The removed connections of an agent, with the hosts that they had. A provider that is gone has none.
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
    parts: &mut ProviderParts,
) -> ConnectionFacts {
    let provider: Arc<str> = match catalogue.get(&record.provider) {
        Some(known) => known.id.clone(),
        None => record.provider.as_str().into(),
    };
    let (part, state) = match parts.part(record, catalogue) {
        Ok(mut part) => {
            let found = record.facts.discovered.iter().flat_map(|urls| [&urls.token, &urls.revoke]);
            let mut found = found.flatten().filter_map(|url| endpoint(url)).peekable();
            if found.peek().is_some() {
                let found = found.map(|(host, path)| (provider.clone(), host, path));
                part.oauth_endpoints = part.oauth_endpoints.iter().cloned().chain(found).collect();
            }
            (part, state(&record.facts.state))
        }
        // Values that the provider has not sent yet are not an error of a draft.
        Err(_) if matches!(record.facts.state, ConnectionState::Draft { .. }) => {
            (ProviderPart::default(), state(&record.facts.state))
        }
        Err(why) => {
            let (connection, provider) = (&record.name, &record.provider);
            tracing::warn!(%connection, %provider, %why, "a connection cannot be used");
            (ProviderPart::default(), AccountState::Broken(why.into()))
        }
    };
    let (id, name) = (record.id.clone(), record.name.as_str().into());
    let settings = match app {
        Some(app) => record.settings.over(&app.settings.requests),
        None => Settings::clone(&record.settings),
    };
    let settings = (!settings.is_empty()).then(|| Arc::new(settings));
    let remedy = Remedies::new(record, app, catalogue).remedy(Need::Use).map(Into::into);
    let ProviderPart { hosts, paths, prefixes, database, is_ssh, oauth_endpoints } = part;
    let account = Account {
        id,
        name,
        provider,
        hosts,
        paths,
        prefixes,
        state,
        remedy,
        settings,
        database,
        is_ssh,
    };
    ConnectionFacts { account: Arc::new(account), oauth_endpoints }
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
