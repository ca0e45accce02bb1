//! Webhooks of Plaid: a JSON Web Token has the hash of the body. <https://plaid.com/docs/api/webhooks/webhook-verification/>

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use http::HeaderName;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::jwt::{Jwk, UnverifiedToken};
use super::key_place::{CLOCK_SKEW, HookMessage, KeyPlace};
use crate::key::is_equal;
use crate::request::HookRequest;
use crate::verify::check_time;
use crate::{Rejection, VerifiedRequest};

/// Plaid asks to refuse older tokens.
pub(super) const WINDOW: SignedDuration = SignedDuration::from_mins(5);

pub(super) const TOKEN: HeaderName = HeaderName::from_static("plaid-verification");

/// Ids of keys are UUIDs.
const KEY_ID_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
struct PlaidClaims {
    iat: i64,
    request_body_sha256: String,
}

#[derive(Deserialize)]
struct PlaidAnswer {
    key: Jwk,
}

fn token<'r>(request: &'r HookRequest<'_>) -> Result<UnverifiedToken<'r>, Rejection> {
    let text = request.header(&TOKEN)?.ok_or(Rejection::SignatureMissing)?;
    UnverifiedToken::parse(text, "ES256")
}

pub(super) fn key_place(request: &HookRequest<'_>) -> Result<KeyPlace, Rejection> {
    let token = token(request)?;
    let is_id = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if token.key.len() > KEY_ID_BYTES_MAX || !token.key.bytes().all(is_id) {
        return Err(Rejection::SignatureMalformed);
    }
    let body = json!({ "key_id": token.key }).to_string();
    Ok(KeyPlace::Api { path: "/webhook_verification_key/get", body })
}

pub(super) fn read(
    answer: &[u8],
    request: &HookRequest<'_>,
    now: Timestamp,
) -> Result<HookMessage, Rejection> {
    let token = token(request)?;
    let PlaidAnswer { key } = serde_json::from_slice(answer).map_err(|_| Rejection::KeyStrange)?;
    if key.kid != token.key || key.expired_at.is_some_and(|at| at <= now.as_second()) {
        return Err(Rejection::KeyUnknown);
    }
    let claims: PlaidClaims = token.verified(&key)?;
    let hash = HEXLOWER.encode(digest(&SHA256, request.incoming.body).as_ref());
    if !is_equal(hash.as_bytes(), claims.request_body_sha256.as_bytes()) {
        return Err(Rejection::SignatureWrong);
    }
    let sent = Timestamp::from_second(claims.iat).map_err(|_| Rejection::TimeMalformed)?;
    check_time(sent, now, WINDOW, CLOCK_SKEW)?;
    // Different events may have the same body; each has a token of its own.
    Ok(HookMessage::Event(VerifiedRequest::signed("", token.signed(), Some(sent))))
}
