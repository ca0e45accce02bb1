//! [`AgentUpgrade`]: the agent's side of a WebSocket handshake, or of a request to switch to another protocol.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::h2::websocket::{self, PendingWebSocket};
use crate::refusal::Refusal;
use crate::session::ProxySession;
use crate::sockets::streams::Io;
use keyward_base::settings::Settings;

/// The agent's side of a handshake.
#[derive(Debug)]
pub struct AgentUpgrade {
    pub stream: PendingStream,
    /// Its revocation ends the upgraded stream.
    pub session: Arc<ProxySession>,
}

/// The agent's stream before the handshake is answered.
#[derive(Debug)]
pub enum PendingStream {
    /// With the `Sec-WebSocket-Accept` for its key, if it has sent one key.
    Http1(OnUpgrade, Option<HeaderValue>),
    /// RFC 8441.
    Http2(PendingWebSocket),
    /// With the protocols that it may switch to (RFC 9110 §7.8).
    Opaque(OnUpgrade, HeaderValue),
}

static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

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
            Self::Http1(upgrade, _) | Self::Opaque(upgrade, _) => {
                Box::new(TokioIo::new(upgrade.await.map_err(|_| UpgradeAborted)?))
            }
            Self::Http2(joins) => Box::new(joins.joined().await.ok_or(UpgradeAborted)?),
        })
    }

    /// The protocols that the agent asks for, as a value of `Upgrade`.
    pub fn asked(&self) -> &HeaderValue {
        match self {
            Self::Http1(..) | Self::Http2(_) => &WEBSOCKET,
            Self::Opaque(_, asked) => asked,
        }
    }

    /// Whether the agent asks for this protocol.
    pub fn asks_for(&self, protocol: &HeaderValue) -> bool {
        let protocol = protocol.as_bytes().trim_ascii();
        members(self.asked()).any(|asked| asked.eq_ignore_ascii_case(protocol))
    }

    /// Whether the bytes that follow are no WebSocket.
    pub fn is_opaque(&self) -> bool {
        matches!(self, Self::Opaque(..))
    }

    /// Whether the upstream's 101 with these fields accepts this handshake.
    pub fn is_agreed_by(&self, fields: &HeaderMap) -> bool {
        match self {
            Self::Opaque(..) => true,
            Self::Http1(_, accept) => {
                accept.as_ref().is_some_and(|accept| websocket::is_agreed(fields, accept))
            }
            Self::Http2(joins) => joins.is_agreed_by(fields),
        }
    }
}

impl AgentUpgrade {
    /// The request to switch to another protocol, if the settings allow each that it names. `None` for a newer version of HTTP
    /// or TLS that they do not name: clients offer these in the hope of them, and a server may ignore `Upgrade`.
    ///
    /// # Errors
    /// When they do not allow another one.
    pub fn permitted(self, settings: Option<&Settings>) -> Result<Option<Self>, Refusal> {
        let PendingStream::Opaque(_, asked) = &self.stream else { return Ok(Some(self)) };
        let allowed =
            settings.and_then(|settings| settings.upgrades.as_deref()).unwrap_or_default();
        let is_allowed = |member: &[u8]| {
            allowed.iter().any(|it| it.value().as_bytes().eq_ignore_ascii_case(member))
        };
        match () {
            () if members(asked).all(is_allowed) => Ok(Some(self)),
            () if members(asked).all(is_offered_in_hope) => Ok(None),
            () => Err(Refusal::Upgrade),
        }
    }
}

/// Versions of HTTP and TLS, over which the same request can go on.
fn is_offered_in_hope(member: &[u8]) -> bool {
    let name = member.split(|byte| *byte == b'/').next().unwrap_or_default().to_ascii_lowercase();
    matches!(&name[..], b"h2c" | b"h2" | b"http" | b"tls")
}

/// The protocols of a value of `Upgrade`.
pub fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
