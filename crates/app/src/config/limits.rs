//! `limits:`: the bounds of the data path, each of which must leave room for one exchange.

use std::time::Duration;

use serde_yaml::{Mapping, Value};

use super::reading::ConfigReading;
use keyward_base::limits::Limits;
use keyward_model::HOOK_BODY_BYTES_MAX;
use keyward_rules::inject::scrub::DECODER_BYTES_MAX;
use keyward_rules::provider::document::key_of;

/// Below this, hyper cannot read a head at all, and ordinary browsers' would not fit.
const HEAD_BYTES_MIN: usize = 8 * 1024;

pub(super) fn limits(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Limits {
    let Some(value) = value else { return Limits::default() };
    let value = sound_keys(value, reading);
    let limits = reading.section::<Limits>(Some(&value), "limits").unwrap_or_default();
    for (key, given, least) in least(&limits) {
        if given < least {
            let message = format!("{given} leaves no room for any exchange");
            reading.problems.add(&key_of("limits", key), message, format!("write {least} or more"));
        }
    }
    for (key, given) in waits(&limits) {
        if given.is_zero() {
            let remedy = "write a longer time, such as 30s";
            let message = "the time must be longer than zero";
            reading.problems.add(&key_of("limits", key), message, remedy);
        }
    }
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

/// Counts and sizes that must not be zero. Those omitted may be: nothing idle is kept, no interim
/// answer passed on, no rule without hosts allowed.
pub(super) fn least(limits: &Limits) -> [(&'static str, usize, usize); 19] {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let failures = count(limits.auth_failures_per_minute_max);
    let requests = count(limits.api_requests_per_minute_max);
    [
        ("head_bytes_max", limits.head_bytes_max, HEAD_BYTES_MIN),
        ("head_fields_max", limits.head_fields_max, 1),
        ("target_bytes_max", limits.target_bytes_max, 1),
        ("streams_max", limits.streams_max, 1),
        ("unauthenticated_streams_max", limits.unauthenticated_streams_max, 1),
        ("streams_per_agent_max", limits.streams_per_agent_max, 1),
        ("exchanges_per_stream_max", limits.exchanges_per_stream_max, 1),
        ("handshakes_max", limits.handshakes_max, 1),
        ("leaves_max", limits.leaves_max, 1),
        ("addresses_max", limits.addresses_max, 1),
        ("auth_failures_per_minute_max", failures, 1),
        ("api_requests_per_minute_max", requests, 1),
        ("audit_queue_max", limits.audit_queue_max, 1),
        ("refusal_records_per_minute_max", count(limits.refusal_records_per_minute_max), 1),
        ("admin_body_bytes_max", limits.admin_body_bytes_max, 1),
        ("unproved_body_bytes_total", limits.unproved_body_bytes_total, HOOK_BODY_BYTES_MAX),
        ("written_body_bytes_max", limits.written_body_bytes_max, 1),
        (
            "written_body_bytes_total",
            limits.written_body_bytes_total,
            limits.written_body_bytes_max,
        ),
        ("decoder_bytes_total", limits.decoder_bytes_total, DECODER_BYTES_MAX),
    ]
}

/// Waits that must not be zero. Those omitted may be: idle upstream streams, `100 Continue`, and
/// draining need not be waited for.
pub(super) fn waits(limits: &Limits) -> [(&'static str, Duration); 7] {
    [
        ("head_timeout", limits.head_timeout),
        ("idle_timeout", limits.idle_timeout),
        ("handshake_timeout", limits.handshake_timeout),
        ("connect_timeout", limits.connect_timeout),
        ("answer_timeout", limits.answer_timeout),
        ("body_idle_timeout", limits.body_idle_timeout),
        ("tunnel_idle_timeout", limits.tunnel_idle_timeout),
    ]
}
