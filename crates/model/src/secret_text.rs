//! Secrets in input: text is deserialized directly into a [`Secret`], or is a [`FieldReference`] to a secret source
//! that has the value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use keyward_base::secret::Secret;

/// Bytes of a reference.
const REF_BYTES_MAX: usize = 1_024;

/// Text that becomes a [`Secret`] as it is read.
#[derive(Debug)]
pub struct SecretText(pub Secret);

/// Fields by name, each a [`Secret`]; a name given twice is refused.
#[derive(Debug, Default)]
pub struct SecretFields(pub BTreeMap<String, Secret>);

/// Fields of a connection by name: secrets, and references to values of secret sources. A name given twice is refused.
#[derive(Debug, Default)]
pub struct GivenFields {
    /// Those with a value.
    pub secrets: BTreeMap<String, Secret>,
    pub references: References,
}

/// A field as it is given: a value, or else a reference. Read without serde's buffer of untagged enums, which would leave
/// unwiped copies of the value.
struct GivenField(Result<Secret, FieldReference>);

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
        let fields = unique_fields::<_, SecretText>(d)?;
        Ok(Self(fields.into_iter().map(|(name, SecretText(value))| (name, value)).collect()))
    }
}

impl<'de> Deserialize<'de> for GivenFields {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut fields = Self::default();
        for (name, GivenField(value)) in unique_fields::<_, GivenField>(d)? {
            match value {
                Ok(secret) => drop(fields.secrets.insert(name, secret)),
                Err(reference) => drop(fields.references.insert(name, reference)),
            }
        }
        Ok(fields)
    }
}

/// A map in which no name is repeated.
fn unique_fields<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    d: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    struct Fields<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Fields<V> {
        type Value = BTreeMap<String, V>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of strings")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = BTreeMap::new();
            while let Some((name, value)) = map.next_entry()? {
                if fields.insert(name, value).is_some() {
                    return Err(A::Error::custom("duplicate field"));
                }
            }
            Ok(fields)
        }
    }
    d.deserialize_map(Fields(PhantomData))
}

impl<'de> Deserialize<'de> for GivenField {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Field;
        impl<'de> Visitor<'de> for Field {
            type Value = GivenField;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an object with `from` and `ref`")
            }
            fn visit_str<E>(self, text: &str) -> Result<GivenField, E> {
                Ok(GivenField(Ok(Secret::new(text))))
            }
            fn visit_string<E>(self, text: String) -> Result<GivenField, E> {
                Ok(GivenField(Ok(Secret::from(text))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GivenField, A::Error> {
                let reference = FieldReference::deserialize(MapAccessDeserializer::new(map))?;
                Ok(GivenField(Err(reference)))
            }
        }
        d.deserialize_any(Field)
    }
}

impl JsonSchema for GivenFields {
    fn schema_name() -> Cow<'static, str> {
        "GivenFields".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<SecretText>();
        let reference = generator.subschema_for::<FieldReference>();
        json_schema!({
            "type": "object", "additionalProperties": { "anyOf": [text, reference] }, "writeOnly": true
        })
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

/// A field whose value is kept in a source.
#[derive(
    Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(deny_unknown_fields)]
pub struct FieldReference {
    /// The name of the source.
    pub from: String,
    /// Which of its values: the form depends on the kind.
    #[serde(rename = "ref")]
    pub reference: String,
}

pub type References = BTreeMap<String, FieldReference>;

impl FieldReference {
    /// Whether the text can be a reference: the source judges the rest.
    pub fn is_plain(&self) -> bool {
        let reference = self.reference.as_str();
        (1..=REF_BYTES_MAX).contains(&reference.len()) && !reference.contains(char::is_control)
    }
}
