//! [`Sent`]: the upstream's answer to a request that went out; [`Answer`]: what of it may go to the agent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;

use super::arriving::Arriving;
use super::body::AnswerBody;
use super::error::Refusal;
use super::pool::Lease;
use super::record::Record;
use super::scrub::{self, Passing};
use super::session::Session;
use super::upgrade;
use crate::inject::credential::Credential;
use crate::inject::scrub::Needles;
use crate::inject::strip;

/// The head of an answer, and the stream that its body will come from.
#[derive(Debug)]
pub struct Sent {
    response: Response<Arriving>,
    lease: Lease,
    upgrade: Option<(upgrade::Agents, Arc<Session>)>,
    /// What must not be in it; `None` where no credential was sent.
    needles: Option<Arc<Needles>>,
    /// What was sent.
    credential: Option<Arc<Credential>>,
}

/// An answer that holds no secret, or whose body is cut where one comes. Only [`Sent::scrubbed`] makes
/// one.
#[derive(Debug)]
pub struct Answer {
    response: Response<Passing>,
    lease: Lease,
    upgrade: Option<(upgrade::Agents, Arc<Session>)>,
}

impl Sent {
    /// An answer as it came.
    pub fn new(
        response: Response<Arriving>,
        lease: Lease,
        upgrade: Option<(upgrade::Agents, Arc<Session>)>,
        needles: Option<Arc<Needles>>,
    ) -> Self {
        Self { response, lease, upgrade, needles, credential: None }
    }

    /// The same, and which credential was sent.
    pub fn carried(self, credential: Option<Arc<Credential>>) -> Self {
        Self { credential, ..self }
    }

    /// Which credential was sent.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// The agent's side of a WebSocket handshake, for another try.
    pub fn take_upgrade(&mut self) -> Option<(upgrade::Agents, Arc<Session>)> {
        self.upgrade.take()
    }

    /// Gives it back.
    pub fn put_upgrade(&mut self, upgrade: Option<(upgrade::Agents, Arc<Session>)>) {
        self.upgrade = upgrade;
    }

    /// Whether it came before the request's body was wanted.
    pub fn is_before_body(&self) -> bool {
        self.lease.gate.as_ref().is_some_and(|gate| gate.is_closed())
    }

    /// The body is not for this upstream's stream, which ends with it.
    pub fn abandon_body(&self) {
        if let Some(gate) = &self.lease.gate {
            gate.abandon();
        }
    }

    /// The answer, and its body where that is short and comes soon. It goes on all the same.
    pub async fn begun(self, bytes_max: usize, within: Duration) -> (Self, Option<Bytes>) {
        let (head, mut body) = self.response.into_parts();
        let (mut read, mut bytes) = (VecDeque::new(), BytesMut::new());
        let whole = async {
            while bytes.len() <= bytes_max {
                match body.frame().await {
                    None => return true,
                    Some(frame) => {
                        let data = frame.as_ref().ok().and_then(Frame::data_ref);
                        bytes.extend_from_slice(data.map_or(&[][..], |data| data));
                        read.push_back(frame);
                    }
                }
            }
            false
        };
        let whole = tokio::time::timeout(within, whole).await.unwrap_or(false);
        let whole = whole && read.iter().all(Result::is_ok);
        let response = Response::from_parts(head, body.after(read));
        (Self { response, ..self }, whole.then(|| bytes.freeze()))
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Its fields.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The answer as it came, and its stream, which is free again when the lease is finished.
    pub fn into_parts(self) -> (Response<Arriving>, Lease) {
        (self.response, self.lease)
    }

    /// The answer without the credential that was sent. Where none was, nothing is looked at.
    ///
    /// # Errors
    /// When the body cannot be looked into, or its beginning already shows that it must not go on.
    pub async fn scrubbed(self, record: &mut Record) -> Result<Answer, Refusal> {
        let Self { response, lease, upgrade, needles, .. } = self;
        let response = match needles {
            None => response.map(Passing::AsItComes),
            Some(needles) => {
                let (response, masked) = scrub::scrubbed(response, needles).await?;
                record.masked(masked);
                response
            }
        };
        Ok(Answer { response, lease, upgrade })
    }
}

impl Answer {
    /// The answer for the agent: without hop-by-hop fields, its body passed on as it comes.
    pub fn forward(self, record: Record) -> Response<AnswerBody> {
        let Self { mut response, lease, upgrade } = self;
        if let (Some(agents), StatusCode::SWITCHING_PROTOCOLS) = (upgrade, response.status()) {
            return upgrade::join(agents, response, record, lease);
        }
        let coded = response.headers().contains_key(header::TRANSFER_ENCODING);
        strip::answer(response.headers_mut());
        if coded {
            // RFC 9112 §6.3: a length beside a coding is not to be believed, nor passed on.
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        *response.version_mut() = http::Version::HTTP_11;
        response.map(|incoming| AnswerBody::upstream(incoming, lease, record))
    }
}
