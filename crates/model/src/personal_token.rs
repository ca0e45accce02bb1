//! Personal access tokens, and what one may be used for ([`Scope`]). They are in their user's row, as hashes; the text
//! of one is shown once.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use keyward_base::id::{TokenId, UserId};
use keyward_base::keys::section;
use keyward_base::names::labelled_enum;

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

labelled_enum! {
    /// A part of the API.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub enum Area by as_str, all {
        /// Accounts and the consents that make them.
        Connections = "connections",
        /// Programs, their tokens, bindings and plugins.
        Agents = "agents",
        /// OAuth clients.
        Apps = "apps",
        /// What services are known.
        Providers = "providers",
        Rules = "rules",
        /// The audit log.
        Audit = "audit",
        /// Webhooks, and honeytokens that raise an alarm.
        Webhooks = "webhooks",
        /// Hooks, to which services post, and their secrets.
        Hooks = "hooks",
        /// The events that wait at hooks: for a program that takes them.
        HookEvents = "hook-events",
        /// People, and their own tokens.
        Users = "users",
        /// What all organisations share: keys, the CA, the configuration, organisations themselves.
        Install = "install",
    }
}

/// What a personal token may be used for, within what its owner may do: `all`, `read`, or an area
/// with `:read` or `:write`, which includes reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Everything.
    All,
    /// Reading everything.
    Read,
    ReadArea(Area),
    /// Reading and changing an area.
    WriteArea(Area),
}

/// Text that is no scope.
#[derive(Debug, thiserror::Error)]
#[error(
    "is none of `all`, `read`, or `connections`, `agents`, `apps`, `providers`, `rules`, `audit`, `webhooks`, `hooks`, `hook-events`, `users`, `install` with `:read` or `:write`"
)]
pub struct ScopeError;

impl Scope {
    pub fn allows(self, area: Area, writes: bool) -> bool {
        match self {
            Self::All => true,
            Self::Read => !writes,
            Self::ReadArea(of) => of == area && !writes,
            Self::WriteArea(of) => of == area,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Read => f.write_str("read"),
            Self::ReadArea(area) => write!(f, "{}:read", area.as_str()),
            Self::WriteArea(area) => write!(f, "{}:write", area.as_str()),
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        match text {
            "all" => return Ok(Self::All),
            "read" => return Ok(Self::Read),
            _ => {}
        }
        let (name, access) = text.split_once(':').ok_or(ScopeError)?;
        let area = Area::ALL.into_iter().find(|area| area.as_str() == name).ok_or(ScopeError)?;
        match access {
            "read" => Ok(Self::ReadArea(area)),
            "write" => Ok(Self::WriteArea(area)),
            _ => Err(ScopeError),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Scope {
    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let areas = Area::ALL.map(Area::as_str).join("|");
        json_schema!({"type": "string", "pattern": format!("^(all|read|({areas}):(read|write))$")})
    }
}
