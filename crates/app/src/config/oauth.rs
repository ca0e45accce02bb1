//! `oauth:`: the numbers of the OAuth engine, each of which must leave room for a request.

use std::time::Duration;

use serde_yaml::Value;

use super::reading::ConfigReading;
use keyward_base::tokens::TokenSettings;
use keyward_rules::provider::document::key_of;

/// Below this, hyper cannot read a head at all.
const HEAD_BYTES_MIN: usize = 8 * 1024;

pub(super) fn oauth(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> TokenSettings {
    let settings = reading.section::<TokenSettings>(value, "oauth").unwrap_or_default();
    let mut wrong = |key: &str, message: String, remedy: String| {
        reading.problems.add(&key_of("oauth", key), message, remedy);
    };
    for (key, given, least) in least(&settings) {
        if given < least {
            wrong(
                key,
                format!("{given} leaves no room for any token"),
                format!("write {least} or more"),
            );
        }
    }
    for (key, given) in waits(&settings) {
        if given.is_zero() {
            let remedy = "write a longer time, such as 30s".to_owned();
            wrong(key, "the time must be longer than zero".to_owned(), remedy);
        }
    }
    if settings.lease <= settings.exchange_timeout {
        let message = "a second replica would ask while the first still waits for its answer";
        let remedy = "write a longer time than `oauth.exchange_timeout`".to_owned();
        wrong("lease", message.to_owned(), remedy);
    }
    if settings.backoff_jitter_percent > 90 {
        let message = "a pause could be none, or twice as long".to_owned();
        wrong("backoff_jitter_percent", message, "write 0 to 90".to_owned());
    }
    settings
}

/// Counts and sizes that must not be smaller.
pub(super) fn least(settings: &TokenSettings) -> [(&'static str, usize, usize); 8] {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    [
        ("reply_bytes_max", settings.reply_bytes_max, 1),
        ("metadata_bytes_max", settings.metadata_bytes_max, 1),
        ("head_bytes_max", settings.head_bytes_max, HEAD_BYTES_MIN),
        ("token_bytes_max", settings.token_bytes_max, 1),
        ("refreshes_per_server_max", settings.refreshes_per_server_max, 1),
        ("unknown_answers_max", count(settings.unknown_answers_max), 1),
        ("circuit_failures_max", count(settings.circuit_failures_max), 1),
        ("flows_per_person_max", settings.flows_per_person_max, 1),
    ]
}

/// Waits that must not be zero.
pub(super) fn waits(settings: &TokenSettings) -> [(&'static str, Duration); 13] {
    [
        ("exchange_timeout", settings.exchange_timeout),
        ("answer_timeout", settings.answer_timeout),
        ("connect_timeout", settings.connect_timeout),
        ("wait_timeout", settings.wait_timeout),
        ("backoff_first", settings.backoff_first),
        ("backoff_max", settings.backoff_max),
        ("rejected_backoff_first", settings.rejected_backoff_first),
        ("rejected_backoff_max", settings.rejected_backoff_max),
        ("retry_after_max", settings.retry_after_max),
        ("flow_lifetime", settings.flow_lifetime),
        ("device_interval", settings.device_interval),
        ("revoke_timeout", settings.revoke_timeout),
        ("account_timeout", settings.account_timeout),
    ]
}
