//! Settings of a connection as they come in: whole for a new one, as a merge patch (RFC 7396) for one
//! that is there. Refusals name the setting and say what may stand there; none quotes a value.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::said;
use super::error::ApiError;
use keyward_base::settings::Settings;
use keyward_model::merge;

/// The settings of a new connection.
///
/// # Errors
/// When one is unknown or out of bounds.
pub(super) fn given(settings: Option<Value>) -> Result<Settings, ApiError> {
    match settings {
        None | Some(Value::Null) => Ok(Settings::default()),
        Some(settings) => parse(settings),
    }
}

/// `before` with a change: members that are `null` go, maps are merged, all else is replaced.
///
/// # Errors
/// When what comes of it are no settings.
pub(super) fn patched(before: &Settings, patch: &Value) -> Result<Settings, ApiError> {
    let mut patch = patch.clone();
    if let Some(Value::Object(headers)) = patch.get_mut("headers") {
        // Kept so: another spelling is the same field.
        *headers = std::mem::take(headers)
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
    }
    let mut merged = serde_json::to_value(before).map_err(ApiError::internal)?;
    merge(&mut merged, patch);
    given(Some(merged))
}

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

fn parse(settings: Value) -> Result<Settings, ApiError> {
    if !settings.is_object() {
        return Err(ApiError::field("settings", "must be a map of settings"));
    }
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "settings".to_owned() } else { format!("settings.{path}") };
        let message = error.inner().to_string();
        // What serde says of types and names; else the words are those of the settings themselves,
        // which quote nothing.
        match message.starts_with("invalid ") || message.contains(" field `") {
            true => ApiError::field(field, said(&message)),
            false => ApiError::field(field, message),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patch(before: &Value, change: &Value) -> Result<Value, ApiError> {
        let before = given(Some(before.clone())).unwrap();
        patched(&before, change).map(|after| serde_json::to_value(after).unwrap())
    }

    #[test]
    fn a_refusal_names_the_setting_and_quotes_no_value() {
        for (bad, field) in [
            (json!({"timeout": "canary"}), "settings.timeout"),
            (json!({"timeout": ["canary"]}), "settings.timeout"),
            (json!({"retry": {"attempts": "canary"}}), "settings.retry.attempts"),
            (json!({"retry": "canary"}), "settings.retry"),
            (json!({"headers": {"x-a": "canary\n"}}), "settings.headers"),
            (json!({"concurrency": "canary"}), "settings.concurrency"),
            (json!("canary"), "settings"),
            (json!(["canary"]), "settings"),
        ] {
            let refused = patch(&json!({}), &bad).unwrap_err();
            assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
            let ApiError::Field { field: told, message, .. } = refused else { panic!("a field") };
            assert_eq!(told, field, "{bad}: {message}");
        }
        let unknown = patch(&json!({}), &json!({"timeouts": "30s"})).unwrap_err();
        assert!(unknown.to_string().contains("unknown field `timeouts`"), "{unknown}");
    }

    #[test]
    fn what_is_null_goes_and_the_rest_stays() {
        let before = json!({
            "timeout": "30s", "rate_limit": "5/s", "headers": {"x-a": "1", "x-b": "2"},
            "retry": {"attempts": 2, "on": [503], "wait_max": "10s"},
        });
        let change = json!({
            "timeout": null, "headers": {"X-A": null, "X-C": "3"}, "retry": {"attempts": 4},
        });
        let after = json!({
            "rate_limit": "5/s", "headers": {"x-b": "2", "x-c": "3"},
            "retry": {"attempts": 4, "on": [503], "wait_max": "10s"},
        });
        assert_eq!(patch(&before, &change), Ok(after));
        assert_eq!(patch(&before, &Value::Null), Ok(json!({})));
        assert_eq!(patch(&before, &json!({})), Ok(before.clone()));
        let only = json!({"retry": {"attempts": 1}});
        let whole = json!({"attempts": 1, "on": [429, 502, 503, 504], "wait_max": "30s"});
        assert_eq!(patch(&json!({}), &only).unwrap()["retry"], whole);
    }
}
