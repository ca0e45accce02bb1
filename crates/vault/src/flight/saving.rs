//! Stores the response of a flight before its token is used.

use std::sync::Arc;

use super::{Flight, KeptAnswer, RequestResult};
use crate::backoff::FailureDetails;
use crate::cache::FlightResult;
use crate::error::VaultError;
use crate::flights::STORE_AGAIN;
use crate::grant::Grant;
use crate::grants::StoredGrant;
use crate::save_again::SaveResult;
use crate::token_request::fault;
use crate::unsaved_tokens::UnsavedTokens;

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
        let row = self.vault.stored(self.connection).await?;
        if !row.is_of(None, &newer_bytes) {
            return Ok(KeptAnswer::Landed(RequestResult::Overtaken));
        }
        let about = self.vault.failure_subject(&self.token_context()?, &row).await?;
        *self.about.lock() = Some(about);
        let failure = fault(unusable.clone().into(), &self.settings);
        let failure = failure.map_err(|source| self.vault.unmintable(self.connection, source))?;
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
            let saved = self.vault.save(self.connection, &newer).await;
            match (saved, pauses.next()) {
                (Ok(SaveResult::Stored), _) => {
                    self.vault.keep_stored(self.connection, &newer);
                    return Ok(RequestResult::Stored);
                }
                (Ok(SaveResult::Needless), _) => return Ok(RequestResult::Overtaken),
                (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
                (Err(error), None) => {
                    if self.ticket.keep_unsaved(&newer) {
                        // Another replica that gets the lease would send the spent token.
                        let lease = self.lease.get().map(|held| held.lease.clone());
                        self.vault.keep_saving(self.connection, newer, lease);
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
            self.vault.delete_failures(org, id).await;
        }
        let read = async {
            let stored = self.vault.stored(self.connection).await?;
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
                self.vault.cache.forget(&self.connection.id);
                Err(error)
            }
        }
    }
}
