//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that a client repeats with the same key has
//! effect once. Answers are kept in memory for an hour, and forgotten by a restart; where replicas share a store, they are
//! kept there. They may contain a new token, so their buffers are wiped.

pub(super) mod keys;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use self::keys::{KeyOutcome, KeyOwner, OwnKey, fingerprint};
use super::auth::Caller;
use super::body::whole;
use super::error::ApiError;
use super::request_id;
use super::request_refusal::RequestRefusal;
use super::state::Admin;
use keys::{Fingerprint, KEPT_FOR, KeptAnswer};
use keyward_state::directory::{Directory, UserCredential};
use keyward_state::store::Lease;

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
    let shared = match take(&directory, &key, fingerprint).await {
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

/// Longer than any request takes. If a replica crashes during a request, its key stays locked for this time.
const RUNNING_MAX: Duration = Duration::from_secs(120);

/// A key that this replica has taken, or the answer that another one has kept.
enum TakenKey {
    Free(SharedKey),
    Answered(Response),
}

/// A key that this replica has locked.
struct SharedKey {
    name: String,
    fingerprint: Fingerprint,
    _lease: Lease,
}

/// An answer in the store. It may contain a new token.
#[derive(Deserialize, Serialize)]
struct StoredAnswer {
    fingerprint: Fingerprint,
    /// `None`: it was too long.
    answer: Option<SealedAnswer>,
}

#[derive(Deserialize, Serialize)]
struct SealedAnswer {
    status: u16,
    fields: Vec<(String, String)>,
    /// In base 64; wiped on drop.
    body: String,
}

impl Drop for SealedAnswer {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

/// Takes a key from the other replicas. Nothing where one process owns the store.
async fn take(
    directory: &Directory,
    key: &OwnKey,
    fingerprint: Fingerprint,
) -> Result<Option<TakenKey>, ApiError> {
    if !directory.is_shared() {
        return Ok(None);
    }
    let name = name(key);
    if let Some(answered) = kept(directory, &name, fingerprint).await? {
        return Ok(Some(TakenKey::Answered(answered)));
    }
    let lease = directory.exclude_replicas(&name, RUNNING_MAX).await?;
    let lease = lease.ok_or(RequestRefusal::KeyInProgress)?;
    // Another replica may have answered between the two questions.
    if let Some(answered) = kept(directory, &name, fingerprint).await? {
        return Ok(Some(TakenKey::Answered(answered)));
    }
    Ok(Some(TakenKey::Free(SharedKey { name, fingerprint, _lease: lease })))
}

async fn kept(
    directory: &Directory,
    name: &str,
    fingerprint: Fingerprint,
) -> Result<Option<Response>, ApiError> {
    let Some(bytes) = directory.kept(name).await? else { return Ok(None) };
    let stored: StoredAnswer = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    if stored.fingerprint != fingerprint {
        return Err(RequestRefusal::KeyReused.into());
    }
    let answer = stored.answer.ok_or(RequestRefusal::AnswerNotKept)?;
    let answer = answer.kept().ok_or(RequestRefusal::AnswerNotKept)?;
    Ok(Some(answer.answer()))
}

impl SharedKey {
    /// Stores the answer for the other replicas, and releases the key.
    async fn keep(self, directory: &Directory, answer: Option<&KeptAnswer>) {
        let answer = answer.map(SealedAnswer::of);
        let stored = StoredAnswer { fingerprint: self.fingerprint, answer };
        let bytes = serde_json::to_vec(&stored).map(Zeroizing::new).unwrap_or_default();
        if let Err(error) = directory.keep(&self.name, &bytes, KEPT_FOR).await {
            tracing::warn!(
                id = "answer_not_kept", %error,
                "other replicas do not know of an answered Idempotency-Key: they would run the request again"
            );
        }
    }
}

/// Whose key it is, and which; hashed, because the owner of the database reads it.
fn name(key: &OwnKey) -> String {
    let owner = match &key.owner {
        KeyOwner::Operator => "operator".to_owned(),
        KeyOwner::User(UserCredential::Token(id)) => format!("token {id}"),
        KeyOwner::User(UserCredential::Login(id)) => format!("login {id}"),
    };
    let hash =
        Sha256::new().chain_update(owner).chain_update([0]).chain_update(&key.key).finalize();
    format!("idempotency/{}", HEXLOWER.encode(&hash))
}

impl SealedAnswer {
    fn of(kept: &KeptAnswer) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            status: kept.status.as_u16(),
            fields: kept
                .fields
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: BASE64.encode(&kept.body),
        }
    }

    fn kept(&self) -> Option<KeptAnswer> {
        let mut fields = HeaderMap::new();
        for (name, value) in &self.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            fields.append(name, HeaderValue::from_str(value).ok()?);
        }
        let body = Arc::new(Zeroizing::new(BASE64.decode(self.body.as_bytes()).ok()?));
        Some(KeptAnswer { status: StatusCode::from_u16(self.status).ok()?, fields, body })
    }
}
