//! [`Headers`]: fields that are set on every request of a connection. A field that routes, frames, authenticates or
//! redirects the request is refused. [`FieldText`]: the value of a header field that a connection sets.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::SettingsError;

/// The maximum number of fields that a connection may set.
const FIELDS_MAX: usize = 32;

/// How many characters of a name a message quotes.
const QUOTED_CHARS_MAX: usize = 64;

/// Fields that a connection must not set, as names or prefixes of names, with the reason.
const RESERVED: &[(&[&str], &str)] = &[
    (
        &[
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "proxy-*",
            "sec-websocket-*",
        ],
        "it is a hop-by-hop field",
    ),
    (&["host", "x-original-url", "x-rewrite-url"], "only rules decide where a request goes"),
    (
        &["x-http-method", "x-http-method-override", "x-method-override"],
        "only rules decide what a request does",
    ),
    (&["content-*", "expect", "range", "if-range"], "it depends on the request"),
    (&["accept-encoding"], "answers must come in a coding that Keyward can search"),
    (&["authorization", "cookie"], "credentials are given as `fields`"),
    (&["user-agent"], "write `user_agent`"),
    (&["keyward-*"], "it is reserved for Keyward"),
];

/// Field names and values, ordered by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<(HeaderName, FieldText)>);

impl Headers {
    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the fields of `base` that are not set here.
    pub fn with_defaults(&self, base: &Self) -> Self {
        let inherited = base.0.iter().filter(|(name, _)| self.names().all(|own| own != name));
        let mut all: Vec<_> = self.0.iter().chain(inherited).cloned().collect();
        all.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Self(all)
    }

    /// Iterates over names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, text)| (name, text.value()))
    }

    /// Iterates over the names.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }
}

/// Parses the name of a field that a connection may set.
///
/// # Errors
/// When it is not a field name, or the field is reserved.
pub fn parse_name(text: &str) -> Result<HeaderName, SettingsError> {
    let quoted = || text.chars().take(QUOTED_CHARS_MAX).collect::<String>();
    let name = HeaderName::from_bytes(text.as_bytes());
    let name = name.map_err(|_| SettingsError::FieldName(quoted()))?;
    // Origins that read `_` as `-` treat both as one name.
    let plain = name.as_str().replace('_', "-");
    let means = |pattern: &&&str| match pattern.strip_suffix('*') {
        Some(beginning) => plain.starts_with(beginning),
        None => plain == **pattern,
    };
    match RESERVED.iter().find(|(patterns, _)| patterns.iter().any(|pattern| means(&pattern))) {
        Some((_, why)) => Err(SettingsError::FieldReserved { name: quoted(), why }),
        None => Ok(name),
    }
}

impl TryFrom<BTreeMap<String, String>> for Headers {
    type Error = SettingsError;

    fn try_from(given: BTreeMap<String, String>) -> Result<Self, SettingsError> {
        if given.len() > FIELDS_MAX {
            return Err(SettingsError::TooManyFields(FIELDS_MAX));
        }
        let mut fields: Vec<(HeaderName, FieldText)> = Vec::new();
        for (name, value) in given {
            let name = parse_name(&name)?;
            let twice = "it is given twice, in two spellings";
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(SettingsError::FieldReserved { name: name.to_string(), why: twice });
            }
            fields.push((name, value.parse()?));
        }
        fields.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Ok(Self(fields))
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name.as_str(), value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<String, String>::deserialize(d)?;
        Self::try_from(given).map_err(D::Error::custom)
    }
}

impl JsonSchema for Headers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Headers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}

/// A field value: 1 to 1024 characters of visible ASCII, with inner spaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldText(HeaderValue);

impl FieldText {
    /// The value as sent.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for FieldText {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let text = text.trim_matches([' ', '\t']);
        let visible = text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'));
        match HeaderValue::from_str(text) {
            Ok(value) if visible && (1..=1024).contains(&text.len()) => Ok(Self(value)),
            _ => Err(SettingsError::FieldText),
        }
    }
}

impl fmt::Display for FieldText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Headers, SettingsError> {
        let map = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Headers::try_from(map.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn fields_that_route_frame_or_authenticate_are_refused_in_every_spelling() {
        for bad in [
            "Host",
            "connection",
            "Transfer-Encoding",
            "transfer_encoding",
            "Content-Length",
            "content_type",
            "Upgrade",
            "TE",
            "Trailer",
            "Proxy-Authorization",
            "Keyward-Connection",
            "Authorization",
            "Cookie",
            "X-Original-URL",
            "X_HTTP_Method_Override",
            "Accept-Encoding",
            "Range",
            "Expect",
            "Sec-WebSocket-Key",
            "User-Agent",
        ] {
            let refused = read(&[(bad, "x")]).unwrap_err();
            assert!(matches!(refused, SettingsError::FieldReserved { .. }), "{bad}: {refused}");
        }
    }

    #[test]
    fn invalid_repeated_and_too_many_fields_are_refused() {
        for (name, value) in [("", "x"), ("a b", "x"), ("a:", "x"), ("x-a", ""), ("x-a", "a\nb")] {
            assert!(read(&[(name, value)]).is_err(), "{name:?}: {value:?}");
        }
        assert!(read(&[("X-A", "1"), ("x-a", "2")]).is_err(), "one field in two spellings");
        let many: Vec<String> = (0..33).map(|n| format!("x-{n}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(read(&many), Err(SettingsError::TooManyFields(32)));
        assert!(read(&many[1..]).is_ok());
    }

    #[test]
    fn names_are_kept_in_lower_case_and_in_alphabetical_order() {
        let headers = read(&[("X-Env", " prod "), ("OpenAI-Project", "p")]).unwrap();
        let shown = serde_json::to_string(&headers).unwrap();
        assert_eq!(shown, r#"{"openai-project":"p","x-env":"prod"}"#);
    }
}
