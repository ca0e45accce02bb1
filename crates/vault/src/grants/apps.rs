//! The secrets of apps, sealed, in the table of grants at `ORG/app_…`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::{self, NewRow};
use super::{Grants, UnsealedRow};
use crate::error::{RecordError, VaultError};
use crate::grant::{AppSecret, StoredAppSecret};
use keyward_base::secret::Secret;
use keyward_model::{AppSpec, AppUrls};
use keyward_state::directory::AppRecord;
use keyward_state::store::{Table, Version};

/// The permitted use of the secret. It is sealed together with the secret, so that an editor of the database
/// cannot redirect the secret to another server.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct AppPurpose {
    provider: String,
    client_id: String,
    variables: BTreeMap<String, String>,
    urls: AppUrls,
}

impl AppPurpose {
    pub(crate) fn of(spec: &AppSpec) -> Self {
        Self {
            provider: spec.provider.clone(),
            client_id: spec.client_id.clone(),
            variables: spec.variables.clone(),
            urls: spec.urls.clone(),
        }
    }
}

impl Grants {
    pub(crate) async fn app_version(&self, app: &AppRecord) -> Result<Option<Version>, VaultError> {
        let key = record::key(&app.org, &app.id);
        Ok(self.store.get(Table::Grants, &key).await?.map(|row| row.version))
    }

    /// The app's own secrets, without those of sources.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub async fn own_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        Ok(self.opened_row(app).await?.1.given)
    }

    /// The content of the app's row, and its version.
    pub(crate) async fn opened_row(
        &self,
        app: &AppRecord,
    ) -> Result<(Version, StoredAppSecret), VaultError> {
        let (version, opened) = self.opened_app(app).await?;
        let stored = StoredAppSecret::decode(&opened);
        Ok((version, stored.map_err(|_| broken(app, Some(RecordError::Malformed)))?))
    }

    /// Stores the secrets of an app.
    pub(crate) async fn seal_app(
        &self,
        app: &AppRecord,
        plain: Zeroizing<Vec<u8>>,
        over: Option<Version>,
    ) -> Result<(), VaultError> {
        let row = NewRow { header: AppPurpose::of(&app.spec), grants: plain };
        self.write(&app.org, &app.id, row, over).await.map(drop)
    }

    /// Reads and opens the secrets.
    pub(crate) async fn opened_app(
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

pub(crate) fn secret_of(secrets: BTreeMap<String, Secret>) -> Result<AppSecret, VaultError> {
    AppSecret::from_fields(secrets).map_err(|name| {
        let what = format!(
            "an app has no secret `{name}`: it has client_secret, or private_key and certificate"
        );
        refused("secrets", what)
    })
}

pub(crate) fn broken(app: &AppRecord, source: Option<RecordError>) -> VaultError {
    VaultError::AppSecret { app: app.name.clone(), source }
}

pub(crate) fn refused(field: &'static str, what: impl Into<String>) -> VaultError {
    VaultError::App { field, what: what.into() }
}
