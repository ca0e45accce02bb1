//! The end of an injected handshake: when the upstream answers 101 to an upgrade that the agent asked
//! for, the two streams become a WebSocket's.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::AnswerBody;
use super::pool::Lease;
use super::record::Record;
use super::scrub::Passing;
use super::session::Session;
use super::websocket;
use crate::inject::strip;
use crate::observe::event::Outcome;

/// Answers 101 and joins the two streams once both are ours.
pub fn join(
    (agents, session): (OnUpgrade, Arc<Session>),
    mut response: Response<Passing>,
    record: Record,
    lease: Lease,
) -> Response<AnswerBody> {
    let upstream = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let mut record = record;
        match tokio::try_join!(agents, upstream) {
            Ok((agents, upstream)) => {
                let (agents, upstream) = (TokioIo::new(agents), TokioIo::new(upstream));
                let gateway = lease.gateway();
                websocket::splice(agents, upstream, &mut record, &session, gateway).await;
            }
            Err(error) => {
                tracing::debug!(%error, "an upgrade ended before it began");
                record.ended(Outcome::ClientAborted);
            }
        }
        // The stream is no HTTP stream any more: it is closed, never pooled.
        drop(lease);
    });
    let fields = response.headers_mut();
    strip::answer(fields);
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.map(|_| AnswerBody::elsewhere())
}
