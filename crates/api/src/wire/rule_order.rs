//! The body that puts the stored rules into an order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for an order.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleOrderRequest {
    /// All stored rules of the organisation, each once, by name or id.
    pub rules: Vec<String>,
}
