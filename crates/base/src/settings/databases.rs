//! Settings of sessions with databases: which statements they may send, which tables and functions those may name, the role, and
//! limits of answers.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::error::SettingsError;
use crate::names::named_enum;

/// The tables or functions that a connection may name at most.
const NAMES_MAX: usize = 256;

/// The length of names at servers, in bytes.
const NAME_BYTES_MAX: usize = 63;

named_enum! {
    /// A kind of statement on data.
    #[derive(
        Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
    )]
    pub enum StatementKind by as_str {
        /// Also `VALUES`, `TABLE` and `COPY … TO STDOUT`.
        Select = "select",
        /// Also `COPY … FROM STDIN`.
        Insert = "insert",
        /// Also locks of rows, such as `SELECT … FOR UPDATE`.
        Update = "update",
        /// Removal of rows.
        Delete = "delete",
        /// `MERGE`, whatever it does to rows.
        Merge = "merge",
        /// Removal of all rows of a table.
        Truncate = "truncate",
    }
}

/// The name of a role at a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleName(Box<str>);

/// A table or a function, with its schema where statements name that; or all of a schema.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NamePattern {
    schema: Option<Box<str>>,
    /// `None`: all of the schema.
    name: Option<Box<str>>,
}

impl RoleName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoleName {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        // `none` is a word of `SET ROLE`.
        match is_name(text) && !text.eq_ignore_ascii_case("none") {
            true => Ok(Self(text.into())),
            false => Err(SettingsError::Role),
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NamePattern {
    /// Whether the pattern matches a name that a statement has, with or without a schema. The caller folds names as the server
    /// does: names without quotes are in lower case.
    pub fn matches(&self, schema: Option<&str>, name: &str) -> bool {
        self.schema.as_deref() == schema && self.name.as_deref().is_none_or(|own| own == name)
    }

    /// The name of what statements name without a schema.
    pub fn bare_name(&self) -> Option<&str> {
        match self.schema {
            None => self.name.as_deref(),
            Some(_) => None,
        }
    }
}

impl FromStr for NamePattern {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        let is_whole = name == "*" && schema.is_some();
        let are_names = schema.is_none_or(is_name) && (is_whole || is_name(name));
        match are_names {
            true => {
                Ok(Self { schema: schema.map(Into::into), name: (!is_whole).then(|| name.into()) })
            }
            false => Err(SettingsError::Name),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(self.name.as_deref().unwrap_or("*"))
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && !text.contains(|c: char| c.is_control() || matches!(c, '.' | '*' | '"' | '`' | ','))
        && text.trim() == text
}

/// Serde adapter: kinds of statements. An empty list is an unset one, because forms send it.
pub(super) fn kinds<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<BTreeSet<StatementKind>>, D::Error> {
    Ok(Option::<BTreeSet<StatementKind>>::deserialize(d)?.filter(|all| !all.is_empty()))
}

/// Serde adapter: tables or functions. An empty list is an unset one, because forms send it.
pub(super) fn names<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<BTreeSet<NamePattern>>, D::Error> {
    let given = Option::<BTreeSet<NamePattern>>::deserialize(d)?;
    match given.filter(|all| !all.is_empty()) {
        Some(all) if all.len() > NAMES_MAX => {
            Err(D::Error::custom(SettingsError::TooManyNames(NAMES_MAX)))
        }
        all => Ok(all),
    }
}

/// Serde adapter: rows, 1 or more.
pub(super) fn rows_max<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(d)? {
        Some(0) => Err(D::Error::custom(SettingsError::Rows)),
        rows => Ok(rows),
    }
}

/// Serde adapter: bytes, 1000 or more; less is no answer.
pub(super) fn bytes_max<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(d)? {
        Some(..1000) => Err(D::Error::custom(SettingsError::Bytes)),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_only_the_same_schema_and_spelling() {
        for (pattern, schema, table, matches) in [
            ("orders", None, "orders", true),
            ("orders", None, "Orders", false),
            ("orders", Some("public"), "orders", false),
            ("public.orders", Some("public"), "orders", true),
            ("public.orders", None, "orders", false),
            ("sales.*", Some("sales"), "anything", true),
            ("sales.*", None, "sales", false),
            ("sales.*", Some("other"), "orders", false),
        ] {
            let parsed: NamePattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(schema, table), matches, "{pattern}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for bad in ["", "*", ".a", "a.", "a.b.c", "*.a", "a*", "a b ", "\"a\"", "a,b", "a\n"] {
            assert_eq!(bad.parse::<NamePattern>(), Err(SettingsError::Name), "{bad}");
        }
    }

    #[test]
    fn an_empty_overlong_or_none_role_is_refused() {
        assert_eq!("report reader".parse::<RoleName>().unwrap().as_str(), "report reader");
        for bad in ["", "none", "NONE", "a\0b", &"x".repeat(64)] {
            assert_eq!(bad.parse::<RoleName>(), Err(SettingsError::Role), "{bad}");
        }
    }
}
