//! [`Deadline`]: when something ends. A person may give a span from now on; a record has the time.

use std::time::Duration;

use jiff::Timestamp;
use keyward_base::time::{parse_duration, parse_moment};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::given::in_days;

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
