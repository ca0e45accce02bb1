//! Stores the response of a flight before its token is used, and before that a note of the request: a request that may spend a
//! refresh token may lose its answer with the process.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Flight, KeptAnswer, RequestResult};
use crate::error::VaultError;
use crate::grant::Grant;
use crate::grant::oauth::OAuthGrant;
use crate::grants::StoredGrant;
use crate::grants::record::GrantVerdict;
use crate::refresh::backoff::FailureDetails;
use crate::refresh::cache::FlightResult;
use crate::refresh::flights::STORE_AGAIN;
use crate::refresh::save_again::SaveResult;
use crate::refresh::token_request::fault;
use crate::refresh::unsaved_tokens::UnsavedTokens;
use keyward_state::directory::BrokenReason;

/// Why a stored response gives no credential.
const EXPIRED_ON_ARRIVAL: &str = "the token had expired when its answer arrived";

impl Flight<'_> {
    /// Stores the grant of a response. Without a usable access token, the failure belongs to the stored row.
    pub(super) async fn keep_answer(
        &self,
        stored: &StoredGrant,
        newer: &Grant,
    ) -> Result<KeptAnswer, VaultError> {
        let newer_bytes = newer.encode();
        let unsaved = UnsavedTokens::of(self.connection, stored, newer_bytes.clone());
        let kept = self.keep(unsaved).await?;
        let (RequestResult::Stored, Some(unusable)) = (&kept, newer.unusable_answer()) else {
            return Ok(KeptAnswer::Landed(kept));
        };
        let row = self.refresh.grants.stored(self.connection).await?;
        if !row.is_of(None, &newer_bytes) {
            return Ok(KeptAnswer::Landed(RequestResult::Overtaken));
        }
        let about = self.refresh.failure_subject(&self.token_context()?, &row).await?;
        *self.about.lock() = Some(about);
        let failure = fault(unusable.clone().into(), &self.settings);
        let failure =
            failure.map_err(|source| self.refresh.context.unmintable(self.connection, source))?;
        Ok(KeptAnswer::Unusable(Box::new(row), failure))
    }

    /// Stores the response durably before it is used. A failing store is retried, now and by later flights,
    /// because the old token may be spent.
    pub(super) async fn keep(
        &self,
        newer: Arc<UnsavedTokens>,
    ) -> Result<RequestResult, VaultError> {
        let mut pauses = STORE_AGAIN.iter();
        loop {
            let saved = self.refresh.save(self.connection, &newer).await;
            match (saved, pauses.next()) {
                (Ok(SaveResult::Stored), _) => {
                    self.refresh.keep_stored(self.connection, &newer);
                    return Ok(RequestResult::Stored);
                }
                (Ok(SaveResult::Needless), _) => return Ok(RequestResult::Overtaken),
                (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
                (Err(error), None) => {
                    if self.ticket.keep_unsaved(&newer) {
                        // Another replica that gets the lease would send the spent token.
                        let lease = self.lease.get().map(|held| held.lease.clone());
                        self.refresh.keep_saving(self.connection, newer, lease);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The result after a response was stored.
    pub(super) async fn result_of_stored(
        &self,
        has_failed: bool,
    ) -> Result<FlightResult, VaultError> {
        if has_failed {
            let (org, id) = (&self.connection.org, &self.connection.id);
            self.refresh.failures.delete(org, id).await;
        }
        let read = async {
            let stored = self.refresh.grants.stored(self.connection).await?;
            self.result_of_row(&stored).await
        };
        match read.await {
            // A token that is already expired is no reason to request again and again.
            Ok(result) => Ok(result.unwrap_or_else(|| {
                let message = Some(EXPIRED_ON_ARRIVAL.to_owned());
                FlightResult::Failed(FailureDetails { message, ..FailureDetails::default() })
            })),
            Err(error) => {
                // The cached credential is older than the stored grant, and the feed of changes omits a replica's own
                // changes.
                self.refresh.cache.forget(&self.connection.id);
                Err(error)
            }
        }
    }
}

impl Flight<'_> {
    /// Stores that a request is sent which may spend the token: after a crash, the refusal of the token is the loss of its
    /// answer.
    pub(super) async fn note_sent(&self) {
        let Some(about) = self.about.lock().clone() else { return };
        let (org, id) = (&self.connection.org, &self.connection.id);
        let failures =
            self.refresh.cache.cell(org, id).backoff().while_sent(self.refresh.clock.moment());
        self.refresh.failures.store(org, id, about, failures).await;
        self.sent.is_noted.store(true, Relaxed);
    }

    /// The verdict on a token that an earlier request, whose answer was lost, may have spent: no one has revoked it.
    pub(super) fn of_lost_answer(
        &self,
        stored: &StoredGrant,
        verdict: GrantVerdict,
    ) -> GrantVerdict {
        let grant = stored.grant(&self.refresh.context, self.connection).ok();
        let may_be_spent =
            grant.is_some_and(|it| it.tokens().is_some_and(OAuthGrant::may_be_spent));
        let is_lost = self.sent.is_unanswered.load(Relaxed) && may_be_spent;
        match verdict.reason {
            BrokenReason::Revoked if is_lost => {
                GrantVerdict { reason: BrokenReason::AnswerLost, ..verdict }
            }
            _ => verdict,
        }
    }
}
