//! Serde adapter: a duration as people write it, or none.

use std::time::Duration;

use keyward_base::time;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes as [`time::format_duration`] does.
///
/// # Errors
/// Only the serializer's own.
pub fn serialize<S: Serializer>(of: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match of {
        Some(of) => s.serialize_str(&time::format_duration(*of)),
        None => s.serialize_none(),
    }
}

/// Reads what [`time::parse_duration`] reads.
///
/// # Errors
/// When the text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<time::DurationText>::deserialize(d)?;
    let parsed = text.map(|text| time::parse_duration(&text.0)).transpose();
    // The text is not repeated: it may be a secret in the wrong place.
    parsed.map_err(|_| {
        serde::de::Error::custom(
            "this is not a time: write a number and a unit, such as 30s, 2m or 1h",
        )
    })
}
