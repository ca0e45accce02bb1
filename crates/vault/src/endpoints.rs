//! Finds the token endpoint of a connection that is configured by its issuer alone and needs no consent. The
//! issuer's metadata is read when a token is first needed; the result is stored with the connection, so that
//! refreshes need no metadata.

use std::time::Duration;

use super::Vault;
use super::cache::Trigger;
use super::error::VaultError;
use super::issuers::MetadataUnavailable;
use super::token_request::{RequestFailure, TokenContext, fault};
use crate::grant::MintError;
use crate::grant::oauth::Metadata;
use keyward_model::{AppUrls, Connection};
use keyward_rules::provider::oauth::{ClientAuthText, GrantText};
use keyward_state::directory::ConnectionRecord;

/// Why the endpoints are unknown.
pub(super) enum EndpointsUnknown {
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

impl Vault {
    /// Whether metadata is needed before a token request.
    ///
    /// # Errors
    /// When the connection no longer fits its provider.
    pub(super) fn needs_metadata(&self, connection: &ConnectionRecord) -> Result<bool, VaultError> {
        Ok(self.token_context(connection)?.issuer_to_ask().is_some())
    }

    /// Reads the token endpoint if it is unknown. Requests by a person ignore pauses.
    ///
    /// # Errors
    /// When the connection is gone, or the store fails.
    pub(super) async fn find_endpoints(
        &self,
        connection: &ConnectionRecord,
        why: Trigger,
    ) -> Result<Option<EndpointsUnknown>, VaultError> {
        let token_context = self.token_context(connection)?;
        let (Some(issuer), Some(caller)) = (token_context.issuer_to_ask(), token_context.caller())
        else {
            return Ok(None);
        };
        let settings = self.token_settings();
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
                    .map_err(|source| self.unmintable(connection, source))
            }
        }
    }

    /// How the client of a connection authenticates.
    ///
    /// # Errors
    /// When the connection no longer fits its provider.
    pub(super) fn client_auth(
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
