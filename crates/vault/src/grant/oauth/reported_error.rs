//! [`ReportedError`]: the error code in a response of an authorization server. Most servers write it into `error`, some
//! into an object there or into another member.

use serde_json::{Map, Value};

use super::failure::has_meaning;
use keyward_rules::provider::oauth::Quirks;

/// The error of a response.
#[derive(Debug)]
pub(super) struct ReportedError {
    /// The most likely code.
    likely: String,
    /// Other members that may be the code, in order.
    others: Vec<String>,
    /// The description.
    pub(super) said: Option<String>,
}

impl ReportedError {
    /// The error in the member `error`.
    pub(super) fn of(object: &Map<String, Value>) -> Option<Self> {
        let mut said = text(object, "error_description").or_else(|| text(object, "error_message"));
        if let (Some(subtype), Some(text)) = (text(object, "error_subtype"), &mut said) {
            text.push_str(&format!(" ({subtype})"));
        }
        match object.get("error") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::String(code)) if code.is_empty() => {}
            Some(Value::String(code)) => return Some(Self::one(code.clone(), said)),
            Some(Value::Object(inner)) => return Some(Self::nested(inner, said)),
            Some(other) => return Some(Self::one(other.to_string(), said)),
        }
        let is_not_ok = object.get("ok") == Some(&Value::Bool(false));
        is_not_ok.then(|| Self::one("error".to_owned(), said))
    }

    /// Some servers send an object: `{"error": {"code": …, "type": …, "message": …}}`. The number is the code of Meta,
    /// whose `type` is the same for an expired token and a rate limit
    /// (<https://developers.facebook.com/docs/graph-api/guides/error-handling>).
    fn nested(inner: &Map<String, Value>, said: Option<String>) -> Self {
        let number = inner.get("code").filter(|code| code.is_number()).map(Value::to_string);
        let texts = ["error", "status", "type", "code"].iter().filter_map(|name| text(inner, name));
        let mut codes = texts.chain(number);
        let likely = codes.next().unwrap_or_else(|| "error".to_owned());
        Self { likely, others: codes.collect(), said: said.or_else(|| text(inner, "message")) }
    }

    /// The error of a server that writes its code into another member, as HubSpot does. Only a code with a meaning
    /// counts: in most answers these members repeat the status.
    pub(super) fn elsewhere(object: &Map<String, Value>, says: &Quirks) -> Option<Self> {
        let codes = ["status", "code"].iter().filter_map(|name| text(object, name));
        let code = { codes }.find(|code| has_meaning(code, says))?;
        let said = text(object, "error_description").or_else(|| text(object, "message"));
        Some(Self::one(code, said))
    }

    fn one(code: String, said: Option<String>) -> Self {
        Self { likely: code, others: Vec::new(), said }
    }

    /// The first code with a meaning, else the most likely one.
    pub(super) fn code(&self, says: &Quirks) -> &str {
        let mut codes = std::iter::once(&self.likely).chain(&self.others);
        codes.find(|code| has_meaning(code, says)).unwrap_or(&self.likely)
    }
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}
