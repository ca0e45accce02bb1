//! The token requests, one function per grant type. Each request is sent once; the caller decides about
//! retries, because a lost response may be costly.
//!
//! Pushed authorization requests (RFC 9126): the server gets the parameters of an authorization request from the client itself,
//! and gives a reference to them for the URL of the browser.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::{Method, header};
use oauth2::{AuthorizationCode, PkceCodeVerifier, RedirectUrl, RefreshToken, Scope, TokenUrl};
use serde_json::{Value, json};

use super::Tokens;
use super::client::{AssertionError, AssertionKey, ClientProof, fresh_id, sign};
use super::failure::{ActingParty, Correction, Temporary, TokenFailure, bad_endpoint};
use super::params::Params;
use super::reply::{NextRefreshToken, usual_expiry};
use super::request_context::RequestContext;
use super::transport::{RequestedEndpoint, Transport, client, text};
use keyward_base::secret::Secret;

/// Default lifetime of a JWT bearer assertion, in seconds.
const ASSERTION_SECONDS: i64 = 300;

/// Longest lifetime that servers accept.
const ASSERTION_SECONDS_MAX: i64 = 3_600;

/// The value of `renew_params` and `lengthen_params` that means the access token. It is not a variable, because
/// variables are not secret.
const ACCESS_TEMPLATE: &str = "{access_token}";

/// RFC 7523 §2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// RFC 8693 §2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// RFC 8693 §3.
pub(super) const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The subject token of a token exchange (RFC 8693 §2.1).
#[derive(Clone, Debug)]
pub struct SubjectToken {
    pub token: Secret,
    /// Its type; default: access token.
    pub kind: Option<String>,
    /// The actor: token and type.
    pub actor: Option<(Secret, String)>,
    /// The type of the requested token.
    pub wanted: Option<String>,
    /// The name of the target service.
    pub audience: Option<String>,
    /// The URL of the target service.
    pub resource: Option<String>,
}

/// The content of a signed assertion (RFC 7523 §3).
#[derive(Clone, Debug)]
pub struct JwtAssertion {
    /// The private key in PEM.
    pub key: Secret,
    /// The key's id at the server.
    pub key_id: Option<String>,
    /// Signature algorithm; the default depends on the key.
    pub algorithm: Option<String>,
    pub issuer: String,
    pub subject: Option<String>,
    /// The audience; default: the token endpoint.
    pub audience: Option<String>,
    /// Lifetime in seconds; default: 5 minutes.
    pub seconds: Option<i64>,
    /// How far `iat` is set back, in seconds, for servers with slow clocks.
    pub backdated: i64,
    /// Scopes are a claim, not a parameter.
    pub scope_as_claim: bool,
}

/// Why a refresh gave no access token.
#[derive(Debug)]
pub struct RefreshFailure {
    pub failure: TokenFailure,
    pub next: Option<NextRefreshToken>,
}

impl From<TokenFailure> for RefreshFailure {
    fn from(failure: TokenFailure) -> Self {
        Self { failure, next: None }
    }
}

/// RFC 6749 §4.1.3, with the verifier of RFC 7636 §4.5. Never repeated: a code is valid once.
///
/// # Errors
/// When the server gives no token.
pub async fn exchange_code(
    ask: &RequestContext<'_>,
    code: &Secret,
    redirect_uri: &str,
    verifier: Option<&Secret>,
) -> Result<Tokens, TokenFailure> {
    let transport =
        Transport::new(ask, RequestedEndpoint::Token, ask.token_url()?, own_params(ask)?).patient();
    let client = client(ask).set_token_uri(transport.url(TokenUrl::new)?);
    let back = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| bad_endpoint())?;
    let mut request = client
        .exchange_code(AuthorizationCode::new(text(code)?))
        .set_redirect_uri(Cow::Owned(back));
    if let Some(verifier) = verifier {
        request = request.set_pkce_verifier(PkceCodeVerifier::new(text(verifier)?));
    }
    let reply = request.request_async(&transport).await;
    reply.map(Tokens::from).map_err(|error| transport.failure(error))
}

/// RFC 6749 §6. A refresh token in the response replaces this one. The response is awaited for minutes if the request
/// may spend the token.
///
/// # Errors
/// When the server gives no access token.
pub async fn refresh(
    ask: &RequestContext<'_>,
    sent: &Secret,
    may_spend: bool,
) -> Result<Tokens, RefreshFailure> {
    let mut params = ask.token_params()?;
    params.extend(ask.filled(&ask.oauth.renew_params)?);
    let transport = Transport::new(ask, RequestedEndpoint::Token, ask.renew_url()?, params);
    let transport = if may_spend { transport.patient() } else { transport };
    let client = client(ask).set_token_uri(transport.url(TokenUrl::new)?);
    let token = RefreshToken::new(text(sent)?);
    let scope = ask.scope().filter(|_| ask.oauth.says.renew_scopes);
    let request = client.exchange_refresh_token(&token).add_scopes(scope.map(Scope::new));
    let reply = request.request_async(&transport).await;
    drop(Secret::from(token.into_secret()));
    let tokens = reply.map(Tokens::from).map_err(|error| {
        let failure = transport.failure(error);
        let is_sent = |next: &Secret| next.expose_text().is_some_and(|next| sent.is_text(next));
        // An error that ends the grant ends the refresh token beside it.
        let is_kept =
            |next: &NextRefreshToken| next.is_sure || matches!(failure, TokenFailure::Temporary(_));
        let next = transport.next_refresh_token().filter(|next| !is_sent(&next.token));
        RefreshFailure { next: next.filter(is_kept), failure }
    })?;
    // This refresh token stays if the response has none, so the access token can be renewed.
    let expires = tokens.expires.or_else(|| usual_expiry(ask.oauth, tokens.sent));
    Ok(Tokens { expires, ..tokens })
}

/// Exchanges a valid access token for a newer one by GET, as Facebook, Instagram and Threads do
/// (<https://developers.facebook.com/docs/instagram-platform/reference/refresh_access_token>).
///
/// # Errors
/// When the server gives no token.
pub async fn renew_access(
    ask: &RequestContext<'_>,
    token: &Secret,
) -> Result<Tokens, TokenFailure> {
    exchanged(ask, &ask.renew_url()?, &ask.oauth.renew_params, token).await
}

/// Exchanges the token of a consent once for one with a longer lifetime, if the provider has `lengthen`, as Facebook,
/// Instagram and Threads do. All other data of the first answer stays.
///
/// # Errors
/// When the server gives no token.
pub async fn lengthened(ask: &RequestContext<'_>, tokens: &Tokens) -> Result<Tokens, TokenFailure> {
    if ask.oauth.lengthen.is_none() {
        return Ok(tokens.clone());
    }
    let url = ask.url(ask.oauth.lengthen.as_ref(), "token")?;
    let longer = exchanged(ask, &url, &ask.oauth.lengthen_params, &tokens.access).await?;
    let Tokens { access, sent, expires, .. } = longer;
    Ok(Tokens { access, sent, expires, ..tokens.clone() })
}

/// GETs `url` with these parameters. The token is the parameter whose value is `{access_token}`, else `access_token`.
async fn exchanged(
    ask: &RequestContext<'_>,
    url: &str,
    params: &BTreeMap<String, String>,
    token: &Secret,
) -> Result<Tokens, TokenFailure> {
    let (tokens, others): (BTreeMap<String, String>, BTreeMap<String, String>) =
        params.clone().into_iter().partition(|(_, value)| value == ACCESS_TEMPLATE);
    let mut params = Params::default();
    if tokens.is_empty() {
        params.set_token("access_token", token);
    }
    for name in tokens.keys() {
        params.set_token(name, token);
    }
    params.set_all(&ask.filled(&others)?);
    let answer = ask.get_refresh(url, &mut params).await?;
    ask.reading(&params, false).tokens(&answer)
}

/// RFC 6749 §4.4. A refresh token in the response is ignored, because the request can be repeated.
///
/// # Errors
/// When the server gives no token.
pub async fn client_credentials(ask: &RequestContext<'_>) -> Result<Tokens, TokenFailure> {
    let transport =
        Transport::new(ask, RequestedEndpoint::Token, ask.token_url()?, own_params(ask)?);
    let client = client(ask).set_token_uri(transport.url(TokenUrl::new)?);
    let request = client.exchange_client_credentials().add_scopes(ask.scope().map(Scope::new));
    let reply = request.request_async(&transport).await;
    reply.map(|reply| without_refresh(reply.into())).map_err(|error| transport.failure(error))
}

/// RFC 7523 §2.1, with an assertion signed for each request.
///
/// # Errors
/// When the key does not sign, or the server gives no token.
pub async fn jwt_bearer(
    ask: &RequestContext<'_>,
    assertion: &JwtAssertion,
) -> Result<Tokens, TokenFailure> {
    let signed = assertion.sign(ask)?;
    let mut params = Params::default();
    params.set("grant_type", ask.oauth.grant_type.as_deref().unwrap_or(JWT_BEARER));
    params.set("assertion", signed);
    if !assertion.scope_as_claim {
        ask.set_scope(&mut params);
    }
    params.set_all(&ask.token_params()?);
    let answer = ask.post(&ask.token_url()?, &mut params).await?;
    ask.reading(&params, false).tokens(&answer).map(without_refresh)
}

/// RFC 8693 §2.1.
///
/// # Errors
/// When the server gives no token, or one of another type than requested.
pub async fn token_exchange(
    ask: &RequestContext<'_>,
    subject: &SubjectToken,
) -> Result<Tokens, TokenFailure> {
    let mut params = Params::default();
    params.set("grant_type", ask.oauth.grant_type.as_deref().unwrap_or(TOKEN_EXCHANGE));
    params.set("subject_token", subject.token.clone());
    params.set("subject_token_type", subject.kind.as_deref().unwrap_or(ACCESS_TOKEN_TYPE));
    if let Some((token, kind)) = &subject.actor {
        params.set("actor_token", token.clone());
        params.set("actor_token_type", kind.as_str());
    }
    let optional = [
        ("requested_token_type", &subject.wanted),
        ("audience", &subject.audience),
        ("resource", &subject.resource),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            params.set(name, value.as_str());
        }
    }
    ask.set_scope(&mut params);
    params.set_all(&ask.token_params()?);
    let answer = ask.post(&ask.token_url()?, &mut params).await?;
    let reading = ask.reading(&params, true);
    let tokens = reading.tokens(&answer).map_err(of_subject)?;
    let wanted = subject.wanted.as_deref().unwrap_or(ACCESS_TOKEN_TYPE);
    match reading.object(&answer)?.get("issued_token_type").and_then(Value::as_str) {
        // RFC 8693 requires it, but some servers omit it.
        None => Ok(tokens),
        Some(issued) if issued == wanted => Ok(tokens),
        Some(_) => Err(TokenFailure::unreadable("the token is not of the requested type")),
    }
}

/// RFC 8693 §2.2.2 has one code for expired and invalid subject tokens. A retry with the same token does
/// not help.
fn of_subject(failure: TokenFailure) -> TokenFailure {
    match failure {
        TokenFailure::Temporary(Temporary {
            code: Some(code), said, unknown_code: true, ..
        }) if code.as_str() == "invalid_request" => {
            TokenFailure::Permanent { who: ActingParty::Person, code, said }
        }
        other => other,
    }
}

/// A GitHub App's token for one installation: the app's own assertion as a bearer token, no body
/// (<https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-an-installation-access-token-for-a-github-app>).
///
/// # Errors
/// When the key does not sign, or the server gives no token.
pub async fn installation(
    ask: &RequestContext<'_>,
    assertion: &JwtAssertion,
) -> Result<Tokens, TokenFailure> {
    let signed = assertion.sign(ask)?;
    let mut request = ask.request(Method::POST, &ask.token_url()?, bytes::Bytes::new())?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer(&signed)?);
    let answer = ask.send(ClientProof::default(), request).await?;
    let params = Params::default();
    let mut reading = ask.reading(&params, false);
    reading.secrets.push(&signed);
    reading.tokens(&answer).map(without_refresh)
}

/// `Authorization: Bearer`, marked sensitive.
pub(crate) fn bearer(token: &Secret) -> Result<http::HeaderValue, TokenFailure> {
    let text = zeroize::Zeroizing::new([b"Bearer ", token.expose()].concat());
    let value = http::HeaderValue::from_bytes(&text);
    let mut value = value.map_err(|_| TokenFailure::unreadable("the token cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl JwtAssertion {
    /// Creates and signs the assertion.
    fn sign(&self, ask: &RequestContext<'_>) -> Result<Secret, TokenFailure> {
        let refused = |error: AssertionError| {
            TokenFailure::ours(
                ActingParty::Operator(Correction::Credentials),
                error.code(),
                error.to_string(),
            )
        };
        let now = ask.time_at(&ask.token_url()?).as_second();
        let seconds = self.seconds.unwrap_or(ASSERTION_SECONDS).clamp(1, ASSERTION_SECONDS_MAX);
        let audience = match &self.audience {
            Some(audience) => audience.clone(),
            None => ask.token_url()?,
        };
        let mut claims = json!({
            "iss": self.issuer,
            "aud": audience,
            "iat": now - self.backdated,
            "exp": now + seconds,
            "jti": fresh_id().map_err(refused)?,
        });
        if let Some(subject) = &self.subject {
            claims["sub"] = subject.as_str().into();
        }
        if let Some(scope) = ask.scope().filter(|_| self.scope_as_claim) {
            claims["scope"] = scope.into();
        }
        let key = AssertionKey::Pem(&self.key);
        sign(&key, self.algorithm.as_deref(), self.key_id.as_deref(), &claims).map_err(refused)
    }
}

/// The parameters for this server: its name of the grant type, and [`RequestContext::token_params`].
fn own_params(ask: &RequestContext<'_>) -> Result<BTreeMap<String, String>, TokenFailure> {
    let mut params = BTreeMap::new();
    if let Some(grant_type) = &ask.oauth.grant_type {
        params.insert("grant_type".to_owned(), grant_type.clone());
    }
    params.extend(ask.token_params()?);
    Ok(params)
}

fn without_refresh(tokens: Tokens) -> Tokens {
    Tokens { refresh: None, refresh_expires: None, ..tokens }
}

#[cfg(test)]
mod tests;

/// Longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 2 * 1024;

/// Sends the parameters to `url` with client authentication. Returns `request_uri`.
///
/// # Errors
/// When the server refuses, or its answer has no reference.
pub async fn push_authorization<'p>(
    ask: &RequestContext<'_>,
    url: &str,
    params: impl Iterator<Item = (&'p str, &'p str)>,
) -> Result<String, TokenFailure> {
    let mut sent = Params::default();
    for (name, value) in params {
        sent.set(name, value);
    }
    let answer = ask.post(url, &mut sent).await?;
    let reading = ask.reading(&sent, false);
    let object = reading.object(&answer)?;
    if !answer.status().is_success() {
        return Err(reading.refused(&answer, None, None));
    }
    let fits = |text: &&str| {
        (1..=REFERENCE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let reference = object.get("request_uri").and_then(Value::as_str).filter(fits);
    let missing = || {
        TokenFailure::unreadable(
            "the answer is not that of a pushed authorization request endpoint",
        )
    };
    reference.map(str::to_owned).ok_or_else(missing)
}
