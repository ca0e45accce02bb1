//! What Keyward itself answers in JSON: refusals, requests for a token with a placeholder, and programs that are only
//! examined.

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, header};
use serde::Serialize;
use serde_json::json;

use crate::exchange::answer_body::AnswerBody;
use crate::exchange::guard::ExchangeGuard;
use crate::refusal::{RefusalFormat, trailers_only};
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

/// The answer to each request of a program that is only examined.
const EXAMINED: &[u8] = b"{\"keyward\":\"doctor\"}\n";

/// Answers a request that is not sent. A gRPC call gets UNIMPLEMENTED, which clients do not retry.
pub(super) fn answer_to_probed(exchange: ExchangeGuard) -> Response<AnswerBody> {
    let is_call = exchange.format == RefusalFormat::Grpc;
    let body = if is_call { Bytes::new() } else { Bytes::from_static(EXAMINED) };
    let mut response = Response::new(AnswerBody::own(body, exchange));
    let fields = response.headers_mut();
    match is_call {
        true => trailers_only(fields, 501, "keyward doctor answers no call"),
        false => {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
    }
    response
}
