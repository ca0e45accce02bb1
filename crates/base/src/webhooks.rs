//! [`WebhookSettings`]: how people are told what happens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::{duration, durations};

/// More pauses than that, and nobody remembers what the event was about.
pub const RETRIES_MAX: usize = 20;

section! {
    /// How webhooks are told what happens.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct WebhookSettings {
        /// Within it a webhook has answered; 1s to 60s.
        #[key("time")]
        #[serde(with = "duration")]
        pub timeout: Duration,
        /// The pauses before an event is told again, one for each further try; up to 20. Each is longer by up to a fifth, at random.
        #[key("list of times")]
        #[serde(with = "durations")]
        pub retries: Vec<Duration>,
        /// Events that are on their way to one webhook at the same time; 1 to 64.
        #[key("number")]
        pub at_once: usize,
        /// Events that wait for one webhook; what happens beyond it is not told there.
        #[key("number")]
        pub waiting_max: usize,
    }
}

/// As Standard Webhooks proposes: about three days in all.
const RETRIES: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            retries: RETRIES.map(Duration::from_secs).to_vec(),
            at_once: 4,
            waiting_max: 10_000,
        }
    }
}
