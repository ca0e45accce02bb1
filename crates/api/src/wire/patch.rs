//! Changes of what is there: merge patches (RFC 7396).

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use keyward_state::directory::Visibility;

/// A change of a connection: what is absent stays, `null` takes away.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionPatch {
    /// Another name: unique, and not one that the configuration names.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is.
    #[serde(default, deserialize_with = "also_null")]
    pub description: Option<Option<String>>,
    /// What it is for.
    #[serde(default, deserialize_with = "also_null")]
    pub purpose: Option<Option<String>>,
    /// All of its tags.
    #[serde(default)]
    pub tags: Option<BTreeSet<String>>,
    /// Its environment.
    #[serde(default, deserialize_with = "also_null")]
    pub environment: Option<Option<String>>,
    /// When its secret ends: `90d`, a day, or a time.
    #[serde(default, deserialize_with = "also_null")]
    pub expires: Option<Option<String>>,
    /// How long a secret is to be used, `90d`.
    #[serde(default, deserialize_with = "also_null")]
    pub rotate_every: Option<Option<String>>,
    /// A merge patch of its settings: `null` takes one, or all, away.
    #[serde(default, deserialize_with = "value")]
    pub settings: Option<Value>,
    /// Another owner, by name or id; `null`: the organisation.
    #[serde(default, deserialize_with = "also_null")]
    pub owner: Option<Option<String>>,
    /// Whose agents may use it.
    #[serde(default)]
    pub visibility: Option<Visibility>,
    /// Whether the provider is asked with the change first, which is stored only when it answers well.
    #[serde(default)]
    pub test: bool,
}

/// `null` is a value here, and not the absence of one.
pub(super) fn also_null<'de, D, T>(d: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(d).map(Some)
}

fn value<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}
