//! [`Reference`]: a resource that another one names. A person gives its name or id; a record has the id.

use std::borrow::Cow;
use std::fmt;

use keyward_base::id::Id;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name or an id. No name looks like an id, so the text tells which it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reference<I> {
    /// As records have it.
    Id(I),
    /// As it was given, until it is looked up.
    Name(String),
}

impl<I: Id> Reference<I> {
    /// Reads what a person gave.
    pub fn new(text: &str) -> Self {
        I::parse(text).map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }

    /// The id, once it is looked up.
    pub fn id(&self) -> Option<&I> {
        match self {
            Self::Id(id) => Some(id),
            Self::Name(_) => None,
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Name(name) => name,
        }
    }
}

impl<I: Id> fmt::Display for Reference<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<I: Id> Serialize for Reference<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, I: Id> Deserialize<'de> for Reference<I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(deserializer)?))
    }
}

impl<I> JsonSchema for Reference<I> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}
