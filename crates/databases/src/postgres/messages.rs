//! Messages of the server during the login, why it opens no session, and the beginning of a session as the agent sees it.
//! [`ask`]: a question to the server of a session that is not the agent's yet.

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cancel::AgentKey;
use keyward_base::codes::Code;

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

/// Why a server opens no session.
#[derive(Debug, thiserror::Error)]
pub enum PostgresLoginError {
    /// It closed the stream, or does not speak the protocol.
    #[error(transparent)]
    Read(#[from] PostgresReadError),
    /// It does not speak the protocol.
    #[error("the server does not answer as PostgreSQL does")]
    Protocol,
    /// It requests an authentication method that would reveal the password.
    #[error("the server requests {method}, which is answered only over verified TLS")]
    Weak { method: &'static str },
    /// It requests an unsupported authentication method.
    #[error("the server requests {method}, which is not supported")]
    Unsupported { method: &'static str },
    /// It does not prove that it knows the password, or the exchange was tampered with.
    #[error("the server does not prove that it knows the password")]
    Unproved,
    #[error("the database server refuses the login: {message}")]
    Refused { state: String, message: String },
    /// It ignores settings with which the session must begin.
    #[error("the server does not begin the session as the connection's settings say")]
    ModeMismatch,
    /// It takes too long.
    #[error("the server did not finish the login in time")]
    Timeout,
}

impl PostgresLoginError {
    /// The code for the audit log.
    pub fn code(&self) -> Code {
        match self {
            Self::Read(PostgresReadError::Ended(_)) => Code::UpstreamUnreachable,
            Self::Timeout => Code::UpstreamTimeout,
            // Invalid authorization specification: the password or the role.
            Self::Refused { state, .. } if state.starts_with("28") => Code::ConnectionBroken,
            Self::Refused { .. } => Code::UpstreamUnreachable,
            Self::Unproved => Code::UpstreamTls,
            Self::Read(PostgresReadError::Malformed)
            | Self::Protocol
            | Self::ModeMismatch
            | Self::Weak { .. }
            | Self::Unsupported { .. } => Code::UpstreamProtocol,
        }
    }

    /// The SQLSTATE for the agent. A rejected password of the connection is not the agent's own.
    pub fn state(&self) -> &str {
        match self {
            Self::Refused { state, .. } if !state.starts_with("28") => state,
            Self::Refused { .. } => "57P03",
            _ => "08001",
        }
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Weak { .. } => Some(
                "set `password_encryption = 'scram-sha-256'` at the server and the password once more, or use \
                 `sslmode: verify-full`",
            ),
            Self::Unsupported { .. } => Some("a password with scram-sha-256 is supported"),
            Self::ModeMismatch => Some(
                "a pooler before the server may drop parameters of the session: log in at the server itself",
            ),
            Self::Unproved => Some("another program may answer at this address; check it"),
            Self::Refused { message, .. } if message.contains("startup parameter") => Some(
                "a pooler before the server refuses a setting with which the session begins: log in at the server itself, or \
                 have the pooler ignore the setting, and set it for the role by `ALTER ROLE … SET`",
            ),
            _ => None,
        }
    }
}

/// Messages of the answer that are read. Servers send four.
const MESSAGES_MAX: usize = 64;

/// Sends a query with one row. Returns what `read` makes of the row; `None` if there is none, or the server refuses.
///
/// # Errors
/// When the server does not answer.
pub async fn ask<S, T>(
    stream: &mut S,
    question: &str,
    read: impl Fn(&DataRowBody) -> Option<T>,
) -> Result<Option<T>, PostgresLoginError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    frontend::query(question, &mut out).map_err(|_| PostgresLoginError::Protocol)?;
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    sent.await.map_err(PostgresReadError::Ended)?;
    let mut found = None;
    for _ in 0..MESSAGES_MAX {
        match self::read(stream).await?.0 {
            Message::DataRow(row) => found = read(&row),
            Message::ReadyForQuery(_) => return Ok(found),
            Message::ErrorResponse(_) => return Ok(None),
            _ => {}
        }
    }
    Err(PostgresLoginError::Protocol)
}
