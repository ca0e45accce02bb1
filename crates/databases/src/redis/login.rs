//! The login at a server: `AUTH`, the agent's name for the server's own lists, and the connection's database. The password goes
//! over the stream as it is: without TLS only to addresses of the explicit private list, as Redis is usually run.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::commands::RedisAccess;
use super::resp;
use crate::login::{ServerError, in_time, password_of, user_of, words_of_server};
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_base::secret::Secret;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// The longest line of a server's answer, in bytes.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// The longest text of a server's answer, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A server's answer to one command of the login.
#[derive(Debug, Eq, PartialEq)]
pub enum RedisReply {
    /// A simple string or a number.
    Line(String),
    /// A bulk string.
    Text(String),
    Error(String),
}

/// A login that has not begun.
pub struct RedisLogin {
    permitted: PermittedLogin,
    password: Secret,
    /// What the server's lists call the session.
    name: String,
    allowed: RedisAccess,
}

impl RedisLogin {
    /// The permitted login. `name`: what the server's list of clients shows.
    ///
    /// # Errors
    /// When the connection has no password, or its database no number.
    pub fn new(permitted: PermittedLogin, name: &str) -> Result<Self, Refused> {
        let password = password_of(&permitted)?;
        let wanted = permitted.permit().wanted().settings.as_deref();
        let read_only = wanted.and_then(|settings| settings.read_only).unwrap_or_default();
        let database = permitted.permit().endpoint().database.parse().map_err(|_| {
            let text = "the database of the connection is no number";
            let hint =
                "databases of Redis have numbers: set the variable `database` to one, such as 0";
            Refused::Keyward(Code::ConnectionBroken.because(text).hint(hint))
        })?;
        let allowed = RedisAccess { database, read_only };
        Ok(Self { permitted, password, name: name.to_owned(), allowed })
    }

    /// The user at the server.
    pub fn user(&self) -> &str {
        user_of(&self.permitted).filter(|user| !user.is_empty()).unwrap_or("default")
    }

    /// What the session may send.
    pub fn allowed(&self) -> RedisAccess {
        self.allowed.clone()
    }

    /// Dials the server and logs in.
    ///
    /// # Errors
    /// When the server cannot be reached, does not prove its name, or refuses.
    pub async fn run(&self, exchange: &mut ServiceExchange) -> Result<Upstream, Refused> {
        exchange.set_role(self.user());
        let reached = Upstream::reach(&exchange.begin_attempt(), self.permitted.permit()).await;
        let mut upstream = reached.map_err(|failed| exchange.refused_attempt(&failed))?;
        in_time(exchange, self.open_on(&mut upstream)).await?;
        Ok(upstream)
    }

    pub(super) async fn open_on<S>(&self, stream: &mut S) -> Result<(), ServerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Servers before version 6 know no users, and take the password alone.
        let reply = match self.user() {
            "default" => ask(stream, &[b"AUTH", self.password.expose()]).await?,
            user => ask(stream, &[b"AUTH", user.as_bytes(), self.password.expose()]).await?,
        };
        self.expect_ok(reply, true)?;
        // The user may lack the right, and the session does not depend on it.
        ask(stream, &[b"CLIENT", b"SETNAME", self.name.as_bytes()]).await?;
        if self.allowed.database != 0 {
            let number = self.allowed.database.to_string();
            let reply = ask(stream, &[b"SELECT", number.as_bytes()]).await?;
            self.expect_ok(reply, false)?;
        }
        Ok(())
    }

    fn expect_ok(&self, reply: RedisReply, is_login: bool) -> Result<(), ServerError> {
        match reply {
            RedisReply::Line(line) if line == "OK" => Ok(()),
            RedisReply::Error(words) => Err(ServerError::Refused {
                rejects_login: is_login && rejects(&words),
                message: words_of_server(&words, &self.password),
            }),
            _ => Err(ServerError::Protocol(DatabaseProtocol::Redis)),
        }
    }
}

/// Whether the words are about the user or the password, and not such as `LOADING` or `ERR max number of clients reached`.
/// Servers before version 6 say `ERR invalid password`.
fn rejects(words: &str) -> bool {
    ["WRONGPASS", "NOPERM", "ERR invalid password", "ERR AUTH", "ERR Client sent AUTH"]
        .iter()
        .any(|beginning| words.starts_with(beginning))
}

/// Sends one command and reads its answer, exactly.
pub async fn ask<S>(stream: &mut S, command: &[&[u8]]) -> Result<RedisReply, ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // It may hold the password; there is room for all of it, so that it is not copied.
    let length: usize = command.iter().map(|argument| argument.len() + 32).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(length + 32));
    resp::write_command(command, &mut *out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    reply(stream).await
}

async fn reply<S: AsyncRead + Unpin>(stream: &mut S) -> Result<RedisReply, ServerError> {
    let protocol = || ServerError::Protocol(DatabaseProtocol::Redis);
    let line = line(stream).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match line.split_first() {
        Some((b'+' | b':', rest)) => Ok(RedisReply::Line(text(rest))),
        Some((b'-', rest)) => Ok(RedisReply::Error(text(rest))),
        Some((b'$', digits)) => {
            let length = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
            let length: usize = length.ok_or_else(protocol)?;
            if length > TEXT_BYTES_MAX {
                return Err(protocol());
            }
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).await?;
            Ok(RedisReply::Text(text(&bytes[..length])))
        }
        _ => Err(protocol()),
    }
}

/// A line without its end. Nothing behind it is read.
async fn line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, ServerError> {
    let mut line = Vec::new();
    while line.len() < LINE_BYTES_MAX {
        match stream.read_u8().await {
            Ok(b'\n') if line.last() == Some(&b'\r') => {
                line.pop();
                return Ok(line);
            }
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !line.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Err(ServerError::Protocol(DatabaseProtocol::Redis))
}
