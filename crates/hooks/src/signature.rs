//! Finds signatures in the value of a header, and decodes them.

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use serde::Deserialize;

use crate::Rejection;

/// More keys than a service rotates at once.
const SIGNATURES_MAX: usize = 16;

/// How a value contains its signatures.
#[derive(Debug)]
pub(crate) enum SignatureLayout {
    /// The value is one signature.
    Whole,
    /// `sha256=SIGNATURE`.
    Prefix(String),
    /// `t=TIME,v1=SIGNATURE,v1=SIGNATURE`. Pairs of other names, such as another version, are ignored.
    Pairs { separator: char, signature: String },
    /// `v1,SIGNATURE v1,SIGNATURE`. Those of other versions are ignored.
    Versions(String),
}

/// How the bytes of a signature are written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encoding {
    /// In either case.
    Hex,
    /// The standard alphabet. The padding may be missing, as some services omit it.
    Base64,
    /// The text itself.
    Plain,
}

impl SignatureLayout {
    /// The signatures in `value`; none when all are of other versions.
    pub(crate) fn signatures<'v>(&self, value: &'v str) -> Result<Vec<&'v str>, Rejection> {
        let found = match self {
            Self::Whole => vec![value],
            Self::Prefix(prefix) => {
                vec![value.strip_prefix(prefix.as_str()).ok_or(Rejection::SignatureMalformed)?]
            }
            Self::Pairs { separator, signature } => {
                let pairs = pairs(value, *separator)?.into_iter();
                pairs.filter(|(name, _)| name == signature).map(|(_, text)| text).collect()
            }
            Self::Versions(version) => {
                let split =
                    |entry: &'v str| entry.split_once(',').ok_or(Rejection::SignatureMalformed);
                let entries =
                    value.split(' ').map(split).collect::<Result<Vec<_>, _>>()?.into_iter();
                entries.filter(|(name, _)| name == version).map(|(_, text)| text).collect()
            }
        };
        match found.len() {
            0..=SIGNATURES_MAX => Ok(found),
            _ => Err(Rejection::SignatureMalformed),
        }
    }

    /// The value of a pair, such as the time. Two pairs with this name are refused, because parsers differ in
    /// which one they use.
    pub(crate) fn pair<'v>(
        &self,
        value: &'v str,
        name: &str,
    ) -> Result<Option<&'v str>, Rejection> {
        let Self::Pairs { separator, .. } = self else { return Ok(None) };
        let mut found = pairs(value, *separator)?.into_iter().filter(|(other, _)| *other == name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Rejection::SignatureMalformed),
            (first, _) => Ok(first.map(|(_, text)| text)),
        }
    }
}

fn pairs(value: &str, separator: char) -> Result<Vec<(&str, &str)>, Rejection> {
    let pairs = value.split(separator).map(|pair| pair.trim().split_once('='));
    pairs.map(|pair| pair.ok_or(Rejection::SignatureMalformed)).collect()
}

impl Encoding {
    pub(crate) fn decode(self, text: &str) -> Result<Vec<u8>, Rejection> {
        let bytes = match self {
            Self::Plain => return Ok(text.as_bytes().to_vec()),
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
            Self::Base64 => base64(text),
        };
        bytes.ok().filter(|bytes| !bytes.is_empty()).ok_or(Rejection::SignatureMalformed)
    }
}

/// Base64 with or without padding.
pub(crate) fn base64(text: &str) -> Result<Vec<u8>, data_encoding::DecodeError> {
    match text.len() % 4 {
        0 => BASE64.decode(text.as_bytes()),
        _ => BASE64_NOPAD.decode(text.as_bytes()),
    }
}
