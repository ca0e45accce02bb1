//! Tokens of connections, as the API tells of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use keyward_vault::{Failures, TokenStatus};

/// What a refresh by hand brought.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenRefreshed {
    /// The connection's name.
    pub name: String,
    /// Its token now.
    pub token: Option<TokenStatus>,
}
