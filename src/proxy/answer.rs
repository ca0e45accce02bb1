//! [`Sent`]: the upstream's answer to a request that went out, on its way to the agent.

use std::sync::Arc;

use http::{Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::body::AnswerBody;
use super::pool::Lease;
use super::record::Record;
use super::session::Session;
use super::upgrade;
use crate::inject::strip;

/// The head of an answer, and the stream that its body will come from.
#[derive(Debug)]
pub struct Sent {
    response: Response<Incoming>,
    lease: Lease,
    upgrade: Option<(OnUpgrade, Arc<Session>)>,
}

impl Sent {
    /// An answer as it came.
    pub fn new(
        response: Response<Incoming>,
        lease: Lease,
        upgrade: Option<(OnUpgrade, Arc<Session>)>,
    ) -> Self {
        Self { response, lease, upgrade }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The answer as it came, and its stream, which is free again when the lease is finished.
    pub fn into_parts(self) -> (Response<Incoming>, Lease) {
        (self.response, self.lease)
    }

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
