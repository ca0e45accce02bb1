//! Merge patches (RFC 7396) of a member. Refusals name what is wrong in it and say what may stand there; none quotes
//! a value.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::said;
use super::error::ApiError;
use keyward_model::merge;

/// `before`, which stands at `field`, with a merge patch.
///
/// # Errors
/// When what comes of it is none.
pub(super) fn merged<T: Serialize + DeserializeOwned>(
    before: &T,
    patch: Value,
    field: &str,
) -> Result<T, ApiError> {
    let mut merged = serde_json::to_value(before).map_err(ApiError::internal)?;
    merge(&mut merged, patch);
    serde_path_to_error::deserialize(merged).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { field.to_owned() } else { format!("{field}.{path}") };
        ApiError::field(at, said(&error.inner().to_string()))
    })
}
