//! One attempt to revoke a grant at its provider. If the provider needs a valid access token and the stored one is not, the
//! grant is renewed first: the newer one is written over the row of the outbox before it is used.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::Flows;
use super::error::FlowError;
use super::flow::{PendingRevocation, PendingRevocationApp, SealedText};
use super::oauth1;
use super::start::FlowContext;
use crate::RowError;
use crate::grant::oauth::{self, ActingParty, OAuthClient, TokenFailure};
use crate::grant::{AppSecret, Grant};
use crate::refresh::flights::STORE_AGAIN;
use keyward_rules::provider::oauth::RevokeText;
use keyward_state::store::{Lease, StoreError, Version};

/// The result of a connection's revocation at its provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The provider has revoked the grant.
    Yes,
    /// Not yet; it is retried.
    Later {
        /// The end of the retries.
        until: Timestamp,
        /// Why not yet; `None`: there was no answer.
        why: Option<String>,
    },
    /// The provider refused permanently.
    No(String),
    /// The provider does not support revocation.
    NotSupported {
        /// The page where a person can revoke the access.
        by_hand: Option<String>,
    },
}

/// The result of one attempt.
pub(super) enum RevocationAttempt {
    Done(Revoked),
    /// A later attempt may succeed. `None`: there was no answer.
    Again(Option<String>),
    /// The provider refused with an unknown code. Several equal refusals are final.
    Refused(String),
}

/// A pending revocation, and the version of its row that was read or written.
pub(super) struct StoredRevocation {
    pub(super) key: String,
    pub(super) pending: PendingRevocation,
    pub(super) version: Version,
}

/// A stored revocation that no other task carries out, under the lease of its row.
pub(super) struct HeldRevocation {
    pub(super) row: StoredRevocation,
    pub(super) lease: Lease,
}

/// The failure if the response to a renewal was lost, and the grant before is not valid any more.
pub(super) const LOST: &str = "the response to a refresh was lost: its tokens may still be valid";

pub(super) fn encoded(grant: &Grant) -> SealedText {
    SealedText::new(BASE64_STANDARD.encode(grant.encode().as_slice()))
}

impl Flows {
    /// The lease of a row of the outbox; `None` while another task or replica has it.
    pub(super) async fn revocation_lease(&self, key: &str) -> Option<Lease> {
        let lease = self.store.lease(&format!("revocation/{key}"), self.lease_time()).await;
        lease.ok().flatten()
    }

    /// One attempt, with a renewal of the grant if the provider needs one.
    pub(super) async fn attempt_held(self: &Arc<Self>, held: HeldRevocation) -> RevocationAttempt {
        let first = self.attempt(&held.row.pending).boxed().await;
        if let Ok(attempt) = first {
            return attempt;
        }
        match self.renew_held(held).boxed().await {
            Ok(held) => {
                let second = self.attempt(&held.row.pending).boxed().await;
                second.unwrap_or_else(RevocationAttempt::of)
            }
            Err(attempt) => attempt,
        }
    }

    /// One attempt with the grant as it is.
    ///
    /// # Errors
    /// When the provider needs a valid access token, and the grant must be renewed for one.
    pub(super) async fn attempt(
        &self,
        pending: &PendingRevocation,
    ) -> Result<RevocationAttempt, TokenFailure> {
        let done = |revoked| Ok(RevocationAttempt::Done(revoked));
        let grant = pending.grant();
        let signing = grant.as_ref().and_then(Grant::oauth1_token);
        let what = grant.as_ref().and_then(Grant::revocable);
        if signing.is_none() && what.is_none() {
            return done(Revoked::NotSupported { by_hand: None });
        }
        let (asking, client) = match self.revocation_context(pending).await {
            Ok(both) => both,
            Err(attempt) => return Ok(attempt),
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
            oauth::RevokeResult::Yes => done(Revoked::Yes),
            oauth::RevokeResult::NotSupported { by_hand } => {
                done(Revoked::NotSupported { by_hand })
            }
            oauth::RevokeResult::Expired { by_hand } => {
                let place = by_hand.unwrap_or_else(|| "the provider".to_owned());
                let why = "the access token has expired and cannot be renewed";
                done(Revoked::No(format!("{why}: revoke the access at {place}")))
            }
            oauth::RevokeResult::NeedsRenewal(failure) => Err(failure),
            oauth::RevokeResult::No(failure) => Ok(RevocationAttempt::of(failure)),
        }
    }

    /// Renews the grant as a flight: it does not end with its caller, and a stopping gateway waits for it as for any
    /// refresh.
    ///
    /// # Errors
    /// The result of the attempt, if there is no newer grant.
    async fn renew_held(
        self: &Arc<Self>,
        held: HeldRevocation,
    ) -> Result<HeldRevocation, RevocationAttempt> {
        let mut stop = self.stop.subscribe();
        // Flights are not awaited any more.
        if *stop.borrow() {
            return Err(RevocationAttempt::Again(None));
        }
        let (tell, told) = oneshot::channel();
        let flows = Arc::clone(self);
        self.vault.refresh().spawn_as_flight(async move {
            let HeldRevocation { row, lease } = held;
            let renewed = flows.renewing(&lease, flows.renewed(row).boxed()).await;
            // If the caller has ended, so does the lease: a later attempt reads the row.
            drop(tell.send(renewed.map(|row| HeldRevocation { row, lease })));
        });
        tokio::select! {
            biased;
            told = told => told.unwrap_or(Err(RevocationAttempt::Again(None))),
            _ = stop.wait_for(|stop| *stop) => Err(RevocationAttempt::Again(None)),
        }
    }

    /// Requests newer tokens, and stores them. The caller holds the lease of the row.
    async fn renewed(
        &self,
        mut row: StoredRevocation,
    ) -> Result<StoredRevocation, RevocationAttempt> {
        let (asking, client) = self.revocation_context(&row.pending).await?;
        let settings = self.settings.load_full();
        let ask = self.ask(&asking, &client, &settings);
        let grant = row.pending.grant();
        let Some(tokens) = grant.as_ref().and_then(Grant::tokens) else {
            return Err(RevocationAttempt::Again(None));
        };
        match tokens.renewed(&ask).await {
            Ok(newer) => {
                let unusable = newer.unusable_answer().cloned();
                row.pending.grant = encoded(&Grant::OAuth(newer));
                row.pending.answer_lost = false;
                let row = self.write_again(row).await?;
                match unusable {
                    None => Ok(row),
                    Some(failure) => Err(RevocationAttempt::of(failure)),
                }
            }
            // The provider has ended the grant, or has spent its refresh token for a response that was lost.
            Err(TokenFailure::Permanent { who: ActingParty::Person, .. }) => {
                Err(RevocationAttempt::Done(match row.pending.answer_lost {
                    true => Revoked::No(LOST.to_owned()),
                    false => Revoked::Yes,
                }))
            }
            Err(failure) => {
                if matches!(&failure, TokenFailure::Temporary(temporary) if temporary.ambiguous) {
                    row.pending.answer_lost = true;
                    self.write_again(row).await?;
                }
                Err(RevocationAttempt::of(failure))
            }
        }
    }

    /// Writes a row again, however long the store fails: the refresh token in it may be spent.
    ///
    /// # Errors
    /// When the time for the revocation has passed.
    async fn write_again(
        &self,
        mut row: StoredRevocation,
    ) -> Result<StoredRevocation, RevocationAttempt> {
        let org = row.pending.connection.org.clone();
        let (mut over, mut tries) = (Some(row.version), 0);
        while self.clock.now() < row.pending.until {
            match self.outbox.put(&org, &row.key, &row.pending, over).await {
                Ok(version) => {
                    row.version = version;
                    return Ok(row);
                }
                // An earlier write was made, although the store reported a failure.
                Err(RowError::Store(StoreError::Conflict { .. })) => {
                    if let Ok(found) = self.outbox.get(&org, &row.key).await {
                        over = found.map(|(_, version)| version);
                    }
                }
                Err(error) => tracing::warn!(
                    connection = %row.pending.connection.id, %error,
                    "the newer tokens of a pending revocation are not stored; trying again"
                ),
            }
            tokio::time::sleep(STORE_AGAIN[tries]).await;
            tries = (tries + 1).min(STORE_AGAIN.len() - 1);
        }
        let why = "the newer tokens could not be stored, and may still be valid";
        Err(RevocationAttempt::Done(Revoked::No(why.to_owned())))
    }

    /// The context of the requests.
    ///
    /// # Errors
    /// The result of the attempt, if no request is possible.
    async fn revocation_context(
        &self,
        pending: &PendingRevocation,
    ) -> Result<(FlowContext, OAuthClient), RevocationAttempt> {
        self.pending_context(pending).await.map_err(|error| match error {
            FlowError::NoApp { .. } => RevocationAttempt::Done(Revoked::No(error.to_string())),
            // A missing provider or secret may be added again, so the revocation is retried.
            error => {
                tracing::debug!(connection = %pending.connection.id, %error, "not revoked yet");
                RevocationAttempt::Again(Some(error.to_string()))
            }
        })
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
        let mut asking = self.context_with_app(&pending.connection, app).await?;
        if asking.oauth.says.revoke_via != RevokeText::Rfc7009 {
            return Ok((asking, client));
        }
        let added = self.add_endpoint(
            &mut asking,
            |oauth| &mut oauth.revoke,
            |metadata| metadata.revocation_endpoint.as_ref(),
        );
        match added.await {
            Err(error) if error.is_temporary() => Err(error),
            // The configured endpoints have worked without metadata.
            _ => Ok((asking, client)),
        }
    }
}

impl RevocationAttempt {
    /// The result of an attempt with this failure.
    fn of(failure: TokenFailure) -> Self {
        match failure {
            TokenFailure::Temporary(temporary) if temporary.unknown_code => {
                Self::Refused(temporary.to_string())
            }
            TokenFailure::Temporary(temporary) => {
                Self::Again(temporary.cause.is_none().then(|| temporary.to_string()))
            }
            failure @ TokenFailure::Permanent { .. } => {
                Self::Done(Revoked::No(failure.to_string()))
            }
        }
    }
}

impl Revoked {
    /// The result to report for two grants: a refusal, else a pending one, else an unsupported one.
    pub(super) fn and(self, other: Self) -> Self {
        let rank = |revoked: &Self| match revoked {
            Self::No(_) => 0,
            Self::Later { .. } => 1,
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

impl PendingRevocation {
    /// `None` if it is malformed.
    fn grant(&self) -> Option<Grant> {
        let bytes = BASE64_STANDARD.decode(self.grant.text()).map(Zeroizing::new).ok()?;
        Grant::decode(&bytes).ok()
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
