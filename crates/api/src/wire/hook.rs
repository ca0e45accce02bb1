//! What answers hold beside the resource itself: hooks with their events and the schemes by which services sign,
//! webhooks, secret sources, and apps.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_model::{App, Hook, SecretText, Shown, Webhook};

/// A hook with the key that signs its deliveries, shown once: absent if it was given, and for a queue.
#[derive(Deserialize, JsonSchema, Serialize)]
pub struct HookCreated {
    /// The hook.
    #[serde(flatten)]
    pub hook: Shown<Hook>,
    /// `whsec_…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
}

impl std::fmt::Debug for HookCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookCreated").field("hook", &self.hook).finish_non_exhaustive()
    }
}

/// How the keys of a hook are replaced. Not the options of a new hook, which has no keys to end.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HookRotation {
    /// Another secret of the service.
    pub secret: Option<SecretText>,
    /// Another key of deliveries. Without both, a new one.
    pub signing_key: Option<SecretText>,
    /// Whether the replaced keys end at once, because others may have them. Otherwise they are valid for one more day.
    pub no_overlap: bool,
}

/// The secret that a service sent, for the person who enters it there.
#[derive(Deserialize, JsonSchema, Serialize)]
pub struct HookSecret {
    /// Such as the verification token of Notion.
    pub secret: String,
}

impl std::fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookSecret").finish_non_exhaustive()
    }
}

/// A verified request of a service.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct HookEventView {
    /// The same for repeated requests.
    pub id: String,
    /// When it was accepted.
    pub received: Timestamp,
    /// `waiting`, `dead`: all deliveries failed, or `delivered`.
    pub state: String,
    /// Failed deliveries.
    pub tries: u32,
    /// Why the last delivery failed, if the event is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The type of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Fields of the request, such as `x-github-event`.
    pub headers: Vec<(String, String)>,
    /// The body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// The query of a list of events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HookEventsRequest {
    /// Events whose deliveries all failed, instead of those that wait.
    pub dead: bool,
    /// Delivered events that are kept, the newest first, instead of those that wait.
    pub delivered: bool,
    /// Those after the event with this id: `next` of the page before.
    pub after: Option<String>,
    /// Server-sent events: those that wait, in order, and then each one that comes. A reader deletes an event after its
    /// work.
    pub follow: bool,
    /// 1 to 100; default 20. Long bodies make a page shorter.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<usize>,
}

/// A scheme by which services sign their webhooks.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct HookScheme {
    /// Its id.
    pub id: String,
    /// The name of the service or specification.
    pub name: String,
    /// What the secret is called there.
    pub secret: String,
    /// Its documentation.
    pub docs: String,
}

/// The answer to a service.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct HookAccepted {
    /// The event's id.
    pub id: String,
    /// Whether it was accepted before, and is not delivered again.
    pub repeated: bool,
}

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

/// What is fetched.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceTest {
    /// A reference; default: all that connections have in the source.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Which values could be fetched.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct SourceTested {
    /// Whether all could.
    pub ok: bool,
    /// By reference.
    pub tested: Vec<TestedReference>,
}

/// Whether one value could be fetched.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct TestedReference {
    /// The reference.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Whether it could.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// An app after a request to change it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AppChanged {
    /// As it is now.
    #[serde(flatten)]
    pub app: Shown<App>,
    /// Whether the request changed it.
    #[serde(default)]
    pub changed: bool,
    /// Names of its connections that the provider refused, and that the next request tries again.
    #[serde(default)]
    pub retried: Vec<String>,
}
