//! Agents over the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
