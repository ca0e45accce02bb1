//! The account of a connection in the policy, derived from its record and its provider.

use std::sync::Arc;

use super::facts::{ConnectionFacts, endpoint};
use super::plugins::broken;
use crate::directory::{AppRecord, ConnectionRecord, ConnectionState, Need, Remedies};
use keyward_rules::policy::{Account, AccountState};
use keyward_rules::provider::{Catalogue, Instance};

/// Derives the data of a connection. `app`: the app of its tokens, whose settings it inherits.
///
/// A connection whose provider or variables are no longer valid owns no host and is broken; it must not prevent
/// compiling the policy for the others.
pub(super) fn connection_facts(
    record: &ConnectionRecord,
    app: Option<&AppRecord>,
    catalogue: &Catalogue,
) -> ConnectionFacts {
    let provider: Arc<str> = record.provider.as_str().into();
    let mut oauth_endpoints = Vec::new();
    let mut prefixes = Vec::new();
    let (mut database, mut is_ssh) = (None, false);
    let (hosts, paths, state) = match instance(record, catalogue) {
        Ok(instance) => {
            database = instance.database.clone().map(Arc::new);
            prefixes = instance.path_prefixes();
            is_ssh = instance.is_ssh;
            let found = record.facts.discovered.iter().flat_map(|urls| [&urls.token, &urls.revoke]);
            let found = found.flatten().filter_map(|url| endpoint(url));
            let own = instance.oauth_endpoints.into_iter().chain(found);
            oauth_endpoints.extend(own.map(|(host, path)| (provider.clone(), host, path)));
            (instance.hosts, instance.paths, state(&record.facts.state))
        }
        // Values that the provider has not sent yet are not an error of a draft.
        Err(_) if matches!(record.facts.state, ConnectionState::Draft { .. }) => {
            (Vec::new(), Vec::new(), state(&record.facts.state))
        }
        Err(why) => {
            let (connection, provider) = (&record.name, &record.provider);
            tracing::warn!(%connection, %provider, %why, "a connection cannot be used");
            (Vec::new(), Vec::new(), AccountState::Broken(why.into()))
        }
    };
    let (id, name) = (record.id.clone(), record.name.as_str().into());
    let settings = match app {
        Some(app) => record.settings.over(&app.settings.requests),
        None => record.settings.clone(),
    };
    let settings = (!settings.is_empty()).then(|| Arc::new(settings));
    let remedy = Remedies::new(record, app, catalogue).remedy(Need::Use).map(Into::into);
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

/// The hosts that the connection owns, or an error.
fn instance(record: &ConnectionRecord, catalogue: &Catalogue) -> Result<Instance, String> {
    let provider = catalogue.get(&record.provider).ok_or("its provider is not known any more")?;
    let auth =
        provider.auth(record.auth.as_deref()).ok_or("its provider lost the way to log in")?;
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
