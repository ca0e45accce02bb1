//! Finds the token endpoint of a connection that is configured by its issuer alone and needs no consent. The
//! issuer's metadata is read when a token is first needed; the result is stored with the connection, so that
//! refreshes need no metadata.
//!
//! Metadata is cached: at most a day old, or stale while the server is down. One reader at a time requests an issuer's metadata,
//! for consents and for flights. Flights pause after a failure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Refresh;
use super::backoff::FailureDetails;
use super::cache::{Trigger, random};
use super::issuer_cache::{Issuer, IssuerState};
use super::token_request::{RequestFailure, TokenContext, fault};
use crate::error::VaultError;
use crate::grant::MintError;
use crate::grant::oauth::{Metadata, MetadataError, TokenFailure, read_metadata};
use keyward_base::tokens::TokenSettings;
use keyward_model::{AppUrls, Connection};
use keyward_net::call::HttpClient;
use keyward_rules::provider::oauth::{ClientAuthText, GrantText};
use keyward_state::directory::ConnectionRecord;

/// Why the endpoints are unknown.
pub(crate) enum EndpointsUnknown {
    /// Treated like a failed token request.
    RequestFailure(RequestFailure),
    /// The metadata could not be read recently; the rest of the pause.
    Paused(Duration),
}

impl TokenContext {
    /// The issuer whose metadata is needed before a token request.
    fn issuer_to_ask(&self) -> Option<String> {
        let oauth = self.oauth()?;
        let endpoint = match oauth.grant {
            GrantText::AuthorizationCode | GrantText::DeviceCode => oauth.renew(),
            _ => oauth.token.as_ref(),
        };
        match endpoint {
            Some(_) => None,
            None => oauth.issuer.as_ref()?.fill(self.variables()).ok(),
        }
    }
}

impl Refresh {
    /// Whether metadata is needed before a token request.
    ///
    /// # Errors
    /// When the connection no longer fits its provider.
    pub(crate) fn needs_metadata(&self, connection: &ConnectionRecord) -> Result<bool, VaultError> {
        Ok(self.token_context(connection)?.issuer_to_ask().is_some())
    }

    /// Reads the token endpoint if it is unknown. Requests by a person ignore pauses.
    ///
    /// # Errors
    /// When the connection is gone, or the store fails.
    pub(crate) async fn find_endpoints(
        &self,
        connection: &ConnectionRecord,
        why: Trigger,
    ) -> Result<Option<EndpointsUnknown>, VaultError> {
        let token_context = self.token_context(connection)?;
        let (Some(issuer), Some(caller)) = (token_context.issuer_to_ask(), token_context.caller())
        else {
            return Ok(None);
        };
        let settings = self.context.token_settings();
        let read = match why.is_by_hand() {
            true => self
                .metadata(&caller, &issuer, &settings)
                .await
                .map_err(MetadataUnavailable::Failed),
            false => self.metadata_for_flight(&caller, &issuer, &settings).await,
        };
        match read {
            Ok(metadata) => {
                self.keep_found(connection, &issuer, &metadata).await?;
                Ok(None)
            }
            Err(MetadataUnavailable::Paused(rest)) => Ok(Some(EndpointsUnknown::Paused(rest))),
            Err(MetadataUnavailable::Failed(error)) => {
                let failure = MintError::from(error.failure(self.clock.now()));
                fault(failure, &settings)
                    .map(|fault| Some(EndpointsUnknown::RequestFailure(fault)))
                    .map_err(|source| self.context.unmintable(connection, source))
            }
        }
    }

    /// How the client of a connection authenticates.
    ///
    /// # Errors
    /// When the connection no longer fits its provider.
    pub(crate) fn client_auth(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<ClientAuthText, VaultError> {
        let context = self.token_context(connection)?;
        Ok(context.oauth().map(|oauth| oauth.client_auth).unwrap_or_default())
    }

    /// Stores an issuer's endpoints with the connection. Returns whether they changed.
    ///
    /// # Errors
    /// When the connection is gone, or the store fails.
    pub async fn keep_found(
        &self,
        connection: &ConnectionRecord,
        issuer: &str,
        metadata: &Metadata,
    ) -> Result<bool, VaultError> {
        let metadata = metadata.for_client(self.client_auth(connection)?);
        let found = AppUrls {
            issuer: Some(issuer.to_owned()),
            authorize: None,
            token: metadata.token_endpoint.clone(),
            device: None,
            revoke: metadata.revocation_endpoint.clone(),
        };
        if connection.facts.discovered.as_deref() == Some(&found) {
            return Ok(false);
        }
        let keep =
            |record: &mut ConnectionRecord| record.facts.discovered = Some(Box::new(found.clone()));
        self.directory.change::<Connection>(&connection.org, &connection.id, keep).await?;
        tracing::info!(
            connection = %connection.id, name = connection.name, issuer,
            "the endpoints of its authorization server were read from its metadata"
        );
        Ok(true)
    }
}

/// Why a flight gets no metadata.
#[derive(Debug)]
pub(crate) enum MetadataUnavailable {
    /// It could not be read, or was not accepted.
    Failed(Arc<MetadataError>),
    /// A pause after a failure.
    Paused(Duration),
}

impl Refresh {
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
    pub(crate) async fn metadata_for_flight(
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
