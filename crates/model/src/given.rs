//! Serde adapters for input: intervals in days, and members that may be `null`. No message quotes a value,
//! because it may be a misplaced secret.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use keyward_base::time::format_duration;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// An object; the default where it is absent or `null`.
///
/// # Errors
/// When it is something else, also a list, which serde would read as the members in their order.
pub(crate) fn or_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    d.deserialize_option(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<T, D::Error> {
        d.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// `null` is a value here, and not the absence of one.
///
/// # Errors
/// When it is something else.
pub(crate) fn also_null<'de, D, T>(d: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(d).map(Some)
}

/// A time as people write it: whole days where it is some.
pub fn in_days(time: Duration) -> String {
    match (time.as_secs() / 86_400, time.as_secs() % 86_400, time.subsec_millis()) {
        (days @ 1.., 0, 0) => format!("{days}d"),
        _ => format_duration(time),
    }
}

/// An interval, `90d`.
pub(crate) mod days {
    use keyward_base::time::{DurationText, parse_duration};
    use serde::Serializer;

    use super::{Deserialize, Deserializer, Duration};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(of: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match of {
            Some(time) => s.serialize_str(&super::in_days(*time)),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<DurationText>::deserialize(d)?;
        let parsed = text.map(|text| parse_duration(&text.0)).transpose();
        parsed.map_err(|_| {
            D::Error::custom("this is not a time: write a number and a unit, such as 30d or 90d")
        })
    }
}
