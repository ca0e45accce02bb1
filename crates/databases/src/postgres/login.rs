//! The login at a server with a connection's credential. The password itself goes only over verified TLS, and so does an
//! md5 hash, which is as good as the password; elsewhere only SCRAM is answered, by which the server proves that it
//! knows the password too.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{
    AuthenticationSaslBody, AuthenticationSaslContinueBody, ErrorResponseBody, Message,
};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

use super::cancel::ServerKey;
use super::messages::{self, PostgresLoginError, PostgresReadError, SessionStart};
use super::parameters::StartupParameters;
use super::statements;
use super::upstream::channel_binding;
use crate::login::{incomplete, password_of, user_of, words_of_server};
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::host::Target;
use keyward_base::secret::Secret;
use keyward_rules::policy::{DatabasePermit, PermittedLogin};

/// Messages of a server between the login and the first `ReadyForQuery`. Servers send about twenty.
const MESSAGES_MAX: usize = 512;

/// The rounds of a hash that a server without TLS may ask for at least (RFC 7677 §4). With fewer, one that only wants the
/// answer can try many passwords on it.
const ROUNDS_MIN: u32 = 4096;

/// What is kept of them, in bytes.
const PASSED_ON_BYTES_MAX: usize = 128 * 1024;

/// A login that has not begun.
pub struct PostgresLogin {
    permitted: PermittedLogin,
    role: String,
    password: Secret,
    parameters: StartupParameters,
    negotiation: Option<Vec<u8>>,
}

/// A session that the server has opened.
pub struct LoggedIn {
    pub start: SessionStart,
    pub permit: Arc<DatabasePermit>,
    pub server_key: Option<ServerKey>,
}

/// How far the server's proof is.
enum ServerProof {
    /// Nothing was asked for: the server trusts the address, or has a certificate alone.
    NotAsked,
    /// The password or its hash was sent.
    Sent,
    /// The server has yet to prove that it knows the password.
    Pending(Box<ScramSha256>),
    Given,
}

impl PostgresLogin {
    /// The permitted login.
    ///
    /// # Errors
    /// When the credential has no user or password.
    pub fn new(permitted: PermittedLogin, parameters: StartupParameters) -> Result<Self, Refused> {
        let role = user_of(&permitted).ok_or_else(incomplete)?.to_owned();
        let password = password_of(&permitted)?;
        Ok(Self { permitted, role, password, parameters, negotiation: None })
    }

    pub fn role(&self) -> &str {
        &self.role
    }

    pub fn permit(&self) -> &DatabasePermit {
        self.permitted.permit()
    }

    /// Whether the session may only read, whatever the server is.
    pub fn is_read_only(&self) -> bool {
        self.parameters.mode.read_only
    }

    /// Tells the agent of the protocol version after the login, because it was not asked for a token before.
    pub fn with_negotiation(mut self, negotiation: Option<Vec<u8>>) -> Self {
        self.negotiation = negotiation;
        self
    }

    /// The same login at another server that the connection names. `None`: it names no such server.
    ///
    /// # Errors
    /// When no password is made for it.
    pub(super) fn at(&self, server: Target) -> Option<Result<Self, Refused>> {
        let permitted = self.permitted.at_named(server)?;
        let login = Self::new(permitted, self.parameters.clone());
        Some(login.map(|login| login.with_negotiation(self.negotiation.clone())))
    }

    /// Logs in on a fresh stream.
    ///
    /// # Errors
    /// When the server opens no session in time.
    pub(super) async fn open(
        &self,
        upstream: &mut Upstream,
        within: Duration,
    ) -> Result<LoggedIn, PostgresLoginError> {
        let (verified, binding) = (upstream.is_verified(), channel_binding(upstream));
        let opened = self.open_on(upstream, verified, binding);
        let opened = tokio::time::timeout(within, opened).await;
        let (start, server_key) = opened.unwrap_or(Err(PostgresLoginError::Timeout))?;
        Ok(LoggedIn { start, permit: self.permitted.permit().clone(), server_key })
    }

    /// `verified`: whether the server has proved its name by TLS. `binding`: what ties SCRAM to that TLS.
    pub(super) async fn open_on<S>(
        &self,
        stream: &mut S,
        verified: bool,
        binding: Option<Vec<u8>>,
    ) -> Result<(SessionStart, Option<ServerKey>), PostgresLoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let parameters = self.parameters.all.iter().map(|(name, value)| (&**name, &**value));
        let parameters = std::iter::once(("user", self.role.as_str())).chain(parameters);
        let mut out = BytesMut::new();
        frontend::startup_message(parameters, &mut out)
            .map_err(|_| PostgresLoginError::Protocol)?;
        send(stream, &mut out).await?;
        let weakness = self.prove(stream, verified, binding).await?;
        if let Some(weakness) = weakness {
            tracing::warn!(weakness, "the login at a database server proves little");
        }
        let mut started = self.started(stream).await?;
        started.0.weakness = weakness;
        if self.parameters.mode.needs_confirmation() {
            statements::confirm(stream, &self.parameters.mode).await?;
        }
        Ok(started)
    }

    /// Answers what the server asks for, until it says `AuthenticationOk`. Returns what that has not proved.
    async fn prove<S>(
        &self,
        stream: &mut S,
        verified: bool,
        binding: Option<Vec<u8>>,
    ) -> Result<Option<&'static str>, PostgresLoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut proof, mut binding) = (ServerProof::NotAsked, Some(binding));
        let mut weakness = None;
        let mut out = BytesMut::new();
        loop {
            let (message, _) = messages::read(stream).await?;
            proof = match (message, proof) {
                (Message::AuthenticationOk, ServerProof::Pending(_)) => {
                    return Err(PostgresLoginError::Unproved);
                }
                (Message::AuthenticationOk, ServerProof::NotAsked) => {
                    return Ok(Some("the server requests no password"));
                }
                (Message::AuthenticationOk, _) => return Ok(weakness),
                (Message::AuthenticationCleartextPassword, ServerProof::NotAsked) if verified => {
                    let sent = frontend::password_message(self.password.expose(), &mut out);
                    sent.map_err(|_| PostgresLoginError::Protocol)?;
                    ServerProof::Sent
                }
                (Message::AuthenticationMd5Password(asked), ServerProof::NotAsked) if verified => {
                    let (user, password) = (self.role.as_bytes(), self.password.expose());
                    let hash = Zeroizing::new(md5_hash(user, password, asked.salt()));
                    let sent = frontend::password_message(hash.as_bytes(), &mut out);
                    sent.map_err(|_| PostgresLoginError::Protocol)?;
                    ServerProof::Sent
                }
                (Message::AuthenticationCleartextPassword, ServerProof::NotAsked) => {
                    return Err(PostgresLoginError::Weak { method: "the password in cleartext" });
                }
                (Message::AuthenticationMd5Password(_), ServerProof::NotAsked) => {
                    return Err(PostgresLoginError::Weak { method: "an md5 hash" });
                }
                (Message::AuthenticationSasl(offered), ServerProof::NotAsked) => {
                    let binding = binding.take().flatten();
                    let scram = self.begin_scram(&offered, verified, binding, &mut out)?;
                    ServerProof::Pending(Box::new(scram))
                }
                (Message::AuthenticationSaslContinue(body), ServerProof::Pending(scram)) => {
                    weakness = few_rounds(body.data(), verified)?;
                    let scram = continued(scram, &body).await?;
                    let sent = frontend::sasl_response(scram.message(), &mut out);
                    sent.map_err(|_| PostgresLoginError::Protocol)?;
                    ServerProof::Pending(scram)
                }
                (Message::AuthenticationSaslFinal(body), ServerProof::Pending(mut scram)) => {
                    scram.finish(body.data()).map_err(|_| PostgresLoginError::Unproved)?;
                    ServerProof::Given
                }
                (Message::ErrorResponse(error), _) => return Err(self.refused(&error)),
                (other, _) => return Err(unexpected(&other)),
            };
            send(stream, &mut out).await?;
        }
    }

    fn begin_scram(
        &self,
        offered: &AuthenticationSaslBody,
        verified: bool,
        binding: Option<Vec<u8>>,
        out: &mut BytesMut,
    ) -> Result<ScramSha256, PostgresLoginError> {
        let offers = |name: &str| offered.mechanisms().any(|it| Ok(it == name)).unwrap_or(false);
        let (mechanism, binding) =
            match (offers(SCRAM_SHA_256_PLUS), offers(SCRAM_SHA_256), binding) {
                (true, _, Some(binding)) => {
                    (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(binding))
                }
                // Tells the server that Keyward can bind the channel, so that a server that offered it detects a downgrade.
                (false, true, Some(_)) if verified => {
                    (SCRAM_SHA_256, ChannelBinding::unrequested())
                }
                (_, true, _) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
                (_, false, _) => {
                    return Err(PostgresLoginError::Unsupported { method: "a SASL mechanism" });
                }
            };
        let scram = ScramSha256::new(self.password.expose(), binding);
        let sent = frontend::sasl_initial_response(mechanism, scram.message(), out);
        sent.map_err(|_| PostgresLoginError::Protocol)?;
        Ok(scram)
    }

    /// Reads what follows the login, up to the first `ReadyForQuery`.
    async fn started<S>(
        &self,
        stream: &mut S,
    ) -> Result<(SessionStart, Option<ServerKey>), PostgresLoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let negotiation = self.negotiation.clone();
        let (mut start, mut key) = (SessionStart { negotiation, ..SessionStart::default() }, None);
        for _ in 0..MESSAGES_MAX {
            let (message, bytes) = messages::read(stream).await?;
            match &message {
                Message::ReadyForQuery(_) => return Ok((start, key)),
                Message::BackendKeyData(data) => {
                    let (process, secret) = (data.process_id(), data.secret_key());
                    key = Some(ServerKey { process, secret });
                }
                Message::ParameterStatus(_) | Message::NoticeResponse(_)
                    if start.passed_on.len() + bytes.len() <= PASSED_ON_BYTES_MAX =>
                {
                    start.add(&message, &bytes);
                }
                Message::ErrorResponse(error) => return Err(self.refused(error)),
                _ => return Err(PostgresLoginError::Protocol),
            }
        }
        Err(PostgresLoginError::Protocol)
    }

    /// The server's own words, unless they repeat the password.
    fn refused(&self, error: &ErrorResponseBody) -> PostgresLoginError {
        let (mut state, mut message) = (String::new(), String::new());
        let mut fields = error.fields();
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => state = value,
                b'M' => message = value,
                _ => {}
            }
        }
        let is_state = state.len() == 5 && state.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_state {
            state = "08004".to_owned();
        }
        let message = words_of_server(&message, &self.password);
        PostgresLoginError::Refused { state, message }
    }
}

async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    out: &mut BytesMut,
) -> Result<(), PostgresLoginError> {
    if out.is_empty() {
        return Ok(());
    }
    let sent = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    let sent = sent.await.map_err(PostgresReadError::Ended);
    // It may hold the password.
    out[..].zeroize();
    out.clear();
    sent.map_err(PostgresLoginError::from)
}

/// The hash takes up to 100,000 rounds, as the server wishes: not on a thread that serves streams.
async fn continued(
    mut scram: Box<ScramSha256>,
    body: &AuthenticationSaslContinueBody,
) -> Result<Box<ScramSha256>, PostgresLoginError> {
    let data = body.data().to_vec();
    let hashed = tokio::task::spawn_blocking(move || scram.update(&data).map(|()| scram));
    hashed
        .await
        .map_err(|_| PostgresLoginError::Protocol)?
        .map_err(|_| PostgresLoginError::Unproved)
}

/// What few rounds of a server's first message do not prove.
///
/// # Errors
/// When the server has not proved its name, so that another one could guess the password.
fn few_rounds(message: &[u8], verified: bool) -> Result<Option<&'static str>, PostgresLoginError> {
    match rounds(message).is_some_and(|rounds| rounds >= ROUNDS_MIN) {
        true => Ok(None),
        false if verified => Ok(Some("the server requests SCRAM with few rounds")),
        false => {
            let method = "SCRAM with few rounds, by which a password can be guessed";
            Err(PostgresLoginError::Weak { method })
        }
    }
}

/// The rounds that a server's first message of SCRAM asks for (RFC 5802 §7).
fn rounds(message: &[u8]) -> Option<u32> {
    let (_, rounds) = std::str::from_utf8(message).ok()?.rsplit_once(",i=")?;
    rounds.parse().ok()
}

fn unexpected(message: &Message) -> PostgresLoginError {
    let method = match message {
        Message::AuthenticationGss | Message::AuthenticationGssContinue(_) => "GSSAPI",
        Message::AuthenticationSspi => "SSPI",
        Message::AuthenticationKerberosV5 => "Kerberos",
        Message::AuthenticationScmCredential => "the credentials of a local user",
        _ => return PostgresLoginError::Protocol,
    };
    PostgresLoginError::Unsupported { method }
}
