//! Stores a token response that the store did not accept ([`UnsavedTokens`]). The old refresh token may be spent, so the
//! response must not be lost. This replica retries until it is stored, also over later rows with the same token, such
//! as a verdict of another replica or the stages of a rotation. Meanwhile it renews the lease of the connection, so
//! that no other replica sends the spent token.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::Refresh;
use super::late;
use super::late::OrphanedGrant;
use super::unsaved_tokens::UnsavedTokens;
use crate::error::VaultError;
use crate::grant::Grant;
use crate::grants::record::NewRow;
use crate::grants::{StoredGrant, TRIES_MAX, is_conflict, overtaken};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_state::directory::ConnectionRecord;
use keyward_state::store::{Lease, StoreError, Version};

/// The first pause; doubles.
const FIRST: Duration = Duration::from_secs(2);

/// The longest pause: shorter than other replicas wait after the store was away (`flight/lease.rs`).
const LONGEST: Duration = Duration::from_secs(4);

/// The result of storing a response.
pub(crate) enum SaveResult {
    Stored,
    /// The grant was replaced or removed: the response is obsolete.
    Needless,
}

impl UnsavedTokens {
    /// The response to a request with the token of this version.
    pub fn of(
        connection: &ConnectionRecord,
        stored: &StoredGrant,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Arc<Self> {
        let row = stored.becomes(connection, None, &bytes);
        let on_trial = stored.on_trial || stored.broken.is_some();
        let (over, sent, stored) = (stored.version, stored.bytes.clone(), Notify::new());
        Arc::new(Self { over, sent, row, on_trial, bytes, stored })
    }

    fn is_of_consent(&self, stored: &StoredGrant) -> bool {
        let header = &self.row.header;
        stored.consent == header.consent && stored.given == header.given
    }

    /// Whether the row went back behind this response, which was stored.
    fn is_lost_in(&self, stored: &StoredGrant) -> bool {
        stored.version <= self.over && self.is_of_consent(stored)
    }

    /// The row that replaces the stored one; `None` if the stored row no longer has the token that was sent.
    fn follows(&self, connection: &ConnectionRecord, stored: &StoredGrant) -> Option<NewRow> {
        // A failover of the database lost later versions, and this response follows one of them.
        let is_taken_back = stored.version < self.over && self.is_of_consent(stored);
        if self.is_of(&stored.bytes) || is_taken_back {
            return Some(stored.becomes(connection, None, &self.bytes));
        }
        // A rotation has put another secret in force, and keeps this one for a rollback.
        let (second, _) = stored.other.as_ref().filter(|(_, bytes)| self.is_of(bytes))?;
        let header = stored.header_for(connection);
        Some(header.into_row(&stored.bytes, Some((second.clone(), &self.bytes))))
    }
}

impl Refresh {
    /// Retries in a task that counts as a flight, so that a shutdown waits for it. Holds `lease` meanwhile.
    pub(crate) fn keep_saving(
        &self,
        connection: &Arc<ConnectionRecord>,
        unsaved: Arc<UnsavedTokens>,
        lease: Option<Arc<Lease>>,
    ) {
        let (refresh, connection) = (self.clone(), connection.clone());
        tracing::error!(
            id = "token_unsaved",
            connection = %connection.id, name = connection.name,
            "the store does not accept a newer token: storing it is retried; do not stop this gateway"
        );
        let pending = self.flights.refreshes().register(&connection.id);
        self.spawn_as_flight(async move {
            let _pending = pending;
            let mut pause = FIRST;
            loop {
                // Ends early if a flight has stored the response.
                drop(tokio::time::timeout(pause, unsaved.stored.notified()).await);
                match refresh.save(&connection, &unsaved).await {
                    Err(_) => {
                        pause = (pause * 2).min(LONGEST);
                        refresh.hold(lease.as_deref()).await;
                    }
                    Ok(SaveResult::Needless) => break,
                    Ok(SaveResult::Stored) => {
                        refresh.keep_stored(&connection, &unsaved);
                        tracing::info!(connection = %connection.id, "the newer token is stored");
                        break;
                    }
                }
            }
            // Requests read the row again.
            refresh.cache.saved(&connection.id);
        });
    }

    /// Keeps a response that was stored, if a failover of the database may lose it.
    pub(crate) fn keep_stored(&self, connection: &ConnectionRecord, answer: &Arc<UnsavedTokens>) {
        if self.directory.is_shared() {
            self.stored_answers.keep(&connection.id, answer);
        }
    }

    /// Stores a response of this process again if the row went back behind it: the database lost it in a failover. The
    /// row gets its version again, because other replicas accept no older one.
    pub(crate) fn restore_answer(&self, org: &str, id: &ConnectionId) {
        let Some(answer) = self.stored_answers.of(id) else { return };
        let connection =
            OrgId::parse(org).ok().and_then(|org| self.context.connection(&org, id).ok());
        let (Some(connection), refresh) = (connection, self.clone()) else { return };
        self.spawn_as_flight(async move {
            for _ in 0..TRIES_MAX {
                let over = match refresh.grants.stored_if_any(&connection).await {
                    Ok(Some(stored)) if answer.is_lost_in(&stored) => stored.version,
                    Err(VaultError::Store(StoreError::RolledBack {
                        found: Some(found), ..
                    })) if found <= answer.over => found,
                    _ => return,
                };
                let row = answer.row.clone();
                let written =
                    refresh.grants.write(&connection.org, &connection.id, row, Some(over)).await;
                tracing::warn!(
                    connection = %connection.id, is_stored = written.is_ok(),
                    "the database lost a newer token in a failover: it is stored again"
                );
                refresh.cache.forget(&connection.id);
            }
        });
    }

    /// Extends the lease, if the store answers.
    async fn hold(&self, lease: Option<&Lease>) {
        let Some(lease) = lease else { return };
        let ttl = self.context.token_settings().lease;
        if let Err(error) = self.store.renew_lease(lease, ttl).await {
            tracing::debug!(%error, lease = lease.name(), "a lease is not renewed");
        }
    }

    /// Stores the response over the version whose token was sent, or over a later version with the same token.
    ///
    /// # Errors
    /// When the store fails. Then the response may have been stored.
    pub(crate) async fn save(
        &self,
        connection: &Arc<ConnectionRecord>,
        unsaved: &UnsavedTokens,
    ) -> Result<SaveResult, VaultError> {
        let stored = self.store_over(connection, unsaved, unsaved.row.clone(), unsaved.over);
        match stored.await {
            Err(error) if is_conflict(&error) => self.save_over_change(connection, unsaved).await,
            other => other.map(|()| SaveResult::Stored),
        }
    }

    /// Called when the row was changed. If it still has the token that was sent, which is spent now, the response
    /// replaces that token.
    async fn save_over_change(
        &self,
        connection: &Arc<ConnectionRecord>,
        unsaved: &UnsavedTokens,
    ) -> Result<SaveResult, VaultError> {
        for _ in 0..TRIES_MAX {
            let Some(stored) = self.grants.stored_if_any(connection).await? else {
                if !self.flights.refreshes().keep_answer(&connection.id, &unsaved.bytes) {
                    self.keep_orphan(connection, &unsaved.bytes).await;
                }
                return Ok(SaveResult::Needless);
            };
            if stored.is_of(None, &unsaved.bytes) {
                // The response was stored, and the acknowledgement was lost.
                self.is_stored(connection, unsaved, true).await;
                self.sync_record(connection).await?;
                return Ok(SaveResult::Stored);
            }
            let Some(row) = unsaved.follows(connection, &stored) else {
                return Ok(SaveResult::Needless);
            };
            match self.store_over(connection, unsaved, row, stored.version).await {
                Err(error) if is_conflict(&error) => {}
                other => {
                    other?;
                    self.sync_record(connection).await?;
                    return Ok(SaveResult::Stored);
                }
            }
        }
        Err(overtaken(&connection.org, &connection.id))
    }

    /// Queues a newer grant of a connection that was removed, if it is to be revoked.
    async fn keep_orphan(&self, connection: &Arc<ConnectionRecord>, newer: &Zeroizing<Vec<u8>>) {
        match self.directory.kept(&late::note_name(&connection.id)).await {
            Ok(None) => {}
            Ok(Some(_)) => {
                let (connection, grant) = (connection.clone(), newer.clone());
                self.orphans.add(OrphanedGrant { connection, grant });
            }
            Err(error) => tracing::error!(
                connection = %connection.id, %error,
                "a late refresh of a removed connection is not revoked"
            ),
        }
    }

    /// Stores the response as this row over the given version.
    ///
    /// # Errors
    /// A conflict when the version has changed, or the store's error.
    async fn store_over(
        &self,
        connection: &ConnectionRecord,
        unsaved: &UnsavedTokens,
        row: NewRow,
        over: Version,
    ) -> Result<(), VaultError> {
        // A response for the secret that is kept for a rollback does not concern the secret in force.
        let is_in_force = row.grants.starts_with(&unsaved.bytes);
        let generation =
            self.grants.write(&connection.org, &connection.id, row, Some(over)).await?;
        tracing::debug!(connection = %connection.id, generation = generation.0, "a newer token");
        self.is_stored(connection, unsaved, is_in_force).await;
        Ok(())
    }

    /// Handles that the response is stored, in force or kept for a rollback.
    async fn is_stored(
        &self,
        connection: &ConnectionRecord,
        unsaved: &UnsavedTokens,
        is_in_force: bool,
    ) {
        unsaved.stored.notify_one();
        if connection.references.is_empty() {
            self.count("brought");
        }
        if is_in_force && let Err(error) = self.record_follows(connection, unsaved).await {
            tracing::warn!(
                connection = %connection.id, %error,
                "a refresh succeeded, and the connection's record does not say so yet"
            );
        }
    }

    /// Updates the record: the client works again, and hosts may have changed.
    async fn record_follows(
        &self,
        connection: &ConnectionRecord,
        unsaved: &UnsavedTokens,
    ) -> Result<(), VaultError> {
        if unsaved.on_trial {
            self.sync_record(connection).await?;
        }
        let newer = Grant::decode(&unsaved.bytes);
        let newer = newer.map_err(|source| self.context.unmintable(connection, source))?;
        let now = self.context.connection(&connection.org, &connection.id)?;
        self.follow_answer(&now, &newer).await
    }
}
