//! Stores the secrets of apps, sealed, in the table of grants at `ORG/app_…`. The metadata of an app is kept
//! by the directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::grants::UnsealedRow;
use super::record::{self, NewRow, RecordError};
use super::{Vault, VaultError, app_check};
use crate::grant::oauth::{AssertionError, OAuthClient, check_private_key};
use crate::grant::{AppSecret, StoredAppSecret};
use keyward_base::id::{AppId, OrgId};
use keyward_base::secret::Secret;
use keyward_model::{
    App, AppFacts, AppSpec, AppUrls, Connection, DynamicRegistration, GivenFields, Resource,
    check_fixed,
};
use keyward_net::tls;
use keyward_rules::provider::Catalogue;
use keyward_state::directory::{AppRecord, ConnectionRecord, DirectoryError, ManagedBy};
use keyward_state::store::{Expect, Table, Version};

/// An app to be added.
#[derive(Clone, Debug)]
pub struct NewApp {
    /// Set if the redirect URI, which contains the id, was registered before; else a new id is made.
    pub id: Option<AppId>,
    pub org: OrgId,
    pub spec: AppSpec,
    /// Its registration, if the gateway registered the client itself.
    pub registered: Option<DynamicRegistration>,
    pub managed_by: ManagedBy,
}

/// An app after a change.
#[derive(Clone, Debug)]
pub struct ChangedApp {
    pub app: Arc<AppRecord>,
    /// Whether record or secrets changed.
    pub changed: bool,
}

/// The permitted use of the secret. It is sealed together with the secret, so that an editor of the database
/// cannot redirect the secret to another server.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct AppPurpose {
    provider: String,
    client_id: String,
    variables: BTreeMap<String, String>,
    urls: AppUrls,
}

impl AppPurpose {
    pub(super) fn of(spec: &AppSpec) -> Self {
        Self {
            provider: spec.provider.clone(),
            client_id: spec.client_id.clone(),
            variables: spec.variables.clone(),
            urls: spec.urls.clone(),
        }
    }
}

impl Vault {
    /// Whether an app with secrets of these names fits its provider. What can be judged without the provider is
    /// checked with the spec.
    ///
    /// # Errors
    /// With what does not fit.
    pub fn check_app(
        catalogue: &Catalogue,
        spec: &AppSpec,
        secrets: &[&str],
    ) -> Result<(), VaultError> {
        app_check::check(catalogue, spec, secrets)
    }

    /// Checks that a given key can be used. Whether it is the client's, only the provider knows.
    ///
    /// # Errors
    /// When the key or its certificate is malformed, or they do not belong together.
    pub fn check_app_keys(given: &GivenFields) -> Result<(), VaultError> {
        let Some(key) = given.secrets.get("private_key") else { return Ok(()) };
        let refused = |field, error: AssertionError| app_check::refused(field, error.to_string());
        match given.secrets.get("certificate") {
            Some(chain) if tls::is_identity(chain, key) => Ok(()),
            Some(_) => Err(refused("certificate", AssertionError::Certificate)),
            // The certificate is in a secret source.
            None if given.references.contains_key("certificate") => Ok(()),
            None => check_private_key(key).map_err(|error| refused("private_key", error)),
        }
    }

    fn takes_app(&self, org: &OrgId, spec: &AppSpec, secret: &AppSecret) -> Result<(), VaultError> {
        App::check(spec).map_err(DirectoryError::from)?;
        self.check_references(org, &spec.references)?;
        let mut names = secret.names();
        names.extend(spec.references.keys().map(String::as_str));
        Self::check_app(&self.catalogue(org), spec, &names)
    }

    /// Validates the app, and stores its sealed secret and its record as one act.
    ///
    /// # Errors
    /// When it does not fit its provider, the name is taken, or the store fails.
    pub async fn add_app(
        &self,
        new: NewApp,
        secret: AppSecret,
    ) -> Result<Arc<AppRecord>, VaultError> {
        let NewApp { id, org, spec, registered, managed_by } = new;
        self.takes_app(&org, &spec, &secret)?;
        let secrets = names_of(&secret);
        let facts = AppFacts { secrets, registered, ..AppFacts::default() };
        let mut record = AppRecord::new(&org, managed_by, spec, facts, self.clock.now());
        record.id = id.unwrap_or(record.id);
        let row = NewRow { header: AppPurpose::of(&record.spec), grants: secret.encode() };
        Ok(self.directory.add_with::<App>(record, Some(row.beside())).await?)
    }

    /// [`Vault::add_app`] with secrets by name.
    ///
    /// # Errors
    /// As [`Vault::add_app`]; when a secret has an unknown name.
    pub async fn add_app_of(
        &self,
        new: NewApp,
        secrets: BTreeMap<String, Secret>,
    ) -> Result<Arc<AppRecord>, VaultError> {
        self.add_app(new, secret_of(secrets)?).await
    }

    /// [`Vault::change_app`] with all of its secrets by name.
    ///
    /// # Errors
    /// As [`Vault::change_app`]; when there is no secret of that name.
    pub async fn change_app_of<E: From<VaultError> + From<DirectoryError>>(
        &self,
        org: &OrgId,
        id: &AppId,
        change: &(dyn Fn(&mut AppRecord) -> Result<(), E> + Sync),
        secrets: BTreeMap<String, Secret>,
    ) -> Result<ChangedApp, E> {
        self.change_app(org, id, change, Some(secret_of(secrets)?)).await
    }

    /// Changes an app: `change` edits the record, or refuses. `secret` replaces the stored secret; without it the
    /// stored one stays, and the change is refused if the secret would be sent to another server. Tokens stay, and
    /// connections whose client was rejected are tried again.
    ///
    /// # Errors
    /// When the result does not fit its provider, its secret must be given again, there is no such app,
    /// or the store fails.
    pub async fn change_app<E: From<VaultError> + From<DirectoryError>>(
        &self,
        org: &OrgId,
        id: &AppId,
        change: &(dyn Fn(&mut AppRecord) -> Result<(), E> + Sync),
        secret: Option<AppSecret>,
    ) -> Result<ChangedApp, E> {
        // A running fetch of its secret would write the same row.
        let fetch = self.app_fetches.of(id);
        let turn = fetch.turn().await;
        let before = self.app(org, id)?;
        let mut after = AppRecord::clone(&before);
        change(&mut after)?;
        check_fixed::<App>(&before.spec, &after.spec).map_err(DirectoryError::from)?;
        let stored = self.opened_app(&before).await;
        let kept = match (&secret, AppPurpose::of(&before.spec) == AppPurpose::of(&after.spec)) {
            (None, false) if !before.facts.secrets.is_empty() => {
                let what = "the app's secret would be sent elsewhere: give the secret again";
                return Err(app_check::refused("secrets", what).into());
            }
            (None, _) => AppSecret::decode(&stored.as_ref().map_err(|_| broken(&before, None))?.1)
                .map_err(|_| broken(&before, Some(RecordError::Malformed)))?,
            (Some(secret), _) => secret.clone(),
        };
        after.facts.secrets = names_of(&kept);
        self.takes_app(org, &after.spec, &kept)?;
        let purpose_stays = AppPurpose::of(&before.spec) == AppPurpose::of(&after.spec);
        let same = stored.as_ref().is_ok_and(|(_, old)| {
            let own = AppSecret::decode(old).map(|own| own.encode());
            own.is_ok_and(|own| same_bytes(&own, &kept.encode()))
        });
        if !(same && purpose_stays) {
            let over = match stored {
                Ok((version, _)) => Some(version),
                Err(_) => self.app_version(&before).await?,
            };
            self.seal_app(&after, kept.encode(), over).await?;
        }
        let rotated = (!same).then(|| self.clock.now());
        let put = |record: &mut AppRecord| -> Result<(), E> {
            change(record)?;
            record.facts.secrets.clone_from(&after.facts.secrets);
            record.facts.rotated = rotated.or(record.facts.rotated);
            Ok(())
        };
        let app = self.directory.edit::<App, E>(org, id, &put).await?;
        drop(turn);
        if before.references != app.references {
            self.app_fetches.forget(id);
        }
        let changed = !same || *before != *app;
        if changed {
            self.app_changed(org, id).await;
        }
        Ok(ChangedApp { app, changed })
    }

    /// Requests credentials with the changed app: ends pauses, and tries connections again whose client was
    /// rejected.
    pub async fn app_changed(&self, org: &OrgId, id: &AppId) {
        let view = self.directory.view();
        let of_app = |it: &&Arc<ConnectionRecord>| it.app_id() == Some(id);
        for connection in view.all::<Connection>(org).filter(of_app) {
            self.cache.forget(&connection.id);
        }
        self.retry_changed_clients().await;
    }

    /// Removes the secret of an app whose record was removed. If the gateway crashes before, the next start removes the
    /// secret.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_app(&self, org: &OrgId, id: &AppId) -> Result<(), VaultError> {
        self.app_fetches.forget(id);
        Ok(self.store.delete(Table::Grants, &record::key(org, id), Expect::Any).await?)
    }

    pub(super) fn app(&self, org: &OrgId, id: &AppId) -> Result<Arc<AppRecord>, VaultError> {
        let missing = || DirectoryError::NotFound { what: "app", name: id.to_string() };
        Ok(self.directory.view().app(org, id).cloned().ok_or_else(missing)?)
    }

    pub(super) async fn app_version(&self, app: &AppRecord) -> Result<Option<Version>, VaultError> {
        let key = record::key(&app.org, &app.id);
        Ok(self.store.get(Table::Grants, &key).await?.map(|row| row.version))
    }

    /// The app as an OAuth client.
    ///
    /// # Errors
    /// As [`Vault::app_secret`].
    pub async fn client(&self, app: &AppRecord) -> Result<OAuthClient, VaultError> {
        let (id, key_id) = (app.client_id.clone(), app.settings.tokens.key_id.clone());
        Ok(OAuthClient { id, secret: self.app_secret(app).await?, key_id })
    }

    /// The credentials of the app at a token endpoint.
    ///
    /// # Errors
    /// When the app is paused, its secret cannot be opened, or its source gives none.
    pub async fn app_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        if app.facts.paused {
            return Err(VaultError::AppPaused { app: app.name.clone() });
        }
        match app.references.is_empty() {
            true => self.last_secret(app).await,
            false => self.fetched_secret(app).await,
        }
    }

    /// The app's own secrets, without those of sources.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub async fn own_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        Ok(self.opened_row(app).await?.1.given)
    }

    /// The content of the app's row, and its version.
    pub(super) async fn opened_row(
        &self,
        app: &AppRecord,
    ) -> Result<(Version, StoredAppSecret), VaultError> {
        let (version, opened) = self.opened_app(app).await?;
        let stored = StoredAppSecret::decode(&opened);
        Ok((version, stored.map_err(|_| broken(app, Some(RecordError::Malformed)))?))
    }

    /// Stores the secrets of an app.
    pub(super) async fn seal_app(
        &self,
        app: &AppRecord,
        plain: Zeroizing<Vec<u8>>,
        over: Option<Version>,
    ) -> Result<(), VaultError> {
        let row = NewRow { header: AppPurpose::of(&app.spec), grants: plain };
        self.write(&app.org, &app.id, row, over).await.map(drop)
    }

    /// Reads and opens the secrets.
    async fn opened_app(
        &self,
        app: &AppRecord,
    ) -> Result<(Version, Zeroizing<Vec<u8>>), VaultError> {
        let sealed = |source| broken(app, Some(source));
        let row = self.read::<AppPurpose>(&app.org, &app.id, sealed).await?;
        let UnsealedRow { version, header, grants } = row.ok_or_else(|| broken(app, None))?;
        match header == AppPurpose::of(&app.spec) {
            true => Ok((version, grants)),
            false => Err(sealed(RecordError::Purpose)),
        }
    }
}

fn names_of(secret: &AppSecret) -> Vec<String> {
    secret.names().into_iter().map(str::to_owned).collect()
}

pub(super) fn secret_of(secrets: BTreeMap<String, Secret>) -> Result<AppSecret, VaultError> {
    AppSecret::from_fields(secrets).map_err(|name| {
        let what = format!(
            "an app has no secret `{name}`: it has client_secret, or private_key and certificate"
        );
        app_check::refused("secrets", what)
    })
}

fn broken(app: &AppRecord, source: Option<RecordError>) -> VaultError {
    VaultError::AppSecret { app: app.name.clone(), source }
}

fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}
