//! Tokens of agents. They stand in the agent's row, as hashes; the text of one is shown once.

use jiff::Timestamp;
use keyward_base::id::TokenId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::ManagedBy;

/// A token as it is stored: its hash, never its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRecord {
    /// `tok_…`
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
    /// For people.
    pub label: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working; `None`: never.
    pub expires: Option<Timestamp>,
    /// `File` for a token that stands in the configuration.
    #[serde(default)]
    pub managed_by: ManagedBy,
}

/// A token that opens nothing any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RevokedToken {
    /// `tok_…`
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
}

/// A token as the API answers with it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenShown {
    /// `tok_…`
    #[schemars(with = "String")]
    pub id: TokenId,
    /// What it is for.
    pub label: Option<String>,
    /// When it was made.
    #[schemars(with = "String")]
    pub created: Timestamp,
    /// When it ends; absent: never.
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
    /// When it was last used since the gateway began; absent: not since then.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether it still works.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}
