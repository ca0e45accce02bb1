//! `webhooks:` and `events:`: who is told what happens, and how.

use std::time::Duration;

use serde_yaml::Value;

use super::reading::Reading;
use crate::base::webhooks::{RETRIES_MAX, WebhookSettings};

/// Answers that take longer are lost at every proxy in between.
const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60);

/// Events on their way to one webhook.
const AT_ONCE: std::ops::RangeInclusive<usize> = 1..=64;

/// Reads `events:`.
pub(super) fn settings(value: Option<&Value>, reading: &mut Reading<'_>) -> WebhookSettings {
    let settings = reading.section::<WebhookSettings>(value, "events").unwrap_or_default();
    let mut refuse = |key: &str, message: &str, remedy: &str| {
        reading.problems.add(&format!("events.{key}"), message, remedy);
    };
    if !TIMEOUT.contains(&settings.timeout) {
        refuse("timeout", "a webhook has 1s to 60s to answer", "write 15s");
    }
    if settings.retries.len() > RETRIES_MAX {
        refuse("retries", "these are more than 20 pauses", "leave the last ones out");
    }
    if !AT_ONCE.contains(&settings.at_once) {
        refuse("at_once", "1 to 64 events go to one webhook at the same time", "write 4");
    }
    if settings.waiting_max == 0 {
        refuse("waiting_max", "no event could wait", "write 10000");
    }
    settings
}
