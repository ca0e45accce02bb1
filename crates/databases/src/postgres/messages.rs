//! Messages of the server during the login, and the beginning of a session as the agent sees it.

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::backend::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::cancel::AgentKey;

/// The longest message of a server during the login. Errors and notices are much shorter.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// `AuthenticationOk`.
const AUTHENTICATED: &[u8] = b"R\0\0\0\x08\0\0\0\0";

/// `ReadyForQuery` outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum PostgresReadError {
    /// The stream broke or ended.
    #[error("the server closed the stream")]
    Ended(#[from] std::io::Error),
    /// A length out of bounds, or an unknown message.
    #[error("a message of the server is malformed")]
    Malformed,
}

/// What the agent gets after the login.
#[derive(Debug, Default)]
pub struct SessionStart {
    /// `NegotiateProtocolVersion`, unless the agent was asked for its token before.
    pub negotiation: Option<Vec<u8>>,
    /// The server's `ParameterStatus` and `NoticeResponse` messages, as they came.
    pub passed_on: BytesMut,
    /// What the server says of its version.
    pub server_version: Option<String>,
    /// What the login did not prove.
    pub weakness: Option<&'static str>,
}

impl SessionStart {
    /// Adds a `ParameterStatus` or `NoticeResponse` message of the server.
    pub fn add(&mut self, message: &Message, bytes: &[u8]) {
        self.passed_on.extend_from_slice(bytes);
        if let Message::ParameterStatus(status) = message
            && status.name().is_ok_and(|name| name == "server_version")
        {
            self.server_version = status.value().ok().map(str::to_owned);
        }
    }

    /// All messages up to `ReadyForQuery`, with Keyward's own key for cancel requests.
    pub fn bytes(&self, key: AgentKey) -> Vec<u8> {
        let mut all = self.negotiation.clone().unwrap_or_default();
        all.extend(AUTHENTICATED);
        all.extend(&self.passed_on[..]);
        all.extend(b"K\0\0\0\x0c");
        all.extend(key.process.to_be_bytes());
        all.extend(key.secret.to_be_bytes());
        all.extend(READY);
        all
    }
}

/// Reads one message, and its bytes.
///
/// # Errors
/// When the stream ends, or the message is malformed.
pub async fn read<S>(stream: &mut S) -> Result<(Message, BytesMut), PostgresReadError>
where
    S: AsyncRead + Unpin,
{
    let (tag, length) = (stream.read_u8().await?, stream.read_u32().await?);
    let size = length as usize;
    if !(4..=MESSAGE_BYTES_MAX).contains(&size) {
        return Err(PostgresReadError::Malformed);
    }
    let mut bytes = BytesMut::with_capacity(size + 1);
    bytes.put_u8(tag);
    bytes.put_u32(length);
    bytes.resize(size + 1, 0);
    stream.read_exact(&mut bytes[5..]).await?;
    let kept = bytes.clone();
    match Message::parse(&mut bytes) {
        Ok(Some(message)) => Ok((message, kept)),
        Ok(None) | Err(_) => Err(PostgresReadError::Malformed),
    }
}
