//! Changes of what is there: merge patches (RFC 7396).

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::directory::Visibility;

/// A change of a connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionPatch {
    /// A merge patch of its settings: `null` takes one, or all, away.
    #[serde(default, deserialize_with = "also_null")]
    pub settings: Option<Value>,
    /// Another owner, by name or id; `null`: the organisation.
    #[serde(default, deserialize_with = "given")]
    pub owner: Option<Option<String>>,
    /// Whose agents may use it.
    #[serde(default)]
    pub visibility: Option<Visibility>,
}

/// A change of an agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentPatch {
    /// Another owner, by name or id; `null`: the organisation.
    #[serde(default, deserialize_with = "given")]
    pub owner: Option<Option<String>>,
}

/// What was given, also where it is `null`.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(d).map(Some)
}

/// `null` is a value here, and not the absence of one.
fn also_null<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}
