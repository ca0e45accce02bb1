//! [`PasswordHash`]: the hash of a user's password with its parameters, so that they can be raised later.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An argon2id hash (RFC 9106). It is stored in the user's sealed row, and never shown.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct PasswordHash {
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    pub lanes: u32,
    /// Hex.
    pub salt: String,
    /// Hex.
    pub hash: String,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}
