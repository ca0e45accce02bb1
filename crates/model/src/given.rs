//! Serde adapters for input: durations, intervals in days, names of members, and members that may be `null`; and
//! [`Deadline`]: when something ends, which a person may give as a span from now on. No message quotes a value, because it
//! may be a misplaced secret.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use keyward_base::time::{format_duration, parse_duration, parse_moment};

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

/// Reads the name of a member of these. Another one is refused where it stands.
pub(crate) struct MemberName(pub(crate) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<&'static str, D::Error> {
        d.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<&'static str, E> {
        let known = self.0.iter().find(|known| **known == name);
        known.copied().ok_or_else(|| E::unknown_field(name, self.0))
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

/// When something ends.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq)]
#[schemars(inline, with = "String")]
pub enum Deadline {
    /// As records have it.
    At(Timestamp),
    /// As it was given, until it is counted from the time of the request.
    After(Duration),
}

impl Deadline {
    /// The time, once it is counted.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::After(_) => None,
        }
    }

    /// The same, counted from `now`.
    #[must_use]
    pub fn counted_from(self, now: Timestamp) -> Self {
        match self {
            Self::At(at) => Self::At(at),
            Self::After(span) => Self::At(now.checked_add(span).unwrap_or(Timestamp::MAX)),
        }
    }
}

impl Serialize for Deadline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(at) => at.serialize(serializer),
            Self::After(span) => serializer.serialize_str(&in_days(*span)),
        }
    }
}

/// `90d`, an RFC 3339 time, or a day, which begins at midnight UTC.
impl<'de> Deserialize<'de> for Deadline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (parse_duration(&text), parse_moment(&text, Timestamp::UNIX_EPOCH)) {
            (Ok(span), _) => Ok(Self::After(span)),
            (Err(_), Ok(at)) => Ok(Self::At(at)),
            // The text is not repeated: it may be a secret in the wrong place.
            _ => Err(D::Error::custom(
                "this is not a time: write 90d, 2026-01-31 or 2026-01-31T08:00:00Z",
            )),
        }
    }
}

/// A duration as people write it, or none.
pub(crate) mod optional_duration {
    use keyward_base::time;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Duration;

    /// Writes as [`time::format_duration`] does.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub(crate) fn serialize<S: Serializer>(of: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match of {
            Some(of) => s.serialize_str(&time::format_duration(*of)),
            None => s.serialize_none(),
        }
    }

    /// Reads what [`time::parse_duration`] reads.
    ///
    /// # Errors
    /// When the text is not a duration.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<time::DurationText>::deserialize(d)?;
        let parsed = text.map(|text| time::parse_duration(&text.0)).transpose();
        // The text is not repeated: it may be a secret in the wrong place.
        parsed.map_err(|_| {
            serde::de::Error::custom(
                "this is not a time: write a number and a unit, such as 30s, 2m or 1h",
            )
        })
    }
}
