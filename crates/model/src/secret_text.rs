//! Secrets on their way in: text becomes a [`Secret`] while it is being read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use keyward_base::secret::Secret;

/// Text that becomes a [`Secret`] as it is read.
#[derive(Debug)]
pub struct SecretText(pub Secret);

/// Fields by name, each a [`Secret`]; a name given twice is refused.
#[derive(Debug, Default)]
pub struct SecretFields(pub BTreeMap<String, Secret>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_string<E>(self, text: String) -> Result<Secret, E> {
                Ok(Secret::from(text))
            }
        }
        d.deserialize_str(Text).map(Self)
    }
}

impl<'de> Deserialize<'de> for SecretFields {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = SecretFields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretFields, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, SecretText(value))) = map.next_entry::<String, _>()? {
                    if fields.insert(name, value).is_some() {
                        return Err(A::Error::custom("duplicate field"));
                    }
                }
                Ok(SecretFields(fields))
            }
        }
        d.deserialize_map(Fields)
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

impl JsonSchema for SecretFields {
    fn schema_name() -> Cow<'static, str> {
        "SecretFields".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<SecretText>();
        json_schema!({ "type": "object", "additionalProperties": text, "writeOnly": true })
    }
}
