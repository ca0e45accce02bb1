//! What the directory keeps, as it is sealed: agents with their tokens and bindings, connections'
//! metadata. No secret is here; placeholders and hashes are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use keyward_base::id::{AgentId, ConnectionId, OrgId, TokenId, UserId};
use keyward_base::secret::Secret;
pub use keyward_model::ManagedBy;
use keyward_model::{Connection, Record};
use keyward_rules::inject::placeholder::Placeholder;

/// An agent and its tokens: one row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// Its org.
    pub org: OrgId,
    /// Unique among the org's agents.
    pub name: String,
    /// For people and rules.
    pub labels: BTreeMap<String, String>,
    /// Never bound to connections of another one.
    pub environment: Option<String>,
    /// Whose it is; `None`: the organisation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// Taken out of the file.
    pub paused: bool,
    /// Paused by a person or an alarm, which the file does not end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Its tokens.
    pub tokens: Vec<TokenRecord>,
    /// What it may use.
    pub bindings: Vec<BindingRecord>,
    /// Its last tokens that were revoked: who sends one raises an alarm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<RevokedToken>,
}

/// A token that opens nothing any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RevokedToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
}

/// A token: its hash, never its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
    /// For people.
    pub label: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working.
    pub expires: Option<Timestamp>,
    /// `File` for a token that stands in the configuration.
    #[serde(default)]
    pub managed_by: ManagedBy,
}

/// A binding lives in its agent's row: one aggregate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BindingRecord {
    /// What may be used.
    pub connection: ConnectionId,
    /// When it was bound.
    pub created: Timestamp,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// By secret field.
    pub placeholders: BTreeMap<String, Placeholder>,
    /// By a person or the file, and without limits. Else it is there for slots of the agent's plugins,
    /// and allows what they do.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub direct: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_yes(direct: &bool) -> bool {
    *direct
}

/// A connection's metadata: safe to show.
pub type ConnectionRecord = Record<Connection>;

/// A new agent.
#[derive(Clone, Debug, Default)]
pub struct NewAgent {
    /// Its name: 1 to 64 unreserved characters.
    pub name: String,
    /// For people and rules.
    pub labels: BTreeMap<String, String>,
    /// Never bound to connections of another one.
    pub environment: Option<String>,
    /// Whose it is; `None`: the organisation's.
    pub owner: Option<UserId>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
}

/// A token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its id.
    pub id: TokenId,
    /// Its text, kept nowhere else. Wiped on drop.
    pub text: Secret,
    /// When it stops working.
    pub expires: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether it still works.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl AgentRecord {
    /// Whether it may do nothing.
    pub fn is_paused(&self) -> bool {
        self.paused || self.held
    }

    /// Its binding to a connection.
    pub fn binding(&self, connection: &ConnectionId) -> Option<&BindingRecord> {
        self.bindings.iter().find(|binding| binding.connection == *connection)
    }
}
