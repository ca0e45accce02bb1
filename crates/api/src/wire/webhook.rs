//! Webhooks: who is told what happens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SecretText;
use keyward_base::id::WebhookId;
use keyward_state::directory::{ManagedBy, WebhookState};
use keyward_state::observe::notice::NoticeKind;

/// A type of events.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EventType {
    /// `connection.broken`
    pub r#type: String,
    /// When it happens.
    pub meaning: String,
    /// Names of the webhooks that are told of it.
    pub webhooks: Vec<String>,
}

/// A new webhook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Its name; the host of its URL, when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Where events are posted.
    pub url: String,
    /// Of which events; of all, when empty.
    #[serde(default)]
    pub events: Vec<String>,
    /// What they are signed with, `whsec_…`; one is made, when absent.
    #[serde(default)]
    pub signing_key: Option<SecretText>,
}

/// What is to be another with a webhook; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookPatch {
    /// Where events are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of which events; of all, when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Whether it is told nothing; `false` also brings back one that has failed or was gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// Another signing key; one is made, when it is absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewSigningKey {
    /// `whsec_…`
    pub signing_key: Option<SecretText>,
}

/// A webhook.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WebhookView {
    /// `whk_…`
    pub id: WebhookId,
    /// Its name.
    pub name: String,
    /// Where events are posted.
    pub url: String,
    /// Of which events; of all, when empty.
    pub events: Vec<NoticeKind>,
    /// `active`, `paused`, `gone` (it answered 410) or `failed` (it took nothing for days).
    pub state: WebhookState,
    /// Events that it has not taken yet.
    pub waiting: usize,
    /// Events that it took since the gateway began.
    pub told: u64,
    /// Events that it was not told since then: too many waited, or all tries failed.
    pub dropped: u64,
    /// The last try since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<WebhookTry>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// A try to tell a webhook something.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WebhookTry {
    /// When.
    pub at: Timestamp,
    /// Whether it was taken.
    pub taken: bool,
    /// `answered 500`, or why there was no answer.
    pub what: String,
}

/// A webhook with its signing key, shown once: absent where somebody chose it.
#[derive(Deserialize, Serialize)]
pub struct WebhookShown {
    /// It.
    #[serde(flatten)]
    pub webhook: WebhookView,
    /// `whsec_…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
}

impl std::fmt::Debug for WebhookShown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookShown").field("webhook", &self.webhook).finish_non_exhaustive()
    }
}
