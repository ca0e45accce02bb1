//! [`FieldText`]: the value of a header field that a connection sets.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

use super::error::SettingsError;

/// A field value: 1 to 1024 characters of visible ASCII, with inner spaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldText(HeaderValue);

impl FieldText {
    /// The value as sent.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for FieldText {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let text = text.trim_matches([' ', '\t']);
        let visible = text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'));
        match HeaderValue::from_str(text) {
            Ok(value) if visible && (1..=1024).contains(&text.len()) => Ok(Self(value)),
            _ => Err(SettingsError::FieldText),
        }
    }
}

impl fmt::Display for FieldText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}
