//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that a client repeats with the same key has
//! effect once. Answers are kept in memory for an hour, and forgotten by a restart; where replicas share a store, they are
//! kept there (`idempotency/replicas.rs`). They may contain a new token, so their buffers are wiped.

pub(super) mod keys;
mod replicas;

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, Method};

use self::keys::{KeyOutcome, KeyOwner, OwnKey, fingerprint};
use self::replicas::TakenKey;
use super::auth::Caller;
use super::body::whole;
use super::error::ApiError;
use super::request_id;
use super::request_refusal::RequestRefusal;
use super::state::Admin;

const FIELD: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_CHARS_MAX: usize = 255;

/// Runs a request, or repeats the answer to the first request with the same key. A request with a key runs to its end
/// even if its client disconnects, because the client will repeat it.
pub(super) async fn once<F>(
    admin: &Admin,
    caller: &Caller,
    request: Request,
    run: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    let key = match key_of(&request) {
        Ok(None) => return run(request).await,
        Ok(Some(key)) => OwnKey { owner: KeyOwner::of(caller.credential()), key },
        Err(refusal) => return ApiError::from(refusal).into_response(),
    };
    let (parts, body) = request.into_parts();
    let body = match whole(&parts.extensions, body, admin).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    // In another role the caller may not see what the answer has, whatever the path allows.
    let role = caller.user().map_or("", |user| user.role.as_str());
    let fingerprint = fingerprint(&[target, caller.org().as_str(), role], &body);
    let running = match admin.idempotency().begin(key.clone(), caller.org(), fingerprint) {
        Ok(Ok(running)) => running,
        Ok(Err(kept)) => return kept.answer(),
        Err(refusal) => return ApiError::from(refusal).into_response(),
    };
    let directory = admin.deps().directory.clone();
    let shared = match replicas::take(&directory, &key, fingerprint).await {
        Ok(Some(TakenKey::Answered(response))) => return response,
        Ok(Some(TakenKey::Free(key))) => Some(key),
        Ok(None) => None,
        Err(error) => return error.into_response(),
    };
    let work = run(Request::from_parts(parts, Body::from(Bytes::from_owner(body))));
    let work = async move {
        let (response, outcome) = running.ended(work.await).await;
        if let (Some(shared), KeyOutcome::Kept(answer)) = (shared, outcome) {
            shared.keep(&directory, answer.as_ref()).await;
        }
        response
    };
    match request_id::spawn(work).await {
        Ok(response) => response,
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// The key of a POST; other methods have the same effect when they are repeated.
fn key_of(request: &Request) -> Result<Option<String>, RequestRefusal> {
    let mut given = request.headers().get_all(FIELD).iter();
    let Some(value) = given.next().filter(|_| request.method() == Method::POST) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| given.next().is_none());
    let text = text.ok_or(RequestRefusal::KeyMalformed)?;
    // The draft quotes it, and most clients do not.
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_visible = bare.bytes().all(|b| b.is_ascii_graphic());
    match is_visible && (1..=KEY_CHARS_MAX).contains(&bare.len()) {
        true => Ok(Some(bare.to_owned())),
        false => Err(RequestRefusal::KeyMalformed),
    }
}
