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
/// record has every field.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Event {
    /// [`VERSION`].
    pub v: u8,
    /// Position in the log, from 1.
    pub seq: u64,
    /// SHA-256 of the previous record's line, hex; 64 zeros for the first.
    pub prev: String,
    /// When the exchange began.
    pub time: Timestamp,
    /// Its id, also in error bodies and logs.
    pub exchange: String,
    /// The agent's org.
    pub org: Option<String>,
    /// The agent's name; absent when nobody authenticated.
    pub agent: Option<String>,
    /// The id of the agent's token.
    pub token: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The connection whose credential was injected, by name.
    pub connection: Option<String>,
    /// The credential's generation.
    pub generation: Option<u64>,
    /// `https://host:port`.
    pub target: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The path as the agent sent it, without query.
    pub path: Option<String>,
    /// The status that the agent saw, when one was sent.
    pub status: Option<u16>,
    /// Keyward's code, when it answered itself or cut the answer.
    pub code: Option<String>,
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

impl Event {
    /// An event that knows only when it began.
    pub fn begun(time: Timestamp, exchange: String) -> Self {
        Self {
            v: VERSION,
            seq: 0,
            prev: String::new(),
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
