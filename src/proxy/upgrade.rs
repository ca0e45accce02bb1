//! The end of an injected handshake: when the upstream answers 101 to an upgrade that the agent asked
//! for, the two streams become a WebSocket's.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::AnswerBody;
use super::h2::websocket::Joins;
use super::pool::Lease;
use super::record::Record;
use super::scrub::Passing;
use super::session::Session;
use super::stream::Io;
use super::websocket;
use crate::inject::strip;
use crate::observe::event::Outcome;

/// The agent's side of a handshake.
#[derive(Debug)]
pub enum Agents {
    /// Its stream is one of HTTP/1.1.
    Http1(OnUpgrade),
    /// It is a stream of HTTP/2 (RFC 8441).
    Http2(Joins),
}

/// It ended before it began.
#[derive(Debug, thiserror::Error)]
#[error("an upgrade ended before it began")]
struct Unbegun;

impl Agents {
    async fn joined(self) -> Result<Box<dyn Io>, Unbegun> {
        Ok(match self {
            Self::Http1(upgrade) => Box::new(TokioIo::new(upgrade.await.map_err(|_| Unbegun)?)),
            Self::Http2(joins) => Box::new(joins.joined().await.ok_or(Unbegun)?),
        })
    }

    /// Whether the upstream's 101 with these fields may be theirs. An agent that speaks HTTP/1.1 has
    /// chosen the key, and checks the answer to it by itself.
    pub fn may_be_agreed_by(&self, fields: &HeaderMap) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2(joins) => joins.is_agreed_by(fields),
        }
    }
}

/// Answers 101 and joins the two streams once both are ours.
pub fn join(
    (agents, session): (Agents, Arc<Session>),
    mut response: Response<Passing>,
    record: Record,
    lease: Lease,
) -> Response<AnswerBody> {
    let upstream = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let mut record = record;
        let upstream = async { upstream.await.map_err(|_| Unbegun) };
        match tokio::try_join!(agents.joined(), upstream) {
            Ok((agents, upstream)) => {
                let upstream = TokioIo::new(upstream);
                let gateway = lease.gateway();
                websocket::splice(agents, upstream, &mut record, &session, gateway).await;
            }
            Err(error) => {
                tracing::debug!(%error, "no WebSocket");
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
