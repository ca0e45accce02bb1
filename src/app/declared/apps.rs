//! Apps that the configuration declares, and what connections make of them.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, bail};

use crate::config::{Config, Declared, DeclaredApp};
use keyward_base::id::AppId;
use keyward_base::secret::Secret;
use keyward_model::Connection;
use keyward_rules::provider::{AuthKind, AuthMethod, Catalogue};
use keyward_state::directory::{
    AppRecord, ConnectionRecord, ConnectionState, Directory, ManagedBy, View,
};
use keyward_vault::{NewConnection, Vault, VaultError};

/// The secrets of all declared apps, in the configuration's order.
pub(super) fn secrets(
    config: &Config,
    problems: &mut Vec<String>,
) -> Vec<BTreeMap<String, Secret>> {
    let of = |declared: &DeclaredApp| {
        let mut secrets = BTreeMap::new();
        for (name, source) in &declared.secrets {
            match source.load(&config.environment, &config.secret_variables()) {
                Ok(secret) => drop(secrets.insert(name.clone(), secret)),
                Err(error) => problems.push(format!(
                    "{}: app `{}`: `{name}`: {error}",
                    declared.place, declared.name
                )),
            }
        }
        secrets
    };
    config.apps.iter().map(of).collect()
}

/// Brings one in line.
pub(super) async fn app(
    vault: &Vault,
    declared: &DeclaredApp,
    secrets: BTreeMap<String, Secret>,
) -> anyhow::Result<()> {
    let directory = vault.directory();
    let found = directory.view().find_app(&declared.org, &declared.name).cloned();
    let Some(found) = found else {
        vault.add_app_of(declared.to_new(), secrets).await?;
        return Ok(());
    };
    if found.managed_by == ManagedBy::Store {
        bail!("a stored app has this name: rename one of them");
    }
    if found.provider != declared.provider {
        bail!(
            "it was of provider `{}`, where it is registered: give the other one another name",
            found.provider
        );
    }
    vault.change_app_of((&found.org, &found.id), &|record| take(record, declared), secrets).await?;
    Ok(())
}

/// What the file says of it.
pub(super) fn take(record: &mut AppRecord, declared: &DeclaredApp) {
    record.auth.clone_from(&declared.auth);
    record.client_id.clone_from(&declared.client_id);
    record.scopes.clone_from(&declared.scopes);
    record.variables.clone_from(&declared.variables);
    record.urls.clone_from(&declared.urls);
    record.settings.clone_from(&declared.settings);
    record.paused = false;
}

/// The app that a declared connection names.
pub(super) fn named(view: &View, declared: &Declared<Connection>) -> anyhow::Result<Option<AppId>> {
    let Some(name) = &declared.app else { return Ok(None) };
    let found = view.find_app(&declared.org, name.as_str());
    let found = found.with_context(|| {
        format!("`app` names app `{name}`, which does not exist: declare or add it")
    })?;
    Ok(Some(found.id.clone()))
}

/// Whether a person has to consent before there is a grant.
pub(in crate::app) fn consents(catalogue: &Catalogue, new: &NewConnection) -> bool {
    let provider = catalogue.get(&new.spec.provider);
    let auth = provider.and_then(|provider| provider.auth(new.spec.auth.as_deref()));
    auth.is_some_and(AuthMethod::is_consented_to)
}

/// Takes other fields over. A grant that was consented to, or that has been renewed since it was given,
/// is not put back to an older one.
pub(super) async fn replace(
    vault: &Vault,
    found: &ConnectionRecord,
    fields: BTreeMap<String, Secret>,
) -> Result<(), VaultError> {
    let catalogue = vault.catalogue();
    let provider = catalogue.get(&found.provider);
    let auth = provider.and_then(|provider| provider.auth(found.auth.as_deref()));
    if auth.is_some_and(|auth| auth.kind == AuthKind::Oauth2)
        && !matches!(found.facts.state, ConnectionState::Broken { .. })
    {
        return Ok(());
    }
    if fields.is_empty() && auth.is_some_and(|auth| auth.minted.is_some()) {
        return Ok(());
    }
    vault.replace(&found.org, &found.id, fields).await.map(|_| ())
}

/// Pauses what the file names no more.
pub(super) async fn pause_what_is_gone(
    config: &Config,
    directory: &Directory,
) -> anyhow::Result<()> {
    let declared: HashSet<_> = config.apps.iter().map(|app| (&app.org, &app.name)).collect();
    for app in directory.view().apps() {
        let gone = app.managed_by == ManagedBy::File
            && !app.paused
            && !declared.contains(&(&app.org, &app.name));
        if gone {
            let pause = |record: &mut AppRecord| record.paused = true;
            directory.update_app(&app.org, &app.id, &pause).await?;
            tracing::info!(name = app.name, "paused: the configuration names it no more");
        }
    }
    Ok(())
}
