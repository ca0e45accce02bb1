//! [`Sent`]: the upstream's answer to a request that was sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;

use super::lease::Lease;
use crate::body::incoming_body::IncomingBody;
use crate::request::agent_upgrade::AgentUpgrade;
use crate::session::Session;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::scrub::Needles;

/// The head of an answer, and the stream that its body arrives on.
#[derive(Debug)]
pub struct Sent {
    response: Response<IncomingBody>,
    lease: Lease,
    upgrade: Option<(AgentUpgrade, Arc<Session>)>,
    /// What the answer must not contain; `None` when no credential was sent.
    needles: Option<Arc<Needles>>,
    credential: Option<Arc<Credential>>,
}

/// The parts of a [`Sent`] that is about to be scrubbed.
pub struct Unscrubbed {
    pub response: Response<IncomingBody>,
    pub lease: Lease,
    pub upgrade: Option<(AgentUpgrade, Arc<Session>)>,
    /// What the answer must not contain; `None` when no credential was sent.
    pub needles: Option<Arc<Needles>>,
}

impl Sent {
    /// A received answer.
    pub fn new(
        response: Response<IncomingBody>,
        lease: Lease,
        upgrade: Option<(AgentUpgrade, Arc<Session>)>,
        needles: Option<Arc<Needles>>,
    ) -> Self {
        Self { response, lease, upgrade, needles, credential: None }
    }

    /// Sets the credential that was sent.
    pub fn carried(self, credential: Option<Arc<Credential>>) -> Self {
        Self { credential, ..self }
    }

    /// The credential that was sent.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// Takes the agent's side of a WebSocket handshake, for another attempt.
    pub fn take_upgrade(&mut self) -> Option<(AgentUpgrade, Arc<Session>)> {
        self.upgrade.take()
    }

    pub fn put_upgrade(&mut self, upgrade: Option<(AgentUpgrade, Arc<Session>)>) {
        self.upgrade = upgrade;
    }

    /// Whether the answer arrived before the upstream asked for the request's body.
    pub fn is_before_body(&self) -> bool {
        self.lease.gate.as_ref().is_some_and(|gate| gate.is_closed())
    }

    /// Gives the request's body up. The upstream's stream ends with it.
    pub fn abandon_body(&self) {
        if let Some(gate) = &self.lease.gate {
            gate.abandon();
        }
    }

    /// Reads the body if it is short and arrives soon, and returns it too. The answer stays complete.
    pub async fn begun(self, bytes_max: usize, within: Duration) -> (Self, Option<Bytes>) {
        let (head, mut body) = self.response.into_parts();
        // In one buffer, however many pieces it comes in; and what follows the data, if that came.
        let (mut bytes, mut last) = (BytesMut::new(), None);
        let whole = async {
            while bytes.len() <= bytes_max && last.is_none() {
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
        let whole = tokio::time::timeout(within, whole).await.unwrap_or(false);
        let bytes = bytes.freeze();
        let data = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes.clone())));
        let response =
            Response::from_parts(head, body.after(data.into_iter().chain(last).collect()));
        (Self { response, ..self }, whole.then_some(bytes))
    }

    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The answer and its stream. The stream is free again when the lease is finished.
    pub fn into_parts(self) -> (Response<IncomingBody>, Lease) {
        (self.response, self.lease)
    }

    /// The parts of the answer that scrubbing needs.
    pub fn into_unscrubbed(self) -> Unscrubbed {
        let Self { response, lease, upgrade, needles, .. } = self;
        Unscrubbed { response, lease, upgrade, needles }
    }
}
