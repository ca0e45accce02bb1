//! The answer of Keyward to a request for a token with a placeholder.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use serde_json::json;

use crate::exchange::answer_body::AnswerBody;
use crate::exchange::guard::ExchangeGuard;
use keyward_rules::inject::placeholder;

/// How long clients keep a placeholder that they got as a token, as long as most tokens of services.
const TOKEN_SECONDS: u32 = 3_600;

/// Answers a request for a token with a placeholder (RFC 6749 §5.1). Requests that have it are decided as all others.
pub(super) fn answer(mut exchange: ExchangeGuard) -> Response<AnswerBody> {
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
