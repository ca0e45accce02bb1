//! Replaces or ends the grant of a connection on behalf of a person. A refresh that is under way meanwhile
//! changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::cache::Trigger;
use super::error::VaultError;
use super::grants::{self, TRIES_MAX};
use super::late::LateAnswers;
use super::record::{self, Header, NewRow};
use super::{ManagedBy, NewConnection, Vault, method};
use crate::grant::Grant;
use keyward_base::id::{ConnectionId, FlowId, OrgId};
use keyward_state::directory::{Account, ConnectionRecord, ConnectionState};
use keyward_state::store::{Expect, StoreError, Table, Version};

/// What a finished flow says of its grant; shown, never relied on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Granted {
    /// The scopes that were given.
    pub scopes: Vec<String>,
    /// Whose account it is.
    pub account: Option<Account>,
    /// Host variables that the provider's answers gave.
    pub captured: BTreeMap<String, String>,
    /// When it must be connected anew.
    pub ends: Option<Timestamp>,
    /// The consent that it came of: its grant is stored once, and never over what followed it.
    pub consent: Option<FlowId>,
}

/// A removed connection, for the revocation of its tokens at the provider.
#[derive(Debug)]
pub struct RemovedConnection {
    /// As it was.
    pub connection: Arc<ConnectionRecord>,
    /// Its last tokens, as far as they open.
    pub grant: Option<Grant>,
    /// What a refresh that is under way brings; where it is to be revoked.
    pub late: Option<LateAnswers>,
}

/// A grant that another one takes the place of.
#[derive(Default)]
pub(super) struct ReplacedGrant {
    pub(super) version: Option<Version>,
    given: Option<String>,
    consent: Option<FlowId>,
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
            if facts.consent.is_none() || old.consent != facts.consent {
                let consent = facts.consent.clone();
                let header = Header { given: old.given, consent, ..Header::of(&connection) };
                let row = NewRow { header, grants: bytes.clone() };
                match self.write(org, id, row, old.version).await {
                    Err(error) if grants::is_conflict(&error) => continue,
                    other => other?,
                };
            }
            self.cache.forget(id);
            let projected = self.project_with(&connection, Some(&facts)).await;
            if projected.is_err() && self.connection(org, id).is_err() {
                // It was removed between the two writes: no row is left that no connection names.
                self.store.delete(Table::Grants, &record::key(org, id), Expect::Any).await?;
                return Err(VaultError::ConnectionMissing);
            }
            return projected;
        }
        Err(grants::overtaken(org, id))
    }

    /// What the answer to a refresh says beside its tokens: scopes, the end of the grant, and host variables
    /// as those of a consent are taken, which the provider declares within its own domains.
    pub(super) async fn follow_answer(
        &self,
        connection: &ConnectionRecord,
        newer: &Grant,
    ) -> Result<(), VaultError> {
        let Grant::OAuth(tokens) = newer else { return Ok(()) };
        let facts = tokens.facts();
        let catalogue = self.catalogue();
        let Some(provider) = catalogue.get(&connection.provider) else { return Ok(()) };
        for name in provider.not_captured(&facts.captured) {
            tracing::warn!(
                connection = %connection.id, variable = name,
                "a token's answer names a host that is not the provider's: it is not taken"
            );
        }
        let taken = provider.captured(&facts.captured);
        let has_moved =
            taken.iter().any(|(name, value)| connection.captured.get(name) != Some(value));
        let change = |record: &mut ConnectionRecord| {
            record.captured.extend(taken.clone());
            // RFC 6749 §5.1: a scope that is not named is as it was.
            if let Some(scopes) = &facts.scope {
                record.granted.clone_from(scopes);
            }
            record.ends = facts.refresh_expires;
        };
        self.directory.update_connection(&connection.org, &connection.id, &change).await?;
        if has_moved {
            tracing::info!(connection = %connection.id, "the provider has moved the account's host");
        }
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
    /// is left to be revoked at the provider; `revoke`: that of refreshes under way is kept for it, too.
    ///
    /// # Errors
    /// As [`Vault::remove`].
    pub async fn disconnect(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        revoke: bool,
    ) -> Result<RemovedConnection, VaultError> {
        let connection = self.connection(org, id)?;
        // Before the row goes: a refresh that finds it gone leaves what it brings.
        let late = revoke.then(|| self.flights.refreshes().expect(id));
        self.directory.remove_connection_by(org, id, ManagedBy::Store).await?;
        self.cache.remove(id);
        self.delete_failures(org, id).await;
        let grant = self.take_grant(&connection).await?;
        let late = late.filter(LateAnswers::is_awaited);
        Ok(RemovedConnection { connection, grant, late })
    }

    /// Deletes the grant's row, and answers the grant, as far as it opens.
    async fn take_grant(&self, connection: &ConnectionRecord) -> Result<Option<Grant>, VaultError> {
        let key = record::key(&connection.org, &connection.id);
        for _ in 0..TRIES_MAX {
            // A grant that does not open any more cannot be revoked, but it goes.
            let stored = self.stored_if_any(connection).await.ok().flatten();
            let Some(stored) = stored else { break };
            let expect = Expect::Version(stored.version);
            match self.store.delete(Table::Grants, &key, expect).await {
                Ok(()) => return Ok(stored.grant(self, connection).ok()),
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
        self.fetch(connection, Trigger::Asked(generation)).await.map(|_| ())
    }

    /// What is said of the grant that is there, as far as it opens.
    pub(super) async fn replaced(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<ReplacedGrant, VaultError> {
        match self.stored_if_any(connection).await {
            Ok(None) => Ok(ReplacedGrant::default()),
            Ok(Some(stored)) => {
                let (given, consent) = (stored.given, stored.consent);
                Ok(ReplacedGrant { version: Some(stored.version), given, consent })
            }
            Err(VaultError::Sealed { .. }) => {
                let key = record::key(&connection.org, &connection.id);
                let row = self.store.get(Table::Grants, &key).await?;
                Ok(ReplacedGrant {
                    version: row.map(|row| row.version),
                    ..ReplacedGrant::default()
                })
            }
            Err(error) => Err(error),
        }
    }
}
