//! Answers of endpoints that give no token: the device endpoint, and the revocation endpoint.

use serde_json::{Map, Value, json};

use super::failure::TokenFailure;
use super::reply::{self, ReplyContext};
use super::reported_error::ReportedError;
use super::request_context::RequestContext;
use bytes::Bytes;
use http::Response;
use keyward_rules::provider::oauth::RevokeText;
use std::time::Duration;

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

/// 2xx without an error. An unknown token counts as revoked: GitHub says 404 where RFC 7009 §2.2 says 200. It gets no
/// expired token, for which it says the same although the refresh token is valid.
pub(super) fn judged(
    reading: &ReplyContext<'_>,
    answer: &Response<Bytes>,
) -> Result<(), TokenFailure> {
    let is_gone = reading.oauth.says.revoke_via == RevokeText::Github && answer.status() == 404;
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
