//! `oauth:`: the numbers of the OAuth engine, each of which must leave room for a request.

use serde_yaml::Value;

use super::least;
use super::reading::ConfigReading;
use keyward_base::tokens::TokenSettings;

pub(super) fn oauth(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> TokenSettings {
    let settings = reading.section::<TokenSettings>(value, "oauth").unwrap_or_default();
    least::OAUTH.check(&settings, reading);
    if settings.lease <= settings.exchange_timeout {
        let message = "a second replica would ask while the first still waits for its answer";
        let remedy = "write a longer time than `oauth.exchange_timeout`";
        reading.problems.add("oauth.lease", message, remedy);
    }
    if settings.backoff_jitter_percent > 90 {
        let message = "a pause could be none, or twice as long";
        reading.problems.add("oauth.backoff_jitter_percent", message, "write 0 to 90");
    }
    settings
}
