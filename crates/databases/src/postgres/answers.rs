//! The server's messages on their way to the agent. [`AnswerWatch`] ends a session whose mode was changed (servers
//! since version 14 report changes of `default_transaction_read_only`), or that gets more rows or bytes than its
//! connection allows. [`AnswerFrames`] tracks message boundaries, so that a message of Keyward can be inserted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refused::fatal;
use super::statements::is_safe_encoding;
use crate::stream::{Abort, StreamWatch};
use keyward_base::settings::Settings;

/// The longest report that is read. Longer ones are about other settings.
const REPORT_BYTES_MAX: usize = 1024;

/// Type and length of a message, in bytes.
const HEADER_BYTES: usize = 5;

/// What is watched in a session's answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerRules {
    /// Whether the session must stay read-only.
    pub read_only: bool,
    /// Whether texts must stay as they are read here.
    pub reads_statements: bool,
    /// For one request: up to `ReadyForQuery`.
    pub rows_max: Option<u64>,
    pub bytes_max: Option<u64>,
}

/// Why a session was ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionCut {
    /// The mode of the session was changed.
    ModeChanged,
    /// More rows than this.
    Rows(u64),
    /// More bytes than this.
    Bytes(u64),
}

/// Reads the messages of a server.
#[derive(Debug)]
pub struct AnswerWatch {
    watched: AnswerRules,
    /// Type and length of the next message, or a report, as far as they have come.
    begun: BytesMut,
    /// The rest of a message that is not read.
    passing: usize,
    /// Of the request.
    rows: u64,
    bytes: u64,
    ended: Arc<OnceLock<SessionCut>>,
}

impl AnswerRules {
    /// The limits of a connection's settings.
    pub fn limits(settings: Option<&Settings>) -> Self {
        let rows_max = settings.and_then(|settings| settings.rows_max);
        let bytes_max = settings.and_then(|settings| settings.bytes_max);
        Self { rows_max, bytes_max, ..Self::default() }
    }

    fn is_of_mode(self) -> bool {
        self.read_only || self.reads_statements
    }

    /// Whether nothing that a server sends ends the session.
    fn is_nothing(self) -> bool {
        !self.is_of_mode() && self.rows_max.is_none() && self.bytes_max.is_none()
    }

    /// Whether a message may be a report that matters.
    fn reads(self, tag: u8, length: usize) -> bool {
        tag == b'S' && length <= REPORT_BYTES_MAX && self.is_of_mode()
    }

    /// Whether a `ParameterStatus` reports a value that the session must not have.
    fn is_change(self, report: &[u8]) -> bool {
        let mut parts = report.split(|byte| *byte == 0);
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return false };
        match name {
            b"default_transaction_read_only" => self.read_only && value != b"on",
            b"standard_conforming_strings" => value != b"on",
            b"client_encoding" => !std::str::from_utf8(value).is_ok_and(is_safe_encoding),
            _ => false,
        }
    }
}

impl AnswerWatch {
    /// Sets `ended` when it ends the session.
    pub fn new(watched: AnswerRules, ended: Arc<OnceLock<SessionCut>>) -> Self {
        Self { watched, begun: BytesMut::new(), passing: 0, rows: 0, bytes: 0, ended }
    }

    /// Counts a message of the server. `D` is a row, `d` one of `COPY`, `Z` the end of the answer. Notifications (`A`) between
    /// answers are not counted: a session that listens may get many before its next request.
    fn count(&mut self, tag: u8, length: usize) -> Option<SessionCut> {
        match tag {
            b'A' if self.bytes == 0 => return None,
            b'Z' => {
                (self.rows, self.bytes) = (0, 0);
                return None;
            }
            b'D' | b'd' => self.rows += 1,
            _ => {}
        }
        self.bytes = self.bytes.saturating_add((HEADER_BYTES + length) as u64);
        let rows = self.watched.rows_max.filter(|max| self.rows > *max).map(SessionCut::Rows);
        let bytes = self.watched.bytes_max.filter(|max| self.bytes > *max).map(SessionCut::Bytes);
        rows.or(bytes)
    }

    /// What ends the session, and where it begins in `bytes`.
    fn end_in(&mut self, mut bytes: &[u8]) -> Option<(usize, SessionCut)> {
        let (whole, mut begins) = (bytes.len(), 0);
        while !bytes.is_empty() {
            let take = self.passing.min(bytes.len());
            bytes.advance(take);
            self.passing -= take;
            if self.begun.is_empty() {
                begins = whole - bytes.len();
                // Nearly always, the header is here as a whole.
                if let [tag, a, b, c, d, ..] = *bytes {
                    let length = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                    if !self.watched.reads(tag, length) {
                        if let Some(ended) = self.count(tag, length) {
                            return Some((begins, ended));
                        }
                        self.passing = length;
                        bytes.advance(HEADER_BYTES);
                        continue;
                    }
                }
            }
            let Some(byte) = bytes.first() else { break };
            self.begun.extend_from_slice(&[*byte]);
            bytes.advance(1);
            let [tag, a, b, c, d, body @ ..] = &self.begun[..] else { continue };
            let (tag, have) = (*tag, body.len());
            let length = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).saturating_sub(4);
            if have == 0
                && let Some(ended) = self.count(tag, length)
            {
                return Some((begins, ended));
            }
            let is_report = self.watched.reads(tag, length);
            if is_report && have < length {
                continue;
            }
            if is_report && self.watched.is_change(&self.begun[HEADER_BYTES..]) {
                return Some((begins, SessionCut::ModeChanged));
            }
            self.passing = length - have;
            self.begun.clear();
        }
        None
    }
}

impl StreamWatch for AnswerWatch {
    fn observe(&mut self, bytes: &[u8]) -> Result<(), Abort> {
        if self.watched.is_nothing() {
            return Ok(());
        }
        let Some((passed, ended)) = self.end_in(bytes) else { return Ok(()) };
        // It is the only one: nothing is read after it.
        let _ = self.ended.set(ended);
        Err(Abort { forwarded: passed })
    }
}

impl SessionCut {
    /// The last message of a session, for the agent.
    pub fn message(self) -> Vec<u8> {
        match self {
            Self::ModeChanged => fatal(
                "25006",
                "keyward: a setting of the session was changed",
                None,
                Some("a function has changed a setting of the session that must stay as it is"),
            ),
            Self::Rows(max) => {
                let message = format!("keyward: the answer has more than {max} rows");
                let hint =
                    "ask for fewer, such as by LIMIT; the setting rows_max of the connection";
                fatal("54000", &message, None, Some(hint))
            }
            Self::Bytes(max) => {
                let message = format!("keyward: the answer has more than {max} bytes");
                let hint =
                    "ask for less, such as by LIMIT; the setting bytes_max of the connection";
                fatal("54000", &message, None, Some(hint))
            }
        }
    }
}

/// An agent's stream. Of the server's messages, which are written to it, and of the agent's, only types and lengths are read.
#[derive(Debug)]
pub struct AnswerFrames<S> {
    stream: S,
    answers: Frames,
    requests: Frames,
    /// Requests whose answer has not ended.
    open: usize,
    /// Whether statements were executed whose `Sync` has not come.
    executes: bool,
    /// Whether a transaction is open.
    in_transaction: bool,
    idle: Arc<AtomicBool>,
}

/// The messages of one side.
#[derive(Debug, Default)]
struct Frames {
    /// Type and length of a message, as far as they have come.
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// The rest of a message.
    passing: usize,
}

impl Frames {
    /// Follows the messages in these bytes. `begun` gets the type of each whose header ends in them.
    fn follow(&mut self, mut bytes: &[u8], mut begun: impl FnMut(u8)) {
        while !bytes.is_empty() {
            let take = self.passing.min(bytes.len());
            bytes.advance(take);
            self.passing -= take;
            let take = (HEADER_BYTES - self.filled).min(bytes.len());
            self.header[self.filled..][..take].copy_from_slice(&bytes[..take]);
            bytes.advance(take);
            self.filled += take;
            if self.filled == HEADER_BYTES {
                let [tag, a, b, c, d] = self.header;
                self.passing = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.filled = 0;
                begun(tag);
            }
        }
    }
}

impl<S> AnswerFrames<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            answers: Frames::default(),
            requests: Frames::default(),
            open: 0,
            executes: false,
            in_transaction: false,
            idle: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Whether the session runs nothing and has no open transaction, from now on.
    pub fn idle(&self) -> Arc<AtomicBool> {
        self.idle.clone()
    }

    fn note(&self) {
        self.idle.store(self.are_answered() && !self.in_transaction, Relaxed);
    }

    /// Whether everything that was written are whole messages.
    pub fn are_whole(&self) -> bool {
        self.answers.filled == 0 && self.answers.passing == 0
    }

    /// Whether the server has ended its answer to each request. Executions of the extended protocol are one request with their
    /// `Sync`. A `Sync` that the server ignores, as during `COPY`, stays open.
    pub fn are_answered(&self) -> bool {
        self.open == 0 && !self.executes
    }

    fn wrote(&mut self, bytes: &[u8]) {
        let open = &mut self.open;
        self.answers.follow(bytes, |tag| *open = open.saturating_sub(usize::from(tag == b'Z')));
        // The only byte of a `ReadyForQuery` is the state of the transaction.
        if self.answers.header[0] == b'Z' && self.are_whole() {
            self.in_transaction = bytes.last().is_some_and(|state| *state != b'I');
        }
        self.note();
    }

    fn read(&mut self, bytes: &[u8]) {
        let Self { requests, open, executes, .. } = self;
        requests.follow(bytes, |tag| match tag {
            b'Q' | b'F' => *open += 1,
            b'E' => *executes = true,
            b'S' => (*open, *executes) = (*open + 1, false),
            _ => {}
        });
        self.note();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnswerFrames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
        this.read(&out.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnswerFrames<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.wrote(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    /// How many bytes pass, and why the session ends.
    fn passed(watched: AnswerRules, bytes: &[u8], piece: usize) -> (usize, Option<SessionCut>) {
        let mut watch = AnswerWatch::new(watched, Arc::default());
        let mut passed = 0;
        for piece in bytes.chunks(piece) {
            match watch.observe(piece) {
                Ok(()) => passed += piece.len(),
                Err(abort) => return (passed + abort.forwarded, watch.ended.get().copied()),
            }
        }
        (passed, None)
    }

    #[test]
    fn a_report_of_a_changed_mode_is_found_in_pieces_of_any_size() {
        let row = message(b'D', &[b'S'; 3000]);
        let all = AnswerRules { read_only: true, reads_statements: true, ..AnswerRules::default() };
        let texts = AnswerRules { reads_statements: true, ..AnswerRules::default() };
        for (report, watched, is_found) in [
            (&b"default_transaction_read_only\0off\0"[..], all, true),
            (b"default_transaction_read_only\0off\0", texts, false),
            (b"default_transaction_read_only\0on\0", all, false),
            (b"standard_conforming_strings\0off\0", texts, true),
            (b"client_encoding\0SJIS\0", all, true),
            (b"client_encoding\0UTF8\0", all, false),
            (b"client_encoding\0SJIS\0", AnswerRules::default(), false),
            (b"TimeZone\0UTC\0", all, false),
        ] {
            let stream = [&row[..], &message(b'S', report), &row, &message(b'Z', b"I")].concat();
            for piece in [1, 3, 5, 1000, 100_000] {
                let (_, ended) = passed(watched, &stream, piece);
                assert_eq!(
                    ended == Some(SessionCut::ModeChanged),
                    is_found,
                    "{report:?} in {piece}"
                );
            }
        }
    }

    #[test]
    fn an_answer_ends_before_the_row_or_the_bytes_above_its_limit() {
        let (row, end) = (message(b'D', &[7; 100]), message(b'Z', b"I"));
        let two = [row.clone(), row.clone(), end.clone()].concat();
        let stream = [&two[..], &two, &row, &row, &row, &end].concat();
        let rows = AnswerRules { rows_max: Some(2), ..AnswerRules::default() };
        let bytes = AnswerRules { bytes_max: Some(220), ..AnswerRules::default() };
        let before = 2 * two.len() + 2 * row.len();
        for piece in [105, 1000] {
            assert_eq!(
                passed(rows, &stream, piece),
                (before, Some(SessionCut::Rows(2))),
                "{piece}"
            );
            assert_eq!(
                passed(bytes, &stream, piece),
                (before, Some(SessionCut::Bytes(220))),
                "{piece}"
            );
        }
        // A part of the header has passed already.
        assert_eq!(passed(rows, &stream, 1).1, Some(SessionCut::Rows(2)));
        let copied = [message(b'd', b"a"), message(b'd', b"b"), message(b'd', b"c")].concat();
        assert_eq!(passed(rows, &copied, 100).1, Some(SessionCut::Rows(2)));
        let none = AnswerRules::default();
        assert_eq!(passed(none, &stream, 7), (stream.len(), None));
    }

    #[test]
    fn notifications_count_toward_the_byte_limit_only_within_an_answer() {
        let bytes = AnswerRules { bytes_max: Some(220), ..AnswerRules::default() };
        let notified = message(b'A', &[7; 100]).repeat(3);
        let row = message(b'D', &[7; 100]);
        let ended = Some(SessionCut::Bytes(220));
        let within = [&row[..], &notified].concat();
        assert_eq!(passed(bytes, &within, 1000), (2 * row.len(), ended));
        let answer = [&row[..], &message(b'Z', b"I")].concat();
        let between = [&notified[..], &answer, &notified, &answer, &notified].concat();
        for piece in [1, 7, 1000] {
            assert_eq!(passed(bytes, &between, piece), (between.len(), None), "{piece}");
        }
    }

    #[test]
    fn the_end_of_each_message_is_recognized_in_pieces_of_any_size() {
        let stream = [message(b'D', &[1; 300]), message(b'Z', b"I"), message(b'1', b"")].concat();
        let ends = [305, 311, 316];
        for piece in [1, 2, 7, 305] {
            let (mut frames, mut at) = (AnswerFrames::new(()), 0);
            assert!(frames.are_whole());
            for part in stream.chunks(piece) {
                frames.wrote(part);
                at += part.len();
                assert_eq!(frames.are_whole(), ends.contains(&at), "{at} in {piece}");
            }
        }
    }

    #[test]
    fn a_request_is_answered_at_its_ready_for_query_and_each_of_a_pipeline_alone() {
        let (query, execute, sync) =
            (message(b'Q', b"SELECT 'Z'\0"), message(b'E', &[0; 5]), message(b'S', b""));
        let ready = message(b'Z', b"I");
        for piece in [1, 3, 100] {
            let mut frames = AnswerFrames::new(());
            assert!(frames.are_answered(), "a new session");
            for (sent, answers) in [
                (query.clone(), 1),
                ([execute.clone(), execute.clone(), sync.clone()].concat(), 1),
                ([&query[..], &query, &execute, &sync].concat(), 3),
            ] {
                sent.chunks(piece).for_each(|part| frames.read(part));
                for _ in 0..answers {
                    assert!(!frames.are_answered(), "{sent:?} in {piece}");
                    frames.wrote(&message(b'D', b"Z\0\0\0\x05Z"));
                    ready.chunks(piece).for_each(|part| frames.wrote(part));
                }
                assert!(frames.are_answered(), "{sent:?} in {piece}");
            }
            frames.read(&execute);
            assert!(!frames.are_answered(), "executed, and no Sync yet");
        }
    }
}
