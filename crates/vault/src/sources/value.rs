//! Parses references `PATH#MEMBER` to values of a source, and takes the member of a value in JSON.

use serde_json::Value;

use super::error::SourceError;
use keyward_base::secret::Secret;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::placement::Location;

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

/// The text of a JSON string or number.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
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
