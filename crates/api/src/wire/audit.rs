//! The JSON of the audit log: queries, and the result of a verification. A record is [`Event`], as it is in the
//! file.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use keyward_state::observe::heads::{ChainState, PublishedChain, PublishedHead};

pub use keyward_state::observe::change::Change;
pub use keyward_state::observe::counts::{Counts, Group, Grouping};
pub use keyward_state::observe::event::{Event, Outcome};

/// The query of `/audit`. What is absent does not matter.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditRequest {
    /// The agent's name.
    pub agent: Option<String>,
    /// The id of the agent's token.
    pub token: Option<String>,
    /// The id of the session.
    pub session: Option<String>,
    /// The name of the session's end user, or of the user who made a change or sent the request, such as a test.
    pub user: Option<String>,
    /// The host, with a port or without, or `*.suffix`.
    pub host: Option<String>,
    /// The connection's name.
    pub connection: Option<String>,
    /// Keyward's code.
    pub code: Option<String>,
    /// Only requests that Keyward answered itself, or cut.
    pub refused: bool,
    /// The type of event that a change is, such as `honeytoken.used`.
    pub event: Option<String>,
    /// Only changes, no requests.
    pub changes: bool,
    /// Only changes of the resource with this id or name, and of what belongs to it, such as an agent's tokens.
    pub changed: Option<String>,
    /// Only requests, no changes.
    pub requests: bool,
    /// The method.
    pub method: Option<String>,
    /// The exchange's id.
    pub exchange: Option<String>,
    /// Exchanges that began then or later: `2h` ago, an RFC 3339 time, or a day.
    pub since: Option<String>,
    /// Exchanges that began before.
    pub until: Option<String>,
    /// What is counted, for [`AuditCountsRequest`] alone.
    #[schemars(skip)]
    pub by: Option<Grouping>,
    /// Continue with new records as they are written.
    pub follow: bool,
    /// Records wanted; when following, of those that are there already.
    #[schemars(range(min = 1, max = 1_000))]
    pub limit: Option<usize>,
    /// `next` of the page before; when following, the number of the last record that was seen.
    pub after: Option<u64>,
}

/// The query of `/audit/counts`: that of `/audit` with what is counted, and without what is for records.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct AuditCountsRequest(pub AuditRequest);

impl JsonSchema for AuditCountsRequest {
    fn schema_name() -> Cow<'static, str> {
        "AuditCountsRequest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = AuditRequest::json_schema(generator);
        let mut by = generator.subschema_for::<Grouping>();
        by.insert("description".to_owned(), json!("What is counted."));
        if let Some(Value::Object(members)) = schema.get_mut("properties") {
            members.retain(|name, _| !["follow", "limit"].contains(&name.as_str()));
            members.insert("by".to_owned(), by.to_value());
        }
        schema.insert("required".to_owned(), json!(["by"]));
        schema
    }
}

/// The answer of `/audit/counts`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AuditCounts {
    /// What makes a group.
    pub by: Grouping,
    /// The groups, largest first.
    pub groups: Vec<Group>,
    /// Records beyond the largest possible number of groups.
    pub other: u64,
    /// `after` of the request that counts the older records; `null`: all are counted.
    pub next: Option<String>,
}

/// The answer of `/audit/verify`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AuditVerified {
    /// Whether every record follows the one before it, and no chain below is shortened or altered.
    pub whole: bool,
    /// Files that were read.
    pub files: u64,
    /// Records that follow each other.
    pub records: u64,
    /// The number of the first, 0 when there is none. Above 1, older files were removed.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The last one's hash: kept elsewhere, it shows later that nothing was cut off the end.
    pub hash: String,
    /// The first line that does not follow, or where a record is missing that the running gateway has written.
    pub broken: Option<AuditBreak>,
    /// What the replicas of the store published of their logs, compared with this log. Empty where the gateway has its
    /// store for itself.
    #[serde(default)]
    pub chains: Vec<AuditChain>,
}

/// The log of a replica, as the shared store knows it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AuditChain {
    /// Its random name.
    pub chain: String,
    /// The machine of the replica that published last.
    pub host: String,
    /// What the log that was read says of it.
    pub state: AuditChainState,
    /// What is wrong, in words.
    pub reason: Option<String>,
    /// When it was published last.
    pub published: Timestamp,
    /// Whether its replica stopped in an orderly way then.
    pub ended: bool,
    /// The published records, oldest first.
    pub heads: Vec<PublishedHead>,
}

/// What a log says of a published chain.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditChainState {
    /// The log has all published records that are not older than its first.
    Whole,
    /// The log ends before the last published record.
    Shortened,
    /// A published record is another one now.
    Altered,
    /// The log has none of the published records: it is the log of another replica, or it was removed.
    NotHere,
}

impl AuditChain {
    /// A published chain and what a log says of it.
    pub fn of(chain: PublishedChain, state: ChainState) -> Self {
        let (state, reason) = match state {
            ChainState::Whole => (AuditChainState::Whole, None),
            ChainState::NotHere => (AuditChainState::NotHere, None),
            ChainState::Shortened { last } => {
                let lost = chain.last();
                let reason = format!("records {} to {lost} were removed from the end", last + 1);
                (AuditChainState::Shortened, Some(reason))
            }
            ChainState::Altered { same, changed } => {
                let reason = format!("one of the records {} to {changed} was altered", same + 1);
                (AuditChainState::Altered, Some(reason))
            }
        };
        let PublishedChain { chain, host, heads, published, ended } = chain;
        Self { chain, host, state, reason, published, ended, heads }
    }

    pub fn published_chain(&self) -> PublishedChain {
        PublishedChain {
            chain: self.chain.clone(),
            host: self.host.clone(),
            heads: self.heads.clone(),
            published: self.published,
            ended: self.ended,
        }
    }
}

/// A line where the chain ends before the log does.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AuditBreak {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}
