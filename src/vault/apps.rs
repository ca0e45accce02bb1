//! Apps' secrets, sealed beside the grants, at `ORG/app_…`. The record is `directory/`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::record::{self, RecordError};
use super::{Vault, VaultError};
use crate::base::id::{AppId, OrgId};
use crate::crypto::envelope::EnvelopeError;
use crate::directory::{AppRecord, AppSettings, AppUrls, DirectoryError, ManagedBy, Registered};
use crate::grant::AppSecret;
use crate::provider::Catalogue;
use crate::store::{Expect, Row, Table, Version};

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
    fn record(self, vault: &Vault) -> AppRecord {
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
            registered: self.registered,
            paused: false,
            managed_by: self.managed_by,
            created: now,
            updated: now,
        }
    }
}

impl Vault {
    /// Whether [`Vault::add_app`] would take it, were `catalogue` known.
    ///
    /// # Errors
    /// When it does not fit its provider.
    pub fn check_app(
        catalogue: &Catalogue,
        app: &NewApp,
        _secret: &AppSecret,
    ) -> Result<(), VaultError> {
        super::method(catalogue, &app.provider, app.auth.as_deref())?;
        Ok(())
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
        Self::check_app(&self.catalogue(), &new, &secret)?;
        let record = new.record(self);
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

    /// Replaces the secret when it differs from what is stored. Answers whether it did.
    ///
    /// # Errors
    /// When there is no such app, or the store fails.
    pub async fn replace_app_secret(
        &self,
        org: &OrgId,
        id: &AppId,
        secret: &AppSecret,
    ) -> Result<bool, VaultError> {
        let view = self.directory.view();
        let missing = || DirectoryError::NotFound { what: "app", name: id.to_string() };
        let app = view.app(org, id).ok_or_else(missing)?;
        let (row, old) = self.opened_app(app).await?;
        if bool::from(old.as_slice().ct_eq(secret.encode().as_slice())) {
            return Ok(false);
        }
        self.seal_app(app, secret, Some(row.version)).await?;
        Ok(true)
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

    /// What the app authenticates with.
    ///
    /// # Errors
    /// When the app is paused, or its secret cannot be opened.
    pub async fn app_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        if app.paused {
            return Err(VaultError::AppPaused { app: app.name.clone() });
        }
        let (_, opened) = self.opened_app(app).await?;
        let malformed = |_| VaultError::AppSecret {
            app: app.name.clone(),
            source: Some(RecordError::Malformed),
        };
        AppSecret::decode(&opened).map_err(malformed)
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
            let sealed = record::seal(&sealing, (&org, &id), version, (&purpose, &plain))?;
            let expect = over.map_or(Expect::Absent, Expect::Version);
            store.put(Table::Grants, &record::key(&org, &id), &sealed, expect).await?;
            Ok(())
        });
        work.await.unwrap_or(Err(VaultError::Directory(DirectoryError::Interrupted)))
    }

    /// Reads and opens, again where a rotation of the master key came between.
    async fn opened_app(&self, app: &AppRecord) -> Result<(Row, Zeroizing<Vec<u8>>), VaultError> {
        let (purpose, key) = (AppPurpose::of(app), record::key(&app.org, &app.id));
        let broken = |source| VaultError::AppSecret { app: app.name.clone(), source };
        let mut before: Option<Row> = None;
        loop {
            let row = self.store.get(Table::Grants, &key).await?.ok_or_else(|| broken(None))?;
            let opened = record::unsealed::<AppPurpose>(&self.keyring, (&app.org, &app.id), &row);
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
