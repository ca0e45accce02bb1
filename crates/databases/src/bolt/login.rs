//! The login at a server: the version of the client, `HELLO` with what the client says of itself, and the connection's
//! login by `basic`, `bearer` or `kerberos`. The password goes over the stream as it is: without TLS only to addresses
//! of the explicit private list.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::format::{BoltReadError, BoltVersion, LOGON_SINCE};
use super::greeting::ClientHello;
use super::handshake::{self, OfferedVersion};
use super::messages::{self, tag};
use super::packstream::{put_entries, put_map, put_text};
use crate::login::{
    ServerError, in_time, incomplete, password_of, scheme_of, user_of, words_of_server,
};
use crate::refused::{Refused, ServerRefusal};
use crate::upstream::Upstream;
use keyward_base::bolt;
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_base::secret::Secret;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// The longest answer of a server during the login, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Room for the keys of `HELLO` and of a login beside their values, in bytes.
const KEYS_BYTES: usize = 512;

/// A code with which drivers open another session and try again.
pub const TRY_AGAIN: &str = "Neo.TransientError.General.DatabaseUnavailable";

/// Ends of codes for a login that the server rejects.
const REJECTIONS: [&str; 3] =
    [".Security.Unauthorized", ".Security.CredentialsExpired", ".Security.TokenExpired"];

/// A login that has not begun.
pub struct BoltLogin {
    permitted: PermittedLogin,
    user: String,
    scheme: String,
    password: Secret,
    /// What the server's list of connections shows before the name of the driver.
    name: String,
}

/// The version of a client, and what further clients of its listener are offered.
#[derive(Clone, Copy, Debug)]
pub struct AgreedVersion<'a> {
    pub version: BoltVersion,
    pub offered: &'a OfferedVersion,
}

impl BoltLogin {
    /// The permitted login. `name`: the agent's.
    ///
    /// # Errors
    /// When the connection has no password, or one that is no text.
    pub fn new(permitted: PermittedLogin, name: &str) -> Result<Self, Refused> {
        let password = password_of(&permitted)?;
        if password.expose_text().is_none() {
            return Err(incomplete());
        }
        let user = user_of(&permitted).unwrap_or_default().to_owned();
        let usual = if user.is_empty() { "bearer" } else { "basic" };
        let scheme = scheme_of(&permitted).unwrap_or(usual).to_owned();
        Ok(Self { permitted, user, scheme, password, name: name.to_owned() })
    }

    /// The user at the server; the scheme where the login names none.
    pub fn user(&self) -> &str {
        if self.user.is_empty() { &self.scheme } else { &self.user }
    }

    /// The server's host and port.
    pub fn address(&self) -> String {
        let target = &self.permitted.permit().endpoint().target;
        format!("{}:{}", target.host(), target.port())
    }

    /// Dials the server and logs in. `agreed`: the client's version, which the session must have. Returns the stream, and
    /// the server's answer to `HELLO`.
    ///
    /// # Errors
    /// When the server cannot be reached, does not prove its name, speaks another version, or refuses.
    pub async fn run(
        &self,
        exchange: &mut ServiceExchange,
        client: &ClientHello,
        agreed: Option<AgreedVersion<'_>>,
    ) -> Result<(Upstream, Zeroizing<Vec<u8>>), Refused> {
        exchange.set_role(self.user());
        let reached = Upstream::reach(&exchange.begin_attempt(), self.permitted.permit()).await;
        let mut upstream = reached.map_err(|failed| exchange.refused_attempt(&failed))?;
        let wanted = agreed.map(|agreed| agreed.version);
        let version = in_time(exchange, handshake::propose(&mut upstream, wanted)).await?;
        if let Some(agreed) = agreed.filter(|agreed| agreed.version != version) {
            agreed.offered.lower(version);
            return Err(another_version(version));
        }
        let welcome = in_time(exchange, self.open_on(&mut upstream, client, version)).await?;
        Ok((upstream, welcome))
    }

    /// Returns the server's answer to `HELLO`.
    pub(super) async fn open_on<S>(
        &self,
        stream: &mut S,
        client: &ClientHello,
        version: BoltVersion,
    ) -> Result<Zeroizing<Vec<u8>>, ServerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let is_apart = version >= LOGON_SINCE;
        let welcome = ask(stream, &self.hello(client, !is_apart)).await?;
        self.expect_success(&welcome)?;
        if is_apart {
            let answer = ask(stream, &self.logon()).await?;
            self.expect_success(&answer)?;
        }
        Ok(welcome)
    }

    fn login(&self) -> Vec<(&'static str, &str)> {
        let password = self.password.expose_text().unwrap_or_default();
        let mut login = vec![("scheme", self.scheme.as_str()), ("credentials", password)];
        if self.scheme != "bearer" {
            login.push(("principal", self.user.as_str()));
        }
        login
    }

    fn logon(&self) -> Zeroizing<Vec<u8>> {
        let login = self.login();
        let mut out = message(tag::LOGON, login.iter().map(|(_, value)| value.len()).sum());
        put_map(login.len(), &mut out);
        put_entries(&login, &mut out);
        out
    }

    /// `with_login`: in versions before 5.1.
    fn hello(&self, client: &ClientHello, with_login: bool) -> Zeroizing<Vec<u8>> {
        let login = if with_login { self.login() } else { Vec::new() };
        let user_agent = format!("keyward/{} {}", self.name, client.user_agent);
        let address = self.address();
        let of_login = login.iter().map(|(_, value)| value.len()).sum::<usize>();
        let of_client: usize =
            client.entries.iter().map(|(key, value)| key.len() + value.len() + 5).sum();
        let length = of_login + of_client + user_agent.len() + address.len();
        let mut out = message(tag::HELLO, length);
        put_map(client.entries.len() + login.len() + 2, &mut out);
        put_entries(&[("user_agent", user_agent.trim_end())], &mut out);
        put_entries(&login, &mut out);
        for (key, value) in &client.entries {
            put_text(key, &mut out);
            out.extend_from_slice(value);
        }
        put_text("routing", &mut out);
        match client.routes.is_some() {
            true => {
                put_map(1, &mut out);
                put_entries(&[("address", address.as_str())], &mut out);
            }
            false => out.push(0xc0),
        }
        out
    }

    fn expect_success(&self, answer: &[u8]) -> Result<(), ServerError> {
        match messages::metadata(answer) {
            Ok((tag::SUCCESS, _)) => Ok(()),
            Ok((tag::FAILURE, map)) => {
                let old = map.text("code");
                let code = old.or_else(|| map.text(bolt::value("message", "failure_code")));
                let code = code.unwrap_or_default();
                Err(ServerError::Refused {
                    rejects_login: REJECTIONS.iter().any(|end| code.ends_with(end)),
                    message: words_of_server(
                        map.text("message").unwrap_or_default(),
                        &self.password,
                    ),
                })
            }
            _ => Err(protocol()),
        }
    }
}

fn another_version(version: BoltVersion) -> Refused {
    let text =
        format!("the server speaks Bolt {version}, which new sessions are offered from now on");
    Refused::Server(ServerRefusal {
        text: Code::UpstreamProtocol.because(text).hint("open the session again"),
        state: Some(TRY_AGAIN.to_owned()),
        rejects_login: false,
    })
}

/// The beginning of a message with one field, and room for its values, so that a password in it is not copied.
fn message(tag: u8, values_bytes: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(values_bytes + KEYS_BYTES));
    out.extend([0xb1, tag]);
    out
}

/// Sends one message and reads its answer, exactly.
pub async fn ask<S>(stream: &mut S, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&messages::framed(message)).await?;
    stream.flush().await?;
    answer(stream).await
}

/// Reads the next message of a server.
pub async fn answer<S>(stream: &mut S) -> Result<Zeroizing<Vec<u8>>, ServerError>
where
    S: AsyncRead + Unpin,
{
    messages::read(stream, ANSWER_BYTES_MAX).await.map_err(|error| match error {
        BoltReadError::Ended => ServerError::Ended(io::ErrorKind::UnexpectedEof.into()),
        BoltReadError::Malformed(_) => protocol(),
    })
}

pub fn protocol() -> ServerError {
    ServerError::Protocol(DatabaseProtocol::Bolt)
}
