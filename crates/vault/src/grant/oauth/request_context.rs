//! [`RequestContext`]: the context of a request to an authorization server, and the one function that sends it.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use jiff::{SignedDuration, Timestamp};

use super::client::{ClientProof, OAuthClient};
use super::failure::{ActingParty, Correction, TokenFailure, bad_endpoint, unanswered};
use super::params::Params;
use super::reply::ReplyContext;
use keyward_base::tokens::TokenSettings;
use keyward_net::call::{Bounds, HttpClient};
use keyward_rules::provider::FormError;
use keyward_rules::provider::oauth::{ClientAuthText, OAuth, TokenBodyText, UrlTemplate};

/// The context of a request to an authorization server.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    pub caller: &'a HttpClient,
    pub settings: &'a TokenSettings,
    /// The provider's OAuth data, with the app's changes.
    pub oauth: &'a OAuth,
    pub client: &'a OAuthClient,
    /// Values of the provider's variables.
    pub variables: &'a BTreeMap<String, String>,
    /// Requested scopes; empty: the provider's default.
    pub scopes: &'a [String],
    /// The `claims` parameter that the service has asked for.
    pub claims: Option<&'a str>,
    /// The current time; lifetimes are relative to it.
    pub now: Timestamp,
}

impl RequestContext<'_> {
    /// The token endpoint.
    ///
    /// # Errors
    /// When it is unknown, or one of its variables has no value.
    pub fn token_url(&self) -> Result<String, TokenFailure> {
        self.url(self.oauth.token.as_ref(), "token")
    }

    /// The endpoint that renews tokens.
    pub(super) fn renew_url(&self) -> Result<String, TokenFailure> {
        self.url(self.oauth.renew(), "token")
    }

    pub(super) fn url(
        &self,
        template: Option<&UrlTemplate>,
        name: &'static str,
    ) -> Result<String, TokenFailure> {
        let missing = || {
            let said = format!("the provider has no {name} endpoint: give the app one");
            TokenFailure::ours(ActingParty::Operator(Correction::Request), "no_endpoint", said)
        };
        template.ok_or_else(missing)?.fill(self.variables).map_err(incomplete)
    }

    /// The issuer, if it is known.
    pub fn issuer(&self) -> Option<String> {
        self.oauth.issuer.as_ref()?.fill(self.variables).ok()
    }

    /// What is added to this machine's time for that of the server at this URL.
    pub(super) fn clock_difference(&self, url: &str) -> SignedDuration {
        let uri = url.parse::<Uri>().ok();
        let authority = uri.as_ref().and_then(|uri| uri.authority());
        authority.map(|it| self.caller.clocks().difference(it.as_str())).unwrap_or_default()
    }

    /// The time by the clock of the server at this URL, for signatures and assertions.
    pub(super) fn time_at(&self, url: &str) -> Timestamp {
        self.now.checked_add(self.clock_difference(url)).unwrap_or(self.now)
    }

    /// The requested scopes in this server's notation; `None` without scopes.
    pub fn scope(&self) -> Option<String> {
        let scopes = match self.scopes.is_empty() {
            true => &self.oauth.scopes,
            false => self.scopes,
        };
        (!scopes.is_empty()).then(|| scopes.join(&self.oauth.scope_separator))
    }

    pub(super) fn set_scope(&self, params: &mut Params) {
        if let Some(scope) = self.scope() {
            params.set("scope", scope);
        }
    }

    /// The additional parameters of token requests, from the provider's file and the app.
    pub(super) fn token_params(&self) -> Result<BTreeMap<String, String>, TokenFailure> {
        let mut params = self.filled(&self.oauth.token_params)?;
        params.extend(self.claims.map(|claims| ("claims".to_owned(), claims.to_owned())));
        Ok(params)
    }

    /// Parameters with the provider's variables filled in.
    pub(super) fn filled(
        &self,
        params: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, TokenFailure> {
        OAuth::params(params, self.variables).map_err(incomplete)
    }

    /// The context for reading the response to this request.
    pub(super) fn reading<'s>(&'s self, params: &'s Params, exchanged: bool) -> ReplyContext<'s> {
        let secrets = params.secrets().chain(&self.client.secret.client_secret).collect();
        let token_bytes_max = self.settings.token_bytes_max;
        let ahead = self.token_url().map(|url| self.clock_difference(&url)).unwrap_or_default();
        let (oauth, sent) = (self.oauth, self.now);
        ReplyContext { oauth, sent, ahead, token_bytes_max, secrets, exchanged }
    }

    /// POSTs the parameters to `url` with client authentication, and reads the complete response.
    ///
    /// # Errors
    /// When client authentication is impossible, or the response is incomplete.
    pub(super) async fn post(
        &self,
        url: &str,
        params: &mut Params,
    ) -> Result<Response<Bytes>, TokenFailure> {
        self.post_within(&Bounds::of_tokens(self.settings), url, params).await
    }

    /// [`RequestContext::post`] with other limits.
    ///
    /// # Errors
    /// As [`RequestContext::post`].
    pub(super) async fn post_within(
        &self,
        bounds: &Bounds,
        url: &str,
        params: &mut Params,
    ) -> Result<Response<Bytes>, TokenFailure> {
        let proof = self.prove(self.oauth.client_auth, url, params)?;
        params.rename(&self.oauth.renames);
        let (kind, body) = match self.oauth.token_body {
            TokenBodyText::Form => (
                "application/x-www-form-urlencoded",
                Bytes::copy_from_slice(params.form().as_bytes()),
            ),
            TokenBodyText::Json => ("application/json", Bytes::copy_from_slice(&params.json())),
        };
        let mut request = self.request(Method::POST, url, body)?;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        self.send_within(bounds, proof, request).await
    }

    /// GETs `url` with the parameters in its query, which may include a single-use token.
    ///
    /// # Errors
    /// As [`RequestContext::post`].
    pub(super) async fn get_refresh(
        &self,
        url: &str,
        params: &mut Params,
    ) -> Result<Response<Bytes>, TokenFailure> {
        let proof = self.prove(self.oauth.client_auth, url, params)?;
        params.rename(&self.oauth.renames);
        let request = self.request(Method::GET, &params.in_query(url), Bytes::new())?;
        self.send_within(&Bounds::of_refreshes(self.settings), proof, request).await
    }

    pub(super) fn prove(
        &self,
        method: ClientAuthText,
        url: &str,
        params: &mut Params,
    ) -> Result<ClientProof, TokenFailure> {
        // The token URL only if no issuer is configured: a discovered document or a server must not choose
        // the audience (CVE-2025-27370).
        let audience = self.issuer().or_else(|| self.token_url().ok());
        let audience = audience.unwrap_or_else(|| url.to_owned());
        let proof = self.client.authenticate(method, &audience, self.time_at(url), params);
        proof.map_err(|error| {
            TokenFailure::ours(
                ActingParty::Operator(Correction::Credentials),
                error.code(),
                error.to_string(),
            )
        })
    }

    pub(super) fn request(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Request<Bytes>, TokenFailure> {
        let request = Request::builder().method(method).uri(url);
        let mut request = request.body(body).map_err(|_| bad_endpoint())?;
        let fields = request.headers_mut();
        fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        fields.insert(header::USER_AGENT, HeaderValue::from_static("keyward"));
        let extra = OAuth::params(&self.oauth.extra_headers, self.variables).map_err(incomplete)?;
        for (name, value) in extra {
            let name: HeaderName = name.parse().map_err(|_| bad_endpoint())?;
            fields.insert(name, value.parse().map_err(|_| bad_endpoint())?);
        }
        Ok(request)
    }

    pub(super) async fn send(
        &self,
        proof: ClientProof,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TokenFailure> {
        self.send_within(&Bounds::of_tokens(self.settings), proof, request).await
    }

    pub(super) async fn send_within(
        &self,
        bounds: &Bounds,
        proof: ClientProof,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TokenFailure> {
        if let Some(value) = proof.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let answer = self.caller.call_as(proof.identity.as_ref(), request, bounds).await;
        answer.map_err(|error| {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "no answer to a request for a token"
            );
            unanswered(&error, self.now)
        })
    }
}

/// A variable of the provider has no value.
pub(super) fn incomplete(error: FormError) -> TokenFailure {
    TokenFailure::ours(
        ActingParty::Operator(Correction::Request),
        "variable_missing",
        error.to_string(),
    )
}
