//! [`Rare`]: a value that uses memory only if it differs from its default.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type with one default value that everything shares.
pub trait SharedDefault: Clone + Default + PartialEq + 'static {
    /// The default value.
    fn shared() -> &'static Self;
}

/// A value on the heap, or no memory for the default. It reads, compares and serializes like the value.
#[derive(Clone, Debug)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: SharedDefault> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::shared()).then(|| Box::new(value)))
    }
}

impl<T: SharedDefault> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::shared())
    }
}

impl<T: SharedDefault> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: SharedDefault> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq + SharedDefault> Eq for Rare<T> {}

impl<T: Serialize + SharedDefault> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de> + SharedDefault> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

impl<T: JsonSchema> JsonSchema for Rare<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_default_takes_no_heap_memory_and_equals_a_value_that_was_reset_to_it() {
        let writes = Settings { read_only: Some(true), ..Settings::default() };
        let mut written = Rare::from(writes);
        written.read_only = None;
        let read: Rare<Settings> = serde_json::from_value(json!({})).unwrap();
        assert!(read.0.is_none() && Rare::from(Settings::default()).0.is_none());
        assert_eq!((&read, serde_json::to_value(&read).unwrap()), (&written, json!({})));
        let other: Rare<Settings> = serde_json::from_value(json!({ "read_only": true })).unwrap();
        assert_eq!(serde_json::to_value(&other).unwrap(), json!({ "read_only": true }));
        assert_ne!(other, read);
        assert_eq!(size_of_val(&other), size_of::<usize>());
    }
}
