//! `/webhooks`: the receivers of the organisation's events. A signing key is given, or made and shown once.
//! `/events`: the types of events, each with its webhooks; the events themselves are in the audit log.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::Uri;

use super::auth::Caller;
use super::body::{Body, Segments};
use super::context::Context;
use super::error::ApiError;
use super::etag::IfMatch;
use super::input::{Input, InputChange};
use super::openapi::Routes;
use super::request_id;
use super::resource::{self, Changeable, Exposed};
use super::state::Admin;
use super::wire::{EventType, List, WebhookCreated};
use keyward_model::{
    DeliveryAttempt, ManagedBy, NoticeKind, Record, SecretText, Shown, Webhook,
    WebhookCreateOptions, WebhookFacts, WebhookShown, WebhookSpec, WebhookState,
};
use keyward_vault::events::{SigningKeyError, WebhookSigningKey};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/events", ["listEventTypes", "List types of events"], types)
        .get("/webhooks", ["listWebhooks", "List webhooks"], resource::list::<Webhook>)
        .post("/webhooks", ["addWebhook", "Add a webhook"], resource::add::<Webhook>)
        .get("/webhooks/{webhook}", ["getWebhook", "Show a webhook"], resource::show::<Webhook>)
        .patch(
            "/webhooks/{webhook}",
            ["changeWebhook", "Change a webhook"],
            resource::change::<Webhook>,
        )
        .delete(
            "/webhooks/{webhook}",
            ["removeWebhook", "Remove a webhook"],
            resource::remove::<Webhook>,
        )
        .post("/webhooks/{webhook}/test", ["testWebhook", "Send a test event to a webhook"], test)
        .post(
            "/webhooks/{webhook}/rotate",
            ["rotateWebhookKey", "Replace the signing key of a webhook"],
            rotate,
        )
}

/// Lists the types of events, each with the webhooks that receive it.
async fn types(State(admin): State<Admin>, caller: Caller) -> Json<List<EventType>> {
    let directory = admin.deps().directory.view();
    let told = |kind| {
        // A test goes to the one that is tried.
        let wants =
            |hook: &&Arc<Record<Webhook>>| kind != NoticeKind::WebhookTest && hook.wants(kind);
        let wanting = directory.all::<Webhook>(caller.org()).filter(wants);
        let mut names: Vec<_> = wanting.map(|hook| hook.name().to_owned()).collect();
        names.sort();
        names
    };
    let of = |kind: &NoticeKind| EventType {
        r#type: kind.code().to_owned(),
        meaning: kind.meaning().to_owned(),
        webhooks: told(*kind),
    };
    Json(List { items: NoticeKind::ALL.iter().map(of).collect(), next: None })
}

impl Exposed for Webhook {
    type Added = WebhookCreated;

    fn texts<'a>(_: &'a Context, record: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        vec![record.spec.url.as_str().into()]
    }

    /// One without a name is named after the host of its URL.
    fn resolve(_: &Context, spec: &mut WebhookSpec) -> Result<(), ApiError> {
        if spec.name.is_empty() {
            spec.name = host_of(&spec.url).unwrap_or_default();
        }
        Ok(())
    }

    async fn shown_facts(context: &Context, record: &Record<Self>) -> WebhookShown {
        let status = context.deps().events.status(&record.id);
        WebhookShown {
            state: record.facts.state,
            waiting: status.waiting,
            told: status.delivered,
            dropped: status.dropped,
            last: status.last,
        }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<WebhookCreated, ApiError> {
        let key = WebhookKey::of(input.options)?;
        let (events, org) = (&context.deps().events, context.caller.org());
        let hook = events.add(org, ManagedBy::Store, input.spec, key.key).await?;
        context.caller.record_changed("webhook", &hook.id, hook.name());
        let webhook = resource::shown(context, &*hook).await;
        Ok(WebhookCreated { webhook, signing_key: key.shown })
    }

    async fn removed(context: &Context, record: &Record<Self>) -> Result<(), ApiError> {
        Ok(context.deps().events.forget(&record.org, &record.id).await?)
    }
}

impl Changeable for Webhook {
    type Changed = Shown<Self>;

    async fn change(
        context: &Context,
        record: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> Result<Shown<Self>, ApiError> {
        let paused = change.options.paused;
        let changed = resource::store_change(context, &record, &change, |hook| match paused {
            Some(true) => hook.facts.state = WebhookState::Paused,
            Some(false) => hook.facts.state = WebhookState::Active,
            None => {}
        });
        Ok(resource::shown(context, &*changed.await?).await)
    }
}

/// A signing key, and its text where it is made here: shown once.
struct WebhookKey {
    key: WebhookSigningKey,
    shown: Option<String>,
}

impl WebhookKey {
    /// The key that is given, or a new one.
    fn of(given: WebhookCreateOptions) -> Result<Self, ApiError> {
        match given.signing_key {
            Some(SecretText(text)) => {
                let key = WebhookSigningKey::parse(&text);
                let refused =
                    |error: SigningKeyError| ApiError::field("signing_key", error.to_string());
                Ok(Self { key: key.map_err(refused)?, shown: None })
            }
            None => {
                let key = WebhookSigningKey::random();
                let shown = Some(key.shown());
                Ok(Self { key, shown })
            }
        }
    }
}

/// Posts a test event now, regardless of the selected events and even if the webhook is paused.
async fn test(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<DeliveryAttempt>, ApiError> {
    let hook = resource::found::<Webhook>(&context, &name)?;
    Ok(Json(context.deps().events.test(&hook).await?))
}

/// Signs with another key from now on, and for a day with the one before as well.
async fn rotate(
    context: Context,
    Segments(name): Segments<String>,
    if_match: IfMatch,
    Body(given): Body<WebhookCreateOptions>,
) -> Result<Json<WebhookCreated>, ApiError> {
    let hook = resource::found::<Webhook>(&context, &name)?;
    resource::editable(&*hook)?;
    let key = WebhookKey::of(given)?;
    let work = async move {
        let set = |facts: &mut WebhookFacts, now| facts.rotated = Some(now);
        let hook = resource::rotated::<Webhook>(&context, &hook, &if_match, set).await?;
        context.deps().events.sign_with(&hook.org, &hook.id, key.key).await?;
        let webhook = resource::shown(&context, &*hook).await;
        Ok(Json(WebhookCreated { webhook, signing_key: key.shown }))
    };
    // Runs to its end even if the caller disconnects: else the record has the time of a key that was not replaced.
    request_id::spawn(work).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

fn host_of(url: &str) -> Option<String> {
    Some(url.parse::<Uri>().ok()?.host()?.to_owned())
}
