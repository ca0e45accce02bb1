//! [`KeyId`]: identifies a master key without revealing it.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Length of keys: AES-256.
pub const KEY_LEN: usize = 32;

/// Identifies a master key without revealing it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId(pub(super) [u8; 8]);

impl KeyId {
    /// Length of an id in bytes.
    pub const LEN: usize = 8;

    /// The first 8 bytes of SHA-256 of a domain label and the key. They reveal nothing about 256 random bits.
    pub fn of(key: &Zeroizing<[u8; KEY_LEN]>) -> Self {
        let digest = Sha256::new()
            .chain_update(b"keyward master key id v1\0")
            .chain_update(**key)
            .finalize();
        Self(std::array::from_fn(|at| digest[at]))
    }
}

impl fmt::Display for KeyId {
    /// Formats as 16 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
