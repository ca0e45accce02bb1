//! Changes of what is there: merge patches (RFC 7396).

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A change of a connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionPatch {
    /// A merge patch of its settings: `null` takes one, or all, away.
    #[serde(default, deserialize_with = "also_null")]
    pub settings: Option<Value>,
}

/// `null` is a value here, and not the absence of one.
fn also_null<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}
