//! Agents over the API.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BindingView, TokenView};
use keyward_base::id::{AgentId, UserId};
use keyward_state::directory::ManagedBy;

/// A new agent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewAgent {
    /// Unreserved URL characters, unique.
    pub name: String,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Connections of another environment cannot be bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whose it is: a user's name or id; whoever asks, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// An agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AgentView {
    /// `agt_…`
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Its environment.
    pub environment: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whose it is; absent: the organisation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// It may do nothing: it left the configuration file, or `held`.
    pub paused: bool,
    /// A person or an alarm has paused it, until a person resumes it.
    #[serde(default)]
    pub held: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Its tokens, without their text.
    pub tokens: Vec<TokenView>,
    /// What it may use.
    pub bindings: Vec<BindingView>,
    /// Listeners of its own, where a gateway runs: `127.0.0.1:8090` or `unix:/run/ci.sock`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<String>,
}
