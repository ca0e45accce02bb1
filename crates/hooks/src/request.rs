//! Reading the parts of a request that signatures use; finding the signatures in the value of a header, and decoding them.

use std::borrow::Cow;
use std::cell::OnceCell;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use http::HeaderName;
use serde::Deserialize;
use serde_json::Value;

use crate::{Incoming, Rejection};

/// No service signs with longer values.
const HEADER_BYTES_MAX: usize = 4096;
/// More keys than a service rotates at once.
const SIGNATURES_MAX: usize = 16;

/// A request, with its body parsed at most once.
pub(crate) struct HookRequest<'r> {
    pub(crate) incoming: &'r Incoming<'r>,
    json: OnceCell<Option<Value>>,
}

impl<'r> HookRequest<'r> {
    pub(crate) fn new(incoming: &'r Incoming<'r>) -> Self {
        Self { incoming, json: OnceCell::new() }
    }

    /// A header that may stand once. An empty one counts as missing.
    pub(crate) fn header(&self, name: &HeaderName) -> Result<Option<&'r str>, Rejection> {
        let mut values = self.incoming.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Rejection::HeaderRepeated);
        }
        if value.len() > HEADER_BYTES_MAX {
            return Err(Rejection::HeaderStrange);
        }
        let text = value.to_str().map_err(|_| Rejection::HeaderStrange)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// The body, if it is JSON.
    pub(crate) fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| serde_json::from_slice(self.incoming.body).ok()).as_ref()
    }

    /// The text at a pointer of the body.
    pub(crate) fn field(&self, pointer: &str) -> Option<Cow<'_, str>> {
        scalar(self.json()?.pointer(pointer)?)
    }

    /// The first parameter of this name in the query.
    pub(crate) fn query(&self, name: &str) -> Option<Cow<'r, str>> {
        let (_, query) = self.incoming.url.split_once('?')?;
        let query = query.split('#').next().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// A string, number or boolean as text.
pub(crate) fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

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
