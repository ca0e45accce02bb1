//! The login at a server: SCRAM, by which the server proves that it knows the password. Without TLS only to addresses of the
//! explicit private list.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, cstr, rawdoc};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::commands::MongoAccess;
use super::scram::{Mechanism, Scram, ScramError};
use super::wire::{self, Message, MongoReadError};
use crate::login::{ServerError, incomplete, password_of, user_of, words_of_server};
use crate::refused::Refused;
use keyward_base::database::DatabaseProtocol;
use keyward_base::secret::Secret;
use keyward_rules::policy::PermittedLogin;

/// The longest answer of a server during the login, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The first version of the protocol with `OP_MSG` (MongoDB 3.6).
const WIRE_VERSION_MIN: i32 = 6;

/// The database that knows users, unless the connection says another.
pub(super) const AUTH_SOURCE: &str = "admin";

/// `AuthenticationFailed`.
const AUTHENTICATION_FAILED: i32 = 18;

/// A login that has not begun.
pub struct MongoLogin {
    pub(super) permitted: PermittedLogin,
    user: String,
    password: Secret,
    /// What the server's log calls the session.
    name: String,
    allowed: MongoAccess,
    /// The database that knows the user.
    pub(super) auth_source: String,
    pub(super) load_balanced: bool,
    /// Where the session is, if the connection has several servers.
    pub(super) server: Option<String>,
}

impl MongoLogin {
    /// The permitted login. `name`: what the server's log shows.
    ///
    /// # Errors
    /// When the connection has no user or no password.
    pub fn new(permitted: PermittedLogin, name: &str) -> Result<Self, Refused> {
        let user = user_of(&permitted).ok_or_else(incomplete)?.to_owned();
        let password = password_of(&permitted)?;
        let wanted = permitted.permit().wanted().settings.as_deref();
        let read_only = wanted.and_then(|settings| settings.read_only).unwrap_or_default();
        let auth_source = permitted.permit().endpoint().auth_source.as_deref();
        Ok(Self {
            auth_source: auth_source.unwrap_or(AUTH_SOURCE).to_owned(),
            load_balanced: false,
            server: None,
            permitted,
            user,
            password,
            name: name.to_owned(),
            allowed: MongoAccess { read_only },
        })
    }

    /// The user at the server.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where the session is, if the connection has several servers.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// What the session may send.
    pub fn allowed(&self) -> MongoAccess {
        self.allowed
    }

    pub(super) async fn greeted_on<S>(&self, stream: &mut S) -> Result<RawDocumentBuf, ServerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = CommandStream::new(stream).ask(&self.hello()).await?;
        self.expect_ok(&hello)?;
        match hello.get_i32("maxWireVersion") {
            Ok(WIRE_VERSION_MIN..) => Ok(hello),
            Ok(_) => {
                Err(ServerError::Unsupported { method: "a protocol older than MongoDB 3.6's" })
            }
            Err(_) => Err(protocol()),
        }
    }

    pub(super) async fn open_on<S>(
        &self,
        stream: &mut S,
        hello: &RawDocument,
    ) -> Result<(), ServerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.prove(&mut CommandStream::new(stream), mechanism(hello)?).await
    }

    /// The old name of `hello`, which every server knows. It asks for the mechanisms of the user.
    fn hello(&self) -> RawDocumentBuf {
        let client = rawdoc! {
            "driver": { "name": "keyward", "version": env!("CARGO_PKG_VERSION") },
            "os": { "type": std::env::consts::OS },
            "application": { "name": short(&self.name) },
        };
        let asked = format!("{}.{}", self.auth_source, self.user);
        let mut hello = rawdoc! {
            "isMaster": 1, "client": client, "saslSupportedMechs": asked, "$db": "admin"
        };
        if self.load_balanced {
            hello.append(cstr!("loadBalanced"), true);
        }
        hello
    }

    async fn prove<S>(
        &self,
        commands: &mut CommandStream<'_, S>,
        mechanism: Mechanism,
    ) -> Result<(), ServerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let source = self.auth_source.as_str();
        let scram = Scram::new(mechanism, &self.user).map_err(|_| protocol())?;
        let start = rawdoc! {
            "saslStart": 1, "mechanism": mechanism.as_str(), "payload": binary(&scram.message()),
            "options": { "skipEmptyExchange": true }, "$db": source,
        };
        let first = commands.ask(&start).await?;
        self.expect_ok(&first)?;
        let (conversation, server_first) = (conversation(&first)?, payload(&first)?);
        let text = self.password.expose_text().ok_or_else(protocol)?;
        let secret = mechanism.secret(&self.user, text);
        // The server chooses the number of rounds of the hash, so this does not run on a thread that serves streams.
        let proved = tokio::task::spawn_blocking(move || scram.prove(&server_first, &secret));
        let proving = proved.await.map_err(|_| protocol())?.map_err(failed)?;
        let mut payload_sent = binary(&proving.message);
        let mut proof = Err(ScramError::Unproved);
        // Older servers expect an empty message after the proof.
        for _ in 0..2 {
            let next = rawdoc! {
                "saslContinue": 1, "conversationId": conversation, "payload": payload_sent,
                "$db": source,
            };
            let answer = commands.ask(&next).await?;
            self.expect_ok(&answer)?;
            if proof.is_err() {
                proof = proving.check(&payload(&answer)?);
            }
            // Nothing is sent to a server that has not proved itself.
            proof.map_err(failed)?;
            if answer.get_bool("done").map_err(|_| protocol())? {
                return Ok(());
            }
            payload_sent = binary("");
        }
        Err(protocol())
    }

    fn expect_ok(&self, answer: &RawDocument) -> Result<(), ServerError> {
        if is_ok(answer) {
            return Ok(());
        }
        let words = answer.get_str("errmsg").unwrap_or_default();
        let message = words_of_server(words, &self.password);
        let rejects_login = matches!(answer.get_i32("code"), Ok(AUTHENTICATION_FAILED));
        Err(ServerError::Refused { message, rejects_login })
    }
}

/// The strongest mechanism that the user has; SHA-1 where the server does not say.
/// <https://github.com/mongodb/specifications/blob/master/source/auth/auth.md#defaults>
fn mechanism(hello: &RawDocument) -> Result<Mechanism, ServerError> {
    let Ok(offered) = hello.get_array("saslSupportedMechs") else { return Ok(Mechanism::Sha1) };
    let offers = |mechanism: Mechanism| {
        let mut names = offered.into_iter().flatten();
        names.any(|name| name.as_str() == Some(mechanism.as_str()))
    };
    let mut all = [Mechanism::Sha256, Mechanism::Sha1].into_iter();
    all.find(|mechanism| offers(*mechanism))
        .ok_or(ServerError::Unsupported { method: "another mechanism than SCRAM" })
}

/// Sends commands on a stream, and reads the answer to each.
pub struct CommandStream<'a, S> {
    stream: &'a mut S,
    request: i32,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> CommandStream<'a, S> {
    pub fn new(stream: &'a mut S) -> Self {
        Self { stream, request: 0 }
    }

    /// Sends one command and reads its answer, exactly.
    pub async fn ask(&mut self, command: &RawDocument) -> Result<RawDocumentBuf, ServerError> {
        self.request += 1;
        let out = Zeroizing::new(wire::msg(self.request, 0, command));
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let message = Message::read(self.stream, ANSWER_BYTES_MAX).await;
        let message = message.map_err(|error| match error {
            MongoReadError::Ended(error) => ServerError::Ended(error),
            MongoReadError::Malformed(_) => protocol(),
        })?;
        if message.header.opcode != wire::OP_MSG || message.header.response_to != self.request {
            return Err(protocol());
        }
        let (_, answer) = message.command().map_err(|_| protocol())?;
        Ok(answer.to_owned())
    }
}

/// `ok` is a number of any type.
pub fn is_ok(answer: &RawDocument) -> bool {
    match answer.get("ok") {
        Ok(Some(RawBsonRef::Double(number))) => number == 1.0,
        Ok(Some(RawBsonRef::Int32(number))) => number == 1,
        Ok(Some(RawBsonRef::Int64(number))) => number == 1,
        Ok(Some(RawBsonRef::Boolean(is_ok))) => is_ok,
        _ => false,
    }
}

fn protocol() -> ServerError {
    ServerError::Protocol(DatabaseProtocol::Mongodb)
}

fn failed(error: ScramError) -> ServerError {
    match error {
        ScramError::Protocol => protocol(),
        ScramError::Rounds => {
            ServerError::Unsupported { method: "SCRAM with few rounds, or too many" }
        }
        ScramError::Unproved => ServerError::Unproved,
    }
}

fn conversation(answer: &RawDocument) -> Result<i32, ServerError> {
    answer.get_i32("conversationId").map_err(|_| protocol())
}

fn payload(answer: &RawDocument) -> Result<String, ServerError> {
    let payload = answer.get_binary("payload").map_err(|_| protocol())?;
    String::from_utf8(payload.bytes.to_vec()).map_err(|_| protocol())
}

fn binary(text: &str) -> bson::Binary {
    let bytes = text.as_bytes().to_vec();
    bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes }
}

/// Servers refuse longer names of applications than 128 bytes.
fn short(name: &str) -> String {
    name.chars().take(32).collect()
}
