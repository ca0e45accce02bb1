//! Reads the commands of a client until it has authenticated: `hello`, and `saslStart` with PLAIN, whose password is
//! the token. Other commands get the error of a server that requires a login.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::wire::{
    self, EARLY_BYTES_MAX, ErrorCode, MESSAGE_BYTES_MAX, Message, MongoFormatError, MongoReadError,
    ReplyTo,
};

/// Messages that a client may send before it authenticates. A client that only watches the server sends one in ten seconds.
const MESSAGES_MAX: usize = 32;

const ANOTHER_MECHANISM: &str = "keyward: the token is accepted with PLAIN only: add `authMechanism=PLAIN` to the connection string; \
    give the agent's token (kwa_…) as the password";
const NO_PASSWORD: &str = "keyward: the payload of PLAIN is no user and password";
const NO_LOGIN: &str = "keyward: the command needs a login: add the agent's token (kwa_…) as the password, with \
    `authMechanism=PLAIN`";

/// A client that has authenticated, or whose listener asks for no token.
pub struct MongoClient {
    /// The user that it names; empty if it names none.
    pub user: String,
    /// What it gave as its password.
    pub token: Option<Zeroizing<String>>,
    /// The command that is answered when its session is open, or with the refusal.
    pub asked: ReplyTo,
    /// That command, if the server answers it.
    pub first: Vec<u8>,
}

/// Why no client has authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MongoGreetingError {
    Left,
    Malformed(MongoFormatError),
}

impl From<MongoFormatError> for MongoGreetingError {
    fn from(malformed: MongoFormatError) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<MongoReadError> for MongoGreetingError {
    fn from(error: MongoReadError) -> Self {
        match error {
            MongoReadError::Ended(_) => Self::Left,
            MongoReadError::Malformed(malformed) => Self::Malformed(malformed),
        }
    }
}

enum MongoEarlyCommand {
    /// User and token.
    Authenticates(String, Zeroizing<String>),
    Answered(RawDocumentBuf),
    /// A command that a server refuses before the login.
    Command,
}

/// Reads messages until one authenticates. `is_owned`: the listener belongs to an agent, so that any command begins a session.
///
/// # Errors
/// When none does.
pub async fn read<S>(stream: &mut S, is_owned: bool) -> Result<MongoClient, MongoGreetingError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The first command of a listener's agent may be an insert.
    let max = if is_owned { MESSAGE_BYTES_MAX } else { EARLY_BYTES_MAX };
    for _ in 0..MESSAGES_MAX {
        let message = Message::read(stream, max).await?;
        let (asked, found) = match message.command() {
            Ok((asked, command)) => (asked, meaning(command)?),
            // Documents may follow the command.
            Err(MongoFormatError::Section | MongoFormatError::Document) if is_owned => {
                let asked =
                    ReplyTo { form: wire::MessageForm::Msg, request: message.header.request };
                (asked, MongoEarlyCommand::Command)
            }
            Err(malformed) => return Err(MongoGreetingError::Malformed(malformed)),
        };
        let answer = match found {
            MongoEarlyCommand::Authenticates(user, token) => {
                return Ok(MongoClient { user, token: Some(token), asked, first: Vec::new() });
            }
            MongoEarlyCommand::Command if is_owned => {
                let first = message.into_bytes();
                return Ok(MongoClient { user: String::new(), token: None, asked, first });
            }
            MongoEarlyCommand::Command => wire::error(ErrorCode::Unauthorized, NO_LOGIN),
            MongoEarlyCommand::Answered(answer) => answer,
        };
        let sent = async {
            stream.write_all(&wire::answer(asked, &answer)).await?;
            stream.flush().await
        };
        sent.await.map_err(|_| MongoGreetingError::Left)?;
    }
    Err(MongoGreetingError::Malformed(MongoFormatError::TooMany))
}

fn meaning(command: &RawDocument) -> Result<MongoEarlyCommand, MongoFormatError> {
    let first = command.iter_elements().next().ok_or(MongoFormatError::Document)?;
    let first = first.map_err(|_| MongoFormatError::Document)?;
    let refused = |code, words| Ok(MongoEarlyCommand::Answered(wire::error(code, words)));
    match first.key().as_str() {
        name if wire::is_hello(name) => Ok(MongoEarlyCommand::Answered(wire::hello(command))),
        "saslStart" => match command.get_str("mechanism") {
            Ok("PLAIN") => match plain(command) {
                Some((user, token)) => Ok(MongoEarlyCommand::Authenticates(user, token)),
                None => refused(ErrorCode::AuthenticationFailed, NO_PASSWORD),
            },
            _ => refused(ErrorCode::MechanismUnavailable, ANOTHER_MECHANISM),
        },
        "saslContinue" | "authenticate" | "getnonce" => {
            refused(ErrorCode::MechanismUnavailable, ANOTHER_MECHANISM)
        }
        // Clients send these before they close the stream.
        "endSessions" | "logout" => Ok(MongoEarlyCommand::Answered(rawdoc! { "ok": 1.0 })),
        _ => Ok(MongoEarlyCommand::Command),
    }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2). Names and tokens of Keyward are UTF-8.
fn plain(command: &RawDocument) -> Option<(String, Zeroizing<String>)> {
    let payload = match command.get("payload").ok()?? {
        RawBsonRef::Binary(binary) => binary.bytes,
        RawBsonRef::String(text) => text.as_bytes(),
        _ => return None,
    };
    let mut parts = payload.split(|byte| *byte == 0);
    let (_, user, token) = (parts.next()?, parts.next()?, parts.next()?);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    parts.next().is_none().then(|| (text(user), Zeroizing::new(text(token))))
}
