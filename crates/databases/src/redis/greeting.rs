//! Reads the commands of a client until it has authenticated: `AUTH`, or `HELLO` with `AUTH`. Other commands get the
//! error of a server that requires a password.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::resp::{self, Arguments, EARLY_BYTES_MAX, RespFormatError};

/// Commands that a client may send before it authenticates. Clients send two or three when they connect.
const COMMANDS_MAX: usize = 32;

const NO_AUTH: &[u8] =
    b"-NOAUTH Authentication required. The password is the agent's token (kwa_...)\r\n";
const NO_HELLO: &[u8] = b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
    AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n";
const NO_PROTOCOL: &[u8] = b"-NOPROTO unsupported protocol version\r\n";
const NOT_SO_MANY: &[u8] = b"-ERR wrong number of arguments for 'auth' command\r\n";

/// A client that has authenticated, or whose listener asks for no token.
#[derive(Default)]
pub struct RedisClient {
    /// The user that it names; empty if it names none.
    pub user: String,
    /// What it gave as its password.
    pub token: Option<Zeroizing<String>>,
    /// The answer to it when its session is open.
    pub answer: OpeningAnswer,
    /// Bytes that it sent after the login.
    pub rest: Zeroizing<Vec<u8>>,
}

/// The answer to a client whose session is open.
#[derive(Debug, Default, Eq, PartialEq)]
pub enum OpeningAnswer {
    /// None: the client has sent no command yet.
    #[default]
    Nothing,
    /// `+OK`, to `AUTH`.
    Ok,
    /// What the server answers to this `HELLO`, which has no login any more.
    ServersHello(Vec<u8>),
}

/// Why no client has authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RedisGreetingError {
    /// It left, or said `QUIT`.
    Left,
    /// It sent something that is no request, or more than it may.
    Malformed(RespFormatError),
}

impl From<std::io::Error> for RedisGreetingError {
    fn from(_: std::io::Error) -> Self {
        Self::Left
    }
}

/// Reads commands until one authenticates. `is_owned`: the listener belongs to an agent, so that any command begins a session.
///
/// # Errors
/// When none does.
pub async fn read<S>(stream: &mut S, is_owned: bool) -> Result<RedisClient, RedisGreetingError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // It never grows, which would leave copies of the token.
    let mut buffer = Zeroizing::new(Vec::with_capacity(2 * EARLY_BYTES_MAX));
    for _ in 0..COMMANDS_MAX {
        let (arguments, length) = match command(stream, &mut buffer).await {
            // The limits are for clients that have yet to log in. Here the command is one of the session.
            Err(RedisGreetingError::Malformed(
                RespFormatError::TooLong | RespFormatError::Line,
            )) if is_owned => {
                return Ok(RedisClient { rest: buffer, ..RedisClient::default() });
            }
            found => found?,
        };
        match meaning(&arguments) {
            RedisEarlyCommand::Authenticates(client) => {
                return Ok(RedisClient {
                    rest: Zeroizing::new(buffer[length..].to_vec()),
                    ..client
                });
            }
            RedisEarlyCommand::Nothing => {}
            _ if is_owned => return Ok(RedisClient { rest: buffer, ..RedisClient::default() }),
            RedisEarlyCommand::Quits => {
                stream.write_all(b"+OK\r\n").await?;
                stream.flush().await?;
                return Err(RedisGreetingError::Left);
            }
            RedisEarlyCommand::Refused(answer) => {
                stream.write_all(answer).await?;
                stream.flush().await?;
            }
        }
        buffer.drain(..length);
    }
    Err(RedisGreetingError::Malformed(RespFormatError::TooLong))
}

/// Answers all that a client sends with its refusal. A server would keep the stream open as well: clients that are refused with
/// `HELLO` try `AUTH` next, and show the refusal of that.
pub async fn refuse_all<S>(stream: &mut S, rest: &[u8], refusal: &[u8]) -> RedisGreetingError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Zeroizing::new(Vec::with_capacity(2 * EARLY_BYTES_MAX));
    buffer.extend(&rest[..rest.len().min(EARLY_BYTES_MAX)]);
    for _ in 0..COMMANDS_MAX {
        let length = match command(stream, &mut buffer).await {
            Ok((_, length)) => length,
            Err(end) => return end,
        };
        buffer.drain(..length);
        let sent = async {
            stream.write_all(refusal).await?;
            stream.flush().await
        };
        if sent.await.is_err() {
            return RedisGreetingError::Left;
        }
    }
    RedisGreetingError::Malformed(RespFormatError::TooLong)
}

/// The next command, which stays in the buffer, and its length.
async fn command<S>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Result<(Arguments, usize), RedisGreetingError>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(found) = resp::early_command(buffer).map_err(RedisGreetingError::Malformed)? {
            return Ok(found);
        }
        let room = buffer.capacity() - buffer.len();
        if room == 0 {
            return Err(RedisGreetingError::Malformed(RespFormatError::TooLong));
        }
        let mut limited = (&mut *stream).take(room as u64);
        if limited.read_buf(buffer).await? == 0 {
            return Err(RedisGreetingError::Left);
        }
    }
}

enum RedisEarlyCommand {
    Authenticates(RedisClient),
    Nothing,
    Quits,
    Refused(&'static [u8]),
}

fn meaning(arguments: &Arguments) -> RedisEarlyCommand {
    let Some((name, rest)) = arguments.split_first() else { return RedisEarlyCommand::Nothing };
    match &*name.to_ascii_uppercase() {
        b"AUTH" => match rest {
            [token] => authenticates(b"", token, OpeningAnswer::Ok),
            [user, token] => authenticates(user, token, OpeningAnswer::Ok),
            _ => RedisEarlyCommand::Refused(NOT_SO_MANY),
        },
        b"HELLO" => hello(rest),
        b"QUIT" => RedisEarlyCommand::Quits,
        _ => RedisEarlyCommand::Refused(NO_AUTH),
    }
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`.
fn hello(arguments: &[Zeroizing<Vec<u8>>]) -> RedisEarlyCommand {
    let Some((version, mut rest)) = arguments.split_first() else {
        return RedisEarlyCommand::Refused(NO_HELLO);
    };
    if !matches!(&version[..], b"2" | b"3") {
        return RedisEarlyCommand::Refused(NO_PROTOCOL);
    }
    let mut kept: Vec<&[u8]> = vec![b"HELLO", version];
    let mut login = None;
    loop {
        match rest {
            [] => break,
            [option, user, token, more @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                login = Some((user, token));
                rest = more;
            }
            [option, name, more @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => {
                kept.extend([&b"SETNAME"[..], name]);
                rest = more;
            }
            _ => return RedisEarlyCommand::Refused(b"-ERR Syntax error in HELLO\r\n"),
        }
    }
    let Some((user, token)) = login else { return RedisEarlyCommand::Refused(NO_HELLO) };
    let mut request = Vec::new();
    resp::write_command(&kept, &mut request);
    authenticates(user, token, OpeningAnswer::ServersHello(request))
}

fn authenticates(user: &[u8], token: &[u8], answer: OpeningAnswer) -> RedisEarlyCommand {
    // Names and tokens of Keyward are UTF-8.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let token = Some(Zeroizing::new(text(token)));
    RedisEarlyCommand::Authenticates(RedisClient {
        user: text(user),
        token,
        answer,
        rest: Zeroizing::default(),
    })
}
