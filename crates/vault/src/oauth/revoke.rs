//! Revokes grants at their provider, whose result is reported. A failed revocation is stored in a sealed outbox and
//! retried for a day, together with the app, which may be removed meanwhile. `disconnect.rs` removes connections.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Flows;
use super::error::FlowError;
use super::flow::{PendingRevocation, PendingRevocationApp, ReceivedTokens, SealedText, random};
use super::revocation_attempt::{
    HeldRevocation, LOST, RevocationAttempt, Revoked, StoredRevocation,
};
use crate::refresh::backoff::{Backoff, FailureDetails};
use crate::refresh::late::OrphanedGrant;
use crate::{LateAnswers, RowError};
use keyward_base::id::OrgId;
use keyward_state::directory::{AppRecord, ConnectionRecord};
use keyward_state::store::{StoreError, Version};

/// The pause after the first failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// The failure if the gateway stops before the response to a refresh of a removed connection arrives.
const STOPPED: &str =
    "the gateway stopped before the response to a refresh arrived: its tokens may still be valid";

/// A removed connection, and the app that revokes its grants, which may be removed too.
pub(super) struct RevocationTarget {
    pub(super) connection: Arc<ConnectionRecord>,
    pub(super) app: Option<PendingRevocationApp>,
}

impl Flows {
    /// Revokes a grant at the provider, now or later. `key` is that of its row in the outbox.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn revoke_now_or_later(
        self: &Arc<Self>,
        key: &str,
        connection: &ConnectionRecord,
        grant: SealedText,
    ) -> Result<Revoked, FlowError> {
        let deadline = Instant::now() + self.settings.load().revoke_timeout;
        let pending = self.pending_revocation(connection, grant, self.revoked_until()).await;
        self.store_and_attempt(key, pending, None, deadline).await
    }

    /// Stores a revocation, also over its plan, and attempts it.
    pub(super) async fn store_and_attempt(
        self: &Arc<Self>,
        key: &str,
        pending: PendingRevocation,
        planned: Option<Version>,
        deadline: Instant,
    ) -> Result<Revoked, FlowError> {
        let org = &pending.connection.org;
        let mut stored = self.outbox.put(org, key, &pending, planned).await;
        if planned.is_some() && matches!(stored, Err(RowError::Store(StoreError::Conflict { .. })))
        {
            // Another replica has deleted the plan.
            stored = self.outbox.put(org, key, &pending, None).await;
        }
        // Stored before the first attempt, so that a crash leaves no grant unrevoked.
        let until = pending.until;
        let version = match stored {
            Ok(version) => version,
            // The revocation was stored before a crash, and is being retried.
            Err(RowError::Store(StoreError::Conflict { .. })) => {
                return Ok(Revoked::Later { until, why: None });
            }
            Err(error) => return Err(error.into()),
        };
        let attempt = match self.revocation_lease(key).await {
            Some(lease) => {
                let row =
                    StoredRevocation { key: key.to_owned(), pending: pending.clone(), version };
                let attempt = self.attempt_held(HeldRevocation { row, lease }).boxed();
                tokio::time::timeout_at(deadline, attempt).await
            }
            None => Ok(RevocationAttempt::Again(None)),
        };
        let why = match attempt {
            Ok(RevocationAttempt::Done(revoked)) => {
                self.outbox.delete(org, key).await?;
                return Ok(revoked);
            }
            Ok(RevocationAttempt::Refused(why)) => Some(why),
            Ok(RevocationAttempt::Again(why)) => why,
            Err(_) => None,
        };
        self.try_again(key.to_owned(), pending);
        Ok(Revoked::Later { until, why })
    }

    /// One attempt for a grant that could not be stored in the outbox, unless a connection in use may share its access.
    /// Returns whether it was made.
    pub(super) async fn revoke_unkept(&self, received: &ReceivedTokens) -> bool {
        let Some(connection) = received.connection.as_deref().cloned() else { return false };
        let id = connection.id.clone();
        let account = self.account_received(received).await;
        if let Some(shared_with) = self.shares_access(&connection, account.as_ref()) {
            tracing::error!(
                connection = %id, shared_with,
                "a grant that could not be stored stays valid at its provider, since another connection may use its access"
            );
            return false;
        }
        let pending =
            self.pending_revocation(&connection, received.grant.clone(), Timestamp::MAX).await;
        let within = self.settings.load().revoke_timeout;
        match tokio::time::timeout(within, self.attempt(&pending).boxed()).await {
            Ok(Ok(RevocationAttempt::Done(Revoked::Yes))) => {}
            _ => {
                tracing::error!(connection = %id, "a grant that could not be stored is not revoked at its provider")
            }
        }
        true
    }

    /// Revokes the tokens of refreshes that ended after their connection was removed.
    pub(super) async fn revoke_late(
        self: &Arc<Self>,
        removed: &RevocationTarget,
        late: LateAnswers,
        deadline: Instant,
    ) -> Result<Revoked, FlowError> {
        let (answers, is_lost) = late.answers();
        let mut all = Revoked::Yes;
        for (number, answer) in answers.iter().enumerate() {
            let key = format!("{}-{number}", removed.connection.id);
            let grant = SealedText::new(BASE64_STANDARD.encode(answer.as_slice()));
            let pending = removed.pending_revocation(grant, self.revoked_until());
            all = all.and(self.store_and_attempt(&key, pending, None, deadline).await?);
        }
        match is_lost {
            true => Ok(all.and(Revoked::No(LOST.to_owned()))),
            false => Ok(all),
        }
    }

    /// Like [`Self::revoke_late`], in the background. A stopping gateway waits for its refreshes a bounded time:
    /// received tokens are in the outbox, tokens of other refreshes are lost with the process.
    pub(super) fn revoke_when_landed(
        self: &Arc<Self>,
        removed: RevocationTarget,
        mut late: LateAnswers,
    ) {
        let flows = Arc::clone(self);
        self.spawn(async move {
            let mut stop = flows.stop.subscribe();
            let has_landed = tokio::select! {
                biased;
                () = late.landed() => true,
                _ = stop.wait_for(|stop| *stop) => false,
            };
            let outcome = flows.revoke_late(&removed, late, Instant::now()).await;
            let outcome = match has_landed {
                true => outcome,
                false => outcome.map(|came| Revoked::No(STOPPED.to_owned()).and(came)),
            };
            let connection = &removed.connection;
            match outcome {
                Ok(Revoked::No(why)) => tracing::warn!(
                    connection = %connection.id, name = connection.name, why,
                    "a late refresh is not revoked"
                ),
                Ok(_) => {}
                Err(error) => tracing::error!(
                    connection = %connection.id, %error, "a late refresh is not revoked"
                ),
            }
        });
    }

    /// Revokes tokens of refreshes whose connection another replica has removed, until `close` is true.
    pub async fn revoke_orphans(self: &Arc<Self>, mut close: watch::Receiver<bool>) {
        let mut is_open = true;
        while is_open {
            is_open = tokio::select! {
                () = self.vault.refresh().orphans().added() => true,
                _ = close.wait_for(|close| *close) => false,
            };
            self.queue_orphans().await;
        }
    }

    /// Stores the revocations of queued tokens, and begins to retry them.
    async fn queue_orphans(self: &Arc<Self>) {
        for OrphanedGrant { connection, grant } in self.vault.refresh().orphans().take() {
            let (org, id) = (connection.org.clone(), connection.id.clone());
            let key = format!("{id}-{}", *random());
            let grant = SealedText::new(BASE64_STANDARD.encode(grant.as_slice()));
            let pending = self.pending_revocation(&connection, grant, self.revoked_until()).await;
            match self.outbox.put(&org, &key, &pending, None).await {
                Ok(_) => self.try_again(key, pending),
                Err(error) => tracing::error!(
                    connection = %id, %error, "a late refresh of a removed connection is not revoked"
                ),
            }
        }
    }

    async fn pending_revocation(
        &self,
        connection: &ConnectionRecord,
        grant: SealedText,
        until: Timestamp,
    ) -> PendingRevocation {
        let app = self.pending_app(connection).await;
        PendingRevocation {
            connection: connection.clone(),
            grant,
            app,
            until,
            planned: None,
            answer_lost: false,
        }
    }

    pub(super) fn revoked_until(&self) -> Timestamp {
        let life = SignedDuration::try_from(self.settings.load().revoke_for);
        let until = self.clock.now().saturating_add(life.unwrap_or_default());
        until.unwrap_or(Timestamp::MAX)
    }

    /// Retries pending revocations that no task of this process retries.
    pub(super) async fn resume_outbox(self: &Arc<Self>, org: &OrgId) -> Result<(), RowError> {
        for (key, pending, _) in self.outbox.all(org).await? {
            if self.may_revoke(&key, &pending).await {
                self.try_again(key, pending);
            }
        }
        Ok(())
    }

    fn try_again(self: &Arc<Self>, key: String, pending: PendingRevocation) {
        let Some(work) = self.ongoing.begin(format!("revocation/{key}")) else { return };
        let flows = Arc::clone(self);
        self.spawn(async move {
            let _work = work;
            flows.until_revoked(&key, pending).await;
        });
    }

    async fn until_revoked(self: &Arc<Self>, key: &str, pending: PendingRevocation) {
        let connection = &pending.connection;
        let (mut pause, mut refusals) = (PAUSE_FIRST, Backoff::default());
        while self.clock.now() < pending.until {
            if !self.wait(pause).await {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
            // One replica at a time.
            let Some(lease) = self.revocation_lease(key).await else { continue };
            // Another replica may have completed it, or renewed its grant.
            let (pending, version) = match self.outbox.get(&connection.org, key).await {
                Ok(Some(row)) => row,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(connection = %connection.id, %error, "not revoked yet");
                    continue;
                }
            };
            let row = StoredRevocation { key: key.to_owned(), pending, version };
            let attempt = self.attempt_held(HeldRevocation { row, lease }).boxed().await;
            if let Some(revoked) = self.final_result(attempt, &mut refusals) {
                end_logged(connection, &revoked);
                return self.settled(key, connection).await;
            }
        }
        if !self.is_pending(key, connection).await {
            return;
        }
        given_up(connection, "the provider did not confirm it in time");
        self.settled(key, connection).await;
    }

    /// The result of an attempt after which none follows. An unknown code is final as it is for a refresh.
    fn final_result(&self, attempt: RevocationAttempt, refusals: &mut Backoff) -> Option<Revoked> {
        let code = match attempt {
            RevocationAttempt::Done(revoked) => return Some(revoked),
            RevocationAttempt::Refused(why) => Some(why),
            RevocationAttempt::Again(_) => None,
        };
        let (now, settings) = (self.clock.moment(), self.settings.load());
        let unknown_code = code.is_some();
        let failed = FailureDetails { code, unknown_code, ..FailureDetails::default() };
        refusals.failed(now, &failed, 0, &settings);
        refusals.believed(now, &settings).map(|why| Revoked::No(why.to_owned()))
    }

    /// Whether the revocation is still pending: no other replica has completed it.
    async fn is_pending(&self, key: &str, connection: &ConnectionRecord) -> bool {
        !matches!(self.outbox.get(&connection.org, key).await, Ok(None))
    }

    /// The app of a connection with its secret, for the outbox.
    pub(super) async fn pending_app(
        &self,
        connection: &ConnectionRecord,
    ) -> Option<PendingRevocationApp> {
        let app = self.app_of(connection).ok()?;
        // A paused app is used too: a revocation requests tokens only to end the access.
        match self.vault.refresh().last_secret(&app).await {
            Ok(secret) => {
                let secret = SealedText::new(BASE64_STANDARD.encode(secret.encode().as_slice()));
                Some(PendingRevocationApp { record: AppRecord::clone(&app), secret })
            }
            Err(error) => {
                tracing::warn!(%error, "a pending revocation has no secret of its app");
                None
            }
        }
    }

    async fn settled(&self, key: &str, connection: &ConnectionRecord) {
        if let Err(error) = self.outbox.delete(&connection.org, key).await {
            tracing::error!(%error, "a revocation stays in the outbox");
        }
    }
}

impl RevocationTarget {
    pub(super) fn pending_revocation(
        &self,
        grant: SealedText,
        until: Timestamp,
    ) -> PendingRevocation {
        PendingRevocation {
            connection: ConnectionRecord::clone(&self.connection),
            grant,
            app: self.app.clone(),
            until,
            planned: None,
            answer_lost: false,
        }
    }
}

fn end_logged(connection: &ConnectionRecord, revoked: &Revoked) {
    match revoked {
        Revoked::Yes => tracing::info!(
            connection = %connection.id, name = connection.name,
            provider = connection.provider, "a pending revocation is complete"
        ),
        Revoked::No(why) => given_up(connection, why),
        Revoked::Later { .. } => given_up(connection, "the provider asks to try later"),
        Revoked::NotSupported { .. } => {
            given_up(connection, "the provider has no way to revoke it");
        }
    }
}

fn given_up(connection: &ConnectionRecord, why: &str) {
    tracing::warn!(
        connection = %connection.id, name = connection.name, provider = connection.provider, why,
        "a pending revocation has failed: revoke the access at the provider"
    );
}
