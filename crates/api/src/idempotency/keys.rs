//! The keys of requests that have effect once, and the answers that are kept for them, in memory and within bounds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Body as _;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::body_bytes::collect;
use crate::request_refusal::RequestRefusal;
use keyward_base::id::OrgId;
use keyward_state::directory::UserCredential;

/// Marks an answer that was kept.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long an answer is kept.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(3600);
/// Kept answers. Above it, the organisation with the most loses its oldest, so that it takes no memory from others.
const ANSWERS_MAX: usize = 4_096;
/// Memory for the bodies of all kept answers.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest body that is kept.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Requests that run at once: each holds its body and goes on when its client leaves.
const RUNNING_MAX: usize = 256;

/// The keys of all callers; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdempotencyKeys(Arc<Mutex<KeyTable>>);

#[derive(Debug, Default)]
struct KeyTable {
    by_key: HashMap<OwnKey, KeyEntry>,
    /// Ended requests, the oldest first.
    ended: VecDeque<EndedKey>,
    of_orgs: HashMap<OrgId, KeptAnswers>,
    running: usize,
    bytes: usize,
}

#[derive(Debug)]
struct EndedKey {
    at: Instant,
    key: OwnKey,
    org: OrgId,
}

/// The answers of an organisation.
#[derive(Clone, Copy, Debug, Default)]
struct KeptAnswers {
    count: usize,
    bytes: usize,
}

/// A key, which only its owner can repeat.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct OwnKey {
    pub(super) owner: KeyOwner,
    pub(super) key: String,
}

/// Who can repeat a key. Two tokens of one user may have different scopes, and a kept answer may contain a new token, so
/// a key belongs to the token or login.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum KeyOwner {
    Operator,
    User(UserCredential),
}

/// Of path, organisation, role and body.
pub(super) type Fingerprint = [u8; 32];

#[derive(Debug)]
struct KeyEntry {
    fingerprint: Fingerprint,
    state: EntryState,
}

#[derive(Debug)]
enum EntryState {
    Running,
    Ended(Option<KeptAnswer>),
}

/// An answer; the body is wiped when it is forgotten.
#[derive(Clone, Debug)]
pub(super) struct KeptAnswer {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) body: Arc<Zeroizing<Vec<u8>>>,
}

impl KeyOwner {
    pub(super) fn of(credential: Option<&UserCredential>) -> Self {
        credential.map_or(Self::Operator, |by| Self::User(by.clone()))
    }
}

/// A request that runs under its key. If it is dropped, the key is free again.
pub(super) struct RunningKey {
    keys: IdempotencyKeys,
    key: OwnKey,
    org: OrgId,
}

/// What becomes of the key of an ended request.
pub(super) enum KeyOutcome {
    /// It is free again.
    Free,
    /// It is used up; without an answer, if that was too long.
    Kept(Option<KeptAnswer>),
}

/// Bytes of a kept answer.
struct KeptBody(Arc<Zeroizing<Vec<u8>>>);

impl AsRef<[u8]> for KeptBody {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl IdempotencyKeys {
    /// Takes the key for a request in an organisation, or gives the answer that is kept for it.
    pub(super) fn begin(
        &self,
        key: OwnKey,
        org: &OrgId,
        fingerprint: Fingerprint,
    ) -> Result<Result<RunningKey, KeptAnswer>, RequestRefusal> {
        let mut keys = self.0.lock();
        keys.forget_old(Instant::now());
        match keys.by_key.get(&key) {
            Some(entry) if entry.fingerprint != fingerprint => Err(RequestRefusal::KeyReused),
            Some(KeyEntry { state: EntryState::Running, .. }) => Err(RequestRefusal::KeyInProgress),
            Some(KeyEntry { state: EntryState::Ended(None), .. }) => {
                Err(RequestRefusal::AnswerNotKept)
            }
            Some(KeyEntry { state: EntryState::Ended(Some(kept)), .. }) => Ok(Err(kept.clone())),
            None if keys.running >= RUNNING_MAX => Err(RequestRefusal::TooManyKeys),
            None => {
                let entry = KeyEntry { fingerprint, state: EntryState::Running };
                keys.by_key.insert(key.clone(), entry);
                keys.running += 1;
                Ok(Ok(RunningKey { keys: self.clone(), key, org: org.clone() }))
            }
        }
    }
}

impl KeyTable {
    fn forget_old(&mut self, now: Instant) {
        let is_old = |ended: &EndedKey| now.duration_since(ended.at) >= KEPT_FOR;
        while self.ended.front().is_some_and(is_old) {
            self.forget(0);
        }
        while self.ended.len() > ANSWERS_MAX || self.bytes > BYTES_MAX {
            let Some(place) = self.place_to_free() else { return };
            self.forget(place);
        }
    }

    /// The oldest answer of the organisation with the most answers, or with the most bytes if only these are too many.
    fn place_to_free(&self) -> Option<usize> {
        let are_too_many = self.ended.len() > ANSWERS_MAX;
        let share = |kept: &KeptAnswers| if are_too_many { kept.count } else { kept.bytes };
        let (most, _) = self.of_orgs.iter().max_by_key(|(_, kept)| share(kept))?;
        self.ended.iter().position(|ended| ended.org == *most)
    }

    fn forget(&mut self, place: usize) {
        let Some(EndedKey { key, org, .. }) = self.ended.remove(place) else { return };
        let bytes = match self.by_key.remove(&key) {
            Some(KeyEntry { state: EntryState::Ended(Some(kept)), .. }) => kept.body.len(),
            _ => 0,
        };
        self.bytes -= bytes;
        if let Some(kept) = self.of_orgs.get_mut(&org) {
            *kept = KeptAnswers { count: kept.count - 1, bytes: kept.bytes - bytes };
            if kept.count == 0 {
                self.of_orgs.remove(&org);
            }
        }
    }
}

impl RunningKey {
    /// Keeps the answer. The key is free again if nothing was changed, and if the answer is a stream.
    pub(super) async fn ended(self, response: Response) -> (Response, KeyOutcome) {
        let status = response.status();
        let may_have_changed =
            !status.is_client_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        let length = response.body().size_hint().exact();
        let Some(length) = length.filter(|_| may_have_changed) else {
            return (response, KeyOutcome::Free);
        };
        if usize::try_from(length).is_ok_and(|length| length <= ANSWER_BYTES_MAX) {
            let (parts, body) = response.into_parts();
            return match collect(body, ANSWER_BYTES_MAX, None).await {
                Ok(body) => {
                    let (status, fields, body) = (parts.status, parts.headers, Arc::new(body));
                    let kept = KeptAnswer { status, fields, body };
                    self.keep(Some(kept.clone()));
                    let mut response = kept.response();
                    *response.extensions_mut() = parts.extensions;
                    (response, KeyOutcome::Kept(Some(kept)))
                }
                Err(refusal) => {
                    self.keep(None);
                    (refusal.into_response(), KeyOutcome::Kept(None))
                }
            };
        }
        self.keep(None);
        (response, KeyOutcome::Kept(None))
    }

    fn keep(self, kept: Option<KeptAnswer>) {
        let now = Instant::now();
        let mut keys = self.keys.0.lock();
        let bytes = kept.as_ref().map_or(0, |kept| kept.body.len());
        keys.bytes += bytes;
        let of_org = keys.of_orgs.entry(self.org.clone()).or_default();
        *of_org = KeptAnswers { count: of_org.count + 1, bytes: of_org.bytes + bytes };
        if let Some(entry) = keys.by_key.get_mut(&self.key) {
            entry.state = EntryState::Ended(kept);
        }
        let (key, org) = (self.key.clone(), self.org.clone());
        keys.ended.push_back(EndedKey { at: now, key, org });
        keys.forget_old(now);
    }
}

impl Drop for RunningKey {
    fn drop(&mut self) {
        let mut keys = self.keys.0.lock();
        keys.running -= 1;
        if matches!(keys.by_key.get(&self.key), Some(KeyEntry { state: EntryState::Running, .. })) {
            keys.by_key.remove(&self.key);
        }
    }
}

impl KeptAnswer {
    fn response(&self) -> Response {
        let body = Body::from(Bytes::from_owner(KeptBody(self.body.clone())));
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields.clone();
        response
    }

    pub(super) fn answer(&self) -> Response {
        let mut response = self.response();
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

pub(super) fn fingerprint(texts: &[&str], body: &[u8]) -> Fingerprint {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.update(body);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> OwnKey {
        OwnKey { owner: KeyOwner::Operator, key: text.to_owned() }
    }

    fn begin(keys: &IdempotencyKeys, text: &str) -> RunningKey {
        begin_in(keys, &OrgId::default_org(), text)
    }

    fn begin_in(keys: &IdempotencyKeys, org: &OrgId, text: &str) -> RunningKey {
        let begun = keys.begin(key(text), org, [0; 32]).map_err(RequestRefusal::text);
        begun.expect("accepted").unwrap_or_else(|_| panic!("`{text}` is new"))
    }

    async fn end(running: RunningKey, status: StatusCode, bytes: usize) {
        let mut response = Response::new(Body::from(vec![b'x'; bytes]));
        *response.status_mut() = status;
        drop(running.ended(response).await);
    }

    fn refused(keys: &IdempotencyKeys, text: &str, of: Fingerprint) -> Option<RequestRefusal> {
        keys.begin(key(text), &OrgId::default_org(), of).err()
    }

    /// The answer that is kept for the key.
    fn kept(keys: &IdempotencyKeys, text: &str) -> Option<KeptAnswer> {
        keys.begin(key(text), &OrgId::default_org(), [0; 32]).expect("accepted").err()
    }

    #[tokio::test]
    async fn a_request_that_changed_nothing_frees_its_key() {
        let keys = IdempotencyKeys::default();
        for status in [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::SERVICE_UNAVAILABLE] {
            end(begin(&keys, "a"), status, 1).await;
        }
        drop(begin(&keys, "a"));
        drop(begin(&keys, "a"));
        assert!(keys.0.lock().by_key.is_empty() && keys.0.lock().running == 0);
    }

    #[tokio::test]
    async fn a_key_is_for_one_request_and_refused_while_it_runs() {
        let keys = IdempotencyKeys::default();
        let running = begin(&keys, "a");
        assert_eq!(refused(&keys, "a", [0; 32]), Some(RequestRefusal::KeyInProgress));
        assert_eq!(refused(&keys, "a", [1; 32]), Some(RequestRefusal::KeyReused));
        end(running, StatusCode::CREATED, 1).await;
        assert_eq!(refused(&keys, "a", [1; 32]), Some(RequestRefusal::KeyReused));
        let kept = kept(&keys, "a").expect("it is kept");
        assert_eq!((kept.status, kept.body.len()), (StatusCode::CREATED, 1));
        end(begin(&keys, "long"), StatusCode::OK, ANSWER_BYTES_MAX + 1).await;
        assert_eq!(refused(&keys, "long", [0; 32]), Some(RequestRefusal::AnswerNotKept));
    }

    #[tokio::test]
    async fn an_organisation_with_many_answers_loses_its_own_and_those_of_others_stay() {
        let (keys, busy) = (IdempotencyKeys::default(), OrgId::named("busy").unwrap());
        end(begin(&keys, "first"), StatusCode::CREATED, 1).await;
        for at in 0..ANSWERS_MAX + 5 {
            end(begin_in(&keys, &busy, &at.to_string()), StatusCode::OK, 1).await;
        }
        for at in 0..BYTES_MAX / ANSWER_BYTES_MAX + 5 {
            end(begin_in(&keys, &busy, &format!("long {at}")), StatusCode::OK, ANSWER_BYTES_MAX)
                .await;
        }
        assert_eq!(kept(&keys, "first").map(|kept| kept.status), Some(StatusCode::CREATED));
        assert!(keys.0.lock().bytes <= BYTES_MAX);
        assert!(kept(&keys, "0").is_none(), "the busy organisation has lost its oldest");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_bounded_by_count_bytes_and_time() {
        let keys = IdempotencyKeys::default();
        for at in 0..ANSWERS_MAX + 5 {
            end(begin(&keys, &at.to_string()), StatusCode::OK, 1).await;
        }
        let sizes = |keys: &IdempotencyKeys| {
            let keys = keys.0.lock();
            (keys.by_key.len(), keys.bytes, keys.ended.len())
        };
        assert_eq!(sizes(&keys), (ANSWERS_MAX, ANSWERS_MAX, ANSWERS_MAX));
        for at in 0..BYTES_MAX / ANSWER_BYTES_MAX + 5 {
            end(begin(&keys, &format!("long {at}")), StatusCode::OK, ANSWER_BYTES_MAX).await;
        }
        assert!(keys.0.lock().bytes <= BYTES_MAX);
        tokio::time::advance(KEPT_FOR).await;
        let running: Vec<_> = (0..RUNNING_MAX).map(|at| begin(&keys, &at.to_string())).collect();
        assert_eq!(refused(&keys, "one more", [0; 32]), Some(RequestRefusal::TooManyKeys));
        drop(running);
        assert_eq!(sizes(&keys), (0, 0, 0));
        assert!(keys.0.lock().of_orgs.is_empty());
    }
}
