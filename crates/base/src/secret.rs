//! [`Secret`]: bytes that must never be shown. `tests/tidy/tables.rs` lists where `.expose()` may be called; all other
//! code can only pass a secret on.

use std::fmt;

use zeroize::Zeroizing;

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
}
