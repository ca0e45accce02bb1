//! [`Field`]: a field that the owner of a connection enters, and the shape of its values.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::decode::or_default;
use crate::inject::placeholder::{Letters, Placeholder, PlaceholderShape, longest};
use keyward_base::secret::Secret;

/// A field that the owner enters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The name, as in `--field NAME=…` and `{name}`.
    pub name: String,
    /// For people; made of the name where a file has none.
    #[serde(default, deserialize_with = "or_default")]
    pub label: String,
    pub help: Option<String>,
    /// Whether the value is sealed and never shown; then agents get a placeholder of it.
    #[serde(default = "yes")]
    pub secret: bool,
    /// Whether the field may be omitted.
    #[serde(default)]
    pub optional: bool,
    /// Whether its value must be kept in a secret source: it expires, and the source has the next one.
    #[serde(default)]
    pub from_source: bool,
    /// Known prefixes of values. Not enforced, because services add new ones.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// Ends of values that programs read, with variables as `{name}`.
    #[serde(default)]
    pub suffixes: Vec<String>,
    /// How placeholders begin, if not as the first of the prefixes: for SDKs that check more of a key.
    #[serde(skip)]
    pub placeholder: Option<Box<str>>,
    /// The length of values in characters, if all have the same; placeholders get it. Not enforced.
    pub length: Option<usize>,
    /// The letters of placeholders after their beginning.
    #[serde(skip)]
    pub letters: Letters,
    /// A pattern that whole values must match; enforced.
    pub pattern: Option<KeyPattern>,
    /// Environment variables that SDKs read this field from.
    #[serde(default)]
    pub env: Vec<String>,
}

const ANCHOR_BEGIN: &str = "^(?:";
const ANCHOR_END: &str = ")$";

/// Maximum compiled size: 64 KiB, ample for the shape of a key.
const SHAPE_BYTES_MAX: usize = 64 * 1024;

/// A regular expression that must match a whole value.
#[derive(Clone, Debug)]
pub struct KeyPattern(regex_lite::Regex);

impl Field {
    /// A new placeholder. It begins and ends as `key` does, of what the provider declares; without a key, as the first
    /// declared texts. Nothing else of the key is in it.
    pub fn placeholder(
        &self,
        key: Option<&Secret>,
        variables: &BTreeMap<String, String>,
    ) -> Placeholder {
        let first = self.prefixes.first().map_or("", String::as_str);
        let begins = longest(key, &self.prefixes, |key, it| key.starts_with(it)).unwrap_or(first);
        let rest = self.placeholder.as_deref().map(|it| it.strip_prefix(first).unwrap_or(it));
        let filled = |suffix: &String| {
            let fill = |text: String, (name, value): (&String, &String)| {
                text.replace(&format!("{{{name}}}"), value)
            };
            variables.iter().fold(suffix.clone(), fill)
        };
        let suffixes: Vec<String> = self.suffixes.iter().map(filled).collect();
        let suffix = longest(key, &suffixes, |key, it| key.ends_with(it));
        let suffix = suffix.or(suffixes.first().map(String::as_str));
        Placeholder::in_shape(PlaceholderShape {
            prefix: &format!("{begins}{}", rest.unwrap_or_default()),
            // A variable without a value.
            suffix: suffix.filter(|it| !it.contains('{')).unwrap_or_default(),
            length: self.length,
            letters: self.letters,
        })
    }

    /// Whether anything is known of what values look like.
    pub fn has_shape(&self) -> bool {
        !self.prefixes.is_empty() || self.length.is_some() || self.pattern.is_some()
    }

    /// Whether not all keys begin and end alike.
    pub fn has_variants(&self) -> bool {
        self.prefixes.len() > 1 || self.suffixes.len() > 1
    }

    /// The only required secret field; `None` if there are none or several.
    pub(super) fn only_secret(fields: &[Self]) -> Option<&Self> {
        let mut secrets = fields.iter().filter(|field| field.secret && !field.optional);
        secrets.next().filter(|_| secrets.next().is_none())
    }
}

impl KeyPattern {
    /// Compiles `pattern`, anchored at both ends.
    ///
    /// # Errors
    /// When it is not a regular expression, with the reason.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        regex_lite::RegexBuilder::new(&format!("{ANCHOR_BEGIN}{pattern}{ANCHOR_END}"))
            .size_limit(SHAPE_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// The expression as a provider's file has it.
    pub fn written(&self) -> &str {
        let anchored = self.0.as_str();
        &anchored[ANCHOR_BEGIN.len()..anchored.len() - ANCHOR_END.len()]
    }

    /// The anchored expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl<'de> Deserialize<'de> for KeyPattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pattern = String::deserialize(from)?;
        let wrong = |error| format!("not a regular expression: {error}; correct it");
        Self::parse(&pattern).map_err(wrong).map_err(D::Error::custom)
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::super::Catalogue;
    use super::*;

    /// The placeholder of the first secret of a method, without its core and filler.
    fn shape(provider: &str, key: Option<&str>, variables: &[(&str, &str)]) -> String {
        let catalogue = Catalogue::built_in();
        let provider = catalogue.get(provider).unwrap();
        let mut values = provider.defaults();
        values.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let field = provider.auth[0].carried().next().unwrap();
        let key = key.map(|key| Secret::from(key.to_owned()));
        let text = field.placeholder(key.as_ref(), &values).as_str().to_owned();
        let mark = if text.contains("kwph") { "kwph" } else { "0b17" };
        let (begins, rest) = text.split_once(mark).unwrap();
        format!("{begins}…{}", rest[22..].trim_start_matches('0'))
    }

    #[test]
    fn nothing_of_a_key_is_in_a_placeholder_but_what_its_provider_declares() {
        for (provider, key) in [
            ("github", "canary_ghp_canary"),
            ("mailchimp", "canary-us6canary"),
            ("stripe", "xsk_live_canary"),
        ] {
            let text = shape(provider, Some(key), &[("dc", "us6")]);
            assert!(!text.contains("canary"), "{text}");
            assert_eq!(text, shape(provider, None, &[("dc", "us6")]), "as without a key");
        }
    }

    #[test]
    fn a_placeholder_begins_and_ends_as_its_key_does() {
        for (provider, key, expected) in [
            ("github", Some("github_pat_11AA"), "github_pat_…"),
            ("github", Some("gho_x"), "gho_…"),
            ("github", None, "ghp_…"),
            ("slack", Some("xoxp-1-2"), "xoxp-…"),
            ("slack", Some("xoxe.xoxb-1-2"), "xoxe.xoxb-…"),
            ("stripe", Some("sk_live_x"), "sk_live_…"),
            ("stripe", Some("rk_live_x"), "rk_live_…"),
            ("mapbox", Some("pk.eyJ1x"), "pk.eyJ1Ijoia2V5d2FyZCJ9.…"),
            ("mailchimp", Some("0123-us6"), "…-us6"),
            ("mailchimp", None, "…-us6"),
            ("deepl", Some("0123:fx"), "…:fx"),
            ("deepl", Some("0123"), "…"),
        ] {
            assert_eq!(shape(provider, key, &[("dc", "us6")]), expected, "{provider} {key:?}");
        }
    }
}
