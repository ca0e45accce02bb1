//! Stores the secrets of apps, sealed, in the table of grants at `ORG/app_…`. The metadata of an app is kept
//! by the directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::record::{self, RecordError, RowPlace};
use super::{Vault, VaultError, app_check};
use crate::grant::AppSecret;
use crate::grant::oauth::Client;
use keyward_base::id::{AppId, OrgId};
use keyward_base::secret::Secret;
use keyward_rules::provider::Catalogue;
use keyward_state::crypto::envelope::EnvelopeError;
use keyward_state::directory::{
    AppRecord, AppSettings, AppUrls, ConnectionRecord, DirectoryError, ManagedBy, Registered,
};
use keyward_state::store::{Expect, Row, Table, Version};

/// An app to be added.
#[derive(Clone, Debug)]
pub struct NewApp {
    /// Its id, where its redirect URI is registered before it is made; a new one when absent.
    pub id: Option<AppId>,
    /// Its org.
    pub org: OrgId,
    /// Unique in the org.
    pub name: String,
    /// Id of the provider.
    pub provider: String,
    /// Id of the auth method that it is for; any that is OAuth when absent.
    pub auth: Option<String>,
    /// As the provider issued it.
    pub client_id: String,
    /// Asked for when a connection names none.
    pub scopes: Vec<String>,
    /// Variables of the provider's URLs.
    pub variables: BTreeMap<String, String>,
    /// Endpoints instead of the provider's.
    pub urls: AppUrls,
    /// How its tokens are got.
    pub settings: AppSettings,
    /// Where it registered itself.
    pub registered: Option<Registered>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
}

/// An app after a change.
#[derive(Clone, Debug)]
pub struct ChangedApp {
    /// As it is now.
    pub app: Arc<AppRecord>,
    /// Whether that is otherwise than before: secrets count too.
    pub changed: bool,
}

/// What the secret was given for: sealed with it, so that an editor of the database cannot have it
/// sent elsewhere.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct AppPurpose {
    provider: String,
    client_id: String,
    variables: BTreeMap<String, String>,
    urls: AppUrls,
}

impl AppPurpose {
    fn of(app: &AppRecord) -> Self {
        Self {
            provider: app.provider.clone(),
            client_id: app.client_id.clone(),
            variables: app.variables.clone(),
            urls: app.urls.clone(),
        }
    }
}

impl NewApp {
    /// What would make this record.
    fn of(app: &AppRecord) -> Self {
        let app = app.clone();
        Self {
            id: Some(app.id),
            org: app.org,
            name: app.name,
            provider: app.provider,
            auth: app.auth,
            client_id: app.client_id,
            scopes: app.scopes,
            variables: app.variables,
            urls: app.urls,
            settings: app.settings,
            registered: app.registered,
            managed_by: app.managed_by,
        }
    }

    fn record(self, vault: &Vault, secret: &AppSecret) -> AppRecord {
        let now = vault.clock.now();
        AppRecord {
            id: self.id.unwrap_or_else(AppId::random),
            org: self.org,
            name: self.name,
            provider: self.provider,
            auth: self.auth,
            client_id: self.client_id,
            scopes: self.scopes,
            variables: self.variables,
            urls: self.urls,
            settings: self.settings,
            secrets: secret.names().into_iter().map(str::to_owned).collect(),
            registered: self.registered,
            discovered: BTreeMap::new(),
            paused: false,
            managed_by: self.managed_by,
            created: now,
            updated: now,
        }
    }
}

impl Vault {
    /// Whether [`Vault::add_app`] would take it with secrets of these names, were `catalogue` known.
    ///
    /// # Errors
    /// When it does not fit its provider, or something of it cannot be sent.
    pub fn check_app(
        catalogue: &Catalogue,
        app: &NewApp,
        secrets: &[&str],
    ) -> Result<(), VaultError> {
        app_check::check(catalogue, app, secrets)
    }

    /// Validates, seals the secret, then puts the record. When this returns, both are durable.
    ///
    /// # Errors
    /// When it does not fit its provider, the name is taken, or the store fails.
    pub async fn add_app(
        &self,
        new: NewApp,
        secret: AppSecret,
    ) -> Result<Arc<AppRecord>, VaultError> {
        Self::check_app(&self.catalogue(), &new, &secret.names())?;
        let record = new.record(self, &secret);
        let key = record::key(&record.org, &record.id);
        self.seal_app(&record, &secret, None).await?;
        match self.directory.add_app(record).await {
            Ok(record) => Ok(record),
            Err(refused) => {
                self.store.delete(Table::Grants, &key, Expect::Any).await?;
                Err(refused.into())
            }
        }
    }

    /// [`Vault::add_app`] with secrets by name.
    ///
    /// # Errors
    /// As there; when there is no secret of that name.
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
    /// As there; when there is no secret of that name.
    pub async fn change_app_of(
        &self,
        org: &OrgId,
        id: &AppId,
        change: &(dyn Fn(&mut AppRecord) + Sync),
        secrets: BTreeMap<String, Secret>,
    ) -> Result<ChangedApp, VaultError> {
        self.change_app(org, id, change, Some(secret_of(secrets)?)).await
    }

    /// Changes an app: `change` makes the new one of the old. `secret` replaces what is stored; without
    /// it the stored one stays, unless the secret would go to another place than it was given for.
    /// What was obtained with the app before stays; what the provider
    /// refused the app for is tried again.
    ///
    /// # Errors
    /// When the result does not fit its provider, its secret must be given again, there is no such app,
    /// or the store fails.
    pub async fn change_app(
        &self,
        org: &OrgId,
        id: &AppId,
        change: &(dyn Fn(&mut AppRecord) + Sync),
        secret: Option<AppSecret>,
    ) -> Result<ChangedApp, VaultError> {
        let before = self.app(org, id)?;
        let mut after = AppRecord::clone(&before);
        change(&mut after);
        let stored = self.opened_app(&before).await;
        let kept = match (&secret, AppPurpose::of(&before) == AppPurpose::of(&after)) {
            (None, false) if !before.secrets.is_empty() => {
                let what = "where the app's secret goes changes: give the secret again";
                return Err(app_check::refused("client_secret", what));
            }
            (None, _) => AppSecret::decode(&stored.as_ref().map_err(|_| broken(&before, None))?.1)
                .map_err(|_| broken(&before, Some(RecordError::Malformed)))?,
            (Some(secret), _) => secret.clone(),
        };
        after.secrets = kept.names().into_iter().map(str::to_owned).collect();
        Self::check_app(&self.catalogue(), &NewApp::of(&after), &kept.names())?;
        let purpose_stays = AppPurpose::of(&before) == AppPurpose::of(&after);
        let same = stored.as_ref().is_ok_and(|(_, old)| same_bytes(old, &kept.encode()));
        if !(same && purpose_stays) {
            let over = match stored {
                Ok((row, _)) => Some(row.version),
                Err(_) => self.app_version(&before).await?,
            };
            self.seal_app(&after, &kept, over).await?;
        }
        let put = |record: &mut AppRecord| {
            change(record);
            record.secrets.clone_from(&after.secrets);
        };
        let app = self.directory.update_app(org, id, &put).await?;
        let changed = !same || *before != *app;
        if changed {
            self.app_changed(org, id).await;
        }
        Ok(ChangedApp { app, changed })
    }

    /// The app's connections are asked for as it is now: pauses are over, and what the provider refused it
    /// for is tried again.
    pub async fn app_changed(&self, org: &OrgId, id: &AppId) {
        let view = self.directory.view();
        let of_app = |it: &&Arc<ConnectionRecord>| it.org == *org && it.app_id() == Some(id);
        for connection in view.connections().filter(of_app) {
            self.cache.forget(&connection.id);
        }
        self.try_rejected_again().await;
    }

    /// Removes record and secret, in that order: what is left after a crash is swept.
    ///
    /// # Errors
    /// When there is no such app, a connection uses it, the file manages it, or the store fails.
    pub async fn remove_app_by(
        &self,
        org: &OrgId,
        id: &AppId,
        by: ManagedBy,
    ) -> Result<(), VaultError> {
        self.directory.remove_app_by(org, id, by).await?;
        self.store.delete(Table::Grants, &record::key(org, id), Expect::Any).await?;
        Ok(())
    }

    fn app(&self, org: &OrgId, id: &AppId) -> Result<Arc<AppRecord>, VaultError> {
        let missing = || DirectoryError::NotFound { what: "app", name: id.to_string() };
        Ok(self.directory.view().app(org, id).cloned().ok_or_else(missing)?)
    }

    pub(super) async fn app_version(&self, app: &AppRecord) -> Result<Option<Version>, VaultError> {
        let key = record::key(&app.org, &app.id);
        Ok(self.store.get(Table::Grants, &key).await?.map(|row| row.version))
    }

    /// Who the app is to an authorization server.
    ///
    /// # Errors
    /// As [`Vault::app_secret`].
    pub async fn client(&self, app: &AppRecord) -> Result<Client, VaultError> {
        let (id, key_id) = (app.client_id.clone(), app.settings.key_id.clone());
        Ok(Client { id, secret: self.app_secret(app).await?, key_id })
    }

    /// What the app authenticates with.
    ///
    /// # Errors
    /// When the app is paused, or its secret cannot be opened.
    pub async fn app_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        if app.paused {
            return Err(VaultError::AppPaused { app: app.name.clone() });
        }
        self.opened_secret(app).await
    }

    /// The same of an app that may be paused.
    ///
    /// # Errors
    /// When its secret cannot be opened.
    pub async fn opened_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        let (_, opened) = self.opened_app(app).await?;
        AppSecret::decode(&opened).map_err(|_| broken(app, Some(RecordError::Malformed)))
    }

    /// In a task of its own, as a grant is written.
    async fn seal_app(
        &self,
        app: &AppRecord,
        secret: &AppSecret,
        over: Option<Version>,
    ) -> Result<(), VaultError> {
        let (store, keyring) = (Arc::clone(&self.store), Arc::clone(&self.keyring));
        let (org, id, plain) = (app.org.clone(), app.id.clone(), secret.encode());
        let purpose = AppPurpose::of(app);
        let work = tokio::spawn(async move {
            let sealing = keyring.sealing().await;
            let version = over.unwrap_or_default().next();
            let place = RowPlace { org: &org, id: &id, version };
            let sealed = record::seal(&sealing, &place, &purpose, &plain)?;
            let expect = over.map_or(Expect::Absent, Expect::Version);
            store.put(Table::Grants, &record::key(&org, &id), &sealed, expect).await?;
            Ok(())
        });
        work.await.unwrap_or(Err(VaultError::Directory(DirectoryError::Interrupted)))
    }

    /// Reads and opens, again where a rotation of the master key came between.
    async fn opened_app(&self, app: &AppRecord) -> Result<(Row, Zeroizing<Vec<u8>>), VaultError> {
        let (purpose, key) = (AppPurpose::of(app), record::key(&app.org, &app.id));
        let broken = |source| broken(app, source);
        let mut before: Option<Row> = None;
        loop {
            let row = self.store.get(Table::Grants, &key).await?.ok_or_else(|| broken(None))?;
            let opened = record::unsealed::<AppPurpose>(&self.keyring, &app.org, &app.id, &row);
            match opened {
                Ok((given_for, plain)) if given_for == purpose => return Ok((row, plain)),
                Ok(_) => return Err(broken(Some(RecordError::Purpose))),
                Err(RecordError::Sealed(EnvelopeError::UnknownKey(_)))
                    if before.as_ref() != Some(&row) =>
                {
                    before = Some(row);
                }
                Err(source) => return Err(broken(Some(source))),
            }
        }
    }
}

fn secret_of(secrets: BTreeMap<String, Secret>) -> Result<AppSecret, VaultError> {
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
