//! [`Event`]: the audit record of one exchange or change. `audit.rs` writes it.

use std::borrow::Cow;
use std::fmt::{self, Write};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::change::Change;
use keyward_base::id::{ExchangeId, OrgId};
use keyward_base::names::named_enum;

/// Version of the record format.
pub const VERSION: u8 = 1;

named_enum! {
    /// How an exchange ended.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
    pub enum Outcome by as_str {
        /// The whole response was sent to the agent.
        Completed = "completed",
        /// Keyward refused it.
        Refused = "refused",
        /// The agent closed the stream early.
        #[default]
        ClientAborted = "client_aborted",
        /// The upstream closed the stream early.
        UpstreamAborted = "upstream_aborted",
        /// A change of tokens, agents or limits, or a shutdown ended it.
        Ended = "ended",
    }
}

/// The record of one exchange or change. The writer sets `seq` and `prev`. Unknown values are `null`, so that
/// every record has every field. `S` is the type of text: owned when read, borrowed when made.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Event<S = String> {
    /// [`VERSION`].
    pub v: u8,
    /// Position in the log, from 1.
    pub seq: u64,
    /// SHA-256 of the previous record's line, hex; 64 zeros for the first.
    pub prev: S,
    /// When the exchange began.
    pub time: Timestamp,
    /// The exchange's id, also used in error bodies and logs.
    pub exchange: S,
    /// The agent's org.
    pub org: Option<S>,
    /// The agent's name; `None` without authentication.
    pub agent: Option<S>,
    /// The id of the agent's token.
    pub token: Option<S>,
    /// The id of the session that the agent acted in. Records of others lack this and the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<S>,
    /// The session's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_label: Option<S>,
    /// The name of the session's end user; with `by`, of the user who sent the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<S>,
    /// Who sent the request, if no agent did, as in the test of a connection: `operator`, `usr_…` or `gateway`. Other
    /// records lack this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<S>,
    /// The rule that decided.
    pub rule: Option<S>,
    /// The connection whose credential was injected, or because of which the request was refused, by name.
    pub connection: Option<S>,
    /// The credential's generation.
    pub generation: Option<u64>,
    /// The upstream: `https://host:port`.
    pub target: Option<S>,
    /// The request's method.
    pub method: Option<S>,
    /// The path as the agent sent it, without query. Of a longer path or method than 1 KiB, the record has the beginning, the
    /// number of bytes and the SHA-256 of the whole.
    pub path: Option<S>,
    /// The status that the agent received, if any.
    pub status: Option<u16>,
    /// Keyward's code, if it refused the request or cut the response.
    pub code: Option<S>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    /// From the request's head to the end of the exchange.
    pub duration_ms: u64,
    /// How many secrets were masked in the response. Older records lack it.
    #[serde(default)]
    pub scrubbed: u64,
    /// How often sending was attempted. Older records lack it.
    #[serde(default)]
    pub attempts: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The person who ended the exchange: `operator` or `usr_…`. Other records lack this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_by: Option<S>,
    /// What became of an authorization that the request had of its own, a URL signed with another key or an
    /// `Authorization` without a placeholder: `passed`, `refused` or `replaced`. Other records lack this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_authorization: Option<S>,
    /// The role that Keyward logged in as. Only records of sessions with a database have this; their `target` is
    /// `postgres://host:port/database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_role: Option<S>,
    /// A statement that an agent sent in the database session `exchange`, with `?` for its literals. Only records of
    /// statements have this. `completed`: it was forwarded to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<S>,
    /// How many refused requests this record counts. The sender had its number of records for that minute; they have the
    /// sender, the code and the outcome in common. `time` is that of the first, and so is `exchange`. Other records lack
    /// this and the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// When the last of them began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The change, if the record is of a change instead of an exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Box<Change>>,
}

/// A formatted record without `seq` and `prev`, which the writer adds. It is formatted where the exchange ends,
/// so that a single text is passed to the writer's thread.
#[derive(Debug)]
pub struct AuditEntry(String);

/// Initial buffer size; most entries fit.
const ENTRY_BYTES: usize = 512;

/// Longest text of the request line in a record, in bytes. Agents choose it: long ones would fill the log.
const REQUEST_BYTES_MAX: usize = 1024;

impl<S: Default> Event<S> {
    /// An event with only its start time and id; aborted, until something else ends it.
    pub fn begun(time: Timestamp, exchange: S) -> Self {
        Self { v: VERSION, time, exchange, ..Self::default() }
    }
}

/// What stands before the value of a field after the first one.
macro_rules! field {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

impl<S: AsRef<str>> Event<S> {
    /// The name of the agent, or of who sent the request if no agent did.
    pub fn sender(&self) -> Option<&str> {
        let person = self.by.as_ref().map(|by| self.user.as_ref().unwrap_or(by));
        self.agent.as_ref().or(person).map(S::as_ref)
    }

    /// What a record of counted refusals says: `12 more until 2026-01-31T08:00:59Z`.
    pub fn counted(&self) -> Option<String> {
        Some(format!("{} more until {}", self.count?, self.until?))
    }

    /// Formats the entry. Written by hand because every exchange does it; a test compares it with serde's
    /// output.
    pub fn entry(&self) -> AuditEntry {
        let text = |text: &Option<S>, field, entry: &mut AuditEntry| {
            entry.text(field, text.as_ref().map(S::as_ref));
        };
        let mut entry = AuditEntry(String::with_capacity(ENTRY_BYTES));
        entry.shown(field!("time"), format_args!("\"{}\"", self.time));
        entry.text(field!("exchange"), Some(self.exchange.as_ref()));
        text(&self.org, field!("org"), &mut entry);
        text(&self.agent, field!("agent"), &mut entry);
        text(&self.token, field!("token"), &mut entry);
        let of_some = [
            (field!("session"), &self.session),
            (field!("session_label"), &self.session_label),
            (field!("user"), &self.user),
            (field!("by"), &self.by),
        ];
        for (field, value) in of_some.into_iter().filter(|(_, value)| value.is_some()) {
            text(value, field, &mut entry);
        }
        text(&self.rule, field!("rule"), &mut entry);
        text(&self.connection, field!("connection"), &mut entry);
        entry.number(field!("generation"), self.generation);
        text(&self.target, field!("target"), &mut entry);
        for (field, value) in [(field!("method"), &self.method), (field!("path"), &self.path)] {
            entry.text(field, value.as_ref().map(|text| shortened(text.as_ref())).as_deref());
        }
        entry.number(field!("status"), self.status.map(u64::from));
        text(&self.code, field!("code"), &mut entry);
        entry.number(field!("bytes_in"), Some(self.bytes_in));
        entry.number(field!("bytes_out"), Some(self.bytes_out));
        entry.number(field!("duration_ms"), Some(self.duration_ms));
        entry.number(field!("scrubbed"), Some(self.scrubbed));
        entry.number(field!("attempts"), Some(self.attempts.into()));
        entry.text(field!("outcome"), Some(self.outcome.as_str()));
        if self.cut_by.is_some() {
            text(&self.cut_by, field!("cut_by"), &mut entry);
        }
        if self.own_authorization.is_some() {
            text(&self.own_authorization, field!("own_authorization"), &mut entry);
        }
        if self.database_role.is_some() {
            text(&self.database_role, field!("database_role"), &mut entry);
        }
        if self.statement.is_some() {
            text(&self.statement, field!("statement"), &mut entry);
        }
        if self.count.is_some() {
            entry.number(field!("count"), self.count);
        }
        if let Some(until) = self.until {
            entry.shown(field!("until"), format_args!("\"{until}\""));
        }
        if let Some(change) = &self.change {
            let change = serde_json::to_string(change).expect("it holds text alone");
            entry.shown(field!("change"), format_args!("{change}"));
        }
        entry
    }
}

impl Change {
    /// Converts to an audit event.
    pub fn event(self, now: Timestamp, org: &OrgId, outcome: Outcome) -> Event {
        Event {
            org: Some(org.to_string()),
            outcome,
            change: Some(Box::new(self)),
            ..Event::begun(now, ExchangeId::random().to_string())
        }
    }
}

impl AuditEntry {
    /// Appends the line with `seq` and `prev`, newline included, to `lines`.
    pub(super) fn at(&self, seq: u64, prev: &str, lines: &mut String) {
        lines.push_str("{\"v\":");
        push(lines, format_args!("{VERSION},\"seq\":{seq}"));
        for part in [",\"prev\":\"", prev, "\"", &self.0, "}\n"] {
            lines.push_str(part);
        }
    }

    fn text(&mut self, field: &str, value: Option<&str>) {
        self.0.push_str(field);
        match value {
            None => self.0.push_str("null"),
            Some(plain) if !has_escaped(plain) => {
                for part in ["\"", plain, "\""] {
                    self.0.push_str(part);
                }
            }
            Some(text) => push(&mut self.0, format_args!("{}", serde_json::Value::from(text))),
        }
    }

    fn number(&mut self, field: &str, value: Option<u64>) {
        match value {
            None => self.text(field, None),
            Some(value) => self.shown(field, format_args!("{value}")),
        }
    }

    fn shown(&mut self, field: &str, value: fmt::Arguments<'_>) {
        self.0.push_str(field);
        push(&mut self.0, value);
    }
}

/// Whether JSON requires escaping a byte of the text (RFC 8259 §7). All bytes are examined, so that the compiler can
/// compare many at once.
fn has_escaped(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
}

/// The text, or its beginning with the length and the digest of the whole.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= REQUEST_BYTES_MAX {
        return text.into();
    }
    let beginning = &text[..text.floor_char_boundary(REQUEST_BYTES_MAX)];
    let (bytes, digest) = (text.len(), HEXLOWER.encode(&Sha256::digest(text)));
    format!("{beginning}… ({bytes} bytes, SHA-256 {digest})").into()
}

fn push(text: &mut String, value: fmt::Arguments<'_>) {
    text.write_fmt(value).expect("a String takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Event {
        let text = |text: &str| Some(text.to_owned());
        Event {
            org: text("org_1"),
            agent: text("ci"),
            token: text("tok_1"),
            user: text("ann"),
            by: text("usr_1"),
            rule: text("rul_1"),
            connection: text("a \u{e9} \u{7f}"),
            generation: Some(u64::MAX),
            target: text("https://[::1]:8443"),
            method: text("GET"),
            path: text("/a\"b\\c\u{1}\u{e9}"),
            status: Some(200),
            code: text("bad_request"),
            bytes_in: 1,
            bytes_out: 2,
            duration_ms: 3,
            scrubbed: 4,
            attempts: 5,
            cut_by: text("operator"),
            own_authorization: text("passed"),
            database_role: text("app"),
            statement: text("select \"a\" where b = ?"),
            count: Some(6),
            until: Some(Timestamp::UNIX_EPOCH),
            change: Some(Box::new(Change {
                by: "file".to_owned(),
                why: text("\"x"),
                ..Change::default()
            })),
            ..Event::begun("2026-11-20T01:02:03.000456Z".parse().unwrap(), "exc_1".to_owned())
        }
    }

    #[test]
    fn a_line_is_the_event_as_json_with_its_number_and_previous_hash() {
        let nothing = Event::begun(Timestamp::UNIX_EPOCH, "exc_1".to_owned());
        for mut event in [nothing, full()] {
            let mut line = "before".to_owned();
            event.entry().at(7, "c0ffee", &mut line);
            (event.seq, event.prev) = (7, "c0ffee".to_owned());
            assert_eq!(line, format!("before{}\n", serde_json::to_string(&event).unwrap()));
        }
    }

    #[test]
    fn a_long_method_or_path_is_cut_and_has_the_digest_of_the_whole() {
        let of = |event: Event| {
            let mut line = String::new();
            event.entry().at(1, "", &mut line);
            let read: Event = serde_json::from_str(&line).unwrap();
            (line.len(), read)
        };
        let fits = "/".repeat(REQUEST_BYTES_MAX);
        let (_, read) = of(Event { path: Some(fits.clone()), ..full() });
        assert_eq!(read.path, Some(fits));
        // The limit is within the second character.
        let [one, other] = ["x", "y"].map(|end| format!("/é{}{end}", "é\"".repeat(20_000)));
        let (bytes, read) = of(Event { path: Some(one.clone()), ..full() });
        let path = read.path.unwrap();
        assert!(bytes < 3 * REQUEST_BYTES_MAX, "{bytes}");
        let digest = HEXLOWER.encode(&Sha256::digest(&one));
        let end = format!("… ({} bytes, SHA-256 {digest})", one.len());
        let beginning = path.strip_suffix(&end).expect("its digest");
        assert!(one.starts_with(beginning) && beginning.len() > REQUEST_BYTES_MAX - 3);
        let (_, another) = of(Event { path: Some(other.clone()), ..full() });
        assert_ne!(another.path, Some(path), "paths with the same beginning differ");
        let (bytes, _) = of(Event { method: Some(other), ..full() });
        assert!(bytes < 3 * REQUEST_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn an_outcome_is_written_as_serde_does() {
        use Outcome::{ClientAborted, Completed, Ended, Refused, UpstreamAborted};
        for outcome in [Completed, Refused, ClientAborted, UpstreamAborted, Ended] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }
}
