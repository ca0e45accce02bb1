//! [`Variable`]: a variable of hosts and URLs, the check of a value that an owner enters for it, and [`FormError`]: why the
//! variables of a connection are invalid.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::decode::or_default;
use keyward_base::agent::is_unreserved;
use keyward_base::pattern::{HostPattern, PatternError};

/// Servers beside the first.
const MORE_HOSTS_MAX: usize = 15;

/// A variable of hosts and URLs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// The name, as in `{name}`.
    pub name: String,
    /// Which values it accepts.
    #[serde(default)]
    pub kind: VariableKind,
    /// For people; made of the name where a file has none.
    #[serde(default, deserialize_with = "or_default")]
    pub label: String,
    pub help: Option<String>,
    /// An example of a value.
    pub example: Option<String>,
    /// The value used if the owner gives none.
    pub default: Option<String>,
    /// The allowed values; empty means all of the kind.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Whether it comes from the service's OAuth responses instead of the owner.
    #[serde(default)]
    pub captured: bool,
    /// The texts before and after a captured value, written as `https://{}.my.salesforce.com`.
    #[serde(default, deserialize_with = "around")]
    pub within: Option<(String, String)>,
}

/// Which values a variable accepts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// A DNS label, or a part of one.
    #[default]
    Label,
    /// One or more DNS labels, separated by dots.
    Labels,
    /// A whole host, optionally with a port. Changing it requires entering the secret again.
    Host,
    /// Any number of hosts, each optionally with a port, separated by commas.
    Hosts,
    /// Unreserved URL characters; never in hosts.
    Text,
}

impl Variable {
    /// Checks a value and returns its canonical form.
    ///
    /// # Errors
    /// When it does not match the variable's kind or choices.
    pub fn accept(&self, value: &str) -> Result<String, FormError> {
        let name = || self.name.clone();
        let example = |or: &str| self.example.clone().unwrap_or_else(|| or.to_owned());
        if !self.choices.is_empty() {
            return match self.choices.iter().any(|choice| choice == value) {
                true => Ok(value.to_owned()),
                false => Err(FormError::Choice { name: name(), choices: self.choices.join(", ") }),
            };
        }
        match self.kind {
            VariableKind::Label if is_label(value) => Ok(value.to_ascii_lowercase()),
            VariableKind::Labels if value.len() <= 128 && value.split('.').all(is_label) => {
                Ok(value.to_ascii_lowercase())
            }
            VariableKind::Label | VariableKind::Labels => {
                Err(FormError::Label { name: name(), example: example("my-company") })
            }
            VariableKind::Host => match HostPattern::parse(value) {
                Ok(pattern) if pattern.literal().is_some() => Ok(pattern.to_string()),
                _ => Err(FormError::Host { name: name(), example: example("git.example.com") }),
            },
            VariableKind::Hosts => hosts(value).ok_or_else(|| FormError::not_hosts(name())),
            VariableKind::Text if value.len() <= 255 && is_unreserved(value) => {
                Ok(value.to_owned())
            }
            VariableKind::Text => Err(FormError::Text { name: name() }),
        }
    }
}

fn around<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(String, String)>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let around = text.split_once("{}").filter(|(_, after)| !after.contains("{}"));
    let around = around.map(|(before, after)| (before.to_owned(), after.to_owned()));
    let wrong = "this is not the text around a value; write `{}` once, where the value is";
    around.map(Some).ok_or_else(|| D::Error::custom(wrong))
}

/// Whether the value is a DNS label (RFC 1123 §2.1; also `_`, which real services use).
fn is_label(value: &str) -> bool {
    (1..=63).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !value.starts_with('-')
        && !value.ends_with('-')
}

/// The canonical form of a list of hosts; spaces around commas are removed.
fn hosts(list: &str) -> Option<String> {
    if list.is_empty() {
        return Some(String::new());
    }
    let canonical = |host: &str| {
        let pattern = HostPattern::parse(host.trim()).ok()?;
        pattern.literal().is_some().then(|| pattern.to_string())
    };
    let hosts: Vec<String> = list.split(',').map(canonical).collect::<Option<_>>()?;
    (hosts.len() <= MORE_HOSTS_MAX).then(|| hosts.join(","))
}

/// Why variables or fields are invalid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormError {
    /// A variable of the hosts is missing.
    #[error("`{name}` ({label}) is missing: give it with the connection's `variables`")]
    Missing {
        name: String,
        /// The variable's label.
        label: String,
    },
    /// The provider does not have the variable.
    #[error("provider `{provider}` has no variable `{name}`")]
    Unknown { provider: String, name: String },
    /// The value is not a single DNS label.
    #[error("`{name}` must be one label of letters, digits and hyphens, such as `{example}`")]
    Label {
        name: String,
        /// An example of a value.
        example: String,
    },
    /// The value does not name servers.
    #[error("`{name}` must be {must}")]
    Servers {
        name: String,
        /// The values that it accepts.
        must: &'static str,
    },
    /// The value is not a host.
    #[error("`{name}` must be a host name, optionally with port, such as `{example}`")]
    Host {
        name: String,
        /// An example of a value.
        example: String,
    },
    /// The value has reserved URL characters.
    #[error("`{name}` must be letters, digits, `-`, `.`, `_` or `~`, up to 255")]
    Text { name: String },
    /// The value is not one of the choices.
    #[error("`{name}` must be one of {choices}")]
    Choice {
        name: String,
        /// The allowed values.
        choices: String,
    },
    /// The database of a protocol whose databases have numbers.
    #[error("`{name}` must be a number, such as 0")]
    Number {
        /// The variable.
        name: String,
    },
    /// A filled-in host is not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl FormError {
    /// An error for a value that is not a list of hosts.
    pub(super) fn not_hosts(name: String) -> Self {
        let must =
            "at most 15 hosts, separated by commas, such as `b.example.com,c.example.com:27018`";
        Self::Servers { name, must }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(kind: VariableKind, choices: &[&str]) -> Variable {
        Variable {
            name: "v".into(),
            kind,
            label: "V".into(),
            help: None,
            example: None,
            default: None,
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            captured: false,
            within: None,
        }
    }

    #[test]
    fn a_host_variable_accepts_only_a_host_with_an_optional_port() {
        let host = variable(VariableKind::Host, &[]);
        for bad in
            ["", "*.a.test", "a.test/x", "u@a.test", "a b", "https://a.test", "a.test:0", "0x7f.1"]
        {
            assert!(matches!(host.accept(bad), Err(FormError::Host { .. })), "{bad}");
        }
        assert_eq!(host.accept("Git.Example.com."), Ok("git.example.com".into()));
        assert_eq!(host.accept("git.example.com:8443"), Ok("git.example.com:8443".into()));
    }

    #[test]
    fn choices_are_the_only_values() {
        let site = variable(VariableKind::Label, &["com", "com.au"]);
        assert!(matches!(site.accept("evil.com"), Err(FormError::Choice { .. })));
        assert_eq!(site.accept("com.au"), Ok("com.au".into()));
    }

    #[test]
    fn labels_are_one_or_more_and_cannot_leave_the_host_s_domain() {
        let labels = variable(VariableKind::Labels, &[]);
        for bad in
            ["", ".", "a.", ".a", "a..b", "a/b", "evil.test/", "a:1", "*", "*.a", "a@b", "-a"]
        {
            assert!(matches!(labels.accept(bad), Err(FormError::Label { .. })), "{bad}");
        }
        assert_eq!(labels.accept("Acme--Dev.sandbox"), Ok("acme--dev.sandbox".into()));
        assert_eq!(labels.accept("acme"), Ok("acme".into()));
    }

    #[test]
    fn free_text_cannot_leave_its_url_segment() {
        let text = variable(VariableKind::Text, &[]);
        for bad in ["", "a/b", "a?b", "a%2fb", "a b", "é"] {
            assert!(matches!(text.accept(bad), Err(FormError::Text { .. })), "{bad}");
        }
        assert_eq!(text.accept("a-b.c_d~e"), Ok("a-b.c_d~e".into()));
    }
}
