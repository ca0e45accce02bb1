//! `Idempotency-Key` across replicas: a load balancer may send the repetition to another one. A key is excluded by a
//! lease of the store while its request runs, and its answer is kept there, sealed.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::keys::{Fingerprint, KEPT_FOR, KeptAnswer, KeyOwner, OwnKey};
use crate::error::ApiError;
use crate::request_refusal::RequestRefusal;
use keyward_state::directory::{Directory, UserCredential};
use keyward_state::store::Lease;

/// Longer than any request takes. If a replica crashes during a request, its key stays locked for this time.
const RUNNING_MAX: Duration = Duration::from_secs(120);

/// A key that this replica has taken, or the answer that another one has kept.
pub(super) enum TakenKey {
    Free(SharedKey),
    Answered(Response),
}

/// A key that this replica has locked.
pub(super) struct SharedKey {
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
pub(super) async fn take(
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
    pub(super) async fn keep(self, directory: &Directory, answer: Option<&KeptAnswer>) {
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
