//! [`ReportedError`]: the error code in a response of an authorization server. Most servers write it into `error`, some
//! into an object there or into another member.

use serde_json::{Map, Value};

use super::failure::has_meaning;
use keyward_rules::provider::oauth::{Quirks, member};

/// Where servers describe an error: RFC 6749 §5.2, and members that many others have.
const SAID: &[&str] = &[
    "error_description",
    "error_message",
    "error.message",
    "message",
    "errors.0.message",
    "reason",
    "detail",
    "description",
];

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
        let said = said(object);
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
        Self { likely, others: codes.collect(), said }
    }

    /// The error of a server that writes its code into another member, as HubSpot does. Only a code with a meaning
    /// counts: in most answers these members repeat the status.
    pub(super) fn elsewhere(object: &Map<String, Value>, says: &Quirks) -> Option<Self> {
        let named = ["status", "code"].into_iter().chain(says.code.iter().map(String::as_str));
        let codes = named.filter_map(|path| member(object, path)?.as_str());
        let code = { codes }.find(|code| has_meaning(code, says))?;
        Some(Self::one(code.to_owned(), said(object)))
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

/// The description of an answer, in the member that has one.
pub(super) fn said(object: &Map<String, Value>) -> Option<String> {
    let found = SAID.iter().find_map(|path| member(object, path)?.as_str());
    let said = found.filter(|text| !text.is_empty())?;
    Some(match text(object, "error_subtype") {
        Some(subtype) => format!("{said} ({subtype})"),
        None => said.to_owned(),
    })
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}
