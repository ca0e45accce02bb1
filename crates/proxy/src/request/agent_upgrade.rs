//! [`AgentUpgrade`]: the agent's side of a WebSocket handshake.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::h2::websocket::{self, PendingWebSocket};
use crate::session::ProxySession;
use crate::sockets::streams::Io;

/// The agent's side of a handshake.
#[derive(Debug)]
pub struct AgentUpgrade {
    pub stream: PendingStream,
    /// Its revocation ends the WebSocket.
    pub session: Arc<ProxySession>,
}

/// The agent's stream before the handshake is answered.
#[derive(Debug)]
pub enum PendingStream {
    /// With the `Sec-WebSocket-Accept` for its key, if it has sent one key.
    Http1(OnUpgrade, Option<HeaderValue>),
    /// RFC 8441.
    Http2(PendingWebSocket),
}

/// The agent's stream ended before the handshake was complete.
#[derive(Debug, thiserror::Error)]
#[error("an upgrade ended before it began")]
pub struct UpgradeAborted;

impl PendingStream {
    /// The agent's stream as bytes, once the handshake is answered.
    ///
    /// # Errors
    /// When the agent's stream has ended.
    pub async fn joined(self) -> Result<Box<dyn Io>, UpgradeAborted> {
        Ok(match self {
            Self::Http1(upgrade, _) => {
                Box::new(TokioIo::new(upgrade.await.map_err(|_| UpgradeAborted)?))
            }
            Self::Http2(joins) => Box::new(joins.joined().await.ok_or(UpgradeAborted)?),
        })
    }

    /// Whether the upstream's 101 with these fields accepts this handshake.
    pub fn is_agreed_by(&self, fields: &HeaderMap) -> bool {
        match self {
            Self::Http1(_, accept) => {
                accept.as_ref().is_some_and(|accept| websocket::is_agreed(fields, accept))
            }
            Self::Http2(joins) => joins.is_agreed_by(fields),
        }
    }
}
