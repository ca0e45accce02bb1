//! Changes of what is there: merge patches (RFC 7396).

use serde::{Deserialize, Deserializer};

/// `null` is a value here, and not the absence of one.
pub(super) fn also_null<'de, D, T>(d: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(d).map(Some)
}
