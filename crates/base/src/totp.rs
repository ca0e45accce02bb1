//! [`TotpKey`]: the key of a user's one-time codes (RFC 6238). `keyward-state` computes the codes.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// 160 bits, as RFC 4226 §4 recommends.
pub const KEY_BYTES: usize = 20;

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
