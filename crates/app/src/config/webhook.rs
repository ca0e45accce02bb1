//! `webhooks:` and `events:`: the receivers of events, and how events are delivered. `hooks:`: URLs to which
//! services post their webhooks.

use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;

use super::declared::InFile;
use super::reading::ConfigReading;
use super::secret::SecretSource;
use super::source;
use keyward_base::keys::section;
use keyward_base::webhooks::{RETRIES_MAX, WebhookSettings};
use keyward_model::{Hook, Webhook};
use keyward_rules::provider::document::key_of;

section! {
    /// What stands beside the spec of a webhook.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[doc(hidden)]
    pub struct WebhookItemKeys {
        /// What events are signed with: `whsec_` and base64 of 24 to 64 bytes, as Standard Webhooks says.
        #[key("[secret](#secrets)", required)]
        signing_key: Option<Value>,
    }
}

impl InFile for Webhook {
    type ItemKeys = WebhookItemKeys;
    type With = SecretSource;

    fn with(
        item_keys: WebhookItemKeys,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<SecretSource> {
        let Some(key) = item_keys.signing_key else {
            let remedy = "add `signing_key: { env: KEYWARD_WEBHOOK_KEY }`, or another source";
            reading.problems.add(path, "`signing_key` is missing", remedy);
            return None;
        };
        source::secret(&key, &key_of(path, "signing_key"), reading)
    }
}

/// Answers that take longer are lost at every proxy in between.
const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60);

/// Events on their way to one webhook.
const AT_ONCE: std::ops::RangeInclusive<usize> = 1..=64;

pub(super) fn settings(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> WebhookSettings {
    let settings = reading.section::<WebhookSettings>(value, "events").unwrap_or_default();
    let mut refuse = |key: &str, message: &str, remedy: &str| {
        reading.problems.add(&format!("events.{key}"), message, remedy);
    };
    if !TIMEOUT.contains(&settings.timeout) {
        refuse("timeout", "a webhook has 1s to 60s to answer", "write 15s");
    }
    if settings.retries.len() > RETRIES_MAX {
        refuse("retries", "these are more than 20 pauses", "remove the last ones");
    }
    if !AT_ONCE.contains(&settings.at_once) {
        refuse("at_once", "1 to 64 events go to one webhook at the same time", "write 4");
    }
    if settings.waiting_max == 0 {
        refuse("waiting_max", "no event could wait", "write 10000");
    }
    if settings.dead_max == 0 {
        refuse("dead_max", "no event could be sent again after its retries", "write 1000");
    }
    settings
}

section! {
    /// What stands beside the spec of a hook.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[doc(hidden)]
    pub struct HookItemKeys {
        /// What the service signs with: its signing secret or public key. Required, unless the service hands it over in
        /// its first request.
        #[key("[secret](#secrets)")]
        secret: Option<Value>,
        /// What deliveries are signed with: `whsec_` and base64 of 24 to 64 bytes, as Standard Webhooks says. Required
        /// with `to`.
        #[key("[secret](#secrets)")]
        signing_key: Option<Value>,
    }
}

/// Where the secrets of a hook are.
#[derive(Clone, Debug)]
pub struct HookSecrets {
    /// What the service signs with.
    pub secret: Option<SecretSource>,
    /// What deliveries are signed with.
    pub signing_key: Option<SecretSource>,
}

impl InFile for Hook {
    type ItemKeys = HookItemKeys;
    type With = HookSecrets;

    fn with(
        item_keys: HookItemKeys,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<HookSecrets> {
        let mut read = |value: Option<Value>, key: &str| match value {
            Some(value) => source::secret(&value, &key_of(path, key), reading).map(Some),
            None => Some(None),
        };
        let (secret, signing_key) =
            (read(item_keys.secret, "secret"), read(item_keys.signing_key, "signing_key"));
        Some(HookSecrets { secret: secret?, signing_key: signing_key? })
    }
}
