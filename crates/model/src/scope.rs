//! [`Scope`]: what a personal token may be used for.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use keyward_base::names::labelled_enum;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
