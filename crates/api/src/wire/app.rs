//! Apps: the answer to a request that changes one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_model::{App, Shown};

/// An app after a request to change it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AppChanged {
    /// As it is now.
    #[serde(flatten)]
    pub app: Shown<App>,
    /// Whether the request changed it.
    #[serde(default)]
    pub changed: bool,
    /// Names of its connections that the provider refused, and that the next request tries again.
    #[serde(default)]
    pub retried: Vec<String>,
}
