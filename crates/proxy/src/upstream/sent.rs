//! [`SentRequest`]: the upstream's answer to a request that was sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use jiff::Timestamp;

use super::lease::StreamLease;
use crate::body::incoming_body::IncomingBody;
use crate::request::agent_upgrade::AgentUpgrade;
use keyward_base::time::Clock;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::scrub::Needles;
use keyward_rules::inject::scrub::range::AskedPart;
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::rate_limit::{self, RateLimitFields, StatedLimit};

/// The length of a body that is read to find out what an answer means.
const BEGINNING_BYTES_MAX: usize = 8 * 1024;
const BEGINNING_WITHIN: Duration = Duration::from_millis(500);

/// Limits for reading the rest of a discarded answer, so that its stream can be reused.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// The head of an answer, and the stream that its body arrives on. On the heap, because it moves through many stages.
#[derive(Debug)]
pub struct SentRequest(Box<SentState>);

#[derive(Debug)]
struct SentState {
    response: Response<IncomingBody>,
    lease: StreamLease,
    upgrade: Option<AgentUpgrade>,
    credential: Option<Arc<Credential>>,
    challenged: Option<Challenged>,
    part: AskedPart,
}

/// A request whose credential answers challenges.
#[derive(Debug)]
pub struct Challenged {
    /// Host and port.
    pub authority: Box<str>,
    /// Whether no challenge was known, so that nothing was answered.
    pub awaits_challenge: bool,
}

/// An answer that is about to be scrubbed, tied to how it is searched.
pub struct Unscrubbed {
    response: Response<IncomingBody>,
    /// `None` when no credential was sent.
    search: Option<CredentialSearch>,
}

/// How an answer is searched for the credential of its request.
pub struct CredentialSearch {
    /// What the answer must not contain.
    pub needles: Arc<Needles>,
    /// Whether an answer that cannot be searched is refused.
    pub must_search: bool,
    /// The part that was asked for.
    pub part: AskedPart,
}

impl SentRequest {
    /// An answer to a request that carried `credential`.
    pub(super) fn new(
        response: Response<IncomingBody>,
        lease: StreamLease,
        upgrade: Option<AgentUpgrade>,
        credential: Option<Arc<Credential>>,
    ) -> Self {
        let (challenged, part) = (None, AskedPart::Whole);
        Self(Box::new(SentState { response, lease, upgrade, credential, challenged, part }))
    }

    /// The answer to a request for this part.
    pub fn for_part(mut self, part: AskedPart) -> Self {
        self.0.part = part;
        self
    }

    /// The answer to a request whose credential answers challenges.
    pub fn challenged(mut self, challenged: Challenged) -> Self {
        self.0.challenged = Some(challenged);
        self
    }

    /// Takes the challenge of a refusal. `None`: the credential answers none. Else whether the request may be accepted
    /// if it is sent again.
    pub fn learn_challenge(&self) -> Option<bool> {
        let Challenged { authority, awaits_challenge } = self.0.challenged.as_ref()?;
        match self.0.credential.as_ref()?.signer.as_ref()? {
            CredentialSigner::Digest(signer) => {
                Some(signer.learn(authority, self.headers(), *awaits_challenge))
            }
            _ => None,
        }
    }

    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.0.credential.as_ref()
    }

    /// The rate limit of the service, if the answer states it.
    pub fn stated_limit(&self, clock: &Clock) -> Option<StatedLimit> {
        self.rate_limit_fields().stated(self.headers(), || clock.now())
    }

    /// The wait that the service asks for before the next request.
    pub fn requested_wait(&self, now: Timestamp) -> Option<Duration> {
        self.rate_limit_fields().wait(self.status(), self.headers(), now)
    }

    fn rate_limit_fields(&self) -> &RateLimitFields {
        self.0.credential.as_ref().map_or(&rate_limit::COMMON, |it| &it.rate_limit)
    }

    /// Takes the agent's side of a WebSocket handshake, for another attempt.
    pub fn take_upgrade(&mut self) -> Option<AgentUpgrade> {
        self.0.upgrade.take()
    }

    /// As [`StreamLease::end_upload`].
    pub async fn end_upload(&mut self) {
        self.0.lease.end_upload().await;
    }

    /// Reads the body if it is short and arrives soon, and returns it too. The answer stays complete.
    pub async fn peek_body(self) -> (Self, Option<Bytes>) {
        let state = *self.0;
        let (head, mut body) = state.response.into_parts();
        // One buffer for all pieces, and the trailers if they arrived.
        let (mut bytes, mut last) = (BytesMut::new(), None);
        let whole = async {
            while bytes.len() <= BEGINNING_BYTES_MAX && last.is_none() {
                match body.frame().await {
                    None => return true,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => bytes.extend_from_slice(&data),
                        Err(trailers) => last = Some(Ok(trailers)),
                    },
                    Some(Err(error)) => last = Some(Err(error)),
                }
            }
            matches!(last, Some(Ok(_)))
        };
        let whole = tokio::time::timeout(BEGINNING_WITHIN, whole).await.unwrap_or(false);
        let bytes = bytes.freeze();
        let data = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes.clone())));
        let response =
            Response::from_parts(head, body.after(data.into_iter().chain(last).collect()));
        (Self(Box::new(SentState { response, ..state })), whole.then_some(bytes))
    }

    pub fn status(&self) -> StatusCode {
        self.0.response.status()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.0.response.headers()
    }

    /// The answer and its stream. The stream is free again when the lease is finished.
    pub fn into_parts(self) -> (Response<IncomingBody>, StreamLease) {
        let SentState { response, lease, .. } = *self.0;
        (response, lease)
    }

    /// Reads the rest of the answer if it is short, so that its stream can be reused.
    pub async fn discard(self) {
        let (response, lease) = self.into_parts();
        let mut body = response.into_body();
        let ended = async {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.ok()?.data_ref().map_or(0, Bytes::len);
                if bytes > DISCARDED_BYTES_MAX {
                    return None;
                }
            }
            Some(())
        };
        if let Ok(Some(())) = tokio::time::timeout(DISCARDED_WITHIN, ended).await {
            lease.finish();
        }
    }

    /// The answer to scrub, its stream, and the agent's side of a WebSocket handshake.
    pub fn into_unscrubbed(self) -> (Unscrubbed, StreamLease, Option<AgentUpgrade>) {
        let SentState { response, lease, upgrade, credential, part, .. } = *self.0;
        let credential = credential.filter(|credential| !credential.needles.is_empty());
        let search = credential.map(|credential| CredentialSearch {
            needles: credential.needles.clone(),
            must_search: credential.may_be_echoed(),
            part,
        });
        (Unscrubbed { response, search }, lease, upgrade)
    }
}

impl Unscrubbed {
    pub fn into_parts(self) -> (Response<IncomingBody>, Option<CredentialSearch>) {
        (self.response, self.search)
    }
}
