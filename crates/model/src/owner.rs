//! Ownership of resources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose agents may use a connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Those of its owner.
    Private,
    /// All of its organisation.
    #[default]
    Shared,
}

impl Visibility {
    /// Whether all of the organisation may use it.
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}
