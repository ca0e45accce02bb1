//! `limits:`: the bounds of the data path, each of which must leave room for one exchange.

use serde_yaml::{Mapping, Value};

use super::least;
use super::reading::ConfigReading;
use keyward_base::limits::Limits;
use keyward_rules::provider::document::key_of;

pub(super) fn limits(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Limits {
    let Some(value) = value else { return Limits::default() };
    let value = sound_keys(value, reading);
    let limits = reading.section::<Limits>(Some(&value), "limits").unwrap_or_default();
    least::LIMITS.check(&limits, reading);
    limits
}

/// The keys that decode, so that one wrong key does not hide what is wrong with others.
fn sound_keys(value: &Value, reading: &mut ConfigReading<'_>) -> Value {
    let Value::Mapping(map) = value else { return value.clone() };
    let mut sound = Mapping::new();
    for (key, value) in map {
        let name = key.as_str().unwrap_or_default();
        // The likeliest slip, for which serde's words would mislead.
        if name.ends_with("_timeout") && value.is_number() {
            let remedy = "write number and unit, such as 500ms, 30s or 2m";
            reading.problems.add(&key_of("limits", name), "the time has no unit", remedy);
            continue;
        }
        let one = Value::Mapping(Mapping::from_iter([(key.clone(), value.clone())]));
        let before = reading.problems.count();
        reading.section::<Limits>(Some(&one), "limits");
        if reading.problems.count() == before {
            sound.insert(key.clone(), value.clone());
        }
    }
    Value::Mapping(sound)
}
