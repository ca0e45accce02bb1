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
use zeroize::Zeroizing;

use super::Flows;
use super::error::FlowError;
use super::flow::{ReceivedTokens, SealedText, random};
use super::oauth1;
use super::rows::{PendingRevocation, PendingRevocationApp};
use super::start::FlowContext;
use crate::grant::oauth::{self, OAuthClient, TokenFailure};
use crate::grant::{AppSecret, Grant};
use crate::orphans::OrphanedGrant;
use crate::{LateAnswers, RowError};
use keyward_base::id::OrgId;
use keyward_state::directory::{AppRecord, ConnectionRecord};
use keyward_state::store::{StoreError, Version};

/// The pause after the first failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// The result of a connection's revocation at its provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The provider has revoked the grant.
    Yes,
    /// Not yet; it is retried until this time.
    Later(Timestamp),
    /// The provider refused permanently.
    No(String),
    /// The provider does not support revocation.
    NotSupported {
        /// The page where a person can revoke the access.
        by_hand: Option<String>,
    },
}

/// The failure if a refresh response was lost while its connection was removed.
const LOST: &str = "the response to a refresh was lost: its tokens may still be valid";

/// The failure if the gateway stops before such a response arrives.
const STOPPED: &str =
    "the gateway stopped before the response to a refresh arrived: its tokens may still be valid";

/// A removed connection, and the app that revokes its grants, which may be removed too.
pub(super) struct RevocationTarget {
    pub(super) connection: Arc<ConnectionRecord>,
    pub(super) app: Option<PendingRevocationApp>,
}

/// The result of one attempt.
enum RevocationAttempt {
    Done(Revoked),
    Again,
}

impl Revoked {
    /// The result to report for two grants: a refusal, else a pending one, else an unsupported one.
    fn and(self, other: Self) -> Self {
        let rank = |revoked: &Self| match revoked {
            Self::No(_) => 0,
            Self::Later(_) => 1,
            Self::NotSupported { .. } => 2,
            Self::Yes => 3,
        };
        if rank(&other) < rank(&self) { other } else { self }
    }

    pub(super) fn both(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(first), Some(second)) => Some(first.and(second)),
            (first, second) => first.or(second),
        }
    }
}

pub(super) fn encoded(grant: &Grant) -> SealedText {
    SealedText::new(BASE64_STANDARD.encode(grant.encode().as_slice()))
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
        match stored {
            Ok(_) => {}
            // The revocation was stored before a crash, and is being retried.
            Err(RowError::Store(StoreError::Conflict { .. })) => {
                return Ok(Revoked::Later(pending.until));
            }
            Err(error) => return Err(error.into()),
        }
        let attempt = tokio::time::timeout_at(deadline, self.attempt(&pending).boxed()).await;
        if let Ok(RevocationAttempt::Done(revoked)) = attempt {
            self.outbox.delete(org, key).await?;
            return Ok(revoked);
        }
        let until = pending.until;
        self.try_again(key.to_owned(), pending);
        Ok(Revoked::Later(until))
    }

    /// One attempt for a grant that could not be stored in the outbox.
    pub(super) async fn revoke_unkept(&self, received: &ReceivedTokens) {
        let Some(connection) = received.connection.as_deref().cloned() else { return };
        let id = connection.id.clone();
        let pending =
            self.pending_revocation(&connection, received.grant.clone(), Timestamp::MAX).await;
        let within = self.settings.load().revoke_timeout;
        match tokio::time::timeout(within, self.attempt(&pending).boxed()).await {
            Ok(RevocationAttempt::Done(Revoked::Yes)) => {}
            _ => {
                tracing::error!(connection = %id, "a grant that could not be stored is not revoked at its provider")
            }
        }
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
                () = self.vault.orphans.added() => true,
                _ = close.wait_for(|close| *close) => false,
            };
            self.queue_orphans().await;
        }
    }

    /// Stores the revocations of queued tokens, and begins to retry them.
    async fn queue_orphans(self: &Arc<Self>) {
        for OrphanedGrant { connection, grant } in self.vault.orphans.take() {
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
        PendingRevocation { connection: connection.clone(), grant, app, until, planned: None }
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

    async fn until_revoked(&self, key: &str, pending: PendingRevocation) {
        let mut pause = PAUSE_FIRST;
        let connection = &pending.connection;
        while self.clock.now() < pending.until {
            if !self.wait(pause).await {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
            // One replica at a time.
            let lease = self.store.lease(&format!("revocation/{key}"), self.lease_time()).await;
            let Ok(Some(_lease)) = lease else { continue };
            if !self.is_pending(key, &pending).await {
                return;
            }
            if let RevocationAttempt::Done(revoked) = self.attempt(&pending).await {
                match revoked {
                    Revoked::Yes => tracing::info!(
                        connection = %connection.id, name = connection.name,
                        provider = connection.provider, "a pending revocation is complete"
                    ),
                    Revoked::No(why) => given_up(connection, &why),
                    Revoked::Later(_) => given_up(connection, "the provider asks to try later"),
                    Revoked::NotSupported { .. } => {
                        given_up(connection, "the provider has no way to revoke it");
                    }
                }
                return self.settled(key, &pending).await;
            }
        }
        if !self.is_pending(key, &pending).await {
            return;
        }
        given_up(connection, "the provider could not be reached in time");
        self.settled(key, &pending).await;
    }

    /// Whether the revocation is still pending: no other replica has completed it.
    async fn is_pending(&self, key: &str, pending: &PendingRevocation) -> bool {
        !matches!(self.outbox.get(&pending.connection.org, key).await, Ok(None))
    }

    /// The app of a connection with its secret, for the outbox.
    pub(super) async fn pending_app(
        &self,
        connection: &ConnectionRecord,
    ) -> Option<PendingRevocationApp> {
        let app = self.app_of(connection).ok()?;
        // A paused app is used too, because a revocation requests no token.
        match self.vault.last_secret(&app).await {
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

    /// The client of a pending revocation: the current app, else the stored one.
    async fn pending_context(
        &self,
        pending: &PendingRevocation,
    ) -> Result<(FlowContext, OAuthClient), FlowError> {
        let now = match self.app_of(&pending.connection) {
            Ok(app) => self.client(&app).await.map(|client| (app, client)),
            Err(error) => Err(error),
        };
        let (app, client) = match (now, &pending.app) {
            (Ok(now), _) => now,
            (Err(_), Some(kept)) => {
                (Arc::new(kept.record.clone()), kept.client().ok_or(FlowError::NoFlow)?)
            }
            (Err(error), None) => return Err(error),
        };
        Ok((self.context_with_app(&pending.connection, app).await?, client))
    }

    async fn settled(&self, key: &str, pending: &PendingRevocation) {
        if let Err(error) = self.outbox.delete(&pending.connection.org, key).await {
            tracing::error!(%error, "a revocation stays in the outbox");
        }
    }

    async fn attempt(&self, pending: &PendingRevocation) -> RevocationAttempt {
        let no = |why: String| RevocationAttempt::Done(Revoked::No(why));
        let bytes = BASE64_STANDARD.decode(pending.grant.text()).map(Zeroizing::new);
        let grant = bytes.ok().and_then(|bytes| Grant::decode(&bytes).ok());
        let signing = grant.as_ref().and_then(Grant::oauth1_token);
        let what = grant.as_ref().and_then(Grant::revocable);
        if signing.is_none() && what.is_none() {
            return RevocationAttempt::Done(Revoked::NotSupported { by_hand: None });
        }
        let (asking, client) = match self.pending_context(pending).await {
            Ok(both) => both,
            Err(error @ FlowError::NoApp { .. }) => return no(error.to_string()),
            // A missing provider or secret may be added again, so the revocation is retried.
            Err(error) => {
                tracing::debug!(connection = %pending.connection.id, %error, "not revoked yet");
                return RevocationAttempt::Again;
            }
        };
        let settings = self.settings.load_full();
        let ask = self.ask(&asking, &client, &settings);
        let not_supported = oauth::RevokeResult::NotSupported { by_hand: None };
        let result = match (oauth1::signed_requests(&asking, ask).zip(signing), what) {
            (Some((requests, token)), _) => requests.revoke(&token).await,
            (None, Some(what)) => oauth::revoke(&ask, &what).await,
            (None, None) => not_supported,
        };
        match result {
            oauth::RevokeResult::Yes => RevocationAttempt::Done(Revoked::Yes),
            oauth::RevokeResult::NotSupported { by_hand } => {
                RevocationAttempt::Done(Revoked::NotSupported { by_hand })
            }
            oauth::RevokeResult::No(TokenFailure::Temporary(_)) => RevocationAttempt::Again,
            oauth::RevokeResult::No(failure) => no(failure.to_string()),
        }
    }
}

impl RevocationTarget {
    pub(super) fn pending_revocation(
        &self,
        grant: SealedText,
        until: Timestamp,
    ) -> PendingRevocation {
        let connection = ConnectionRecord::clone(&self.connection);
        PendingRevocation { connection, grant, app: self.app.clone(), until, planned: None }
    }
}

impl PendingRevocationApp {
    /// `None` if the secret is malformed.
    fn client(&self) -> Option<OAuthClient> {
        let bytes = BASE64_STANDARD.decode(self.secret.text()).map(Zeroizing::new).ok()?;
        let secret = AppSecret::decode(&bytes).ok()?;
        let (id, key_id) =
            (self.record.client_id.clone(), self.record.settings.tokens.key_id.clone());
        Some(OAuthClient { id, secret, key_id })
    }
}

fn given_up(connection: &ConnectionRecord, why: &str) {
    tracing::warn!(
        connection = %connection.id, name = connection.name, provider = connection.provider, why,
        "a pending revocation has failed: revoke the access at the provider"
    );
}
