//! Organisations, people and their tokens over the API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::patch::also_null;
use keyward_base::id::{OrgId, TokenId, UserId};
use keyward_state::directory::{ManagedBy, Role, Scope};

/// A new organisation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrg {
    /// 2 to 40 lower-case letters, digits and inner hyphens.
    pub name: String,
}

/// An organisation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OrgView {
    /// `org_NAME`
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// `file`: the configuration names it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
}

/// A new person.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Unique in the organisation.
    pub name: String,
    /// Unique in the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// `admin`, `member` or `auditor`.
    pub role: Role,
}

/// A change of a person. What is absent stays.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// Another address; `null`: none.
    #[serde(default, deserialize_with = "also_null", skip_serializing_if = "Option::is_none")]
    pub email: Option<Option<String>>,
    /// What they may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether their tokens and agents open nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// A person.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserView {
    /// `usr_…`
    pub id: UserId,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: Option<String>,
    /// What they may do.
    pub role: Role,
    /// Their tokens and agents open nothing.
    pub paused: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Their tokens, without their text.
    pub tokens: Vec<PersonalTokenView>,
}

/// A new personal access token.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewPersonalToken {
    /// Whose: name or id; whoever asks, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it may be used for; everything that its owner may do, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// How long it lives, `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// The same in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// A personal access token, without its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PersonalTokenView {
    /// `tok_…`
    pub id: TokenId,
    /// Whose: `usr_…`
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// What it is for.
    pub label: Option<String>,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; absent: never.
    pub expires: Option<Timestamp>,
    /// When it was last used since the gateway began; absent: not since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}
