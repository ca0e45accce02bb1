//! Parses references `PATH#MEMBER` to values of a source, and takes the value out of an answer, or a member of it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::error::SourceError;
use super::forms::ReadForm;
use keyward_base::secret::Secret;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::placement::Location;

/// An item with labelled fields, perhaps in sections.
#[derive(Deserialize)]
struct LabelledItem {
    #[serde(default)]
    fields: Vec<LabelledField>,
    #[serde(default)]
    sections: Vec<Label>,
}

#[derive(Deserialize)]
struct LabelledField {
    #[serde(flatten)]
    label: Label,
    value: Option<String>,
    section: Option<Label>,
}

/// What is named by its id or its label.
#[derive(Deserialize)]
struct Label {
    id: String,
    label: Option<String>,
}

impl Label {
    fn is(&self, name: &str) -> bool {
        self.id == name || self.label.as_deref() == Some(name)
    }
}

/// The path and the member of a reference.
pub(super) fn split(reference: &str) -> Result<(&str, Option<&str>), SourceError> {
    match reference.rsplit_once('#') {
        Some((_, "")) | Some(("", _)) => Err(SourceError::Reference("PATH or PATH#MEMBER")),
        Some((path, member)) => Ok((path, Some(member))),
        None => Ok((reference, None)),
    }
}

/// The value, or its member if the reference names one.
pub(super) fn member_of(value: String, member: Option<&str>) -> Result<Secret, SourceError> {
    let value = Secret::from(value);
    let Some(name) = member else { return filled(value) };
    let absent = || SourceError::Member(name.to_owned());
    let parsed: Value = serde_json::from_slice(value.expose()).map_err(|_| absent())?;
    match text(parsed.get(name)) {
        Some(text) => filled(Secret::from(text)),
        None => Err(absent()),
    }
}

/// The text of an answer.
pub(super) fn text_in(answer: &Value, form: &ReadForm) -> Result<String, SourceError> {
    let at = |pointer: &Option<String>| pointer.as_ref().and_then(|at| answer.pointer(at));
    if let Some(coded) = at(&form.base64).and_then(Value::as_str) {
        let bytes = BASE64_STANDARD.decode(coded).map_err(|_| SourceError::Malformed)?;
        return String::from_utf8(bytes).map_err(|_| SourceError::Malformed);
    }
    match at(&form.value) {
        Some(Value::Null) => Err(SourceError::Empty),
        found => text(found).ok_or(SourceError::Malformed),
    }
}

/// The text of a member of an object, or of its only one.
pub(super) fn field_in(object: Option<&Value>, name: Option<&str>) -> Result<String, SourceError> {
    let fields = match object {
        Some(Value::Object(fields)) => fields,
        Some(Value::Null) => return Err(SourceError::NotFound),
        _ => return Err(SourceError::Malformed),
    };
    let found = match (name, fields.len()) {
        (Some(name), _) => fields.get(name),
        (None, 0 | 1) => fields.values().next(),
        (None, _) => return Err(SourceError::Several),
    };
    text(found).ok_or(SourceError::NotFound)
}

/// The text of the one field with this label, in this section if the reference names one.
pub(super) fn labelled_in(
    answer: Value,
    section: Option<&str>,
    field: &str,
) -> Result<String, SourceError> {
    let item: LabelledItem = serde_json::from_value(answer).map_err(|_| SourceError::Malformed)?;
    let section = section.map(|name| {
        let found = item.sections.iter().find(|section| section.is(name));
        found.map(|section| &section.id).ok_or(SourceError::NotFound)
    });
    let section = section.transpose()?;
    let is_it = |it: &&LabelledField| {
        let is_in = |id: &String| it.section.as_ref().is_some_and(|own| own.id == *id);
        it.label.is(field) && section.is_none_or(is_in)
    };
    let mut found = item.fields.iter().filter(is_it);
    let value = &found.next().ok_or(SourceError::NotFound)?.value;
    match found.next() {
        Some(_) => Err(SourceError::Several),
        None => value.clone().ok_or(SourceError::Empty),
    }
}

/// The text of a JSON string or number.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The value, unless it is empty: an empty value never replaces another.
pub(super) fn filled(value: Secret) -> Result<Secret, SourceError> {
    match value.expose().iter().all(u8::is_ascii_whitespace) {
        true => Err(SourceError::Empty),
        false => Ok(value),
    }
}

/// The token that a credential sends in `Authorization`.
pub fn bearer_of(credential: &Credential) -> Option<Secret> {
    let writes = credential.writes.iter().flat_map(|scope| &scope.what);
    let is_token = |at: &Location| matches!(at, Location::Header(name) if *name == http::header::AUTHORIZATION);
    let written = writes.into_iter().find(|write| is_token(&write.at))?;
    let token = written.value.expose().strip_prefix(b"Bearer ")?;
    Some(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, member: Option<&str>) -> Result<String, String> {
        let value = member_of(text.to_owned(), member).map_err(|error| error.to_string())?;
        Ok(value.expose_text().unwrap().to_owned())
    }

    #[test]
    fn a_blank_value_is_refused_as_empty() {
        for blank in ["", " ", "\n"] {
            assert_eq!(value(blank, None).unwrap_err(), "the value is empty");
        }
        assert_eq!(value(r#"{"a":""}"#, Some("a")).unwrap_err(), "the value is empty");
    }

    #[test]
    fn a_member_is_a_text_or_a_number() {
        for bad in ["canary", "[1]", r#"{"b":"canary"}"#, r#"{"a":null}"#, r#"{"a":{"b":1}}"#] {
            let refused = value(bad, Some("a")).unwrap_err();
            assert_eq!(refused, "the value is no JSON object with a text at `a`");
        }
        assert_eq!(value(r#"{"a":"x","b":5432}"#, Some("a")).unwrap(), "x");
        assert_eq!(value(r#"{"a":"x","b":5432}"#, Some("b")).unwrap(), "5432");
        assert_eq!(value("whole#text", None).unwrap(), "whole#text");
    }

    #[test]
    fn a_reference_has_a_path_and_perhaps_a_member() {
        assert_eq!(split("a/b#c").unwrap(), ("a/b", Some("c")));
        assert_eq!(split("a/b").unwrap(), ("a/b", None));
        for bad in ["#c", "a#"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
