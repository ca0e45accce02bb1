//! [`UnsavedTokens`]: a token response that the store did not accept. The old refresh token may be spent,
//! so this response is the only way to the next one: this replica retries until it is stored, even over the
//! verdict of another replica that used the spent token meanwhile. It holds the lease of the connection as long as the
//! store lets it, so that no other replica sends the spent token.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::Vault;
use super::error::VaultError;
use super::grants::{StoredGrant, is_conflict};
use super::unsaved_tokens::UnsavedTokens;
use crate::grant::Grant;
use keyward_state::directory::ConnectionRecord;
use keyward_state::store::{Lease, Version};

/// The first pause; doubles.
const FIRST: Duration = Duration::from_secs(2);

/// The longest pause: shorter than other replicas wait after the store was away (`flight/lease.rs`).
const LONGEST: Duration = Duration::from_secs(4);

/// The result of a retry.
enum SaveResult {
    Stored,
    /// The grant was replaced or removed: the response is obsolete.
    Needless,
    Failed,
}

impl UnsavedTokens {
    /// The response for this version.
    pub fn of(
        connection: &ConnectionRecord,
        stored: &StoredGrant,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Arc<Self> {
        let row = stored.becomes(connection, None, &bytes);
        let on_trial = stored.on_trial || stored.broken.is_some();
        Arc::new(Self { over: stored.version, row, on_trial, bytes, stored: Notify::new() })
    }
}

impl Vault {
    /// Keeps a newer grant that could not be stored; it is revoked if its connection was removed.
    pub(super) fn keep_answer_if_gone(
        &self,
        connection: &ConnectionRecord,
        newer: &Zeroizing<Vec<u8>>,
    ) {
        if self.connection(&connection.org, &connection.id).is_err() {
            self.flights.refreshes().keep_answer(&connection.id, newer);
        }
    }
}

impl Vault {
    /// Retries in a task that counts as a flight, so that a shutdown waits for it. Holds `lease` meanwhile.
    pub(super) fn keep_saving(
        &self,
        connection: &Arc<ConnectionRecord>,
        unsaved: Arc<UnsavedTokens>,
        lease: Option<Arc<Lease>>,
    ) {
        let (vault, connection) = (self.clone(), connection.clone());
        tracing::error!(
            id = "token_unsaved",
            connection = %connection.id, name = connection.name,
            "the store does not take a newer token: it is tried on; do not stop this gateway"
        );
        let pending = self.flights.refreshes().register(&connection.id);
        self.in_flight(async move {
            let _pending = pending;
            let mut pause = FIRST;
            loop {
                // A request of an agent may have stored it.
                drop(tokio::time::timeout(pause, unsaved.stored.notified()).await);
                match vault.save_again(&connection, &unsaved).await {
                    SaveResult::Failed => {
                        pause = (pause * 2).min(LONGEST);
                        vault.hold(lease.as_deref()).await;
                    }
                    SaveResult::Needless => break,
                    SaveResult::Stored => {
                        tracing::info!(connection = %connection.id, "the newer token is stored");
                        break;
                    }
                }
            }
            // Requests read the row again.
            vault.cache.saved(&connection.id);
        });
    }

    /// Extends the lease, if the store answers.
    async fn hold(&self, lease: Option<&Lease>) {
        let Some(lease) = lease else { return };
        let ttl = self.token_settings().lease;
        if let Err(error) = self.store.renew_lease(lease, ttl).await {
            tracing::debug!(%error, lease = lease.name(), "a lease is not renewed");
        }
    }

    async fn save_again(
        &self,
        connection: &Arc<ConnectionRecord>,
        unsaved: &UnsavedTokens,
    ) -> SaveResult {
        match self.store_over(connection, unsaved, unsaved.over).await {
            Ok(()) => SaveResult::Stored,
            Err(error) if is_conflict(&error) => self.over_verdict(connection, unsaved).await,
            Err(_) => SaveResult::Failed,
        }
    }

    /// A verdict on the same version only means that its token is spent.
    async fn over_verdict(
        &self,
        connection: &Arc<ConnectionRecord>,
        unsaved: &UnsavedTokens,
    ) -> SaveResult {
        let stored = match self.stored_if_any(connection).await {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                self.keep_answer_if_gone(connection, &unsaved.bytes);
                return SaveResult::Needless;
            }
            Err(_) => return SaveResult::Failed,
        };
        if stored.broken.is_none() || stored.version != unsaved.over.next() {
            return SaveResult::Needless;
        }
        let healed = match self.store_over(connection, unsaved, stored.version).await {
            Ok(()) => self.project(connection).await.map(drop),
            Err(error) => Err(error),
        };
        match healed {
            Ok(()) => SaveResult::Stored,
            // The next retry reads the row again.
            Err(_) => SaveResult::Failed,
        }
    }

    /// Stores the response over the given version.
    ///
    /// # Errors
    /// A conflict when the version has changed, or the store's error.
    pub(super) async fn store_over(
        &self,
        connection: &ConnectionRecord,
        unsaved: &UnsavedTokens,
        over: Version,
    ) -> Result<(), VaultError> {
        let row = unsaved.row.clone();
        let generation = self.write(&connection.org, &connection.id, row, Some(over)).await?;
        unsaved.stored.notify_one();
        if connection.references.is_empty() {
            self.count("brought");
        }
        tracing::debug!(connection = %connection.id, generation = generation.0, "a newer token");
        if let Err(error) = self.record_follows(connection, unsaved).await {
            tracing::warn!(
                connection = %connection.id, %error,
                "a refresh succeeded, and the connection's record does not say so yet"
            );
        }
        Ok(())
    }

    /// Updates the record: the client works again, and hosts may have changed.
    async fn record_follows(
        &self,
        connection: &ConnectionRecord,
        unsaved: &UnsavedTokens,
    ) -> Result<(), VaultError> {
        if unsaved.on_trial {
            self.project(connection).await?;
        }
        let newer = Grant::decode(&unsaved.bytes);
        let newer = newer.map_err(|source| self.unmintable(connection, source))?;
        let now = self.connection(&connection.org, &connection.id)?;
        self.follow_answer(&now, &newer).await
    }
}
