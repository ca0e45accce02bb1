//! Builds the authorization URL: PKCE S256, `state`, an exact redirect URI. Parameters of the provider cannot
//! override them.

use std::collections::BTreeMap;

use oauth2::basic::BasicClient;
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::FlowError;
use keyward_rules::provider::OAuth;

/// RFC 3986 §2.3: all other characters are encoded, spaces too.
pub(super) const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parameters of the consent itself, which no setting may replace.
const OURS: &[&str] = &[
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
];

/// The parts of an authorization URL.
pub(crate) struct AuthorizationRequest<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) scopes: &'a [String],
    pub(crate) state: &'a CsrfToken,
    /// S256; `None` if the provider does not accept PKCE.
    pub(crate) challenge: Option<PkceCodeChallenge>,
    pub(crate) resource: Option<&'a str>,
    /// How the browser returns, if not by a redirect.
    pub(crate) response_mode: Option<&'static str>,
}

/// The parameters of an authorization request, in order.
pub(crate) struct AuthorizationParams {
    /// Those of the protocol, by their usual names.
    ours: Vec<(String, String)>,
    /// Those of the provider and the app.
    extra: BTreeMap<String, String>,
}

/// The complete URL. `variables` fill the provider's parameters.
///
/// # Errors
/// As [`parameters`].
pub(crate) fn url(
    question: AuthorizationRequest<'_>,
    oauth: &OAuth,
    variables: &BTreeMap<String, String>,
) -> Result<String, FlowError> {
    let endpoint = question.endpoint;
    Ok(parameters(question, oauth, variables)?.in_url(endpoint, oauth))
}

/// The checked parameters. `variables` fill those of the provider.
///
/// # Errors
/// When a parameter of the provider, the app or the endpoint is one of ours, one lacks a variable, or the endpoint is
/// not a URL.
pub(crate) fn parameters(
    question: AuthorizationRequest<'_>,
    oauth: &OAuth,
    variables: &BTreeMap<String, String>,
) -> Result<AuthorizationParams, FlowError> {
    let extra = OAuth::params(&oauth.authorize_params, variables)?;
    for (name, value) in &extra {
        let lower = name.to_ascii_lowercase();
        // The mode of the provider's file: with another one the callback would not work.
        let elsewhere =
            lower == "response_mode" && (value != "query" || question.response_mode.is_some());
        if elsewhere || OURS.contains(&lower.as_str()) {
            return Err(FlowError::Parameter { name: name.clone() });
        }
    }
    let scope = question.scopes.join(&oauth.scope_separator);
    // Pipedrive rejects an empty scope.
    let has_scope = !scope.is_empty() && !extra.contains_key("scope");
    let no_url = |_| FlowError::Server("the authorization endpoint is no URL".to_owned());
    let endpoint = AuthUrl::new(question.endpoint.to_owned()).map_err(no_url)?;
    let redirect_uri = RedirectUrl::new(question.redirect_uri.to_owned()).map_err(no_url)?;
    let theirs: Vec<String> =
        endpoint.url().query_pairs().map(|(name, _)| name.into_owned()).collect();
    let client = BasicClient::new(ClientId::new(question.client_id.to_owned()))
        .set_auth_uri(endpoint)
        .set_redirect_uri(redirect_uri);
    let mut request = client
        .authorize_url(|| question.state.clone())
        .add_scopes(has_scope.then(|| Scope::new(scope)));
    if let Some(challenge) = question.challenge {
        request = request.set_pkce_challenge(challenge);
    }
    let more = [("resource", question.resource), ("response_mode", question.response_mode)];
    for (name, value) in more {
        if let Some(value) = value {
            request = request.add_extra_param(name, value);
        }
    }
    let (whole, _) = request.url();
    let mut ours = Vec::new();
    for (usual, value) in whole.query_pairs().skip(theirs.len()) {
        // RFC 6749 §3.1: no parameter is sent twice.
        let name = named(&usual, oauth);
        if OURS.contains(&&*usual) && theirs.iter().any(|known| known == name) {
            return Err(FlowError::EndpointParameter { name: name.to_owned() });
        }
        ours.push((usual.into_owned(), value.into_owned()));
    }
    Ok(AuthorizationParams { ours, extra })
}

impl AuthorizationParams {
    /// All of them, by their usual names.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let ours = self.ours.iter().map(|(usual, value)| (usual.as_str(), value.as_str()));
        ours.chain(self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The endpoint's URL with all of them. Encoded here onto the configured endpoint: the crate cannot rename
    /// parameters, and encodes spaces as `+`.
    pub(crate) fn in_url(&self, endpoint: &str, oauth: &OAuth) -> String {
        let ours = self.ours.iter().map(|(usual, value)| (named(usual, oauth), value.as_str()));
        let extra = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        with_params(endpoint, ours.chain(extra))
    }

    /// The endpoint's URL with the client and a reference to these parameters, which the server has (RFC 9126 §4).
    pub(crate) fn by_reference(&self, endpoint: &str, oauth: &OAuth, reference: &str) -> String {
        let client = self.ours.iter().filter(|(usual, _)| usual == "client_id");
        let client = client.map(|(usual, value)| (named(usual, oauth), value.as_str()));
        with_params(endpoint, client.chain([("request_uri", reference)]))
    }
}

/// The server's name of a parameter.
fn named<'a>(usual: &'a str, oauth: &'a OAuth) -> &'a str {
    oauth.renames.get(usual).map_or(usual, String::as_str)
}

fn with_params<'a>(endpoint: &str, params: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut url = endpoint.to_owned();
    for (name, value) in params {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&encoded(name));
        url.push('=');
        url.push_str(&encoded(value));
    }
    url
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}
