//! What Keyward itself answers in JSON: refusals, and requests for a token with a placeholder.

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, header};
use serde::Serialize;
use serde_json::json;

use crate::exchange::answer_body::AnswerBody;
use crate::exchange::guard::ExchangeGuard;
use keyward_rules::inject::placeholder;

/// The message is repeated next to `error`, where clients of many APIs look for it: `gh` prints nothing else.
#[derive(Serialize)]
struct RefusalJson<'a> {
    message: &'a str,
    error: ErrorJson<'a>,
}

/// The member `error` of a refusal.
#[derive(Serialize)]
pub(super) struct ErrorJson<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) exchange: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) docs: Option<&'a str>,
    /// The id of the provider whose account can be connected for the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<&'a str>,
    /// The page where a person connects the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect_url: Option<&'a str>,
}

impl ErrorJson<'_> {
    /// The body of the response.
    pub(super) fn body(self) -> Bytes {
        let whole = RefusalJson { message: self.message, error: self };
        let mut text = serde_json::to_vec(&whole).expect("texts serialise");
        text.push(b'\n');
        text.into()
    }
}

/// How long clients keep a placeholder that they got as a token, as long as most tokens of services.
const TOKEN_SECONDS: u32 = 3_600;

/// Answers a request for a token with a placeholder (RFC 6749 §5.1). Requests that have it are decided as all others.
pub(super) fn placeholder_token(mut exchange: ExchangeGuard) -> Response<AnswerBody> {
    exchange.record.set_answered_by_gateway();
    let token = json!({
        "access_token": placeholder::OF_ANY_CONNECTION,
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
    });
    let mut response = Response::new(AnswerBody::own(Bytes::from(token.to_string()), exchange));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
