//! [`UrlTemplate`]: an https URL with variables, and the text that they are filled into.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::form_error::FormError;

/// Characters that are not encoded: RFC 3986 §2.3, and `:` and `.`, which hosts with ports contain.
const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// An https URL with `{variables}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Wraps text whose variables and form were checked.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Wraps an app's own endpoint, which has no variables.
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
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
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
    while let Some((before, tail)) = rest.split_once('{') {
        let Some((name, after)) = tail.split_once('}') else { break };
        let missing =
            || FormError::Missing { name: name.to_owned(), label: name.replace('_', " ") };
        text.push_str(before);
        text.push_str(&write(values.get(name).ok_or_else(missing)?));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}
