//! Consents of OAuth 1.0a (RFC 5849 §2): temporary credentials before the browser is redirected, the check of its
//! callback, and the token. Flow, browser, expiry and the stored result are those of OAuth 2.0; `grant::oauth` sends
//! the requests.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use data_encoding::HEXLOWER;
use percent_encoding::utf8_percent_encode;
use zeroize::Zeroizing;

use super::Flows;
use super::authorize::UNRESERVED;
use super::callback_query::CallbackQuery;
use super::error::{CallbackRefusal, FlowError};
use super::flow::RANDOM_BYTES;
use super::flow::{CookieDigest, ReceivedTokens, SealedText, TemporaryCredentials};
use super::start::{Authorization, FlowContext, endpoint};
use crate::grant::Grant;
use crate::grant::oauth::{
    CALLBACK_NOT_CONFIRMED, ErrorCode, OAuth1TokenAnswer, RequestContext, SignedRequests,
    Temporary, TokenFailure, TokenPair,
};
use keyward_base::secret::Secret;
use keyward_rules::provider::OAuth;
use keyward_state::directory::{Account, AccountSource};

/// The parameter of X for a consent that was declined; its value is the token
/// (<https://docs.x.com/resources/fundamentals/authentication/oauth-1-0a/obtaining-user-access-tokens>).
const DENIED: &str = "denied";

/// The parameter of the OAuth Problem Reporting extension.
const PROBLEM: &str = "oauth_problem";

/// Parameters of the consent itself, which no setting may replace.
const OURS: &[&str] = &["oauth_token", "oauth_callback", "oauth_verifier", "state"];

/// A checked callback.
pub(super) struct ExpectedVerifier<'a> {
    pub(super) temporary: &'a TemporaryCredentials,
    pub(super) verifier: &'a SealedText,
    /// The hash of the cookie of the browser.
    pub(super) session: &'a CookieDigest,
}

impl Flows {
    /// Requests temporary credentials. The callback URL has a `state`, which identifies the flow as in OAuth 2.0: the
    /// service chooses its tokens, which may be easy to guess.
    ///
    /// # Errors
    /// When the service gives none, or does not confirm the callback.
    pub(super) async fn authorization_of_oauth1(
        &self,
        asking: &FlowContext,
    ) -> Result<Authorization, FlowError> {
        let redirect_uri = asking.app.redirect_uri(&self.public_url);
        let endpoint = asking.oauth.temporary.as_ref().ok_or(FlowError::NoFlow)?;
        let state = random_hex();
        let client = self.client(&asking.app).await?;
        let settings = self.settings.load_full();
        let ask = self.ask(asking, &client, &settings);
        let requests = signed_requests(asking, ask).ok_or(FlowError::NoFlow)?;
        let callback = match endpoint.takes_state {
            true => redirect_uri.clone(),
            false => format!("{redirect_uri}?state={}", *state),
        };
        let pair = requests.temporary(&callback).await;
        let pair = pair.map_err(|failure| no_credentials(&failure, asking, &redirect_uri))?;
        let temporary =
            TemporaryCredentials { token: sealed(&pair.token), secret: sealed(&pair.secret) };
        Ok(Authorization {
            url: authorization_url(
                asking,
                temporary.token.text(),
                endpoint.takes_state.then_some(state.as_str()),
            )?,
            state: CookieDigest::of(&state),
            verifier: None,
            redirect_uri,
            client_id: asking.app.client_id.clone(),
            issuer: None,
            issuer_announced: false,
            temporary: Some(temporary),
        })
    }
}

/// The requests of a provider's OAuth 1.0a; `None` if its method has no such consent.
pub(super) fn signed_requests<'a>(
    asking: &FlowContext,
    ask: RequestContext<'a>,
) -> Option<SignedRequests<'a>> {
    asking.oauth.temporary.as_ref()?;
    let auth = asking.provider.auth(asking.connection.auth.as_deref())?;
    SignedRequests::new(ask, auth)
}

/// 256 random bits in hexadecimal digits: NetSuite accepts only letters and digits in `state`.
fn random_hex() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; RANDOM_BYTES as usize]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system has randomness");
    Zeroizing::new(HEXLOWER.encode(bytes.as_slice()))
}

/// RFC 5849 §2.2. `state` is added for a service that returns it.
fn authorization_url(
    asking: &FlowContext,
    token: &str,
    state: Option<&str>,
) -> Result<String, FlowError> {
    let mut url = endpoint(asking, asking.oauth.authorize.as_ref(), "authorization")?;
    let extra = OAuth::params(&asking.oauth.authorize_params, &asking.variables)?;
    if let Some(name) = extra.keys().find(|name| OURS.contains(&name.to_ascii_lowercase().as_str()))
    {
        return Err(FlowError::Parameter { name: name.clone() });
    }
    let encoded = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let own = [Some(("oauth_token", token)), state.map(|state| ("state", state))];
    let own = own.into_iter().flatten().map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in own.chain(extra) {
        url.push(if url.contains('?') { '&' } else { '?' });
        url += &format!("{}={}", encoded(&name), encoded(&value));
    }
    Ok(url)
}

/// Rule 7 of callbacks. Returns the verifier.
pub(super) fn verifier(
    temporary: &TemporaryCredentials,
    callback: &CallbackQuery,
) -> Result<SealedText, CallbackRefusal> {
    if let Some(problem) = callback.other(PROBLEM) {
        return Err(CallbackRefusal::Declined(ErrorCode::received(problem, None)));
    }
    if callback.other(DENIED).is_some() {
        return Err(CallbackRefusal::Declined(ErrorCode::of("access_denied")));
    }
    let token = callback.oauth_token.as_deref().unwrap_or_default();
    // Compares hashes, in constant time.
    if !CookieDigest::of(temporary.token.text()).is_of(token) {
        return Err(CallbackRefusal::OtherToken);
    }
    match &callback.oauth_verifier {
        Some(verifier) if !verifier.is_empty() => Ok(SealedText::new(verifier.as_str())),
        _ => Err(CallbackRefusal::NoVerifier),
    }
}

/// Rule 8 of callbacks: requests the token, once.
pub(super) async fn exchange_verifier(
    asking: &FlowContext,
    ask: RequestContext<'_>,
    expected: ExpectedVerifier<'_>,
    captured: BTreeMap<String, String>,
) -> Result<ReceivedTokens, FlowError> {
    let ExpectedVerifier { temporary, verifier, session } = expected;
    let requests = signed_requests(asking, ask).ok_or(FlowError::NoFlow)?;
    let pair = TokenPair {
        token: Secret::new(temporary.token.text()),
        secret: Secret::new(temporary.secret.text()),
    };
    let answer = requests.exchange(&pair, verifier.text()).await;
    let OAuth1TokenAnswer { pair, others } = answer.map_err(|failure| no_token(&failure))?;
    let named = |name: &String| others.get(name).filter(|value| !value.is_empty()).cloned();
    let mut captured = captured;
    for (variable, name) in &asking.oauth.capture {
        captured.extend(named(name).map(|value| (variable.clone(), value)));
    }
    let paths = &asking.oauth.says.account;
    let account = paths.iter().find_map(|name| named(name).or_else(|| captured.get(name).cloned()));
    let grant = Grant::of_oauth1(&pair).encode();
    Ok(ReceivedTokens {
        session: Some(session.clone()),
        connection: Some(Box::new(asking.connection.as_ref().clone())),
        reported_accounts: account
            .map(|name| Account::named(name, AccountSource::Answer))
            .into_iter()
            .collect(),
        granted: Vec::new(),
        ends: None,
        // The token does not expire.
        renewable: true,
        captured,
        accepted: false,
        replaces: None,
        grant: SealedText::new(BASE64_STANDARD.encode(grant.as_slice())),
    })
}

/// A credential of an answer, which is visible ASCII.
fn sealed(secret: &Secret) -> SealedText {
    SealedText::new(secret.expose_text().unwrap_or_default())
}

/// Why a service gave no temporary credentials, with the setting that the refusal indicates. The numbers are X's
/// (<https://docs.x.com/x-api/fundamentals/response-codes-and-errors>), the words those of the OAuth Problem Reporting
/// extension.
fn no_credentials(failure: &TokenFailure, asking: &FlowContext, redirect_uri: &str) -> FlowError {
    let app = &asking.app.name;
    let setting = match failure.code().map_or("", |code| code.as_str()) {
        CALLBACK_NOT_CONFIRMED => {
            return FlowError::CallbackNotConfirmed { provider: asking.provider.id.to_string() };
        }
        "415" | "417" | "parameter_rejected" | "http_403" => {
            format!("the provider's app must have the callback URL {redirect_uri}")
        }
        "timestamp_refused" | "135" => {
            "the clock of this machine differs from the provider's".to_owned()
        }
        _ if is_of_server(failure) => return FlowError::Down(failure.to_string()),
        _ => format!(
            "consumer key or secret of app `{app}` are not the provider's, or its app has another callback URL than \
             {redirect_uri}; `keyward app set {app}`"
        ),
    };
    FlowError::Server(format!("{failure}: {setting}"))
}

/// Why a service gave no token.
fn no_token(failure: &TokenFailure) -> FlowError {
    match is_of_server(failure) {
        true => FlowError::Server(failure.to_string()),
        false => {
            let why = "the consent was too old, or its verifier is not the provider's";
            FlowError::Server(format!("{failure}: {why}"))
        }
    }
}

/// Whether the service is down, or its answer is not caused by the client.
fn is_of_server(failure: &TokenFailure) -> bool {
    matches!(failure, TokenFailure::Temporary(Temporary { unknown_code: false, .. }))
}

#[cfg(test)]
mod tests;
