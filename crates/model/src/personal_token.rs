//! Personal access tokens. They are in their user's row, as hashes; the text of one is shown once.

use jiff::Timestamp;
use keyward_base::id::{TokenId, UserId};
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scope::Scope;

/// Tokens of one person. Expired ones go when a new one is added.
pub const PERSONAL_TOKENS_MAX: usize = 100;

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct PersonalTokenSpec {
        /// What it is for.
        #[key("text")]
        #[serde(default)]
        pub label: Option<String>,
        /// What it may be used for; everything that its owner may do, when empty.
        #[key("list of scopes", "[]")]
        #[serde(default)]
        pub scopes: Vec<Scope>,
    }
}

section! {
    /// What a request may give beside the spec.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct PersonalTokenCreateOptions {
        /// The owner's name or id; default: the caller.
        #[key("text")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub user: Option<String>,
        /// How long it is valid, `90d`.
        #[key("time")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ttl: Option<String>,
        /// The same in seconds.
        #[key("number")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub expires_in: Option<u64>,
    }
}

/// A personal token: its hash, never its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PersonalToken {
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
    /// Its label and scopes, of which there is at least one.
    #[serde(flatten)]
    pub spec: PersonalTokenSpec,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working.
    pub expires: Option<Timestamp>,
}

/// A personal access token as the API answers with it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PersonalTokenShown {
    /// `tok_…`
    #[schemars(with = "String")]
    pub id: TokenId,
    /// The owner: `usr_…`
    #[schemars(with = "String")]
    pub user: UserId,
    /// The name of the user.
    pub name: String,
    /// Its label and scopes.
    #[serde(flatten)]
    pub spec: PersonalTokenSpec,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; absent: never.
    pub expires: Option<Timestamp>,
    /// When it was last used since the gateway began; absent: not since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

impl PersonalTokenSpec {
    /// Adds the scope `all` if no scope is given.
    #[must_use]
    pub fn or_all(mut self) -> Self {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::All);
        }
        self
    }
}

impl PersonalToken {
    /// Whether it still works.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}
