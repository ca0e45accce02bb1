//! Serde adapters of what people write: moments, intervals in days, members that may be `null`. No message quotes
//! a value, which may be a secret in the wrong place.

use std::time::Duration;

use jiff::Timestamp;
use keyward_base::time::{parse_moment, written};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// A day, which begins at midnight UTC, or an RFC 3339 time. No span from now on: it would mean another time at each
/// start.
///
/// # Errors
/// When it is neither.
pub(crate) fn moment<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    // What is told from the epoch on, a span, is before it.
    match parse_moment(&text, Timestamp::UNIX_EPOCH) {
        Ok(at) if at > Timestamp::UNIX_EPOCH => Ok(Some(at)),
        _ => Err(D::Error::custom(
            "this is no day and no time: write 2026-01-31 or 2026-01-31T08:00:00Z",
        )),
    }
}

/// The default where it is absent or `null`.
///
/// # Errors
/// When it is something else.
pub(crate) fn or_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + DeserializeOwned,
{
    Option::deserialize(d).map(Option::unwrap_or_default)
}

/// A time as people write it: whole days where it is some.
pub fn in_days(time: Duration) -> String {
    match (time.as_secs() / 86_400, time.as_secs() % 86_400, time.subsec_millis()) {
        (days @ 1.., 0, 0) => format!("{days}d"),
        _ => written(time),
    }
}

/// An interval, `90d`.
pub(crate) mod days {
    use keyward_base::time::parse_duration;
    use serde::Serializer;

    use super::{Deserialize, Deserializer, Duration};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(
        of: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match of {
            Some(time) => s.serialize_str(&super::in_days(*time)),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        let parsed = text.map(|text| parse_duration(&text)).transpose();
        parsed.map_err(|_| {
            D::Error::custom("this is no time: write a number and a unit, such as 30d or 90d")
        })
    }
}
