//! A cache of authorization server metadata: at most a day old, or stale while the server is down. One
//! reader at a time requests an issuer's metadata, for consents and for flights. Flights pause after a
//! failure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Vault;
use super::backoff::FailureDetails;
use super::cache::random;
use super::issuer_cache::{Issuer, IssuerState};
use crate::grant::oauth::{Metadata, MetadataError, TokenFailure, read_metadata};
use keyward_base::tokens::TokenSettings;
use keyward_net::call::HttpClient;

/// Why a flight gets no metadata.
#[derive(Debug)]
pub(super) enum MetadataUnavailable {
    /// It could not be read, or was not accepted.
    Failed(Arc<MetadataError>),
    /// A pause after a failure.
    Paused(Duration),
}

impl Vault {
    /// The metadata of an issuer.
    ///
    /// # Errors
    /// When there is none, it is of another issuer, or the server is down and nothing is cached.
    pub async fn metadata(
        &self,
        caller: &HttpClient,
        issuer: &str,
        settings: &TokenSettings,
    ) -> Result<Arc<Metadata>, Arc<MetadataError>> {
        let known = self.issuers.issuer(issuer);
        if let Some(metadata) = known.known(self.clock.now(), settings) {
            return Ok(metadata);
        }
        let failures = known.failures();
        let _reading = known.reading.lock().await;
        if let Some(metadata) = known.known(self.clock.now(), settings) {
            return Ok(metadata);
        }
        if let Some(error) = known.failed_since(failures) {
            return stale_or(&known, error);
        }
        match read_metadata(caller, issuer, settings).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                let read = Some((self.clock.now(), metadata.clone()));
                *known.state.lock() = IssuerState { read, ..IssuerState::default() };
                Ok(metadata)
            }
            Err(error) => {
                let error = Arc::new(error);
                self.note_unread(&known, &error, settings);
                stale_or(&known, error)
            }
        }
    }

    /// Like [`Self::metadata`], for a flight, which sends no request during the pause after a failure.
    pub(super) async fn metadata_for_flight(
        &self,
        caller: &HttpClient,
        issuer: &str,
        settings: &TokenSettings,
    ) -> Result<Arc<Metadata>, MetadataUnavailable> {
        let known = self.issuers.issuer(issuer);
        if let Some((rest, error)) = known.paused(self.clock.moment()) {
            return match stale_or(&known, error) {
                Ok(stale) => Ok(stale),
                Err(error) if error.is_temporary() => Err(MetadataUnavailable::Paused(rest)),
                Err(error) => Err(MetadataUnavailable::Failed(error)),
            };
        }
        self.metadata(caller, issuer, settings).await.map_err(MetadataUnavailable::Failed)
    }

    /// Reads the metadata again when it is needed next; the cached metadata is used while the server is
    /// down.
    pub fn distrust_metadata(&self, issuer: &str) {
        let known = self.issuers.issuer(issuer);
        if let Some((read, _)) = &mut known.state.lock().read {
            *read = Timestamp::MIN;
        }
    }

    fn note_unread(&self, known: &Issuer, error: &Arc<MetadataError>, settings: &TokenSettings) {
        let retry_after = match error.failure(self.clock.now()) {
            TokenFailure::Temporary(temporary) => temporary.retry_after,
            TokenFailure::Permanent { .. } => None,
        };
        let failed = FailureDetails { retry_after, ..FailureDetails::default() };
        let mut state = known.state.lock();
        state.failures += 1;
        state.failed = Some(error.clone());
        state.backoff.failed(self.clock.moment(), &failed, random(), settings);
    }
}

/// Whether the server is down, so that the cached metadata stays valid.
fn stale_or(
    known: &Issuer,
    error: Arc<MetadataError>,
) -> Result<Arc<Metadata>, Arc<MetadataError>> {
    let stale = known.state.lock().read.as_ref().map(|(_, metadata)| metadata.clone());
    stale.filter(|_| error.is_temporary()).ok_or(error)
}
