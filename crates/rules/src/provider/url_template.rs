//! [`UrlTemplate`]: an https URL with variables, and the text that they are filled into.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::variable::FormError;

/// Characters that are not encoded: RFC 3986 §2.3, and `:` and `.`, which hosts with ports contain.
const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// An https URL with `{variables}`. Its form and variables are checked with the provider's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Wraps a URL, such as an app's own endpoint, which has no variables.
    pub fn literal(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        variables(&self.0)
    }

    /// The URL with percent-encoded variables.
    ///
    /// # Errors
    /// When a variable has no value.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<String, FormError> {
        fill(&self.0, values, &encoded)
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names in the braces of a template.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, name, after) = next_variable(rest)?;
        rest = after;
        Some(name)
    })
}

/// The text before the next variable, its name, and the text after it. A brace before a quotation mark or a closing one
/// begins an object in JSON, such as the value of `authorization_details`.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    let is_json = |rest: &str| rest.trim_start().starts_with(['"', '}']);
    let mut braces = text.match_indices('{').map(|(at, _)| text.split_at(at));
    let (before, tail) = braces.find(|(_, tail)| !is_json(&tail[1..]))?;
    let (name, after) = tail[1..].split_once('}')?;
    Some((before, name, after))
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}

/// The template with its variables, each written by `write`.
pub(super) fn fill(
    template: &str,
    values: &BTreeMap<String, String>,
    write: &dyn Fn(&str) -> String,
) -> Result<String, FormError> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, name, after)) = next_variable(rest) {
        let missing =
            || FormError::Missing { name: name.to_owned(), label: name.replace('_', " ") };
        text.push_str(before);
        text.push_str(&write(values.get(name).ok_or_else(missing)?));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_json_are_no_variables() {
        let values = BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]);
        let filled = |text: &str| fill(text, &values, &str::to_owned).ok();
        for json in [
            r#"[{"type":"pay","amount":{"value":1}}]"#,
            r#"{ "id_token": {} }"#,
            "{\n\"a\":\"b\"}",
            "{",
        ] {
            assert_eq!(filled(json).as_deref(), Some(json));
            assert_eq!(variables(json).count(), 0, "{json}");
        }
        let mixed = r#"[{"type":"{tenant}"}]"#;
        assert_eq!(filled(mixed).as_deref(), Some(r#"[{"type":"acme"}]"#));
        assert_eq!(variables(mixed).collect::<Vec<_>>(), ["tenant"]);
        for unknown in ["{other}", "a{}{other}", "{other"] {
            let is_open = !unknown.ends_with('}');
            assert_eq!(filled(unknown).is_some(), is_open, "{unknown}");
        }
        assert_eq!(variables("https://{a}.x/{b}?{c").collect::<Vec<_>>(), ["a", "b"]);
    }
}
