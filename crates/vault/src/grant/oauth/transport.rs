//! [`Transport`]: the HTTP client of the `oauth2` crate. The crate writes the parameters of a grant and
//! parses the normalised response. Keyward does the rest: client authentication, renamed parameters, header
//! fields, limits, the guarded dial, and the classification of failures by the original response. Also reads the answers of
//! endpoints that give no token: the device endpoint, and the revocation endpoint.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Response, StatusCode};
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
};
use oauth2::{
    AsyncHttpClient, ClientId, ErrorResponseType, HttpRequest, HttpResponse, RequestTokenError,
    StandardErrorResponse, StandardRevocableToken,
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::failure::{TokenFailure, bad_endpoint};
use super::params::Params;
use super::reply::{self, NextRefreshToken, Reply, ReplyContext};
use super::reported_error::ReportedError;
use super::request_context::RequestContext;
use keyward_base::secret::Secret;
use keyward_net::call::Bounds;
use keyward_rules::provider::oauth::RevokeText;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestedEndpoint {
    /// RFC 6749 §3.2.
    Token,
    /// RFC 8628 §3.1.
    Device,
    /// RFC 7009.
    Revocation,
}

/// Sends one request. Copies of a token, a code or a verifier in the crate's own types, form and parser are not wiped;
/// those that the crate returns are.
pub(super) struct Transport<'a> {
    ask: &'a RequestContext<'a>,
    endpoint: RequestedEndpoint,
    url: String,
    bounds: Bounds,
    /// Parameters that replace the crate's.
    params: BTreeMap<String, String>,
    exchanged: Mutex<Option<Exchanged>>,
}

/// Request and response: the crate's errors have neither status nor header fields.
struct Exchanged {
    params: Params,
    answer: Response<Bytes>,
}

impl<'a> Transport<'a> {
    /// A transport for `url` with these limits; `params` replace those of the crate.
    pub(super) fn new(
        ask: &'a RequestContext<'a>,
        endpoint: RequestedEndpoint,
        url: String,
        params: BTreeMap<String, String>,
    ) -> Self {
        let bounds = Bounds::of_tokens(ask.settings);
        Self { ask, endpoint, url, bounds, params, exchanged: Mutex::default() }
    }

    /// Waits for the response for minutes, because the request may spend a code or a refresh token.
    pub(super) fn patient(self) -> Self {
        Self { bounds: Bounds::of_refreshes(self.ask.settings), ..self }
    }

    /// A URL in one of the crate's types. The crate parses it; [`Transport`] uses the text.
    ///
    /// # Errors
    /// When it is not a URL.
    pub(super) fn url<U, E>(
        &self,
        parse: impl FnOnce(String) -> Result<U, E>,
    ) -> Result<U, TokenFailure> {
        parse(self.url.clone()).map_err(|_| bad_endpoint())
    }

    /// The response for the crate's parser: an error of RFC 6749 §5.2, with any status, else the result.
    ///
    /// # Errors
    /// When it is neither.
    fn normalised(&self, exchanged: &Exchanged) -> Result<HttpResponse, TokenFailure> {
        let Exchanged { params, answer } = exchanged;
        let reading = self.ask.reading(params, false);
        let object = reply::object(answer.body());
        let error = object.as_ref().and_then(|object| reading.error(object, answer.status()));
        let (status, body) = match error {
            Some((code, said)) => {
                (StatusCode::BAD_REQUEST, json!({ "error": code, "error_description": said }))
            }
            None => {
                let body = match self.endpoint {
                    RequestedEndpoint::Token => reading.token_reply(answer)?,
                    RequestedEndpoint::Device => codes(self.ask, &reading.object(answer)?)?,
                    RequestedEndpoint::Revocation => {
                        judged(&reading, answer).map(|()| json!({}))?
                    }
                };
                (StatusCode::OK, body)
            }
        };
        let mut response = HttpResponse::new(body.to_string().into_bytes());
        *response.status_mut() = status;
        Ok(response)
    }

    /// The refresh token of an answer without a usable access token.
    pub(super) fn next_refresh_token(&self) -> Option<NextRefreshToken> {
        let exchanged = self.exchanged.lock();
        let Exchanged { params, answer } = exchanged.as_ref()?;
        self.ask.reading(params, false).next_refresh_token(answer)
    }

    /// The failure behind an error of the crate.
    pub(super) fn failure<T: ErrorResponseType + Display + 'static>(
        &self,
        error: RequestTokenError<TokenFailure, StandardErrorResponse<T>>,
    ) -> TokenFailure {
        match error {
            RequestTokenError::Request(failure) => failure,
            RequestTokenError::ServerResponse(error) => match &*self.exchanged.lock() {
                Some(Exchanged { params, answer }) => {
                    let code = error.error().to_string();
                    let said = error.error_description().cloned();
                    self.ask.reading(params, false).refused(answer, Some(code), said)
                }
                None => TokenFailure::unreadable("an answer without a request"),
            },
            // Never logged: it contains the body.
            RequestTokenError::Parse(..) => {
                TokenFailure::unreadable("the answer lacks a required member")
            }
            RequestTokenError::Other(_) => bad_endpoint(),
        }
    }
}

impl<'c> AsyncHttpClient<'c> for Transport<'_> {
    type Error = TokenFailure;
    type Future = BoxFuture<'c, Result<HttpResponse, TokenFailure>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let mut params = Params::from_form(&Zeroizing::new(request.into_body()));
            // The crate always sends `client_id`. RFC 8628 §3.1 requires it; elsewhere it depends on the
            // method of client authentication.
            if self.endpoint != RequestedEndpoint::Device {
                params.remove("client_id");
            }
            params.set_all(&self.params);
            let answer = self.ask.post_within(&self.bounds, &self.url, &mut params).await?;
            let exchanged = Exchanged { params, answer };
            let response = self.normalised(&exchanged);
            *self.exchanged.lock() = Some(exchanged);
            response
        })
    }
}

/// The client for the crate: only its id. The crate supports two of our nine authentication methods, and
/// encodes spaces in one of them as `+`, which some servers do not decode.
pub(super) fn client(
    ask: &RequestContext<'_>,
) -> oauth2::Client<
    BasicErrorResponse,
    Reply,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
> {
    oauth2::Client::new(ClientId::new(ask.client.id.clone()))
}

/// A secret as text for the crate.
///
/// # Errors
/// When it is not UTF-8, which no server's token is.
pub(super) fn text(secret: &Secret) -> Result<String, TokenFailure> {
    let text = secret.expose_text().map(str::to_owned);
    text.ok_or_else(|| TokenFailure::unreadable("a value of the request is not text"))
}

/// A response of a device endpoint as the `oauth2` crate parses it.
///
/// # Errors
/// When it has no codes, or no address where the code is entered.
pub(super) fn codes(
    ask: &RequestContext<'_>,
    object: &Map<String, Value>,
) -> Result<Value, TokenFailure> {
    let text = |name: &str| {
        let text = object.get(name).and_then(Value::as_str)?;
        let fits = (1..=TEXT_BYTES_MAX).contains(&text.len());
        (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let missing = || TokenFailure::unreadable("the answer is not that of a device endpoint");
    // Google used `verification_url` before RFC 8628.
    let uri = text("verification_uri").or_else(|| text("verification_url"));
    let uri = uri.filter(|uri| uri.starts_with("https://") || ask.settings.insecure_loopback);
    let life = reply::duration(object.get("expires_in")).unwrap_or(LIFE);
    let interval = reply::duration(object.get("interval")).unwrap_or(ask.settings.device_interval);
    Ok(json!({
        "device_code": text("device_code").ok_or_else(missing)?,
        "user_code": text("user_code").ok_or_else(missing)?,
        "verification_uri": uri.ok_or_else(missing)?,
        "verification_uri_complete": text("verification_uri_complete"),
        "expires_in": life.as_secs(),
        "expires": ask.now.checked_add(life).map_err(|_| missing())?,
        "interval_ms": u64::try_from(interval.as_millis()).map_err(|_| missing())?,
    }))
}

/// 2xx without an error. An unknown token counts as revoked (RFC 7009 §2.2), in the service's own words too. It gets no
/// expired token, for which it may say the same although the refresh token is valid.
pub(super) fn judged(
    reading: &ReplyContext<'_>,
    answer: &Response<Bytes>,
) -> Result<(), TokenFailure> {
    let is_gone = match reading.oauth.says.revoke_via {
        RevokeText::Request(request) => request.unknown == Some(answer.status().as_u16()),
        _ => false,
    };
    let is_plain =
        reply::object(answer.body()).is_none_or(|body| ReportedError::of(&body).is_none());
    match is_gone || answer.status().is_success() && is_plain {
        true => Ok(()),
        false => match reading.object(answer) {
            Err(failure) => Err(failure),
            Ok(_) => Err(TokenFailure::unreadable("the provider did not confirm the revocation")),
        },
    }
}

/// Default lifetime of a code.
const LIFE: Duration = Duration::from_secs(600);

/// Longest code or address, in bytes.
const TEXT_BYTES_MAX: usize = 2 * 1024;
