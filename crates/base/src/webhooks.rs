//! [`WebhookSettings`]: configuration of webhook delivery.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::{duration, durations};

/// After more retries, the event is too old to be useful.
pub const RETRIES_MAX: usize = 20;

section! {
    /// How events are delivered to webhooks.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct WebhookSettings {
        /// Time for a webhook to respond; 1s to 60s.
        #[key("time")]
        #[serde(with = "duration")]
        pub timeout: Duration,
        /// The pauses before each retry of an event; up to 20. Each is extended by up to a fifth, at random.
        #[key("list of times")]
        #[serde(with = "durations")]
        pub retries: Vec<Duration>,
        /// Concurrent deliveries to one webhook; 1 to 64.
        #[key("number")]
        pub at_once: usize,
        /// Events queued for one webhook. Further events are dropped for it.
        #[key("number")]
        pub waiting_max: usize,
        /// Events of one hook that are kept after all their deliveries have failed. A further one replaces the oldest.
        #[key("number")]
        pub dead_max: usize,
    }
}

/// The schedule that Standard Webhooks proposes: about three days in all.
const RETRIES: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            retries: RETRIES.map(Duration::from_secs).to_vec(),
            at_once: 4,
            waiting_max: 10_000,
            dead_max: 1_000,
        }
    }
}
