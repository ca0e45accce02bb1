//! Adds connections, and replaces their grants, from the fields that an owner gives. [`Lifecycle::holds`] compares given fields with the
//! secret of a connection, so that a key which is connected already is recognised: nothing is sent, and no value leaves the vault.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Lifecycle;
use crate::context::method;
use crate::error::VaultError;
use crate::grant::Grant;
use crate::grants::record::{GrantHeader, NewRow};
use crate::grants::{self, StoredGrant};
use crate::refresh::references;
use keyward_base::id::{ConnectionId, OrgId, UserId};
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;
use keyward_model::{
    ConnectionFacts, ConnectionSpec, ConnectionState, FieldReference, ManagedBy, Record,
    References, Source, Visibility,
};
use keyward_rules::provider::{AuthMethod, Catalogue, Provider};
use keyward_state::directory::ConnectionRecord;

#[derive(Clone, Debug)]
pub struct NewConnection {
    pub org: OrgId,
    /// The spec, which names an app by its id.
    pub spec: ConnectionSpec,
    /// `None`: the organisation owns it.
    pub owner: Option<UserId>,
    /// Which agents may use it.
    pub visibility: Visibility,
    pub managed_by: ManagedBy,
}

impl Lifecycle {
    /// Refuses references to sources that the organisation does not have.
    ///
    /// # Errors
    /// With the first of them.
    pub fn check_references(&self, org: &OrgId, references: &References) -> Result<(), VaultError> {
        let view = self.directory.view();
        for FieldReference { from, .. } in references.values() {
            if view.find::<Source>(org, from).is_none() {
                return Err(VaultError::UnknownSource { name: from.clone() });
            }
        }
        Ok(())
    }

    /// Whether [`Lifecycle::add`] would accept these fields, given `catalogue`.
    ///
    /// # Errors
    /// When provider, variables or fields do not fit.
    pub fn check(
        catalogue: &Catalogue,
        new: &NewConnection,
        mut fields: BTreeMap<String, Secret>,
    ) -> Result<(), VaultError> {
        let (provider, auth) = method(catalogue, &new.spec.provider, new.spec.auth.as_deref())?;
        let mut variables = new.spec.variables.clone();
        provider.expand_url(&mut variables, &mut fields)?;
        provider.instantiate(auth, &variables)?;
        fitting(provider, &new.spec.settings)?;
        references::grant_of(auth, &new.spec.references, fields)?;
        Ok(())
    }

    /// Validates the connection, and stores its sealed grant and its record as one act.
    ///
    /// # Errors
    /// When provider, variables or fields do not fit, the name is taken, or the store fails.
    pub async fn add(
        &self,
        new: NewConnection,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        self.add_with(new, fields, false).await
    }

    pub(crate) async fn add_with(
        &self,
        mut new: NewConnection,
        mut fields: BTreeMap<String, Secret>,
        untested: bool,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let catalogue = self.context.catalogue(&new.org);
        let (provider, auth) = method(&catalogue, &new.spec.provider, new.spec.auth.as_deref())?;
        provider.expand_url(&mut new.spec.variables, &mut fields)?;
        provider.instantiate(auth, &new.spec.variables)?;
        fitting(provider, &new.spec.settings)?;
        let grant = self.grant_of(auth, &new.spec.references, fields)?;
        self.check_references(&new.org, &new.spec.references)?;
        let mut record = self.new_record(new, auth);
        if untested {
            record.facts.state = ConnectionState::Draft { failure: None };
        }
        let header =
            GrantHeader { given: grants::given(&grant), untested, ..GrantHeader::of(&record) };
        let row = NewRow { header, grants: grant.encode() };
        Ok(self.directory.add_with(record, Some(row.beside(None))).await?)
    }

    /// The grant of an owner's fields, of which none leads to Keyward's own files.
    pub(crate) fn grant_of(
        &self,
        auth: &AuthMethod,
        references: &References,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Grant, VaultError> {
        let grant = references::grant_of(auth, references, fields)?;
        if auth.file.is_some() {
            self.context.private_paths().check(&grant.shown_fields(auth))?;
        }
        Ok(grant)
    }

    pub(crate) fn new_record(&self, new: NewConnection, auth: &AuthMethod) -> ConnectionRecord {
        let NewConnection { org, spec, owner, visibility, managed_by } = new;
        let spec = ConnectionSpec { auth: Some(auth.id.clone()), ..spec };
        let facts = ConnectionFacts { owner, visibility, ..ConnectionFacts::default() };
        Record::new(&org, managed_by, spec, facts, self.clock.now())
    }

    /// Whether a connection of the provider may have these settings.
    ///
    /// # Errors
    /// When a field of the settings is one that the provider authenticates with, or a setting has no effect.
    pub fn check_settings(&self, org: &OrgId, spec: &ConnectionSpec) -> Result<(), VaultError> {
        let catalogue = self.context.catalogue(org);
        let (provider, _) = method(&catalogue, &spec.provider, None)?;
        fitting(provider, &spec.settings)
    }

    /// Rotates the grant if `fields` differ from those that were given before; the old grant is kept for a while.
    /// Returns whether they differ. If they do not, tokens that were renewed since then stay.
    ///
    /// # Errors
    /// As [`Lifecycle::add`].
    pub async fn replace(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        fields: BTreeMap<String, Secret>,
    ) -> Result<bool, VaultError> {
        let connection = self.context.connection(org, id)?;
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let grant = self.grant_of(auth, &connection.references, fields)?;
        self.put_declared(&connection, &grant).await
    }
}

pub(crate) fn fitting(provider: &Provider, settings: &Settings) -> Result<(), VaultError> {
    if let Some(name) = settings.without_effect(provider.usage()) {
        let provider = provider.id.to_string();
        return Err(VaultError::SettingWithoutEffect { name, provider });
    }
    match settings.headers.names().find(|name| provider.clears.covers(name)) {
        None => Ok(()),
        Some(name) => Err(VaultError::SettingsField {
            name: name.to_string(),
            provider: provider.id.to_string(),
        }),
    }
}

impl Lifecycle {
    /// Whether the secret in force has these values. Fields of the connection that are not given are not compared.
    /// `false` if the fields do not fit the auth method, if the connection has no secret or one that cannot be read,
    /// and if its values are kept in a secret source.
    ///
    /// # Errors
    /// When the provider is not known any more, or the store fails.
    pub async fn holds(
        &self,
        connection: &ConnectionRecord,
        fields: BTreeMap<String, Secret>,
    ) -> Result<bool, VaultError> {
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let Ok(given) = Grant::from_fields(auth, fields) else { return Ok(false) };
        match self.grants.stored_if_any(connection).await {
            Ok(Some(stored)) => self.has_values(connection, &stored, &given),
            Ok(None) | Err(VaultError::Sealed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn has_values(
        &self,
        connection: &ConnectionRecord,
        stored: &StoredGrant,
        given: &Grant,
    ) -> Result<bool, VaultError> {
        // Newer tokens replace the given ones; the digest of the given ones stays.
        let digest = grants::given(given);
        if digest.is_some() && digest == stored.given {
            return Ok(true);
        }
        match stored.grant(&self.context, connection)? {
            Grant::Referred(_) => Ok(false),
            own => Ok(own.has_values_of(given)),
        }
    }
}
