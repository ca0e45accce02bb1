//! Hooks: URLs of the gateway to which services post their webhooks. A request whose signature is valid is stored, and
//! delivered to a program of the owner, which never holds the secret of the service.

use keyward_base::id::{ConnectionId, HookId};
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use super::reference::Reference;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, Record, Resource};
use super::secret_text::SecretText;
use super::webhook::{DeliveryAttempt, URL_BYTES_MAX, is_postable};
use jiff::Timestamp;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {}

/// Longest body that a hook can accept. GitHub's are the largest that a service documents
/// (<https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap>).
pub const HOOK_BODY_BYTES_MAX: usize = 25 * 1024 * 1024;

/// The least that a hook can be set to: below that, it would refuse most events.
const BODY_BYTES_MIN: usize = 1024;

/// Delivered events that a hook keeps by default, and at most.
const KEPT_EVENTS: usize = 100;
const KEPT_EVENTS_MAX: usize = 10_000;

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct HookSpec {
        /// Unique; the last part of its URL. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        pub name: String,
        /// The connection whose provider posts here. It decides the scheme.
        #[key("name or id of a connection")]
        #[option("connection", "NAME", "the connection whose provider posts here", clear "no-connection" "no connection: --scheme says how the service signs")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connection: Option<Reference<ConnectionId>>,
        /// How the service signs; `keyward hook schemes` lists them. Default: that of the provider of `connection`.
        #[key("id of a signature scheme")]
        #[option("scheme", "SCHEME", "how the service signs; default: as the provider of --connection does")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub scheme: Option<String>,
        /// Where verified events are posted: https, or http on this machine. Without it they wait for
        /// `keyward hook listen`. Private addresses must be in `upstream.allow_private`.
        #[key("URL")]
        #[option("to", "URL", "where events are posted; without it they wait for `keyward hook listen`", clear "queue" "post nowhere: events wait for `keyward hook listen`")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub to: Option<String>,
        /// Says that events wait for `keyward hook listen`, which they also do without `to`.
        #[key(one of ["true", "false"], "false")]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub queue: bool,
        /// Longest body of a request, in bytes: 1024 to 26214400. Default: 2 MiB, or more where the service documents that.
        #[key("bytes")]
        #[option("body-max", "BYTES", "longest body of a request, in bytes")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub body_max: Option<usize>,
        /// Delivered events that are kept, so that they can be sent again: 0 to 10,000, of at most 64 MiB. Default: 100.
        #[key("number")]
        #[option("keep-events", "NUMBER", "how many delivered events are kept")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub keep_events: Option<usize>,
    }
}

section! {
    /// What a request may give beside the spec.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct HookCreateOptions {
        /// What the service signs with: its signing secret or public key. A service that hands it over in its first request
        /// needs none.
        #[key("text")]
        pub secret: Option<SecretText>,
        /// What deliveries to `to` are signed with: `whsec_` and base64 of 24 to 64 bytes, as Standard Webhooks says.
        /// Default: a new one.
        #[key("text")]
        pub signing_key: Option<SecretText>,
    }
}

section! {
    /// What a change may say beside a merge patch.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct HookChangeOptions {
        /// Whether deliveries are paused. Requests are accepted and wait.
        #[key(one of ["true", "false"])]
        #[option("pause", "", "pause: requests are accepted, and their events wait", clear "resume" "end the pause")]
        pub paused: Option<bool>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HookFacts {
    /// Whether deliveries are paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// When its keys were last replaced. They are in another row, and this makes another version of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
}

/// What is shown of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct HookShown {
    /// The URL that the service is given.
    pub url: String,
    /// How the service signs.
    pub signed_by: String,
    /// Whether the secret of the service is there.
    pub has_secret: bool,
    /// What is entered at the service beside the URL, where it asks for a verify token (Meta). It is made of the secret and
    /// does not disclose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_token: Option<String>,
    /// Whether the secret that the service sent must be entered there (Notion): `POST /hooks/{hook}/reveal` shows it until
    /// the first event.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub can_reveal: bool,
    /// Whether deliveries are paused.
    pub paused: bool,
    /// Events that wait.
    pub waiting: usize,
    /// Events whose deliveries all failed; they can be sent again.
    pub dead: usize,
    /// Delivered events that are kept; they can be sent again.
    #[serde(default)]
    pub delivered: usize,
    /// The last delivery since the gateway began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<DeliveryAttempt>,
    /// Why the last request was refused, since the gateway began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<HookRefusal>,
}

/// A refused request.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct HookRefusal {
    /// When.
    pub at: Timestamp,
    /// Such as `signature_wrong`.
    pub code: String,
    /// In words.
    pub reason: String,
}

impl Resource for Hook {
    type Id = HookId;
    type Spec = HookSpec;
    type CreateOptions = HookCreateOptions;
    type ChangeOptions = HookChangeOptions;
    type Facts = HookFacts;
    type Shown = HookShown;

    const KIND: Kind = Kind { one: "hook", article: "a hook", many: "hooks", max: 2_000 };
    const FIXED: &[&str] = &["name"];
    const DATED: bool = true;

    fn name(spec: &HookSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &HookSpec) -> Vec<Refusal> {
        let rule = format!(
            "must be an https URL without a password, or an http URL of this machine, up to {URL_BYTES_MAX} bytes"
        );
        let to = spec.to.as_deref().is_none_or(is_postable);
        let has_scheme = spec.connection.is_some() || spec.scheme.is_some();
        let body = |bytes| (BODY_BYTES_MIN..=HOOK_BODY_BYTES_MAX).contains(&bytes);
        let body_rule = format!("must be {BODY_BYTES_MIN} to {HOOK_BODY_BYTES_MAX} bytes");
        let keeps = spec.kept_events() <= KEPT_EVENTS_MAX;
        failed([
            name::plain(&spec.name),
            Refusal::unless(has_scheme, "scheme", "is required without `connection`"),
            Refusal::unless(to, "to", rule),
            Refusal::unless(
                !spec.queue || spec.to.is_none(),
                "queue",
                "is for a hook without `to`",
            ),
            Refusal::unless(spec.body_max.is_none_or(body), "body_max", body_rule),
            Refusal::unless(keeps, "keep_events", format!("must be at most {KEPT_EVENTS_MAX}")),
        ])
    }
}

impl HookSpec {
    /// How many delivered events are kept.
    pub fn kept_events(&self) -> usize {
        self.keep_events.unwrap_or(KEPT_EVENTS)
    }
}

impl Record<Hook> {
    /// Whether its events wait for `keyward hook listen`.
    pub fn is_queue(&self) -> bool {
        self.spec.to.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hook_without_a_scheme_or_with_a_bad_url_is_refused() {
        let refused = |json: serde_json::Value| -> Vec<String> {
            let spec = serde_json::from_value(json).unwrap();
            Hook::refusals(&spec).iter().map(ToString::to_string).collect()
        };
        for (bad, field) in [
            (json!({"name": "a"}), "`scheme`"),
            (json!({"name": "a b", "scheme": "github"}), "`name`"),
            (json!({"name": "a", "scheme": "github", "to": "http://a.test/"}), "`to`"),
            (
                json!({"name": "a", "scheme": "github", "to": "https://a.test/", "queue": true}),
                "`queue`",
            ),
            (json!({"name": "a", "scheme": "github", "body_max": 1023}), "`body_max`"),
            (json!({"name": "a", "scheme": "github", "body_max": 26_214_401}), "`body_max`"),
            (json!({"name": "a", "scheme": "github", "keep_events": 10_001}), "`keep_events`"),
        ] {
            let found = refused(bad);
            assert!(found.len() == 1 && found[0].starts_with(field), "{found:?}");
        }
        assert!(refused(json!({"name": "a", "connection": "work"})).is_empty());
        let most =
            json!({"name": "a", "scheme": "github", "body_max": 26_214_400, "keep_events": 0});
        assert!(refused(most).is_empty());
        let to = "http://127.0.0.1:9000/x";
        assert!(refused(json!({"name": "a", "scheme": "github", "to": to})).is_empty());
    }
}
