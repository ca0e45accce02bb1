//! The endpoints of a consent: the configured ones, completed by the metadata of the authorization server. `grant::oauth` reads
//! metadata; the vault caches it.
//!
//! Servers may change their endpoints or forget a client. The discovered endpoints are stored with the app, unless a person
//! configured them, and the metadata is read again when an endpoint is missing.

use std::collections::HashSet;
use std::sync::Arc;

use super::Flows;
use super::error::FlowError;
use super::start::{FlowContext, variables_of};
use crate::grant::oauth::{Metadata, MetadataError, TokenFailure};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{App, AppUrls};
use keyward_net::call::CallError;
use keyward_rules::provider::error_codes;
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
        let read = self.vault.refresh().metadata(&self.caller, issuer, &settings).await;
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

/// Most issuers per app, one per tenant.
const ISSUERS_MAX: usize = 64;

/// The remedy for a registered client that its server rejects.
pub(super) const CLIENT_FORGOTTEN: &str = "the server does not know the client that Keyward registered there \
                                any more: start again, and Keyward registers a new one";

/// Whether metadata must be read again after this error code: the client or the endpoint is unknown (OAuth
/// errors and `http_404`).
pub fn suggests_new_endpoints(code: &str) -> bool {
    error_codes::says(code, "moved")
}

impl Flows {
    /// Reads metadata again when a refresh finds an endpoint missing. Runs until it is dropped.
    pub async fn follow_moves(&self) {
        loop {
            // Each issuer is read once for all connections that failed together.
            let mut read = HashSet::new();
            for (org, connection) in self.vault.refresh().changed_endpoints().await {
                match self.update_endpoints(&org, &connection, &mut read).await {
                    Ok(true) => {
                        tracing::info!(%connection, "its authorization server has moved");
                    }
                    Ok(false) => {}
                    Err(error) => tracing::info!(
                        %connection, %error, "the endpoints of its authorization server could not be read again"
                    ),
                }
            }
        }
    }

    /// Updates the endpoints of a connection. Returns whether they changed.
    async fn update_endpoints(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        read: &mut HashSet<String>,
    ) -> Result<bool, FlowError> {
        let connection = self.directory().view().connection(org, id).cloned();
        let connection = connection.ok_or(FlowError::NoConnection)?;
        let found = connection.facts.discovered.as_ref().and_then(|found| found.issuer.clone());
        let moved = match found {
            None => false,
            Some(issuer) => {
                let metadata = self.read_again(&issuer, read).await?;
                let moved =
                    self.vault.refresh().keep_found(&connection, &issuer, &metadata).await?;
                if moved {
                    self.vault.refresh().retry_changed_clients().await;
                }
                moved
            }
        };
        match connection.app {
            Some(_) => Ok(self.app_moved(&connection, read).await? || moved),
            None => Ok(moved),
        }
    }

    /// The metadata of an issuer, read once for all connections that failed together.
    async fn read_again(
        &self,
        issuer: &str,
        read: &mut HashSet<String>,
    ) -> Result<Arc<Metadata>, FlowError> {
        if read.insert(issuer.to_owned()) {
            self.vault.refresh().distrust_metadata(issuer);
        }
        self.metadata(issuer).await
    }

    /// Updates the endpoints of an app. Returns whether they changed.
    async fn app_moved(
        &self,
        connection: &ConnectionRecord,
        read: &mut HashSet<String>,
    ) -> Result<bool, FlowError> {
        let before = self.app_of(connection)?;
        let issuer = match &before.facts.registered {
            Some(registered) => registered.issuer.clone(),
            None => match self.issuer_of(connection, &before)? {
                Some(issuer) if before.facts.discovered.contains_key(&issuer) => issuer,
                // A person configured the endpoints.
                _ => return Ok(false),
            },
        };
        let metadata = self.read_again(&issuer, read).await?;
        let metadata = metadata.for_client(self.vault.refresh().client_auth(connection)?);
        match before.facts.registered {
            None => self.keep_endpoints(&before, &issuer, &metadata).await,
            Some(_) => self.keep_registered(&before, &metadata).await,
        }
    }

    /// Why the server refused a request of a consent. If it rejects a client that Keyward registered, the registration
    /// ends: the next consent registers a new client.
    pub(super) async fn refused_request(
        &self,
        app: &AppRecord,
        failure: &TokenFailure,
    ) -> FlowError {
        if app.facts.registered.is_none() || !failure.is_of_invalid_client() {
            return FlowError::Server(failure.to_string());
        }
        self.end_registration(app).await;
        FlowError::Server(format!("{failure}: {CLIENT_FORGOTTEN}"))
    }

    /// Ends the registration of a client that its server does not know, so that the next consent registers another one.
    pub(super) async fn end_registration(&self, app: &AppRecord) {
        let now = self.clock.now();
        let end = |record: &mut AppRecord| {
            if let Some(registered) = &mut record.facts.registered {
                registered.expires = Some(registered.expires.map_or(now, |ends| ends.min(now)));
            }
        };
        if let Err(error) = self.directory().change::<App>(&app.org, &app.id, end).await {
            tracing::warn!(app = %app.id, %error, "a rejected registration is not ended");
        }
    }

    /// Stores the metadata's endpoints that are not configured. Returns whether they changed.
    pub(super) async fn keep_endpoints(
        &self,
        app: &AppRecord,
        issuer: &str,
        metadata: &Metadata,
    ) -> Result<bool, FlowError> {
        let told = AppUrls { issuer: None, ..urls(metadata) };
        let known = app.facts.discovered.get(issuer);
        if known == Some(&told) || known.is_none() && app.facts.discovered.len() >= ISSUERS_MAX {
            return Ok(false);
        }
        let keep = |record: &mut AppRecord| {
            record.facts.discovered.insert(issuer.to_owned(), told.clone());
        };
        self.directory().change::<App>(&app.org, &app.id, keep).await?;
        self.vault.refresh().app_changed(&app.org, &app.id).await;
        Ok(true)
    }

    /// Updates the endpoints of a registered client. Its secret is sent only to endpoints of the same
    /// issuer.
    async fn keep_registered(
        &self,
        app: &Arc<AppRecord>,
        metadata: &Metadata,
    ) -> Result<bool, FlowError> {
        let told = urls(metadata);
        if app.urls == told {
            return Ok(false);
        }
        let secret = self.vault.grants().own_secret(app).await?;
        let set = |record: &mut AppRecord| -> Result<(), FlowError> {
            record.spec.urls.clone_from(&told);
            Ok(())
        };
        self.vault.lifecycle().change_app(&app.org, &app.id, &set, Some(secret)).await?;
        Ok(true)
    }
}

/// The endpoints in an issuer's metadata.
pub(super) fn urls(metadata: &Metadata) -> AppUrls {
    AppUrls {
        issuer: Some(metadata.issuer.clone()),
        authorize: metadata.authorization_endpoint.clone(),
        token: metadata.token_endpoint.clone(),
        device: metadata.device_authorization_endpoint.clone(),
        revoke: metadata.revocation_endpoint.clone(),
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
