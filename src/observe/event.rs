//! [`Event`]: the audit record of one exchange. What it is written to is `audit.rs`'s.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of the record's shape.
pub const VERSION: u8 = 1;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole answer went to the agent.
    Completed,
    /// Keyward refused it.
    Refused,
    /// The agent hung up first.
    ClientAborted,
    /// The upstream hung up first.
    UpstreamAborted,
    /// A change of tokens, agents or limits, or a shutdown, ended it.
    Ended,
}

/// One exchange. `seq` and `prev` are given by the writer. What is not known is `null`, so that every
/// record has every field. `S` is text: owned where records are read, borrowed where one is made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Event<S = String> {
    /// [`VERSION`].
    pub v: u8,
    /// Position in the log, from 1.
    pub seq: u64,
    /// SHA-256 of the previous record's line, hex; 64 zeros for the first.
    pub prev: S,
    /// When the exchange began.
    pub time: Timestamp,
    /// Its id, also in error bodies and logs.
    pub exchange: S,
    /// The agent's org.
    pub org: Option<S>,
    /// The agent's name; absent when nobody authenticated.
    pub agent: Option<S>,
    /// The id of the agent's token.
    pub token: Option<S>,
    /// The rule that decided.
    pub rule: Option<S>,
    /// The connection whose credential was injected, by name.
    pub connection: Option<S>,
    /// The credential's generation.
    pub generation: Option<u64>,
    /// `https://host:port`.
    pub target: Option<S>,
    /// The method.
    pub method: Option<S>,
    /// The path as the agent sent it, without query.
    pub path: Option<S>,
    /// The status that the agent saw, when one was sent.
    pub status: Option<u16>,
    /// Keyward's code, when it answered itself or cut the answer.
    pub code: Option<S>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    /// From the request's head to the end.
    pub duration_ms: u64,
    /// How often a secret was masked in the answer. Records of before it are without.
    #[serde(default)]
    pub scrubbed: u64,
    /// How often the request was sent, or tried to be. Records of before it are without.
    #[serde(default)]
    pub attempts: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// The line of a record but for its place, which only the writer knows. Made where the exchange ends,
/// so that one text goes to the writer's thread and not one for each field.
#[derive(Debug)]
pub struct Entry(String);

/// How the line of an event without a place begins.
const PLACELESS: &str = "{\"v\":1,\"seq\":0,\"prev\":\"\"";

impl<S: Default> Event<S> {
    /// An event that knows only when it began.
    pub fn begun(time: Timestamp, exchange: S) -> Self {
        Self {
            v: VERSION,
            seq: 0,
            prev: S::default(),
            time,
            exchange,
            org: None,
            agent: None,
            token: None,
            rule: None,
            connection: None,
            generation: None,
            target: None,
            method: None,
            path: None,
            status: None,
            code: None,
            bytes_in: 0,
            bytes_out: 0,
            duration_ms: 0,
            scrubbed: 0,
            attempts: 0,
            outcome: Outcome::ClientAborted,
        }
    }
}

impl<S: Serialize> Event<S> {
    /// What the writer writes. `seq` and `prev` are those of an event that has no place.
    ///
    /// # Panics
    /// Never: an [`Event`] has no map with other keys than strings.
    pub fn entry(&self) -> Entry {
        let line = serde_json::to_string(self).expect("an event serialises");
        debug_assert!(line.starts_with(PLACELESS), "{line}");
        Entry(line)
    }
}

impl Entry {
    /// The line at this place, newline included.
    pub(super) fn at(&self, seq: u64, prev: &str) -> String {
        let rest = &self.0[PLACELESS.len()..];
        format!("{{\"v\":{VERSION},\"seq\":{seq},\"prev\":\"{prev}\"{rest}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_event_at_its_place() {
        let mut event = Event::begun(Timestamp::UNIX_EPOCH, "exc_1".to_owned());
        event.path = Some("/a\"b\u{e9}".to_owned());
        let line = event.entry().at(7, "c0ffee");
        (event.seq, event.prev) = (7, "c0ffee".to_owned());
        assert_eq!(line, serde_json::to_string(&event).unwrap() + "\n");
    }
}
