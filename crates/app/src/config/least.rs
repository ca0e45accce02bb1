//! The least numbers and times of `limits:` and `oauth:`: more than zero, except where zero means that something is not
//! done.

use serde::Serialize;
use serde_json::Value;

use super::reading::ConfigReading;
use keyward_base::keys::Section;
use keyward_model::HOOK_BODY_BYTES_MAX;
use keyward_rules::inject::scrub::DECODER_BYTES_MAX;
use keyward_rules::provider::document::key_of;

/// Below this, hyper cannot read a head at all, and those of ordinary browsers would not fit.
const HEAD_BYTES_MIN: usize = 8 * 1024;

/// What the members of a section must be at least.
pub(super) struct Least {
    section: &'static str,
    /// What would have no room with less.
    used_by: &'static str,
    /// Members that may be zero: nothing idle is kept, no interim answer passed on, nothing waited for.
    may_be_zero: &'static str,
    /// Members whose least is more than 1.
    numbers: &'static [(&'static str, usize)],
    /// A member that must not be less than another.
    member: Option<(&'static str, &'static str)>,
}

pub(super) const LIMITS: Least = Least {
    section: "limits",
    used_by: "exchange",
    may_be_zero: "interim_answers_max continue_timeout discarded_body_timeout discarded_body_bytes_max \
        large_windows_per_agent_max idle_upstreams_per_key_max idle_upstreams_max idle_upstream_timeout \
        hostless_rules_max cached_credentials_max sessions_max connect_sessions_max shutdown_delay drain_timeout",
    numbers: &[
        ("head_bytes_max", HEAD_BYTES_MIN),
        ("unproved_body_bytes_total", HOOK_BODY_BYTES_MAX),
        ("decoder_bytes_total", DECODER_BYTES_MAX),
    ],
    member: Some(("written_body_bytes_total", "written_body_bytes_max")),
};

pub(super) const OAUTH: Least = Least {
    section: "oauth",
    used_by: "token",
    may_be_zero: "stop_timeout refresh_buffer lease backoff_jitter_percent unknown_answers_for alert_after \
        circuit_pause replay_bytes_max replay_bytes_total fresh_for refusal_pause revoke_for metadata_age_max",
    numbers: &[("head_bytes_max", HEAD_BYTES_MIN)],
    member: None,
};

impl Least {
    /// The least value of a number or time; 1 stands for more than zero. `all`: the members of the section.
    pub(super) fn of(&self, key: &str, all: &Value) -> Option<u64> {
        let number = self.numbers.iter().find(|(name, _)| *name == key);
        let other = self.member.filter(|(name, _)| *name == key);
        match (number, other) {
            (Some((_, least)), _) => u64::try_from(*least).ok(),
            (None, Some((_, other))) => all.get(other)?.as_u64(),
            (None, None) => {
                let may_be_zero = self.may_be_zero.split_whitespace().any(|name| name == key);
                (!may_be_zero).then_some(1)
            }
        }
    }

    /// Reports members that are less.
    pub(super) fn check<S: Section + Serialize>(
        &self,
        settings: &S,
        reading: &mut ConfigReading<'_>,
    ) {
        let all = serde_json::to_value(settings).unwrap_or_default();
        let keys = S::keys();
        let bounded = |key: &'static str| Some((key, all.get(key)?, self.of(key, &all)?));
        let bounded: Vec<_> = keys.iter().filter_map(|key| bounded(key.name)).collect();
        for (key, given, least) in &bounded {
            if given.as_u64().is_some_and(|given| given < *least) {
                let message = format!("{given} leaves no room for any {}", self.used_by);
                let remedy = format!("write {least} or more");
                reading.problems.add(&key_of(self.section, key), message, remedy);
            }
        }
        for (key, ..) in bounded.iter().filter(|(_, given, _)| given.as_str() == Some("0ms")) {
            let message = "the time must be longer than zero";
            let remedy = "write a longer time, such as 30s";
            reading.problems.add(&key_of(self.section, key), message, remedy);
        }
    }
}
