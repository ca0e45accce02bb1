//! The first messages of a client: start-up, requests for encryption, cancel requests, and the password message with the
//! agent's token. Reads exactly what belongs to them. `pgwire` would bring a whole server for this one decoder.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::cancel::AgentKey;

/// Version 3.0.
const VERSION: u32 = 196_608;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// The protocol's name in TLS (ALPN), which clients of version 17 send.
pub const ALPN: &[u8] = b"postgresql";

/// The limit of servers (`MAX_STARTUP_PACKET_LENGTH`), in bytes.
const STARTUP_BYTES_MAX: usize = 10_000;

/// A token is much shorter, in bytes.
const PASSWORD_BYTES_MAX: usize = 4_096;

/// `AuthenticationCleartextPassword`. Only over loopback, a Unix socket or TLS.
const ASK_PASSWORD: &[u8] = b"R\0\0\0\x08\0\0\0\x03";

/// What a client begins with.
#[derive(Debug)]
pub enum FirstMessage {
    Startup(Startup),
    Cancel(AgentKey),
    /// A request for TLS, which was answered with yes: the handshake follows.
    Tls,
}

/// A start-up message.
#[derive(Debug, Default)]
pub struct Startup {
    /// Names and values, in the order of the message.
    pub parameters: Vec<(String, String)>,
    /// Whether the client speaks a later minor version.
    is_later: bool,
}

/// Why a message is not what it should be. Nothing that the client sent is repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PostgresFormatError {
    /// The stream ended, or broke.
    Ended,
    /// A length out of bounds.
    Length,
    /// A major version other than 3.
    Version,
    /// Too many requests for encryption.
    Requests,
    /// A name or value has no terminating NUL, or is not UTF-8.
    Parameters,
    /// There is no user.
    User,
    /// `replication` is set, which needs more rights than a session.
    Replication,
    /// Another message than the password.
    NoPassword,
    /// No TLS, and the token would go over the network.
    Cleartext,
}

/// Reads the first message. `offers_tls`: the answer to a request for TLS. Nothing is read ahead of the handshake, so
/// that no cleartext is taken for what comes within TLS (CVE-2021-23214).
///
/// # Errors
/// When there is none.
pub async fn read<S>(stream: &mut S, offers_tls: bool) -> Result<FirstMessage, PostgresFormatError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // One for TLS and one for GSSAPI (libpq asks for each once), then the message itself.
    for _ in 0..3 {
        let length = stream.read_u32().await? as usize;
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Err(PostgresFormatError::Length);
        }
        let code = stream.read_u32().await?;
        match (code, length) {
            (SSL_REQUEST, 8) if offers_tls => {
                stream.write_all(b"S").await?;
                stream.flush().await?;
                return Ok(FirstMessage::Tls);
            }
            (SSL_REQUEST | GSSENC_REQUEST, 8) => {
                stream.write_all(b"N").await?;
                stream.flush().await?;
            }
            (CANCEL_REQUEST, 16) => {
                let key = AgentKey {
                    process: stream.read_i32().await?,
                    secret: stream.read_i32().await?,
                };
                return Ok(FirstMessage::Cancel(key));
            }
            (SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST, _) => {
                return Err(PostgresFormatError::Length);
            }
            _ if code >> 16 != VERSION >> 16 => return Err(PostgresFormatError::Version),
            _ => {
                let mut body = vec![0; length - 8];
                stream.read_exact(&mut body).await?;
                return Startup::parse(&body, code > VERSION).map(FirstMessage::Startup);
            }
        }
    }
    Err(PostgresFormatError::Requests)
}

/// Asks for the password and reads it.
///
/// # Errors
/// When another message comes: nothing is accepted before the login.
pub async fn password<S>(
    stream: &mut S,
    startup: &Startup,
) -> Result<Zeroizing<String>, PostgresFormatError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(negotiation) = startup.negotiation() {
        stream.write_all(&negotiation).await?;
    }
    stream.write_all(ASK_PASSWORD).await?;
    stream.flush().await?;
    if stream.read_u8().await? != b'p' {
        return Err(PostgresFormatError::NoPassword);
    }
    let length = stream.read_u32().await? as usize;
    if !(5..=PASSWORD_BYTES_MAX).contains(&length) {
        return Err(PostgresFormatError::Length);
    }
    let mut body = Zeroizing::new(vec![0; length - 4]);
    stream.read_exact(&mut body).await?;
    let text = body.strip_suffix(b"\0").ok_or(PostgresFormatError::NoPassword)?;
    let text = std::str::from_utf8(text).map_err(|_| PostgresFormatError::NoPassword)?;
    Ok(Zeroizing::new(text.to_owned()))
}

impl Startup {
    /// Pairs of NUL-terminated texts, then a NUL.
    fn parse(body: &[u8], is_later: bool) -> Result<Self, PostgresFormatError> {
        let mut rest = body;
        let mut parameters = Vec::new();
        loop {
            let name = text(&mut rest)?;
            if name.is_empty() {
                break;
            }
            parameters.push((name, text(&mut rest)?));
        }
        if !rest.is_empty() {
            return Err(PostgresFormatError::Parameters);
        }
        let startup = Self { parameters, is_later };
        if startup.user().is_empty() {
            return Err(PostgresFormatError::User);
        }
        match startup.value("replication") {
            None | Some("" | "0" | "off" | "no" | "false") => Ok(startup),
            Some(_) => Err(PostgresFormatError::Replication),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().rev().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn user(&self) -> &str {
        self.value("user").unwrap_or_default()
    }

    /// The database; by default it has the name of the user.
    pub fn database(&self) -> &str {
        self.value("database").unwrap_or_else(|| self.user())
    }

    /// `NegotiateProtocolVersion`: 3.0, and no protocol extension. `None` when the client wants nothing else.
    pub fn negotiation(&self) -> Option<Vec<u8>> {
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        let extensions: Vec<_> = names.filter(|name| name.starts_with("_pq_.")).collect();
        if !self.is_later && extensions.is_empty() {
            return None;
        }
        let mut body = VERSION.to_be_bytes().to_vec();
        body.extend(u32::try_from(extensions.len()).unwrap_or_default().to_be_bytes());
        for extension in extensions {
            body.extend(extension.as_bytes());
            body.push(0);
        }
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        Some([b"v", &length.to_be_bytes()[..], &body].concat())
    }
}

/// Takes a NUL-terminated text.
fn text(rest: &mut &[u8]) -> Result<String, PostgresFormatError> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(PostgresFormatError::Parameters)?;
    let text = std::str::from_utf8(&rest[..end]).map_err(|_| PostgresFormatError::Parameters)?;
    *rest = &rest[end + 1..];
    Ok(text.to_owned())
}

impl From<std::io::Error> for PostgresFormatError {
    fn from(_: std::io::Error) -> Self {
        Self::Ended
    }
}

impl PostgresFormatError {
    /// What is wrong.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ended => "the stream ended before the start-up message did",
            Self::Length => "the length of the message is out of bounds",
            Self::Version => "only version 3 of PostgreSQL's protocol is spoken here",
            Self::Requests => "encryption was declined, and requested again",
            Self::Parameters => "the start-up message is malformed",
            Self::User => "the start-up message names no user",
            Self::Replication => "replication is not possible through Keyward",
            Self::NoPassword => "the password message was expected: the agent's token",
            Self::Cleartext => {
                "this listener is reached over the network: use `sslmode=verify-full`"
            }
        }
    }
}
