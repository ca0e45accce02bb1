//! [`Secret`]: bytes that must never be shown. `tests/tidy/tables.rs` lists where `.expose()` may be called; all other
//! code can only pass a secret on. [`PasswordHash`] and [`TotpKey`] are those of a user: `keyward-state` computes them.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// 160 bits, as RFC 4226 §4 recommends.
pub const KEY_BYTES: usize = 20;

/// Secret bytes: an API key, a token, a password, a private key.
///
/// It has no `Display`, `Serialize` or `==`; `Debug` prints `Secret(…)`. Wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of `bytes`; the buffer is wiped on drop.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Returns the bytes. Allowed only where `tests/tidy/tables.rs` lists it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes as text, or `None` when they are not UTF-8. Allowed where `expose` is.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether it equals this text. Not in constant time: only for texts of the request that the secret came in.
    pub fn is_text(&self, text: &str) -> bool {
        *self.0 == text.as_bytes()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

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

/// A key. It is stored in the user's sealed row, as base 32; wiped when dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct TotpKey(Zeroizing<[u8; KEY_BYTES]>);

impl TotpKey {
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// As people type it into their program: base 32 without padding.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(&*self.0))
    }
}

impl fmt::Debug for TotpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpKey(…)")
    }
}

impl Serialize for TotpKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for TotpKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let malformed = || D::Error::custom("this is not the key of one-time codes");
        let text = Zeroizing::new(String::deserialize(d)?);
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?);
        let bytes: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| malformed())?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_bytes() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(…))");
        assert_eq!(secret.expose_text(), Some("hunter2"));
    }

    #[test]
    fn a_key_is_stored_as_base_32_and_shown_nowhere() {
        let key = TotpKey::new(Zeroizing::new(*b"12345678901234567890"));
        assert_eq!(format!("{key:?}"), "TotpKey(…)");
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, r#""GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ""#);
        assert_eq!(serde_json::from_str::<TotpKey>(&json).unwrap(), key);
        for bad in [r#""""#, r#""GEZDGNBV""#, r#""gezdgnbvgy3tqojqgezdgnbvgy3tqojq""#, "1"] {
            let error = serde_json::from_str::<TotpKey>(bad).unwrap_err().to_string();
            assert!(bad.len() < 5 || !error.contains(bad.trim_matches('"')), "{error}");
        }
    }
}
