//! The public part of an SSH key, and the logins that it signs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An SSH key.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SshKeyShown {
    /// As a line of `authorized_keys`.
    pub public_key: String,
    /// Accounts at the servers.
    pub users: Vec<String>,
    /// The servers, as `HOST:PORT`.
    pub servers: Vec<String>,
    /// Whether it may be used through a forwarded agent.
    pub forwarding: bool,
}
