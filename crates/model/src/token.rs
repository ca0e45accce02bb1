//! Tokens of agents. They are in the agent's row, as hashes; the text of one is shown once.

use jiff::Timestamp;
use keyward_base::id::TokenId;
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::ManagedBy;
use super::secret_text::SecretText;

/// Tokens of one agent. Expired ones go when a new one is added, so these are live.
pub const AGENT_TOKENS_MAX: usize = 1_000;

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct TokenSpec {
        /// What it is for.
        #[key("text")]
        #[serde(default)]
        pub label: Option<String>,
    }
}

section! {
    /// What a request may give beside the spec.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(default)]
    pub struct TokenCreateOptions {
        /// How long it is valid, `8h`.
        #[key("time")]
        pub ttl: Option<String>,
        /// The same in seconds.
        #[key("number")]
        pub expires_in: Option<u64>,
        /// A chosen one, instead of an issued one: at least 20 letters, digits or `-._~`.
        #[key("text")]
        pub token: Option<SecretText>,
    }
}

/// A token as it is stored: its hash, never its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRecord {
    /// `tok_…`
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
    /// Its label.
    #[serde(flatten)]
    pub spec: TokenSpec,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working; `None`: never.
    pub expires: Option<Timestamp>,
    /// `File` for a token that is in the configuration.
    #[serde(default)]
    pub managed_by: ManagedBy,
}

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
    /// Its label.
    #[serde(flatten)]
    pub spec: TokenSpec,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; `null`: never.
    pub expires: Option<Timestamp>,
    /// When it was last used since the gateway began; absent: not since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether it still works.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_request_shows_no_secret() {
        let given: TokenCreateOptions = serde_json::from_str(r#"{"token":"can\u0061ry"}"#).unwrap();
        assert!(given.token.is_some() && !format!("{given:?}").contains("canary"));
    }

    #[test]
    fn rows_of_tokens_are_flat_and_contain_an_absent_label_as_null() {
        let row = serde_json::json!({
            "id": "tok_0123456789abcdefghij", "hash": "00", "label": null,
            "created": "2026-01-02T03:04:05Z", "expires": null, "managed_by": "file",
        });
        let record: TokenRecord = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(record.spec.label, None);
        assert_eq!(serde_json::to_value(&record).unwrap(), row);
    }
}
