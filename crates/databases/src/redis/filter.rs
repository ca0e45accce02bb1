//! [`RedisFilter`] reads an agent's commands and replaces those that its session may not send. The replacement is a command
//! that no server knows and whose name is the refusal: the server's own error has these words, in its place among the answers,
//! also within `MULTI`, in pipelines and after `CLIENT REPLY OFF`. So nothing has to be put between the server's answers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};

use super::commands::{RedisAccess, RedisVerdict};
use super::resp::{self, Arguments, FirstLine, HEADER_BYTES_MAX, RespFormatError};
use crate::stream::StreamFilter;

/// The longest argument that a decision reads, in bytes.
const READ_ARGUMENT_BYTES_MAX: usize = 1024;

/// An invalid request: every server answers it with an error and closes the stream.
const MALFORMED: &[u8] = b"*1\r\n!\r\n";

/// Checks the commands of an agent.
pub struct RedisFilter {
    allowed: RedisAccess,
    state: RespState,
    /// The line that is not complete.
    line: Vec<u8>,
    /// The command that is not complete.
    command: Command,
    /// Set when what came was no request.
    malformed: Arc<AtomicBool>,
}

/// A command, as far as it has come.
#[derive(Default)]
struct Command {
    /// The number of its arguments.
    count: usize,
    /// How many of them have not begun.
    left: usize,
    decision: CommandDecision,
}

enum CommandDecision {
    /// The arguments that have come, of which the last may be incomplete.
    Undecided(Arguments),
    Passes,
    Refused,
}

#[derive(Clone, Copy)]
enum RespState {
    /// The first line of a command.
    First,
    /// The length of an argument.
    Length,
    /// An argument, and how many of its bytes are missing.
    Argument(usize),
    /// The end of an argument's line.
    End,
    /// What came is no request, and the server has got [`MALFORMED`].
    Malformed,
    /// The same behind the last argument of a command that was passed on. The server does not read the end of an argument: with
    /// any two bytes in its place, it would run the command. So it gets nothing, and the session ends.
    Cut,
}

impl Default for CommandDecision {
    fn default() -> Self {
        Self::Undecided(Arguments::new())
    }
}

impl StreamFilter for RedisFilter {
    fn feed(&mut self, bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
        self.read(bytes, checked);
        self.state.end()
    }

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.state.end())
    }
}

impl RespState {
    /// An error when the session must end.
    fn end(self) -> io::Result<()> {
        match self {
            Self::Cut => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(()),
        }
    }
}

impl RedisFilter {
    /// `malformed`: set when what came was no request.
    pub fn new(allowed: RedisAccess, malformed: Arc<AtomicBool>) -> Self {
        let (line, command) = (Vec::new(), Command::default());
        Self { allowed, state: RespState::First, line, command, malformed }
    }

    /// Takes what came, and appends what the server gets.
    pub fn read(&mut self, mut bytes: &[u8], checked: &mut BytesMut) {
        while !bytes.is_empty() {
            let fed = match self.state {
                RespState::Malformed | RespState::Cut => return,
                RespState::Argument(missing) => {
                    let take = missing.min(bytes.len());
                    self.argument(&bytes[..take], checked);
                    bytes.advance(take);
                    self.state = match missing - take {
                        0 => RespState::End,
                        missing => RespState::Argument(missing),
                    };
                    Ok(())
                }
                RespState::First | RespState::Length | RespState::End => {
                    self.take_line(&mut bytes, checked)
                }
            };
            if let Err(malformed) = fed {
                tracing::debug!(
                    why = malformed.text(),
                    "an agent sent a malformed request of Redis"
                );
                self.state = match (self.state, &self.command) {
                    (
                        RespState::End,
                        Command { left: 0, decision: CommandDecision::Passes, .. },
                    ) => RespState::Cut,
                    _ => {
                        checked.extend_from_slice(MALFORMED);
                        RespState::Malformed
                    }
                };
                self.malformed.store(true, Relaxed);
            }
        }
    }

    /// Takes a line, or what has come of it.
    fn take_line(
        &mut self,
        bytes: &mut &[u8],
        checked: &mut BytesMut,
    ) -> Result<(), RespFormatError> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let (come, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.line.extend_from_slice(come);
        *bytes = rest;
        let max = match self.state {
            RespState::First => resp::line_bytes_max(self.line.first().copied()),
            _ => HEADER_BYTES_MAX,
        };
        if self.line.len() > max {
            return Err(RespFormatError::Line);
        }
        if end.is_none() {
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        match self.state {
            RespState::First => self.begin(&line, checked),
            RespState::Length => self.begin_argument(&line, checked),
            _ => self.end_argument(&line, checked),
        }
    }

    fn begin(&mut self, line: &[u8], checked: &mut BytesMut) -> Result<(), RespFormatError> {
        match resp::first_line(line)? {
            FirstLine::Array(0) => {}
            FirstLine::Array(count) => {
                self.command = Command { count, left: count, decision: CommandDecision::default() };
                self.state = RespState::Length;
            }
            FirstLine::Inline(arguments) if arguments.is_empty() => {}
            FirstLine::Inline(arguments) => {
                let count = arguments.len();
                self.command =
                    Command { count, left: 0, decision: CommandDecision::Undecided(arguments) };
                self.decide(checked);
            }
        }
        Ok(())
    }

    fn begin_argument(
        &mut self,
        line: &[u8],
        checked: &mut BytesMut,
    ) -> Result<(), RespFormatError> {
        let length = resp::bulk_length(line)?;
        self.command.left -= 1;
        match &mut self.command.decision {
            CommandDecision::Undecided(_) if length > READ_ARGUMENT_BYTES_MAX => {
                refuse("keyward: a command whose name or key is too long is refused", checked);
                self.command.decision = CommandDecision::Refused;
            }
            CommandDecision::Undecided(arguments) => {
                arguments.push(Vec::with_capacity(length).into())
            }
            CommandDecision::Passes => {
                checked.extend_from_slice(format!("${length}\r\n").as_bytes())
            }
            CommandDecision::Refused => {}
        }
        self.state = if length == 0 { RespState::End } else { RespState::Argument(length) };
        Ok(())
    }

    fn argument(&mut self, bytes: &[u8], checked: &mut BytesMut) {
        match &mut self.command.decision {
            CommandDecision::Undecided(arguments) => {
                let last = arguments.last_mut().expect("`begin_argument` added it");
                last.extend_from_slice(bytes);
            }
            CommandDecision::Passes => checked.extend_from_slice(bytes),
            CommandDecision::Refused => {}
        }
    }

    fn end_argument(&mut self, line: &[u8], checked: &mut BytesMut) -> Result<(), RespFormatError> {
        if line != b"\r\n" {
            return Err(RespFormatError::Bulk);
        }
        match self.command.decision {
            CommandDecision::Undecided(_) => self.decide(checked),
            CommandDecision::Passes => checked.extend_from_slice(b"\r\n"),
            CommandDecision::Refused => {}
        }
        self.state = if self.command.left == 0 { RespState::First } else { RespState::Length };
        Ok(())
    }

    /// Decides about the command, if enough of it has come.
    fn decide(&mut self, checked: &mut BytesMut) {
        let CommandDecision::Undecided(arguments) = &self.command.decision else { return };
        self.command.decision = match self.allowed.verdict(arguments, self.command.count) {
            RedisVerdict::Undecided => return,
            RedisVerdict::Passes => {
                checked.extend_from_slice(format!("*{}\r\n", self.command.count).as_bytes());
                for argument in arguments {
                    resp::write_argument(argument, checked);
                }
                CommandDecision::Passes
            }
            RedisVerdict::Refused(words) => {
                refuse(&words, checked);
                CommandDecision::Refused
            }
        };
    }
}

fn refuse(words: &str, checked: &mut BytesMut) {
    tracing::debug!(words, "a command was refused");
    resp::write_command(&[words], checked);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> RedisFilter {
        RedisFilter::new(RedisAccess { database: 0, read_only: false }, Arc::default())
    }

    fn fed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut commands = filter();
        let mut checked = BytesMut::new();
        for piece in bytes.chunks(piece) {
            commands.read(piece, &mut checked);
        }
        checked.to_vec()
    }

    fn command(arguments: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        resp::write_command(arguments, &mut out);
        out
    }

    #[test]
    fn permitted_commands_pass_unchanged_in_pieces_of_any_size() {
        let big = vec![b'\n'; 100_000];
        let all = [
            command(&[b"PING"]),
            command(&[b"SET", b"k", &big]),
            command(&[b"set", b"", b"*1\r\n$6\r\nCONFIG\r\n"]),
            command(&[b"CLIENT", b"SETNAME", b"x"]),
            command(&[b"HELLO", b"3", b"SETNAME", b"x"]),
            command(&[b"SELECT", b"0"]),
            command(&[b"COPY", &big, b"k"]),
            command(&[b"COPY", b"k", b"DB", b"DB", b"0"]),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 64, 4096, 1_000_000] {
            assert_eq!(fed(&all, piece), all, "{piece}");
        }
    }

    #[test]
    fn a_refused_command_becomes_one_that_no_server_knows_in_pieces_of_any_size() {
        let around = command(&[b"GET", b"k"]);
        let long = vec![b'x'; 5000];
        for (refused, says) in [
            (command(&[b"CONFIG", b"GET", b"requirepass"]), "CONFIG is refused"),
            (command(&[b"config"]), "CONFIG is refused"),
            (command(&[b"AUTH", &long]), "AUTH is refused"),
            (command(&[b"HELLO", b"3", b"AUTH", b"u", b"p"]), "HELLO is refused"),
            (command(&[b"CLIENT", b"KILL", b"x"]), "CLIENT is refused"),
            (command(&[b"COPY", b"k", b"k", b"DB", b"1"]), "COPY is refused"),
            (b"copy k k replace db 1\r\n".to_vec(), "COPY is refused"),
            (command(&[b"COPY", b"k", &long, b"DB", b"0"]), "too long is refused"),
            (command(&[b"CLIENT", &long]), "too long is refused"),
            (command(&[&long, b"x"]), "too long is refused"),
            (command(&[b"", b"x"]), "without a name is refused"),
            (command(&[b"GET\0", b"x"]), "without a name is refused"),
            (b"\"\\x43ONFIG\" get requirepass\r\n".to_vec(), "CONFIG is refused"),
            (b"monitor\n".to_vec(), "MONITOR is refused"),
        ] {
            let all = [&around[..], &refused, &around].concat();
            for piece in [1, 5, 100_000] {
                let sent = fed(&all, piece);
                let sent = sent.strip_prefix(&*around).unwrap().strip_suffix(&*around).unwrap();
                let text = String::from_utf8(sent.to_vec()).unwrap();
                assert!(text.starts_with("*1\r\n$") && text.contains("keyward: "), "{text}");
                assert!(text.contains(says), "{text}");
                assert_eq!(text.matches("\r\n").count(), 3, "one argument: {text}");
            }
        }
    }

    #[test]
    fn inline_commands_reach_the_server_as_arrays_and_empty_ones_not_at_all() {
        let sent = fed(b"\r\n*0\r\n*-1\r\nSET a \"b c\"\n  \r\nPING\r\n", 1);
        assert_eq!(sent, [command(&[b"SET", b"a", b"b c"]), command(&[b"PING"])].concat());
    }

    #[test]
    fn nothing_after_a_malformed_request_reaches_the_server() {
        let long_line = vec![b'x'; 70_000];
        for sent in [
            &b"*x\r\n"[..],
            b"*1\n",
            b"*99999999\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$99999999999999999\r\n",
            b"*1\r\n$4\r\nPINGxx",
            b"*1\r\n$3\r\nPING\r\n",
            b"SET \"a\r\n",
            b"*1111111111111111111111111111111111111",
            &long_line,
        ] {
            let all = [sent, b"\r\n", &command(&[b"GET", b"k"])].concat();
            for piece in [1, 3, 100_000] {
                let got = fed(&all, piece);
                assert!(got.ends_with(MALFORMED), "{sent:?}: {got:?}");
                assert!(!got.windows(3).any(|it| it == b"GET"), "{sent:?}: {got:?}");
            }
        }
    }

    /// The server runs a command when the end of its last argument has two bytes, whatever these are.
    #[test]
    fn a_last_argument_without_its_line_end_is_not_completed_and_ends_the_session() {
        for (sent, passed) in [
            (&b"*2\r\n$3\r\nGET\r\n$1\r\nkxx\r\n"[..], &b"*2\r\n$3\r\nGET\r\n$1\r\nk"[..]),
            (b"*2\r\n$3\r\nDEL\r\n$1\r\nk\n", b"*2\r\n$3\r\nDEL\r\n$1\r\nk"),
            (b"*2\r\n$3\r\nDEL\r\n$0\r\n*1\r\n", b"*2\r\n$3\r\nDEL\r\n$0\r\n"),
        ] {
            for piece in [1, 5, 100] {
                let malformed = Arc::<AtomicBool>::default();
                let allowed = RedisAccess { database: 0, read_only: false };
                let mut commands = RedisFilter::new(allowed, malformed.clone());
                let mut checked = BytesMut::new();
                let mut has_ended = false;
                for bytes in sent.chunks(piece) {
                    has_ended |= commands.feed(bytes, &mut checked).is_err();
                }
                assert!(has_ended && malformed.load(Relaxed), "{piece}");
                assert_eq!(&checked[..], passed, "{piece}");
            }
        }
    }

    #[test]
    fn a_declared_length_without_its_bytes_takes_no_memory() {
        let mut commands = filter();
        let mut checked = BytesMut::new();
        commands.read(b"*1048576\r\n$4\r\nMGET\r\n$4294967296\r\n", &mut checked);
        assert!(checked.capacity() < 10_000 && commands.line.capacity() < 10_000);
    }
}
