//! Reading the parts of a request that signatures use.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::HeaderName;
use serde_json::Value;

use crate::{Incoming, Rejection};

/// No service signs with longer values.
const HEADER_BYTES_MAX: usize = 4096;

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
