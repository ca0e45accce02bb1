//! [`StatementFilter`] reads an agent's messages, writes statements to the audit log, and replaces those that the session may
//! not send. The replacement raises the refusal at the server, so that transactions, pipelines and `ReadyForQuery` stay the server's
//! and nothing has to be put between its answers.

use std::borrow::Cow;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};

use super::check::check;
use super::lexer::tokens;
use crate::rules::{CHANGES_LOGIN, Dialect, EnforcedSettings, Reason, changes_login};
use crate::sql::masked;
use crate::stream::{LONG_STATEMENT_BYTES, StreamFilter};
use keyward_proxy::StatementLog;

/// The longest statement that is read, in bytes. Data of `COPY` are no statements.
const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// Checks the messages of an agent.
#[derive(Debug)]
pub struct StatementFilter {
    /// `None`: every statement may be sent that does not change a password.
    kept: Option<EnforcedSettings>,
    log: Option<StatementLog>,
    state: MessageState,
}

#[derive(Debug)]
enum MessageState {
    /// Type and length, as far as they have come.
    Header(BytesMut),
    /// The rest of a message that is passed on.
    Passing(usize),
    /// A statement, and how many of its bytes are missing.
    Statement(BytesMut, usize),
    /// The rest of a statement that is too long.
    Skipping(u8, usize),
}

impl StatementFilter {
    /// `kept`: what the session keeps. `log`: where its statements are recorded.
    pub fn new(kept: Option<EnforcedSettings>, log: Option<StatementLog>) -> Self {
        Self { kept, log, state: MessageState::Header(BytesMut::new()) }
    }
}

impl StreamFilter for StatementFilter {
    fn feed(&mut self, mut bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
        while !bytes.is_empty() {
            match &mut self.state {
                MessageState::Header(header) => {
                    let take = (5 - header.len()).min(bytes.len());
                    header.extend_from_slice(&bytes[..take]);
                    bytes.advance(take);
                    if let [tag, length @ ..] = &header[..]
                        && let Ok(length) = <[u8; 4]>::try_from(length)
                    {
                        let length = u32::from_be_bytes(length) as usize;
                        let body = length.checked_sub(4).ok_or(io::ErrorKind::InvalidData)?;
                        self.state = match (*tag, body) {
                            (b'Q' | b'P' | b'F', STATEMENT_BYTES_MAX..) if self.kept.is_some() => {
                                MessageState::Skipping(*tag, body)
                            }
                            (b'Q' | b'P', STATEMENT_BYTES_MAX..) => {
                                record(&mut self.log, TOO_LONG.to_owned(), false);
                                checked.extend_from_slice(header);
                                MessageState::Passing(body)
                            }
                            // A call is refused whatever it is, and no statement to record.
                            (b'F', _) if self.kept.is_some() => {
                                MessageState::Statement(header.split(), body)
                            }
                            (b'Q' | b'P', _) => MessageState::Statement(header.split(), body),
                            _ => {
                                checked.extend_from_slice(header);
                                MessageState::Passing(body)
                            }
                        };
                        self.end(checked);
                    }
                }
                MessageState::Passing(left) => {
                    let take = (*left).min(bytes.len());
                    checked.extend_from_slice(&bytes[..take]);
                    bytes.advance(take);
                    *left -= take;
                    self.end(checked);
                }
                MessageState::Statement(message, left) => {
                    let take = (*left).min(bytes.len());
                    message.extend_from_slice(&bytes[..take]);
                    bytes.advance(take);
                    *left -= take;
                    self.end(checked);
                }
                MessageState::Skipping(_, left) => {
                    let take = (*left).min(bytes.len());
                    bytes.advance(take);
                    *left -= take;
                    self.end(checked);
                }
            }
        }
        Ok(())
    }

    fn takes_long(&self, bytes: &[u8]) -> bool {
        match &self.state {
            MessageState::Statement(message, left) if self.reads_all() => {
                *left <= bytes.len() && message.len() + left >= LONG_STATEMENT_BYTES
            }
            _ => false,
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.log {
            Some(log) => log.poll_sent(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl StatementFilter {
    /// Whether each statement is read, and not only one that may change a password.
    fn reads_all(&self) -> bool {
        self.kept.is_some() || self.log.is_some()
    }

    /// Continues with the next header when a message is complete.
    fn end(&mut self, checked: &mut BytesMut) {
        match &self.state {
            MessageState::Passing(0) => {}
            MessageState::Statement(message, 0) => {
                let refusal = match &self.kept {
                    Some(kept) => refusal(message, kept),
                    None => login_refusal(message),
                };
                if let Some(text) = text_of(message)
                    && self.log.is_some()
                {
                    let shown = masked(text, tokens(text).ok().as_deref());
                    record(&mut self.log, shown, refusal.is_some());
                }
                checked.extend_from_slice(refusal.as_deref().unwrap_or(message));
            }
            MessageState::Skipping(tag, 0) => {
                record(&mut self.log, TOO_LONG.to_owned(), true);
                let Some(kept) = &self.kept else { return };
                let reason = "the statement is longer than 1 MiB".into();
                // Its name is not known: a later use of that fails as well.
                let failing = FailingStatement { tag: *tag, name: b"" };
                checked.extend_from_slice(&failing.message(&kept_words(&reason, kept)));
            }
            _ => return,
        }
        self.state = MessageState::Header(BytesMut::with_capacity(5));
    }
}

/// What is recorded of a statement that is not read.
const TOO_LONG: &str = "(longer than 1 MiB)";

/// A statement that fails, in place of a refused one.
struct FailingStatement<'m> {
    tag: u8,
    /// Of a prepared statement.
    name: &'m [u8],
}

fn record(log: &mut Option<StatementLog>, statement: String, is_refused: bool) {
    if let Some(log) = log {
        log.add(statement, is_refused);
    }
}

/// The text of a statement that is sent or prepared.
fn text_of(message: &[u8]) -> Option<&[u8]> {
    let (tag, body) = (message[0], &message[5..]);
    match tag {
        b'Q' => body.strip_suffix(b"\0"),
        b'P' => body.split(|byte| *byte == 0).nth(1),
        _ => None,
    }
}

/// What is sent instead of a statement that the session may not send for its settings.
fn refusal(message: &[u8], kept: &EnforcedSettings) -> Option<Vec<u8>> {
    let (tag, body) = (message[0], &message[5..]);
    let failing = |name, reason: &Reason| {
        Some(FailingStatement { tag, name }.message(&kept_words(reason, kept)))
    };
    let malformed = Cow::Borrowed("the message is malformed");
    match tag {
        b'Q' => {
            let text = body.strip_suffix(b"\0").filter(|text| !text.contains(&0));
            match text {
                Some(text) => failing(b"", &check(text, kept).err()?),
                None => failing(b"", &malformed),
            }
        }
        b'P' => {
            let mut parts = body.splitn(3, |byte| *byte == 0);
            let (name, text, rest) = (parts.next(), parts.next(), parts.next());
            let (Some(name), Some(text), Some(_)) = (name, text, rest) else {
                return failing(b"", &malformed);
            };
            failing(name, &check(text, kept).err()?)
        }
        _ => failing(b"", &"messages that call functions are not permitted".into()),
    }
}

/// The same in a session without such settings: only of what changes a password.
fn login_refusal(message: &[u8]) -> Option<Vec<u8>> {
    let text = text_of(message)?;
    let name = match message[0] {
        b'P' => message[5..].split(|byte| *byte == 0).next().unwrap_or_default(),
        _ => b"",
    };
    let is_refused = changes_login(Dialect::Postgres, text, |text| tokens(text).ok());
    let failing = FailingStatement { tag: message[0], name };
    is_refused.then(|| failing.message(&format!("keyward: {CHANGES_LOGIN}")))
}

/// The words of a refusal, with the settings that decide.
fn kept_words(reason: &Reason, kept: &EnforcedSettings) -> String {
    let settings = match kept.rules {
        None => "its setting read_only",
        Some(_) => "its settings statements, tables and functions",
    };
    format!("keyward: {}: {reason} ({settings})", kept.refuser())
}

impl FailingStatement<'_> {
    /// A message of the same kind. Every server knows the cast, needs no language for it, and fails when it parses the statement, in
    /// the simple protocol and the extended one.
    fn message(&self, words: &str) -> Vec<u8> {
        let mut body = Vec::new();
        if self.tag == b'P' {
            body.extend(self.name);
            body.push(0);
        }
        body.extend(format!("SELECT '{words}'::pg_catalog.int4").as_bytes());
        body.push(0);
        if self.tag == b'P' {
            body.put_u16(0);
        }
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        // The answer to a function call has the shape of one to a query.
        let tag = if self.tag == b'P' { b'P' } else { b'Q' };
        [&[tag][..], &length.to_be_bytes(), &body].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::stream::FilteredStream;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn fed(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let kept = EnforcedSettings { read_only: true, ..EnforcedSettings::default() };
        let mut messages = StatementFilter::new(Some(kept), None);
        let mut checked = BytesMut::new();
        for piece in bytes.chunks(piece) {
            messages.feed(piece, &mut checked)?;
        }
        Ok(checked.to_vec())
    }

    #[test]
    fn permitted_messages_pass_unchanged_in_pieces_of_any_size() {
        let all = [
            message(b'Q', b"SELECT 1\0"),
            message(b'P', b"name\0SELECT $1\0\0\0"),
            message(b'B', &[0; 40]),
            message(b'S', b""),
            message(b'd', b"SET ROLE x\0"),
            message(b'X', b""),
        ]
        .concat();
        for piece in [1, 2, 3, 5, 7, 64, 4096] {
            assert_eq!(fed(&all, piece).unwrap(), all, "{piece}");
        }
    }

    #[test]
    fn a_refused_statement_becomes_one_that_fails_in_pieces_of_any_size() {
        let before = message(b'Q', b"SELECT 1\0");
        for (refused, begins, contains) in [
            (message(b'Q', b"SET ROLE x\0"), &b"Q"[..], &b"cannot be changed"[..]),
            (message(b'Q', b"SELECT 1\0SET ROLE x\0"), b"Q", b"malformed"),
            (message(b'Q', b"SELECT 1"), b"Q", b"malformed"),
            (message(b'P', b"n\0DO $$ $$\0\0\0"), b"P", b"SELECT 'keyward"),
            (message(b'P', b"n\0CALL x()\0\0\0"), b"P", b"n\0SELECT 'keyward"),
            (message(b'P', b"n\0SELECT set_config($1,$2,$3)\0\0\0"), b"P", b"n\0SELECT 'keyward"),
            (message(b'P', b"n"), b"P", b"malformed"),
            (message(b'F', &[0; 12]), b"Q", b"messages that call functions"),
            (message(b'Q', &vec![b' '; STATEMENT_BYTES_MAX]), b"Q", b"1 MiB"),
        ] {
            let all = [&before[..], &refused, &before].concat();
            for piece in [1, 6, 4096] {
                let sent = fed(&all, piece).unwrap();
                let sent = sent.strip_prefix(&*before).unwrap().strip_suffix(&*before).unwrap();
                assert!(sent.starts_with(begins), "{refused:?}");
                assert!(sent.windows(contains.len()).any(|it| it == contains), "{sent:?}");
                let length = u32::from_be_bytes(sent[1..5].try_into().unwrap()) as usize;
                assert_eq!(length + 1, sent.len());
            }
        }
    }

    #[test]
    fn without_enforced_settings_messages_of_any_length_pass_as_they_arrive() {
        let rest = vec![0; 100 * 1024];
        for header in [*b"F\xff\xff\xff\xff", *b"Q\xff\xff\xff\xff", *b"d\xff\xff\xff\xff"] {
            let mut messages = StatementFilter::new(None, None);
            let mut checked = BytesMut::new();
            let mut sent = 0;
            for piece in [&header[..], &rest].concat().chunks(1000) {
                messages.feed(piece, &mut checked).unwrap();
                sent += piece.len();
                assert_eq!(checked.len(), sent, "{header:?}");
            }
        }
    }

    #[test]
    fn a_session_without_settings_cannot_change_a_password_by_either_protocol() {
        let around = message(b'Q', b"SELECT password FROM t\0");
        for (refused, begins) in [
            (message(b'Q', b"ALTER USER app PASSWORD 'x'\0"), &b"SELECT 'keyward: a session"[..]),
            (message(b'P', b"n\0ALTER ROLE app PASSWORD 'x'\0\0\0"), b"n\0SELECT 'keyward: a"),
        ] {
            let all = [&around[..], &refused, &around].concat();
            for piece in [1, 6, 4096] {
                let (mut filter, mut sent) = (StatementFilter::new(None, None), BytesMut::new());
                all.chunks(piece).try_for_each(|piece| filter.feed(piece, &mut sent)).unwrap();
                let sent = sent.strip_prefix(&*around).unwrap().strip_suffix(&*around).unwrap();
                assert!(sent[0] == refused[0] && sent[5..].starts_with(begins), "{sent:?}");
            }
        }
    }

    #[test]
    fn an_impossible_message_length_ends_the_session() {
        assert!(fed(&[b'Q', 0, 0, 0, 3, 0], 1).is_err());
    }

    /// It is checked on another thread.
    #[tokio::test]
    async fn a_long_statement_waits_for_a_place_and_keeps_its_turn() {
        let short = message(b'Q', b"SELECT 1\0");
        let padded = |head: &str| format!("{head}{}'\0", "x".repeat(200_000));
        let long = message(b'Q', padded("SELECT '").as_bytes());
        let refused = message(b'Q', padded("DELETE FROM t WHERE a = '").as_bytes());
        let all = [&short[..], &long, &short, &refused, &short].concat();
        let (mut agent, gateway) = duplex(all.len());
        agent.write_all(&all).await.unwrap();
        drop(agent);
        let kept = EnforcedSettings { read_only: true, ..EnforcedSettings::default() };
        let filter = StatementFilter::new(Some(kept), None);
        let places = Arc::new(Semaphore::new(0));
        let mut stream = FilteredStream::new(gateway, filter, BytesMut::new(), Arc::clone(&places));
        let mut first = vec![0; short.len()];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(first, short);
        assert!(poll!(Box::pin(stream.read_u8())).is_pending(), "no place is free");
        places.add_permits(1);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let rest = rest.strip_prefix(&*long).and_then(|rest| rest.strip_prefix(&*short)).unwrap();
        let replaced = String::from_utf8_lossy(rest.strip_suffix(&*short).unwrap());
        assert!(replaced.contains("only statements that read"), "{replaced}");
        assert!(!replaced.contains("DELETE"), "{replaced}");
    }
}
