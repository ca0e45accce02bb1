//! Tests of secret sources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is fetched.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceTest {
    /// A reference; default: all that connections have in the source.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Which values could be fetched.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct SourceTested {
    /// Whether all could.
    pub ok: bool,
    /// By reference.
    pub tested: Vec<TestedReference>,
}

/// Whether one value could be fetched.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct TestedReference {
    /// The reference.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Whether it could.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
