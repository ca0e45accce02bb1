//! Changes of what is there: merge patches (RFC 7396).

use serde::{Deserialize, Deserializer};

/// A change of an agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentPatch {
    /// Another owner, by name or id; `null`: the organisation.
    #[serde(default, deserialize_with = "also_null")]
    pub owner: Option<Option<String>>,
}

/// `null` is a value here, and not the absence of one.
pub(super) fn also_null<'de, D, T>(d: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(d).map(Some)
}
