//! The index of the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the parts of the API are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiIndex {
    /// The version of the gateway.
    pub version: String,
    /// The description of the API.
    pub openapi: String,
    /// Who asks.
    pub caller: String,
    pub status: String,
    /// The path of each collection, by its name.
    pub collections: BTreeMap<String, String>,
}
