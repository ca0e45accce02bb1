//! Webhooks: URLs that receive events. Events are signed with a key that is not part of the record.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::WebhookId;
use keyward_base::keys::section;
use keyward_rules::provider::decode::did_you_mean;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::name;
use super::notice_kind::NoticeKind;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, Record, Resource};
use super::secret_text::SecretText;
use keyward_base::names::named_enum;

pub(crate) const URL_BYTES_MAX: usize = 2_048;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Webhook {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct WebhookSpec {
        /// Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        #[serde(default)]
        pub name: String,
        /// Where events are posted: https, or http on this machine. Private addresses must be in
        /// `upstream.allow_private`.
        #[key("URL", required)]
        #[option("url", "URL", "another URL", only changes)]
        pub url: String,
        /// The types of events that it receives, such as `connection.broken`; default: all of
        /// them. `keyward webhook events` lists them.
        #[key("list of types of events", "[]")]
        #[option("event", "TYPE", "a type of events; several times; default: all of them", clear "all-events" "report all types of events")]
        #[serde(default, deserialize_with = "kinds")]
        pub events: BTreeSet<NoticeKind>,
    }
}

section! {
    /// What a request may give beside the spec.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct WebhookCreateOptions {
        /// What events are signed with: `whsec_` and base64 of 24 to 64 bytes, as Standard Webhooks says.
        /// Default: a new one.
        #[key("text")]
        pub signing_key: Option<SecretText>,
    }
}

section! {
    /// What a change may say beside a merge patch.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct WebhookChangeOptions {
        /// Whether it receives no events; `false` also resumes one that has failed or was gone.
        #[key(one of ["true", "false"])]
        #[option("pause", "", "pause: events from now on are not delivered", clear "resume" "end the pause, or try again with one that failed")]
        pub paused: Option<bool>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WebhookFacts {
    /// Whether the webhook receives events.
    pub state: WebhookState,
    /// An accepted delivery; up to an hour older than the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Timestamp>,
    /// When its key was last replaced. It is in another row, and this makes another version of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
}

named_enum! {
    /// Whether a webhook receives events.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum WebhookState by code {
        /// It is.
        Active = "active",
        /// By a person, or because it was removed from the file: events of this time are not sent later.
        Paused = "paused",
        /// It answered 410: it wants no more events.
        Gone = "gone",
        /// It accepted nothing for as long as deliveries are tried.
        Failed = "failed",
    }
}

/// What is shown of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct WebhookShown {
    /// `active`, `paused`, `gone` (it answered 410) or `failed` (it accepted nothing for days).
    pub state: WebhookState,
    /// Events that it has not accepted yet, at the replica that answers.
    pub waiting: usize,
    /// Events that it accepted since the gateway began, from the replica that answers.
    pub told: u64,
    /// Events that were not delivered since then: too many waited, or all tries failed.
    pub dropped: u64,
    /// The last try since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<DeliveryAttempt>,
}

/// An attempt to deliver an event to a webhook.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct DeliveryAttempt {
    /// When.
    pub at: Timestamp,
    /// Whether it was accepted.
    pub taken: bool,
    /// `answered 500`, or why there was no answer.
    pub what: String,
}

impl Resource for Webhook {
    type Id = WebhookId;
    type Spec = WebhookSpec;
    type CreateOptions = WebhookCreateOptions;
    type ChangeOptions = WebhookChangeOptions;
    type Facts = WebhookFacts;
    type Shown = WebhookShown;

    const KIND: Kind = Kind { one: "webhook", article: "a webhook", many: "webhooks", max: 50 };
    const FIXED: &[&str] = &["name"];
    const DATED: bool = true;
    /// An accepted delivery writes both.
    const UNVERSIONED: &[&str] = &["taken", "updated"];

    fn name(spec: &WebhookSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &WebhookSpec) -> Vec<Refusal> {
        let rule = format!(
            "must be an https URL without a password, or an http URL of this machine, up to {URL_BYTES_MAX} bytes"
        );
        let url = Refusal::unless(is_postable(&spec.url), "url", rule);
        // First: the name may have been made of it.
        failed([url, name::plain(&spec.name)])
    }

    /// Rows call the events `kinds`.
    fn from_row(row: &mut Map<String, Value>) {
        let kinds = row.remove("kinds");
        row.extend(kinds.map(|kinds| ("events".to_owned(), kinds)));
    }

    fn to_row(row: &mut Map<String, Value>) {
        let kinds = row.remove("events");
        let kinds = kinds.filter(|kinds| kinds.as_array().is_some_and(|all| !all.is_empty()));
        row.extend(kinds.map(|kinds| ("kinds".to_owned(), kinds)));
    }
}

impl WebhookFacts {
    /// The facts of a new webhook.
    pub fn active() -> Self {
        Self { state: WebhookState::Active, taken: None, rotated: None }
    }
}

impl Record<Webhook> {
    /// Whether the webhook receives events of this kind.
    pub fn wants(&self, kind: NoticeKind) -> bool {
        let events = &self.spec.events;
        self.facts.state == WebhookState::Active && (events.is_empty() || events.contains(&kind))
    }
}

/// Whether events can be posted there: an https URL with a host, or an http URL of this machine; no password.
pub(crate) fn is_postable(url: &str) -> bool {
    let parsed: Option<http::Uri> = url.parse().ok().filter(|_| url.len() <= URL_BYTES_MAX);
    let is_one = parsed.and_then(|uri| {
        let authority = uri.authority()?.as_str();
        match uri.scheme_str()? {
            "https" => Target::parse(Scheme::Https, authority).ok().map(|_| true),
            "http" => Some(Target::parse(Scheme::Http, authority).ok()?.host().is_this_machine()),
            _ => None,
        }
    });
    is_one == Some(true)
}

/// Types of events by name. Refuses with the nearest one.
fn kinds<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeSet<NoticeKind>, D::Error> {
    let known = || NoticeKind::ALL.iter().map(|kind| kind.code());
    let of = |event: &String| {
        NoticeKind::parse(event).ok_or_else(|| {
            let remedy = did_you_mean(event, known())
                .unwrap_or_else(|| "see `keyward webhook events`".to_owned());
            D::Error::custom(format!("`{event:.64}` is not a type of events: {remedy}"))
        })
    };
    Vec::<String>::deserialize(d)?.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_url_must_be_https_or_local_http_without_a_password() {
        for bad in [
            "http://example.com/x",
            "ftp://example.com/x",
            "https://user:pw@example.com/x",
            "nonsense",
            "",
            &format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX)),
        ] {
            assert!(!is_postable(bad), "{bad}");
        }
        for good in ["https://example.com/x", "http://127.0.0.1:8080/x"] {
            assert!(is_postable(good), "{good}");
        }
    }

    #[test]
    fn an_unknown_type_of_events_is_refused_with_the_nearest() {
        let bad = r#"{"name":"a","url":"https://a.test/","events":["connection.brokn"]}"#;
        let refused = serde_json::from_str::<WebhookSpec>(bad).unwrap_err().to_string();
        let expected =
            "`connection.brokn` is not a type of events: did you mean `connection.broken`?";
        assert!(refused.contains(expected), "{refused}");
    }
}
