//! The JSON of rotations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectionTested, SecretFields};
use keyward_model::{Connection, Shown};

/// A new secret for a connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// The fields of its auth method.
    pub fields: SecretFields,
    /// Whether it is tested at the provider first; it is then in force only if the provider accepts it.
    #[serde(default = "yes")]
    pub test: bool,
    /// Whether secrets are refused that look like something else, such as a key of another service or a key in quotes.
    #[serde(default)]
    pub check_format: bool,
    /// How long the old one is kept for a rollback, `24h`; the configuration's when absent.
    #[serde(default)]
    pub keep_old: Option<String>,
    /// The old one is wiped at once: no rollback is possible.
    #[serde(default)]
    pub confirm: bool,
    /// When the new one ends: `90d`, a day, or a time.
    #[serde(default)]
    pub expires: Option<String>,
}

/// Values that are compared with the secret of a connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparedValues {
    /// Fields of its auth method; absent ones are not compared.
    pub fields: SecretFields,
}

/// Whether a connection has values.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Comparison {
    /// Whether all of them are in force. `false` also where they cannot be compared: in a draft, and with references.
    pub same: bool,
}

/// The result of a rotation.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Rotated {
    /// The connection.
    #[serde(flatten)]
    pub connection: Shown<Connection>,
    /// What the provider said of the new secret; absent when it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<ConnectionTested>,
    /// Whose account the old one was, where that is known and the new one is of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_before: Option<String>,
}

fn yes() -> bool {
    true
}
