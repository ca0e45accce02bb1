//! Changes of a connection's grant that people make: a new one is stored, or the old one ends. A flight
//! that is under way meanwhile brings nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::error::VaultError;
use super::fresh::Why;
use super::grants::{self, TRIES_MAX};
use super::record::{self, Header};
use super::{ManagedBy, NewConnection, Vault, method};
use crate::base::id::{ConnectionId, OrgId};
use crate::directory::{ConnectionRecord, ConnectionState};
use crate::grant::Grant;
use crate::store::{Expect, StoreError, Table, Version};

/// What a finished flow says of its grant; shown, never relied on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Granted {
    /// The scopes that were given.
    pub scopes: Vec<String>,
    /// Whose account it is.
    pub account: Option<String>,
    /// Host variables that the provider's answers gave.
    pub captured: BTreeMap<String, String>,
    /// When it must be connected anew.
    pub ends: Option<Timestamp>,
}

/// The tokens of a connection that has ended, for whoever revokes them at the provider.
#[derive(Debug)]
pub struct Revocable {
    /// The connection, as it was.
    pub connection: Arc<ConnectionRecord>,
    /// Its last tokens.
    pub grant: Grant,
}

impl Vault {
    /// Stores the grant of a finished flow over whatever is there, and lets the connection be used. Id,
    /// bindings, placeholders and settings stay. The old grant works until the new one is durable.
    ///
    /// # Errors
    /// When there is no such connection, or the store fails.
    pub async fn connect(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        grant: Grant,
        facts: Granted,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let connection = self.connection(org, id)?;
        let bytes = grant.encode();
        for _ in 0..TRIES_MAX {
            let old = self.replaced(&connection).await?;
            let (over, given) = (old.as_ref().map(|old| old.0), old.and_then(|old| old.1));
            let now = (Header { given, ..Header::of(&connection) }, bytes.clone());
            match self.write((org, id), now, over).await {
                Err(error) if grants::is_conflict(&error) => continue,
                other => other?,
            };
            self.fresh.forget(id);
            return self.project_with(&connection, Some(&facts)).await;
        }
        Err(grants::overtaken(org, id))
    }

    /// Host variables that the answer to a refresh gave, taken as those of a consent are: what the
    /// provider declares, within its own domains. Anything else changes nothing.
    pub(super) async fn take_captured(
        &self,
        connection: &ConnectionRecord,
        newer: &Grant,
    ) -> Result<(), VaultError> {
        let Grant::OAuth(tokens) = newer else { return Ok(()) };
        let answered = &tokens.facts().captured;
        let catalogue = self.catalogue();
        let Some(provider) = catalogue.get(&connection.provider) else { return Ok(()) };
        for name in provider.not_captured(answered) {
            tracing::warn!(
                connection = %connection.id, variable = name,
                "a token's answer names a host that is not the provider's: it is not taken"
            );
        }
        let taken = provider.captured(answered);
        if taken.iter().all(|(name, value)| connection.captured.get(name) == Some(value)) {
            return Ok(());
        }
        let change = |record: &mut ConnectionRecord| record.captured.extend(taken.clone());
        self.directory.update_connection(&connection.org, &connection.id, &change).await?;
        tracing::info!(connection = %connection.id, "the provider has moved the account's host");
        Ok(())
    }

    /// Puts a connection that is to be connected by a flow: it has no grant yet.
    ///
    /// # Errors
    /// As [`Vault::add`], but for the fields.
    pub async fn add_draft(&self, new: NewConnection) -> Result<Arc<ConnectionRecord>, VaultError> {
        let catalogue = self.catalogue();
        let (provider, auth) = method(&catalogue, &new.provider, new.auth.as_deref())?;
        let given = |name: &str| new.variables.contains_key(name);
        // What the provider's own answers give is not known yet.
        if provider.variables.iter().all(|variable| !variable.captured || given(&variable.name)) {
            provider.instantiate(auth, &new.variables)?;
        }
        super::not_authenticating(provider, &new.settings)?;
        let mut record = self.new_record(new, auth);
        record.state = ConnectionState::Draft { failure: None };
        Ok(self.directory.add_connection(record).await?)
    }

    /// Ends a connection: bindings, metadata and tokens go, and with them all open streams. Answers what
    /// is left to be revoked at the provider, the tokens of a refresh that was under way included.
    ///
    /// # Errors
    /// As [`Vault::remove`].
    pub async fn disconnect(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<Option<Revocable>, VaultError> {
        let connection = self.connection(org, id)?;
        self.directory.remove_connection_by(org, id, ManagedBy::Store).await?;
        self.fresh.remove(id);
        self.forget_trouble(org, id).await;
        let key = record::key(org, id);
        for _ in 0..TRIES_MAX {
            // A grant that does not open any more cannot be revoked, but it goes.
            let stored = self.stored_if_any(&connection).await.ok().flatten();
            let Some(stored) = stored else { break };
            let expect = Expect::Version(stored.version);
            match self.store.delete(Table::Grants, &key, expect).await {
                Ok(()) => {
                    let grant = stored.grant(&connection).ok();
                    return Ok(grant.map(|grant| Revocable { connection, grant }));
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.store.delete(Table::Grants, &key, Expect::Any).await?;
        Ok(None)
    }

    /// Fetches a newer token now, whatever the age of the present one. Pauses after failures hold.
    ///
    /// # Errors
    /// When there is none to be had, now or at all.
    pub async fn refresh_now(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        let connection = self.connection(org, id)?;
        // Newer than what is stored, which may have ended: that is no reason to ask twice.
        let generation = self.stored(&connection).await?.version.0;
        self.fetch(connection, Why::Asked(generation)).await.map(|_| ())
    }

    /// The version of the grant that is there, and what it began with, as far as it opens.
    async fn replaced(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<(Version, Option<String>)>, VaultError> {
        match self.stored_if_any(connection).await {
            Ok(stored) => Ok(stored.map(|stored| (stored.version, stored.given))),
            Err(VaultError::Sealed { .. }) => {
                let key = record::key(&connection.org, &connection.id);
                let row = self.store.get(Table::Grants, &key).await?;
                Ok(row.map(|row| (row.version, None)))
            }
            Err(error) => Err(error),
        }
    }
}
