//! Honeytokens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::id::HoneytokenId;
use crate::directory::ManagedBy;

/// A new one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewHoneytoken {
    /// Where it is left.
    pub name: String,
    /// In the shape of this provider's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Whether the token of the agent that sends it is revoked.
    #[serde(default)]
    pub revokes: bool,
}

/// A honeytoken. Its text opens nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HoneytokenView {
    /// `hny_…`
    pub id: HoneytokenId,
    /// Where it was left.
    pub name: String,
    /// What is left there.
    pub text: String,
    /// Whose keys' shape that has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Whether the token of the agent that sends it is revoked.
    pub revokes: bool,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
}
