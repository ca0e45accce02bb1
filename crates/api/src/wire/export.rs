//! Resources as a configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The resources of an organisation as a configuration without secrets.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ExportView {
    /// The sections, as in the configuration file.
    pub configuration: Map<String, Value>,
    /// The environment variables that it refers to instead of secrets.
    pub variables: Vec<ExportVariable>,
    /// What a configuration cannot say, for people.
    pub notes: Vec<String>,
}

/// A variable that has to be set.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ExportVariable {
    /// Its name.
    pub name: String,
    /// What its value is, for people.
    pub secret_of: String,
}
