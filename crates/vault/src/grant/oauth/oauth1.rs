//! The requests of a consent of OAuth 1.0a (RFC 5849 §2): temporary credentials, token credentials, and their
//! revocation. Each is signed, sent once, and answered by a form.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::Value;

use super::client::ClientProof;
use super::failure::{
    ActingParty, Correction, ErrorAnswer, ErrorCode, TokenFailure, bad_endpoint, classify, cleaned,
    incomplete_field,
};
use super::request_context::RequestContext;
use super::revoke::RevokeResult;
use keyward_base::secret::Secret;
use keyward_net::call::Bounds;
use keyward_rules::inject::sign::message::{MessageValues, RequestParts};
use keyward_rules::inject::sign::oauth1::OAuth1Scheme;
use keyward_rules::inject::sign::request_signer::{SigningScheme, nonce};
use keyward_rules::provider::AuthMethod;
use keyward_rules::provider::oauth::RevokeText;

/// The names of the signing fields in [`OAuth1Scheme`].
const KEYS: [&str; 4] = ["consumer_key", "consumer_secret", "token", "token_secret"];

/// Longest value of an answer that is no secret, in bytes.
const VALUE_BYTES_MAX: usize = 512;

/// A token and its secret: temporary credentials, or those of an account. Wiped when dropped.
#[derive(Clone, Debug)]
pub struct TokenPair {
    /// `oauth_token`.
    pub token: Secret,
    /// `oauth_token_secret`.
    pub secret: Secret,
}

#[derive(Debug)]
pub struct OAuth1TokenAnswer {
    pub pair: TokenPair,
    /// The other values, such as the account's name.
    pub others: BTreeMap<String, String>,
}

/// Signs and sends the requests.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequests<'a> {
    /// The context; its client is the consumer.
    pub ask: RequestContext<'a>,
    /// The scheme for signing requests.
    pub scheme: OAuth1Scheme,
}

impl<'a> SignedRequests<'a> {
    /// Requests that are signed as the method's; `None` if it is not one of OAuth 1.0a.
    pub fn new(ask: RequestContext<'a>, auth: &AuthMethod) -> Option<Self> {
        match auth.scheme.as_deref()? {
            SigningScheme::OAuth1(scheme) => Some(Self { ask, scheme: *scheme }),
            SigningScheme::Hmac(_) | SigningScheme::Jwt(_) => None,
        }
    }

    /// Temporary credentials for a consent that ends at `callback` (RFC 5849 §2.1).
    ///
    /// # Errors
    /// When the service refuses, or does not confirm the callback: then anyone could end the consent.
    pub async fn temporary(&self, callback: &str) -> Result<TokenPair, TokenFailure> {
        let endpoint = self.ask.oauth.temporary.as_ref().ok_or_else(bad_endpoint)?;
        let url = self.ask.url(Some(&endpoint.url), "request token")?;
        let answer = self.send(&url, None, Some(("oauth_callback", callback))).await?;
        let answer = self.credentials(&answer, None)?;
        let confirmed = answer.others.get("oauth_callback_confirmed");
        match !endpoint.confirms || confirmed.is_some_and(|it| it == "true") {
            true => Ok(answer.pair),
            false => Err(TokenFailure::ours(
                ActingParty::Operator(Correction::Request),
                CALLBACK_NOT_CONFIRMED,
                "the service does not confirm the callback, as OAuth 1.0a requires",
            )),
        }
    }

    /// The token credentials of a consent (RFC 5849 §2.3). Never repeated: a verifier is valid once.
    ///
    /// # Errors
    /// When the service gives none.
    pub async fn exchange(
        &self,
        temporary: &TokenPair,
        verifier: &str,
    ) -> Result<OAuth1TokenAnswer, TokenFailure> {
        let url = self.ask.token_url()?;
        let bounds = Bounds::of_refreshes(self.ask.settings);
        let more = Some(("oauth_verifier", verifier));
        let answer = self.send_within(&bounds, &url, Some(temporary), more).await?;
        self.credentials(&answer, Some(temporary))
    }

    /// Revokes a token by a request that it signs itself, as X does
    /// (<https://docs.x.com/resources/fundamentals/authentication/api-reference>).
    pub async fn revoke(&self, token: &TokenPair) -> RevokeResult {
        let oauth = self.ask.oauth;
        if oauth.revoke.is_none() || oauth.says.revoke_via == RevokeText::None {
            return RevokeResult::NotSupported { by_hand: oauth.says.access_page.clone() };
        }
        let sent = async {
            let url = self.ask.url(oauth.revoke.as_ref(), "revoke")?;
            let answer = self.send(&url, Some(token), None).await?;
            match answer.status().is_success() {
                true => Ok(()),
                false => Err(self.refused(&answer, Some(token))),
            }
        };
        match sent.await {
            Ok(()) => RevokeResult::Yes,
            Err(failure) if is_unknown_token(&failure) => RevokeResult::Yes,
            Err(failure) => RevokeResult::No(failure),
        }
    }

    /// The credentials of an answer to a request that was signed with `token`.
    fn credentials(
        &self,
        answer: &Response<Bytes>,
        token: Option<&TokenPair>,
    ) -> Result<OAuth1TokenAnswer, TokenFailure> {
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer, token));
        }
        let longest = self.ask.settings.token_bytes_max;
        match read(answer.body(), longest) {
            Some(answer) => Ok(answer),
            // Some services answer a refusal with 200.
            None if problem(answer).is_some() => Err(self.refused(answer, token)),
            None => Err(TokenFailure::unreadable("the answer has no token of OAuth 1.0a")),
        }
    }

    async fn send(
        &self,
        url: &str,
        token: Option<&TokenPair>,
        more: Option<(&str, &str)>,
    ) -> Result<Response<Bytes>, TokenFailure> {
        self.send_within(&Bounds::of_tokens(self.ask.settings), url, token, more).await
    }

    async fn send_within(
        &self,
        bounds: &Bounds,
        url: &str,
        token: Option<&TokenPair>,
        more: Option<(&str, &str)>,
    ) -> Result<Response<Bytes>, TokenFailure> {
        let mut request = self.ask.request(Method::POST, url, Bytes::new())?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        // Some servers answer 411 to a POST without it.
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        let authorization = self.signature(&request, token, more)?;
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
        self.ask.send_within(bounds, ClientProof::default(), request).await
    }

    /// The value of `Authorization`, marked sensitive.
    fn signature(
        &self,
        request: &Request<Bytes>,
        token: Option<&TokenPair>,
        more: Option<(&str, &str)>,
    ) -> Result<HeaderValue, TokenFailure> {
        let uri = request.uri();
        let authority = uri.authority().ok_or_else(bad_endpoint)?.as_str();
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let fields = self.fields(token);
        let is_in_realm = self.scheme.has_realm && fields.contains_key("realm");
        let scheme = OAuth1Scheme { has_realm: is_in_realm, ..self.scheme };
        let headers = HeaderMap::new();
        let values = MessageValues {
            fields: &fields,
            request: Some(RequestParts {
                method: request.method().as_str(),
                // RFC 5849 §3.4.1.2: without the default port.
                authority: authority.strip_suffix(":443").unwrap_or(authority),
                target,
                headers: &headers,
                body: b"",
            }),
            now: self.ask.now,
            nonce: &nonce().map_err(incomplete_field)?,
            signature: "",
        };
        let signed = scheme.sign_with(&values, more).map_err(incomplete_field)?;
        let value = HeaderValue::from_str(&zeroize::Zeroizing::new(signed));
        let mut value = value.map_err(|_| bad_endpoint())?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn fields(&self, token: Option<&TokenPair>) -> BTreeMap<String, Secret> {
        let client = self.ask.client;
        let secret = client.secret.client_secret.clone();
        let values = [
            Some(Secret::from(client.id.clone())),
            secret,
            token.map(|token| token.token.clone()),
            token.map(|token| token.secret.clone()),
        ];
        let keys = KEYS.into_iter().zip(values);
        let keys = keys.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let variables = self.ask.variables.iter();
        variables
            .map(|(name, value)| (name.clone(), Secret::from(value.clone())))
            .chain(keys)
            .collect()
    }

    fn refused(&self, answer: &Response<Bytes>, token: Option<&TokenPair>) -> TokenFailure {
        let pair = token.into_iter().flat_map(|token| [&token.token, &token.secret]);
        let secrets = pair.chain(&self.ask.client.secret.client_secret);
        let code = problem(answer).and_then(|code| cleaned(&code, secrets));
        // A code that contained a secret is not shown.
        let code = code.filter(|code| !code.contains("***"));
        let code = code.and_then(|code| ErrorCode::clean(&code));
        let (status, headers) = (answer.status(), answer.headers());
        // RFC 5849 §3.2: a refusal has the status 400 or 401, which adds nothing to the code.
        let status = if status == StatusCode::OK { StatusCode::BAD_REQUEST } else { status };
        let refused = ErrorAnswer { status, headers, code, said: None };
        classify(refused, &self.ask.oauth.says, self.ask.now)
    }
}

/// The code of a service that does not confirm the callback.
pub const CALLBACK_NOT_CONFIRMED: &str = "callback_not_confirmed";

/// An answer of RFC 5849 §2.1 or §2.3; `None` if it has no usable token, or a name twice.
fn read(body: &[u8], token_bytes_max: usize) -> Option<OAuth1TokenAnswer> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body.trim_ascii()) {
        if values.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    let mut credential = |name: &str| {
        let value = values.remove(name)?;
        let fits = (1..=token_bytes_max).contains(&value.len());
        (fits && value.bytes().all(|b| b.is_ascii_graphic())).then(|| Secret::from(value))
    };
    let (token, secret) = (credential("oauth_token")?, credential("oauth_token_secret")?);
    let is_text =
        |value: &String| value.len() <= VALUE_BYTES_MAX && !value.chars().any(char::is_control);
    values.retain(|_, value| is_text(value));
    Some(OAuth1TokenAnswer { pair: TokenPair { token, secret }, others: values })
}

/// The service's code: `oauth_problem` of the OAuth Problem Reporting extension, in the body or the challenge, `error`, or
/// the first of `errors` of X.
fn problem(answer: &Response<Bytes>) -> Option<String> {
    let body = answer.body();
    let in_form = || {
        let mut pairs = form_urlencoded::parse(body);
        let is_code = |name: &str| matches!(name, "oauth_problem" | "error");
        pairs.find(|(name, _)| is_code(name)).map(|(_, value)| value.into_owned())
    };
    let in_challenge = || {
        let challenge = answer.headers().get(header::WWW_AUTHENTICATE)?.to_str().ok()?;
        let (_, value) = challenge.split_once("oauth_problem=")?;
        let value = value.trim_start_matches('"');
        Some(value.split(['"', ',', ' ', '&']).next()?.to_owned())
    };
    let in_json = || {
        let object: Value = serde_json::from_slice(body).ok()?;
        let first = object.get("errors").and_then(|errors| errors.get(0));
        let code = first.and_then(|error| error.get("code")).or_else(|| object.get("error"))?;
        code.as_str().map(str::to_owned).or_else(|| code.as_i64().map(|code| code.to_string()))
    };
    in_form().or_else(in_challenge).or_else(in_json).filter(|code| !code.is_empty())
}

/// Whether the token is not valid any more: nothing is left to revoke. 89 is X's code for it
/// (<https://docs.x.com/x-api/fundamentals/response-codes-and-errors>).
fn is_unknown_token(failure: &TokenFailure) -> bool {
    let over = ["token_rejected", "token_revoked", "token_expired", "89"];
    failure.code().is_some_and(|code| over.contains(&code.as_str()))
}

#[cfg(test)]
mod tests;
