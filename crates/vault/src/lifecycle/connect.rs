//! Replaces or ends the grant of a connection on behalf of a person. A concurrent refresh does not
//! interfere.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::context::method;
use crate::error::VaultError;
use crate::grant::Grant;
use crate::grants::record::{self, GrantHeader, GrantOrigin, NewRow};
use crate::grants::{self, TRIES_MAX};
use crate::refresh::cache::Trigger;
use crate::refresh::late;
use crate::refresh::late::LateAnswers;
use crate::{ManagedBy, NewConnection, Vault};
use keyward_base::id::{AppId, ConnectionId, FlowId, OrgId};
use keyward_model::Connection;
use keyward_state::directory::{Account, ConnectionRecord, ConnectionState};
use keyward_state::store::{Expect, StoreError, Table, Version};

/// Facts of a finished flow's grant, which are stored with the connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Granted {
    pub scopes: Vec<String>,
    pub account: Option<Account>,
    /// Host variables from the provider's responses.
    pub captured: BTreeMap<String, String>,
    /// When the connection must be reconnected.
    pub ends: Option<Timestamp>,
    /// The flow of the grant. Its grant is stored once, and never over a later grant.
    pub consent: Option<FlowId>,
    /// The app of the flow, which becomes the connection's.
    pub app: Option<AppId>,
    /// The grant that was stored when the tokens were received; no other grant is replaced. `None`: any grant is.
    pub replaces: Option<GrantOrigin>,
}

/// A removed connection, for the revocation of its tokens at the provider.
#[derive(Debug)]
pub struct RemovedConnection {
    /// The record before its removal.
    pub connection: Arc<ConnectionRecord>,
    /// Its last grants, if they can be opened.
    pub grant: Option<Grant>,
    /// Results of running refreshes, if they must be revoked.
    pub late: Option<LateAnswers>,
    /// Whether another replica may be refreshing it. That replica revokes the result.
    pub is_awaited_elsewhere: bool,
}

#[derive(Default)]
pub(crate) struct ReplacedGrant {
    pub(crate) version: Option<Version>,
    /// `None`: there is no row, or it cannot be opened.
    origin: Option<GrantOrigin>,
}

impl Granted {
    /// Whether the grant of this flow is stored, or one that followed it.
    fn is_stored_in(&self, old: &ReplacedGrant) -> bool {
        let consent = old.origin.as_ref().and_then(|origin| origin.consent.as_ref());
        self.consent.is_some() && self.consent.as_ref() == consent
    }

    /// Whether the row has no later grant. One that cannot be opened may be replaced.
    fn may_replace(&self, old: &ReplacedGrant) -> bool {
        let now = match (old.version, &old.origin) {
            (Some(_), None) => return true,
            (_, origin) => origin.clone().unwrap_or_default(),
        };
        self.replaces.as_ref().is_none_or(|then| *then == now)
    }
}

impl Vault {
    /// The origin of the stored grant.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn grant_origin(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<GrantOrigin, VaultError> {
        Ok(self.replaced(connection).await?.origin.unwrap_or_default())
    }

    /// Stores the grant of a finished flow, and activates the connection. Id, bindings, placeholders and
    /// settings stay. The old grant is used until the new one is durable.
    ///
    /// # Errors
    /// When there is no such connection, another grant was stored meanwhile, or the store fails.
    pub async fn connect(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        grant: Grant,
        facts: Granted,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let connection = self.context.connection(org, id)?;
        let bytes = grant.encode();
        for _ in 0..TRIES_MAX {
            let old = self.replaced(&connection).await?;
            if !facts.is_stored_in(&old) {
                if !facts.may_replace(&old) {
                    let connection = connection.name.clone();
                    return Err(VaultError::RotationOvertaken { connection });
                }
                let given = old.origin.and_then(|origin| origin.given);
                let (consent, app) = (facts.consent.clone(), facts.app.clone());
                let header = GrantHeader { given, consent, app, ..GrantHeader::of(&connection) };
                let row = NewRow { header, grants: bytes.clone() };
                match self.write(org, id, row, old.version).await {
                    Err(error) if grants::is_conflict(&error) => continue,
                    other => other?,
                };
            }
            self.cache.forget(id);
            let projected = self.sync_record_with(&connection, Some(&facts)).await;
            if projected.is_err() && self.context.connection(org, id).is_err() {
                // The connection was removed between the two writes: its grant is removed too.
                self.store.delete(Table::Grants, &record::key(org, id), Expect::Any).await?;
                return Err(VaultError::ConnectionMissing);
            }
            return projected;
        }
        Err(grants::overtaken(org, id))
    }

    /// Stores the facts of a refresh response beside its tokens: scopes, the end of the grant, and host
    /// variables, which the provider's file restricts to its own domain.
    pub(crate) async fn follow_answer(
        &self,
        connection: &ConnectionRecord,
        newer: &Grant,
    ) -> Result<(), VaultError> {
        let Some(tokens) = newer.tokens() else { return Ok(()) };
        let facts = tokens.facts();
        let catalogue = self.context.catalogue(&connection.org);
        let Some(provider) = catalogue.get(&connection.provider) else { return Ok(()) };
        for name in provider.not_captured(&facts.captured) {
            tracing::warn!(
                connection = %connection.id, variable = name,
                "a token's answer names a host that is not the provider's: it is not taken"
            );
        }
        let taken = provider.captured(&facts.captured);
        let has_moved =
            taken.iter().any(|(name, value)| connection.facts.captured.get(name) != Some(value));
        let change = |record: &mut ConnectionRecord| {
            record.facts.captured.extend(taken.clone());
            // RFC 6749 §5.1: without `scope` the scopes are unchanged.
            if let Some(scopes) = &facts.scope {
                record.facts.granted.clone_from(scopes);
            }
            record.facts.ends = facts.refresh_expires;
        };
        self.directory.change::<Connection>(&connection.org, &connection.id, change).await?;
        if has_moved {
            tracing::info!(connection = %connection.id, "the provider has moved the account's host");
        }
        Ok(())
    }

    /// Adds a connection that a flow will connect; it has no grant yet.
    ///
    /// # Errors
    /// As [`Vault::add`], but for the fields.
    pub async fn add_draft(&self, new: NewConnection) -> Result<Arc<ConnectionRecord>, VaultError> {
        let catalogue = self.context.catalogue(&new.org);
        let (provider, auth) = method(&catalogue, &new.spec.provider, new.spec.auth.as_deref())?;
        provider.check_before_consent(auth, &new.spec.variables)?;
        super::add::fitting(provider, &new.spec.settings)?;
        let mut record = self.new_record(new, auth);
        record.facts.state = ConnectionState::Draft { failure: None };
        Ok(self.directory.add_record(record).await?)
    }

    /// Removes a connection with bindings, metadata and tokens, and ends its streams. Returns what must be
    /// revoked at the provider; with `revoke`, results of running refreshes are kept for revocation too.
    ///
    /// # Errors
    /// As [`Vault::remove`].
    pub async fn disconnect(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        revoke: bool,
    ) -> Result<RemovedConnection, VaultError> {
        let connection = self.context.connection(org, id)?;
        // Before the row is deleted: a refresh that finds no row keeps its tokens for revocation.
        let late = revoke.then(|| self.flights.refreshes().collect_late(id));
        if revoke {
            // Other replicas must revoke the tokens that they still receive.
            self.directory.keep(&late::note_name(id), &[], late::WANTED_FOR).await?;
        }
        self.directory.remove::<Connection>(org, id, ManagedBy::Store).await?;
        self.cache.remove(id);
        self.delete_failures(org, id).await;
        let grant = self.take_grant(&connection).await?;
        let late = late.filter(LateAnswers::is_awaited);
        let may_be = revoke && late.is_none() && self.directory.is_shared();
        let is_awaited_elsewhere = may_be && self.may_be_refreshed(id).await;
        Ok(RemovedConnection { connection, grant, late, is_awaited_elsewhere })
    }

    /// The stored grant if its provider may revoke it. A grant that cannot be opened cannot be revoked.
    pub(crate) async fn revocable_grant(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<Grant>, VaultError> {
        let stored = match self.stored_if_any(connection).await {
            Err(VaultError::Sealed { .. }) => None,
            stored => stored?,
        };
        let grant = stored.and_then(|stored| stored.grant(&self.context, connection).ok());
        Ok(grant.filter(|grant| grant.revocable().is_some() || grant.oauth1_token().is_some()))
    }

    /// Deletes the grant's row. Returns the grant, if it can be opened.
    async fn take_grant(&self, connection: &ConnectionRecord) -> Result<Option<Grant>, VaultError> {
        let key = record::key(&connection.org, &connection.id);
        for _ in 0..TRIES_MAX {
            // A grant that cannot be opened cannot be revoked, but is deleted.
            let stored = self.stored_if_any(connection).await.ok().flatten();
            let Some(stored) = stored else { break };
            let expect = Expect::Version(stored.version);
            match self.store.delete(Table::Grants, &key, expect).await {
                Ok(()) => return Ok(stored.grant(&self.context, connection).ok()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.store.delete(Table::Grants, &key, Expect::Any).await?;
        Ok(None)
    }

    /// Fetches a newer token now, regardless of the age of the current one. Pauses of authorization servers apply; a secret of
    /// a source is tried at once, also if the last one was rejected.
    ///
    /// # Errors
    /// When no newer token can be fetched.
    pub async fn refresh_now(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.end_pause_of_secret(&*self.context.connection(org, id)?).await;
        self.fetch_newer(org, id).await
    }

    /// Like [`Self::refresh_now`], but all pauses apply.
    pub(crate) async fn fetch_newer(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<(), VaultError> {
        let connection = self.context.connection(org, id)?;
        // The stored token may have expired; the next one must be newer than that.
        let generation = self.stored(&connection).await?.version.0;
        self.fetch(connection, Trigger::Requested(generation), Instant::now()).await.map(|_| ())
    }

    /// Version and origin of the stored grant; no origin if the row cannot be opened.
    pub(crate) async fn replaced(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<ReplacedGrant, VaultError> {
        match self.stored_if_any(connection).await {
            Ok(None) => Ok(ReplacedGrant::default()),
            Ok(Some(stored)) => {
                let origin = Some(stored.origin());
                Ok(ReplacedGrant { version: Some(stored.version), origin })
            }
            Err(VaultError::Sealed { .. }) => {
                let key = record::key(&connection.org, &connection.id);
                let row = self.store.get(Table::Grants, &key).await?;
                Ok(ReplacedGrant { version: row.map(|row| row.version), origin: None })
            }
            Err(error) => Err(error),
        }
    }
}
