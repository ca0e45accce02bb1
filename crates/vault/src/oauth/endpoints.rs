//! The endpoints of a consent: the configured ones, completed by the metadata of the authorization server.
//! `grant::oauth` reads metadata; the vault caches it.

use std::sync::Arc;

use super::Flows;
use super::error::FlowError;
use super::start::{FlowContext, variables_of};
use crate::grant::oauth::{Metadata, MetadataError};
use keyward_net::call::CallError;
use keyward_rules::provider::oauth::{GrantText, OAuth, PkceText, UrlTemplate};
use keyward_state::directory::{AppRecord, ConnectionRecord};

impl Flows {
    /// The context of a connection and its app, which may no longer exist.
    pub(super) async fn context_with_app(
        &self,
        connection: &ConnectionRecord,
        app: Arc<AppRecord>,
    ) -> Result<FlowContext, FlowError> {
        let none = || self.no_consent_error(connection);
        let catalogue = self.vault.catalogue(&connection.org);
        let provider = catalogue.get(&connection.provider).cloned().ok_or_else(none)?;
        let auth = provider.auth(connection.auth.as_deref()).ok_or_else(none)?;
        let base = auth.oauth.clone().ok_or_else(none)?;
        let variables = variables_of(&provider, &app, connection);
        let oauth = app.override_oauth(&base);
        let mut asking = FlowContext {
            connection: Arc::new(connection.clone()),
            provider,
            app,
            issuer: None,
            issuer_announced: false,
            may_bind_tokens: false,
            must_push: oauth.push.is_some(),
            push_endpoint: oauth.push.as_ref().map(|url| url.fill(&variables)).transpose()?,
            oauth,
            variables,
        };
        self.complete_endpoints(&mut asking).await?;
        Ok(asking)
    }

    /// Completes a flow's endpoints from metadata, if the configuration lacks some or Keyward registered
    /// the client.
    ///
    /// # Errors
    /// When required metadata cannot be read, or a consent needs S256 and the server does not support it.
    pub(super) async fn complete_endpoints(
        &self,
        asking: &mut FlowContext,
    ) -> Result<(), FlowError> {
        let Some(issuer) = asking.oauth.issuer.clone() else { return Ok(()) };
        let issuer = issuer.fill(&asking.variables)?;
        let known = asking.oauth.authorize.is_some() && asking.oauth.token.is_some();
        asking.issuer = Some(issuer.clone());
        if known && asking.app.facts.registered.is_none() {
            return Ok(());
        }
        let metadata = self.metadata(&issuer).await?;
        let metadata = metadata.for_client(asking.oauth.client_auth);
        let is_code = asking.oauth.grant == GrantText::AuthorizationCode;
        if is_code && metadata.require_signed_request_object {
            return Err(FlowError::SignedRequests { issuer });
        }
        if is_code && asking.oauth.pkce != PkceText::Avoid {
            takes_s256(&metadata, asking.app.facts.registered.is_some())?;
        }
        asking.issuer_announced = metadata.authorization_response_iss_parameter_supported;
        asking.may_bind_tokens = !metadata.dpop_signing_alg_values_supported.is_empty();
        asking.must_push |= metadata.require_pushed_authorization_requests;
        if asking.push_endpoint.is_none() {
            asking.push_endpoint.clone_from(&metadata.pushed_authorization_request_endpoint);
        }
        let app = &asking.app;
        // Pending revocations use the stored app, which may be removed.
        let is_there = self.directory().view().app(&app.org, &app.id).is_some();
        if app.facts.registered.is_none() && is_there {
            self.keep_endpoints(app, &issuer, &metadata).await?;
        }
        let oauth = &mut asking.oauth;
        for (slot, told) in [
            (&mut oauth.authorize, &metadata.authorization_endpoint),
            (&mut oauth.token, &metadata.token_endpoint),
            (&mut oauth.device, &metadata.device_authorization_endpoint),
            (&mut oauth.revoke, &metadata.revocation_endpoint),
            (&mut oauth.register, &metadata.registration_endpoint),
            (&mut oauth.userinfo, &metadata.userinfo_endpoint),
        ] {
            if let (None, Some(url)) = (&slot, told) {
                *slot = Some(UrlTemplate::literal(url));
            }
        }
        Ok(())
    }

    /// Adds an endpoint that is needed only here, if the configuration lacks it and names the issuer. The metadata is not
    /// read for the other endpoints of such a configuration.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub(super) async fn add_endpoint(
        &self,
        asking: &mut FlowContext,
        slot: fn(&mut OAuth) -> &mut Option<UrlTemplate>,
        found: fn(&Metadata) -> Option<&String>,
    ) -> Result<(), FlowError> {
        let Some(issuer) = &asking.issuer else { return Ok(()) };
        let client_auth = asking.oauth.client_auth;
        let endpoint = slot(&mut asking.oauth);
        if endpoint.is_none() {
            let metadata = self.metadata(issuer).await?;
            let metadata = metadata.for_client(client_auth);
            *endpoint = found(&metadata).map(|url| UrlTemplate::literal(url));
        }
        Ok(())
    }

    /// The metadata of an issuer: at most a day old, or stale while its server is down.
    ///
    /// # Errors
    /// When there is none, or it is of another issuer.
    pub(super) async fn metadata(&self, issuer: &str) -> Result<Arc<Metadata>, FlowError> {
        let settings = self.settings.load_full();
        let read = self.vault.metadata(&self.caller, issuer, &settings).await;
        read.map_err(|error| metadata_failure(&error))
    }
}

/// Logs an error of a request, and converts it to a message for users.
pub(super) fn cannot_ask(error: CallError) -> FlowError {
    metadata_failure(&MetadataError::Unanswered(error))
}

/// Logs an error of metadata, and converts it to a message for users.
pub(super) fn metadata_failure(error: &MetadataError) -> FlowError {
    tracing::info!(%error, "the metadata of an authorization server cannot be used");
    match error.is_temporary() {
        true => FlowError::Down(error.to_string()),
        false => FlowError::Server(error.to_string()),
    }
}

pub(super) fn takes_s256(metadata: &Metadata, must_say: bool) -> Result<(), FlowError> {
    let issuer = metadata.issuer.clone();
    match &metadata.code_challenge_methods_supported {
        Some(methods) if methods.iter().any(|method| method == "S256") => Ok(()),
        None if !must_say => Ok(()),
        _ => Err(FlowError::NoPkce { issuer }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 2.pkce
    #[test]
    fn a_server_without_s256_in_its_list_or_without_a_required_list_is_refused() {
        let lists = |methods: Option<&[&str]>| Metadata {
            code_challenge_methods_supported: methods
                .map(|all| all.iter().map(|&method| method.to_owned()).collect()),
            ..Metadata::default()
        };
        for (methods, must_say, fits) in [
            (Some(&["plain"][..]), false, false),
            (Some(&[][..]), false, false),
            (None, true, false),
            (None, false, true),
            (Some(&["plain", "S256"][..]), true, true),
        ] {
            assert_eq!(takes_s256(&lists(methods), must_say).is_ok(), fits, "{methods:?}");
        }
    }
}
