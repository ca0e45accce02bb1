//! `webhooks:` and `events:`: who is told what happens, and how.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;

use super::names;
use super::reading::Reading;
use super::secret::SecretSource;
use super::source;
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_base::webhooks::{RETRIES_MAX, WebhookSettings};
use keyward_rules::provider::decode::nearest;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::directory::check_webhook_url;
use keyward_state::observe::notice::NoticeKind;

/// A webhook of the configuration.
#[derive(Clone, Debug)]
pub struct DeclaredWebhook {
    /// Its name, unique in its org.
    pub name: String,
    /// Its org.
    pub org: OrgId,
    /// Where events are posted.
    pub url: String,
    /// Of which events; empty: of all.
    pub kinds: BTreeSet<NoticeKind>,
    /// What they are signed with.
    pub key: SecretSource,
    /// Where it stands, for errors: `keyward.yaml:12: webhooks[0]`.
    pub place: String,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct WebhookText {
        /// Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        #[serde(default)]
        name: String,
        /// Its organisation, made when it is first named. It is told nothing of another one.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// Where events are posted: https, or http on this machine. Private addresses have to stand under
        /// `upstream.allow_private`.
        #[key("URL", required)]
        url: Option<String>,
        /// The types of events that it is told of, such as `connection.broken`; all of them when there is
        /// none. `keyward webhook events` lists them.
        #[key("list of types of events", "[]")]
        #[serde(default)]
        events: Vec<String>,
        /// What events are signed with: `whsec_` and base64 of 24 to 64 bytes, as Standard Webhooks says.
        #[key("[secret](#secrets)", required)]
        signing_key: Option<Value>,
    }
}

/// Reads `webhooks:`.
pub(super) fn webhooks(value: Option<&Value>, reading: &mut Reading<'_>) -> Vec<DeclaredWebhook> {
    let mut found: Vec<DeclaredWebhook> = Vec::new();
    for (index, item) in reading.items(value, "webhooks").iter().enumerate() {
        let path = item_of("webhooks", index);
        let Some(text) = reading.section::<WebhookText>(Some(item), &path) else { continue };
        let Some(webhook) = webhook(text, &path, reading) else { continue };
        let earlier = found.iter().filter(|other| other.org == webhook.org);
        names::unique(&webhook.name, earlier.map(|other| other.name.as_str()), &path, reading);
        found.push(webhook);
    }
    found
}

fn webhook(text: WebhookText, path: &str, reading: &mut Reading<'_>) -> Option<DeclaredWebhook> {
    names::plain(&text.name, path, reading);
    let url = reading.required(text.url, "url", path);
    if !url.is_empty() && check_webhook_url(&url).is_err() {
        let remedy = "write an https URL without a password, or an http URL of this machine";
        reading.problems.add(&key_of(path, "url"), "events cannot be posted there", remedy);
    }
    let kinds = kinds(&text.events, &key_of(path, "events"), reading);
    let at = key_of(path, "signing_key");
    let Some(key) = text.signing_key else {
        let remedy = "add `signing_key: { env: KEYWARD_WEBHOOK_KEY }`, or another source";
        reading.problems.add(path, "`signing_key` is missing", remedy);
        return None;
    };
    Some(DeclaredWebhook {
        org: reading.org(text.org.as_deref(), &key_of(path, "org")),
        key: source::secret(&key, &at, reading)?,
        name: text.name,
        url,
        kinds,
        place: reading.place(path),
    })
}

fn kinds(events: &[String], path: &str, reading: &mut Reading<'_>) -> BTreeSet<NoticeKind> {
    let mut kinds = BTreeSet::new();
    for (index, event) in events.iter().enumerate() {
        let Some(kind) = NoticeKind::parse(event) else {
            let remedy = match nearest(event, NoticeKind::ALL.iter().map(|kind| kind.code())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "see `keyward webhook events`".to_owned(),
            };
            let message = "there is no such type of events";
            reading.problems.add(&item_of(path, index), message, remedy);
            continue;
        };
        kinds.insert(kind);
    }
    kinds
}

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
