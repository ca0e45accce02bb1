//! Webhooks: what answers hold beside the resource itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_model::{Shown, Webhook};

/// A type of events.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct EventType {
    /// `connection.broken`
    pub r#type: String,
    /// When it happens.
    pub meaning: String,
    /// Names of the webhooks that receive it.
    pub webhooks: Vec<String>,
}

/// A webhook with its signing key, shown once: absent if it was given.
#[derive(Deserialize, JsonSchema, Serialize)]
pub struct WebhookCreated {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: Shown<Webhook>,
    /// `whsec_…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
}

impl std::fmt::Debug for WebhookCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookCreated").field("webhook", &self.webhook).finish_non_exhaustive()
    }
}
