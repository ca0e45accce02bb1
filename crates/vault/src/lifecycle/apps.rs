//! Stores the secrets of apps, sealed, in the table of grants at `ORG/app_…`. The metadata of an app is kept
//! by the directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::Lifecycle;
use super::app_check;
use crate::error::{RecordError, VaultError};
use crate::grant::AppSecret;
use crate::grant::oauth::{AssertionError, check_private_key};
use crate::grants::apps::{AppPurpose, broken, refused, secret_of};
use crate::grants::record::NewRow;
use keyward_base::id::{AppId, OrgId};
use keyward_base::secret::Secret;
use keyward_model::{
    App, AppFacts, AppSpec, DynamicRegistration, GivenFields, Resource, check_fixed,
};
use keyward_net::tls;
use keyward_rules::provider::Catalogue;
use keyward_state::directory::{AppRecord, DirectoryError, ManagedBy};

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

impl Lifecycle {
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
        let refused = |field, error: AssertionError| refused(field, error.to_string());
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
        Self::check_app(&self.context.catalogue(org), spec, &names)
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
        Ok(self.directory.add_with::<App>(record, Some(row.beside(None))).await?)
    }

    /// [`Lifecycle::add_app`] with secrets by name.
    ///
    /// # Errors
    /// As [`Lifecycle::add_app`]; when a secret has an unknown name.
    pub async fn add_app_of(
        &self,
        new: NewApp,
        secrets: BTreeMap<String, Secret>,
    ) -> Result<Arc<AppRecord>, VaultError> {
        self.add_app(new, secret_of(secrets)?).await
    }

    /// [`Lifecycle::change_app`] with all of its secrets by name.
    ///
    /// # Errors
    /// As [`Lifecycle::change_app`]; when there is no secret of that name.
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
        let fetch = self.refresh.app_fetch(id);
        let turn = fetch.turn().await;
        let before = self.context.app(org, id)?;
        let mut after = AppRecord::clone(&before);
        change(&mut after)?;
        check_fixed::<App>(&before.spec, &after.spec).map_err(DirectoryError::from)?;
        let stored = self.grants.opened_app(&before).await;
        let kept = match (&secret, AppPurpose::of(&before.spec) == AppPurpose::of(&after.spec)) {
            (None, false) if !before.facts.secrets.is_empty() => {
                let what = "the app's secret would be sent elsewhere: give the secret again";
                return Err(refused("secrets", what).into());
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
        let mut row = None;
        if !(same && purpose_stays) {
            let over = match stored {
                Ok((version, _)) => Some(version),
                Err(_) => self.grants.app_version(&before).await?,
            };
            let header = AppPurpose::of(&after.spec);
            row = Some(NewRow { header, grants: kept.encode() }.beside(over));
        }
        let rotated = (!same).then(|| self.clock.now());
        let put = |record: &mut AppRecord| -> Result<(), E> {
            change(record)?;
            record.facts.secrets.clone_from(&after.facts.secrets);
            record.facts.rotated = rotated.or(record.facts.rotated);
            Ok(())
        };
        let app = self.directory.edit_with::<App, E>(org, id, &put, row).await?;
        drop(turn);
        if before.references != app.references {
            self.refresh.forget_app_fetch(id);
        }
        let changed = !same || *before != *app;
        if changed {
            self.refresh.app_changed(org, id).await;
        }
        Ok(ChangedApp { app, changed })
    }

    /// Removes the secret of an app whose record was removed. If the gateway crashes before, the next start removes the
    /// secret.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_app(&self, org: &OrgId, id: &AppId) -> Result<(), VaultError> {
        self.refresh.forget_app_fetch(id);
        Ok(self.grants.delete(org, id).await?)
    }
}

fn names_of(secret: &AppSecret) -> Vec<String> {
    secret.names().into_iter().map(str::to_owned).collect()
}

fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}
