//! [`Members`]: a part of a stored row, read from the row's members. serde's `flatten` would read all members into a buffer
//! first; an installation opens a million rows when it starts.

use serde::Deserializer;
use serde::de::Visitor;
use serde::de::value::MapDeserializer;
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// The members of a row that no other part has taken.
pub(crate) struct Members<'a>(pub(crate) &'a mut Map<String, Value>);

impl<'de> Deserializer<'de> for Members<'_> {
    type Error = Error;

    /// Removes the members that the struct has, and leaves the others for other parts.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let taken = fields.iter().filter_map(|field| self.0.remove_entry(*field));
        visitor.visit_map(MapDeserializer::new(taken))
    }

    /// Gives a copy of all members to a type that deserializes a map and picks the members that it knows.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.0.clone().into_iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Spec {
        name: String,
        #[serde(default)]
        tags: Vec<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Facts {
        state: String,
        #[serde(flatten)]
        more: BTreeMap<String, Value>,
    }

    fn row() -> Map<String, Value> {
        let row = json!({"name": "ci", "state": "active", "tags": ["a"], "count": 1});
        row.as_object().expect("an object").clone()
    }

    #[test]
    fn a_part_takes_its_members_and_leaves_the_others() {
        let mut row = row();
        let spec = Spec::deserialize(Members(&mut row)).expect("all is there");
        assert_eq!(spec, Spec { name: "ci".to_owned(), tags: vec!["a".to_owned()] });
        assert_eq!(Value::Object(row.clone()), json!({"state": "active", "count": 1}));
        let facts = Facts::deserialize(Members(&mut row)).expect("all is there");
        let more = BTreeMap::from([("count".to_owned(), json!(1))]);
        assert_eq!(facts, Facts { state: "active".to_owned(), more });
    }

    #[test]
    fn a_part_that_lacks_a_member_or_has_another_type_is_refused() {
        for (key, value) in [("name", None), ("name", Some(json!(7))), ("tags", Some(json!("a")))] {
            let mut row = row();
            row.remove(key);
            row.extend(value.map(|value| (key.to_owned(), value)));
            Spec::deserialize(Members(&mut row)).expect_err(key);
        }
    }
}
