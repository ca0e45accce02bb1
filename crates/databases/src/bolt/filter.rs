//! [`BoltFilter`] reads an agent's messages. Only heads are decoded: the statement, and what follows its parameters.
//! What is refused is not sent to the server: Keyward answers it, and what follows it, until the agent resets the
//! session, as a server does after a failure.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::answers::{Awaited, AwaitedAnswers};
use super::cypher::tokens;
use super::format::{BoltFormatError, BoltVersion, LOGON_SINCE};
use super::greeting::ClientLogin;
use super::messages::{self, Chunks, Piece, put_chunks, put_message, tag};
use super::packstream::{BoltMap, ValueReader, ValueScan, put_text, text};
use super::statements::check;
use crate::sql::masked;
use crate::stream::StreamFilter;
use keyward_proxy::StatementLog;

/// The longest message that is read as a whole, and the longest statement, in bytes.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;

/// What a refusal has as its code.
pub const FORBIDDEN: &str = "Neo.ClientError.Security.Forbidden";
pub const UNAUTHORIZED: &str = "Neo.ClientError.Security.Unauthorized";

const TOO_LONG: &str = "keyward: a statement of more than 1 MiB is refused";
const OTHER_USER: &str = "keyward: the session is the connection's user, and no other";
const OTHER_LOGIN: &str = "keyward: this is not the login with which the session began";

/// What a session may do.
pub struct BoltAccess {
    pub version: BoltVersion,
    pub read_only: bool,
    /// The database where an agent names none; `None`: the user's own.
    pub database: Option<String>,
    /// The server's host and port, and how the agent finds the listener: for tables of routes.
    pub server: String,
    pub listener: String,
    /// The login with which it began; `None`: its listener asks for none.
    pub login: Option<ClientLogin>,
}

/// Checks the messages of an agent.
pub struct BoltFilter {
    access: BoltAccess,
    /// Where its statements are recorded.
    log: Option<StatementLog>,
    awaited: Arc<AwaitedAnswers>,
    chunks: Chunks,
    /// What is kept of the message.
    message: Vec<u8>,
    reading: MessageReading,
    /// Whether a message was refused, and the agent has not reset the session.
    has_failed: bool,
    is_logged_off: bool,
    /// Set when what came was no message.
    malformed: Arc<AtomicBool>,
}

/// How the rest of a message is read.
enum MessageReading {
    /// It is kept.
    Whole,
    /// The parameters of a statement are passed on, and what follows them is kept.
    Parameters(ValueScan),
    /// It is refused, and what comes is dropped.
    Dropped,
}

impl StreamFilter for BoltFilter {
    fn feed(&mut self, bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
        self.read(bytes, checked).map_err(|malformed| {
            tracing::debug!(why = malformed.text(), "an agent sent a malformed message of Bolt");
            self.malformed.store(true, Relaxed);
            io::ErrorKind::InvalidData.into()
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.log {
            Some(log) => log.poll_sent(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl BoltFilter {
    /// `malformed`: set when what came was no message.
    pub fn new(
        access: BoltAccess,
        log: Option<StatementLog>,
        awaited: Arc<AwaitedAnswers>,
        malformed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            access,
            log,
            awaited,
            chunks: Chunks::default(),
            message: Vec::new(),
            reading: MessageReading::Whole,
            has_failed: false,
            is_logged_off: false,
            malformed,
        }
    }

    fn read(&mut self, mut bytes: &[u8], checked: &mut BytesMut) -> Result<(), BoltFormatError> {
        while let Some(piece) = self.chunks.piece(&mut bytes) {
            match piece {
                Piece::Nothing => {}
                Piece::Payload(payload) => self.part(payload, checked)?,
                Piece::End => self.end(checked)?,
            }
        }
        Ok(())
    }

    fn part(&mut self, payload: &[u8], checked: &mut BytesMut) -> Result<(), BoltFormatError> {
        match &mut self.reading {
            MessageReading::Dropped => Ok(()),
            MessageReading::Parameters(scan) => {
                let taken = scan.feed(payload)?;
                put_chunks(&payload[..taken], checked);
                self.message.extend_from_slice(&payload[taken..]);
                match self.message.len() > WHOLE_BYTES_MAX {
                    true => Err(BoltFormatError::TooLong),
                    false => Ok(()),
                }
            }
            MessageReading::Whole => {
                self.message.extend_from_slice(payload);
                match self.message.len() > WHOLE_BYTES_MAX {
                    true => self.begin_long(checked),
                    false => Ok(()),
                }
            }
        }
    }

    /// A message is too long to be kept: a statement whose parameters are many, or one that is refused.
    fn begin_long(&mut self, checked: &mut BytesMut) -> Result<(), BoltFormatError> {
        let message = mem::take(&mut self.message);
        let (tag::RUN, 3, mut fields) = messages::parts(&message)? else {
            return Err(BoltFormatError::TooLong);
        };
        self.reading = MessageReading::Dropped;
        if self.has_failed {
            return self.ignore();
        }
        if self.is_logged_off {
            return Err(BoltFormatError::Order);
        }
        let statement = match fields.text() {
            Ok(statement) => statement,
            Err(BoltFormatError::Cut) => return self.refuse(TOO_LONG),
            Err(malformed) => return Err(malformed),
        };
        if let Some(refusal) = self.refusal(statement) {
            return self.refuse(&refusal);
        }
        let mut scan = ValueScan::default();
        let taken = scan.feed(fields.0)?;
        let rest = fields.0[taken..].to_vec();
        put_chunks(&message[..message.len() - rest.len()], checked);
        self.message = rest;
        self.reading = MessageReading::Parameters(scan);
        Ok(())
    }

    fn end(&mut self, checked: &mut BytesMut) -> Result<(), BoltFormatError> {
        let message = mem::take(&mut self.message);
        match mem::replace(&mut self.reading, MessageReading::Whole) {
            MessageReading::Dropped => Ok(()),
            MessageReading::Parameters(scan) if !scan.is_complete() => Err(BoltFormatError::Cut),
            MessageReading::Parameters(_) => {
                let mut fields = ValueReader(&message);
                let extra = fields.map()?;
                fields.end()?;
                // Its beginning is at the server, so that the session has to end.
                let extra = self.access.extra(extra, self.awaited.has_transaction());
                let extra = extra.ok_or(BoltFormatError::Refused)?;
                put_message(&extra, checked);
                self.awaited.add(Awaited::Server)
            }
            MessageReading::Whole => self.whole(&message, checked),
        }
    }

    /// Decides about a message that has come as a whole.
    fn whole(&mut self, message: &[u8], checked: &mut BytesMut) -> Result<(), BoltFormatError> {
        let (tag, count, mut fields) = messages::parts(message)?;
        if self.has_failed && !matches!(tag, tag::RESET | tag::GOODBYE) {
            return self.ignore();
        }
        if self.is_logged_off && !matches!(tag, tag::LOGON | tag::RESET | tag::GOODBYE) {
            return Err(BoltFormatError::Order);
        }
        match (tag, count) {
            (tag::RUN, 3) => self.run(fields, checked),
            (tag::BEGIN, 1) => self.begin(fields, checked),
            (tag::ROUTE, 3) => self.route(fields, checked),
            (tag::LOGON, 1) if self.is_logged_off => self.log_on(fields),
            (tag::LOGOFF, 0) if self.access.version >= LOGON_SINCE => {
                fields.end()?;
                self.is_logged_off = true;
                self.awaited.add(Awaited::Own { answer: messages::success(), fails: false })
            }
            (tag::PULL | tag::DISCARD | tag::TELEMETRY, 1) => {
                fields.value()?;
                self.pass(message, fields, Awaited::Server, checked)
            }
            (tag::COMMIT | tag::ROLLBACK, 0) => {
                self.awaited.set_transaction(false);
                self.pass(message, fields, Awaited::Server, checked)
            }
            (tag::RESET, 0) => {
                self.has_failed = false;
                self.awaited.set_transaction(false);
                self.pass(message, fields, Awaited::Reset, checked)
            }
            (tag::GOODBYE, 0) => {
                fields.end()?;
                put_message(message, checked);
                Ok(())
            }
            _ => Err(BoltFormatError::Order),
        }
    }

    fn pass(
        &self,
        message: &[u8],
        rest: ValueReader<'_>,
        awaited: Awaited,
        checked: &mut BytesMut,
    ) -> Result<(), BoltFormatError> {
        rest.end()?;
        put_message(message, checked);
        self.awaited.add(awaited)
    }

    /// `RUN`: the statement, its parameters, and settings of its transaction.
    fn run(
        &mut self,
        mut fields: ValueReader<'_>,
        checked: &mut BytesMut,
    ) -> Result<(), BoltFormatError> {
        let (statement, parameters, extra) = (fields.text()?, fields.value()?, fields.map()?);
        fields.end()?;
        let extra = self.access.extra(extra, self.awaited.has_transaction());
        let Some(extra) = extra else { return self.refuse(OTHER_USER) };
        if let Some(refusal) = self.refusal(statement) {
            return self.refuse(&refusal);
        }
        let mut head = vec![0xb3, tag::RUN];
        put_text(statement, &mut head);
        put_chunks(&head, checked);
        put_chunks(parameters, checked);
        put_message(&extra, checked);
        self.awaited.add(Awaited::Server)
    }

    fn begin(
        &mut self,
        mut fields: ValueReader<'_>,
        checked: &mut BytesMut,
    ) -> Result<(), BoltFormatError> {
        let extra = fields.map()?;
        fields.end()?;
        let Some(extra) = self.access.extra(extra, false) else {
            return self.refuse(OTHER_USER);
        };
        put_message(&messages::with_field(tag::BEGIN, &extra), checked);
        self.awaited.set_transaction(true);
        self.awaited.add(Awaited::Server)
    }

    /// `ROUTE`: what the client knows of the server, bookmarks, and the database.
    fn route(
        &mut self,
        mut fields: ValueReader<'_>,
        checked: &mut BytesMut,
    ) -> Result<(), BoltFormatError> {
        let (mut context, bookmarks, mut extra) = (fields.map()?, fields.value()?, fields.map()?);
        fields.end()?;
        if names_user(&extra) {
            return self.refuse(OTHER_USER);
        }
        let known = context.text("address").unwrap_or(&self.access.listener).to_owned();
        let (server, database) =
            (text(&self.access.server), self.access.database.as_deref().map(text));
        add_database(&mut extra, database.as_deref());
        context.remove(&["address"]);
        context.0.push(("address", server.as_slice()));
        let mut message = vec![0xb3, tag::ROUTE];
        context.write(&mut message);
        message.extend_from_slice(bookmarks);
        extra.write(&mut message);
        put_message(&message, checked);
        self.awaited.add(Awaited::Routes(known))
    }

    /// The session stays that of its connection, so only the same login is accepted again.
    fn log_on(&mut self, mut fields: ValueReader<'_>) -> Result<(), BoltFormatError> {
        let login = ClientLogin::of(&fields.map()?);
        fields.end()?;
        let is_same = self.access.login.as_ref().is_none_or(|own| own.is_same(&login));
        self.is_logged_off = !is_same;
        self.has_failed = !is_same;
        let answer = match is_same {
            true => messages::success(),
            false => messages::failure(self.access.version, UNAUTHORIZED, OTHER_LOGIN),
        };
        self.awaited.add(Awaited::Own { answer, fails: !is_same })
    }

    /// Why a statement is refused. It is recorded, if statements are.
    fn refusal(&mut self, statement: &str) -> Option<String> {
        let tokens = tokens(statement);
        let checked = check(statement, tokens.as_deref(), self.access.read_only);
        if let Some(log) = &mut self.log {
            log.add(masked(statement.as_bytes(), tokens.as_deref()), checked.is_err());
        }
        checked.err().map(|reason| format!("keyward: {reason}"))
    }

    fn refuse(&mut self, words: &str) -> Result<(), BoltFormatError> {
        tracing::debug!(words, "a message was refused");
        self.has_failed = true;
        let answer = messages::failure(self.access.version, FORBIDDEN, words);
        self.awaited.add(Awaited::Own { answer, fails: true })
    }

    fn ignore(&self) -> Result<(), BoltFormatError> {
        self.awaited.add(Awaited::Own { answer: messages::ignored(), fails: false })
    }
}

impl BoltAccess {
    /// The settings of a transaction as the server gets them; `None`: they name another user. `has_begun`: it has its
    /// database already.
    fn extra(&self, extra: BoltMap<'_>, has_begun: bool) -> Option<Vec<u8>> {
        if names_user(&extra) {
            return None;
        }
        let (reads, database) = (text("r"), self.database.as_deref().map(text));
        let mut extra = extra;
        if self.read_only {
            extra.remove(&["mode"]);
            extra.0.push(("mode", reads.as_slice()));
        }
        if !has_begun {
            add_database(&mut extra, database.as_deref());
        }
        let mut out = Vec::new();
        extra.write(&mut out);
        Some(out)
    }
}

/// Whether a map names another user, also where the key is written twice.
fn names_user(extra: &BoltMap<'_>) -> bool {
    extra.0.iter().any(|(key, value)| *key == "imp_user" && is_text(value))
}

/// Adds the connection's database where the agent names none.
fn add_database<'a>(extra: &mut BoltMap<'a>, database: Option<&'a [u8]>) {
    if let Some(database) = database
        && !extra.get("db").is_some_and(is_text)
    {
        extra.remove(&["db"]);
        extra.0.push(("db", database));
    }
}

/// Whether a value is a text, and not null.
fn is_text(value: &[u8]) -> bool {
    ValueReader(value).text().is_ok()
}
