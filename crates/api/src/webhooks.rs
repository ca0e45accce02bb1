//! `/webhooks`: who is told what happens in the organisation. Signing keys go in, or come out once.
//! `/events`: what there is to be told, and who is; what has happened stands in the audit log.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{StatusCode, Uri};

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::{
    EventType, List, NewSigningKey, NewWebhook, WebhookPatch, WebhookShown, WebhookTry, WebhookView,
};
use keyward_rules::provider::decode::nearest;
use keyward_state::directory::{self, ManagedBy, WebhookRecord, WebhookState};
use keyward_state::observe::notice::NoticeKind;
use keyward_vault::events::{LastTry, SigningKey};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/events", get(types))
        .route("/webhooks", get(list).post(add))
        .route("/webhooks/{webhook}", get(show).patch(change).delete(remove))
        .route("/webhooks/{webhook}/test", post(test))
        .route("/webhooks/{webhook}/rotate", post(rotate))
}

/// What there is to be told, and who is.
async fn types(State(admin): State<Admin>, caller: Caller) -> Json<List<EventType>> {
    let directory = admin.deps().directory.view();
    let told = |kind| {
        // A test goes to the one that is tried.
        let wants =
            |hook: &&Arc<WebhookRecord>| kind != NoticeKind::WebhookTest && hook.wants(kind);
        let wanting = directory.webhooks(caller.org()).filter(wants);
        let mut names: Vec<_> = wanting.map(|hook| hook.name.clone()).collect();
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

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<WebhookView>>, ApiError> {
    let directory = admin.deps().directory.view();
    let wants = |hook: &&Arc<WebhookRecord>| page.wants(&[&hook.name, hook.id.as_str(), &hook.url]);
    let wanted = directory.webhooks(caller.org()).filter(wants);
    let page = page.cut(wanted.collect(), |hook| &hook.name)?;
    Ok(Json(page.map(|hook| view(&admin, hook))))
}

async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<WebhookView>, ApiError> {
    Ok(Json(view(&admin, &*found(&admin, &caller, &name)?)))
}

async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewWebhook>,
) -> Result<(StatusCode, Json<WebhookShown>), ApiError> {
    let (key, shown) = key(new.signing_key.map(|text| text.0))?;
    let deps = admin.deps();
    let name = new.name.or_else(|| host_of(&new.url)).unwrap_or_default();
    let new = directory::NewWebhook {
        name,
        kinds: kinds(&new.events)?,
        url: new.url,
        managed_by: ManagedBy::Store,
    };
    let hook = deps.directory.add_webhook(caller.org(), new).await?;
    caller.names("webhook", &hook.id, &hook.name);
    deps.events.sign_with((&hook.org, &hook.id), key).await?;
    Ok((
        StatusCode::CREATED,
        Json(WebhookShown { webhook: view(&admin, &hook), signing_key: shown }),
    ))
}

async fn change(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
    Body(patch): Body<WebhookPatch>,
) -> Result<Json<WebhookView>, ApiError> {
    let hook = found(&admin, &caller, &name)?;
    hook.editable(ManagedBy::Store)?;
    let kinds = patch.events.as_deref().map(kinds).transpose()?;
    let set = move |hook: &mut WebhookRecord| {
        if let Some(url) = &patch.url {
            hook.url.clone_from(url);
        }
        if let Some(kinds) = &kinds {
            hook.kinds.clone_from(kinds);
        }
        match patch.paused {
            Some(true) => hook.state = WebhookState::Paused,
            Some(false) => hook.state = WebhookState::Active,
            None => {}
        }
    };
    let changed = admin.deps().directory.update_webhook(&hook.org, &hook.id, set).await?;
    Ok(Json(view(&admin, &changed)))
}

async fn remove(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let hook = found(&admin, &caller, &name)?;
    let deps = admin.deps();
    deps.directory.remove_webhook(&hook.org, &hook.id, ManagedBy::Store).await?;
    deps.events.forget(&hook.org, &hook.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Posts one event now, whatever the webhook wants to be told and whether it is paused.
async fn test(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<WebhookTry>, ApiError> {
    let hook = found(&admin, &caller, &name)?;
    Ok(Json(tried(admin.deps().events.test(&hook).await?)))
}

/// Signs with another key from now on, and for a day with the one before as well.
async fn rotate(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
    Body(new): Body<NewSigningKey>,
) -> Result<Json<WebhookShown>, ApiError> {
    let hook = found(&admin, &caller, &name)?;
    hook.editable(ManagedBy::Store)?;
    let (key, shown) = key(new.signing_key.map(|text| text.0))?;
    admin.deps().events.sign_with((&hook.org, &hook.id), key).await?;
    Ok(Json(WebhookShown { webhook: view(&admin, &hook), signing_key: shown }))
}

/// The key that is given, or a new one and its text, to be shown.
fn key(
    given: Option<keyward_base::secret::Secret>,
) -> Result<(SigningKey, Option<String>), ApiError> {
    match given {
        Some(text) => {
            let key = SigningKey::parse(&text);
            Ok((key.map_err(|error| ApiError::field("signing_key", error.to_string()))?, None))
        }
        None => {
            let key = SigningKey::random();
            let shown = key.shown();
            Ok((key, Some(shown)))
        }
    }
}

fn host_of(url: &str) -> Option<String> {
    Some(url.parse::<Uri>().ok()?.host()?.to_owned())
}

fn kinds(events: &[String]) -> Result<BTreeSet<NoticeKind>, ApiError> {
    let known = || NoticeKind::ALL.iter().map(|kind| kind.code());
    let of = |event: &String| {
        NoticeKind::parse(event).ok_or_else(|| ApiError::Field {
            field: "events".to_owned(),
            message: "holds a type of events that there is not".to_owned(),
            hint: Some(match nearest(event, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "see `keyward webhook events`".to_owned(),
            }),
        })
    };
    events.iter().map(of).collect()
}

/// By name or id.
fn found(admin: &Admin, caller: &Caller, name: &str) -> Result<Arc<WebhookRecord>, ApiError> {
    let (view, org) = (admin.deps().directory.view(), caller.org());
    let known = || view.webhooks(org).map(|hook| &*hook.name);
    let found = view.find_webhook(org, name);
    let found = found.ok_or_else(|| ApiError::not_found_among("webhook", name, known()))?;
    caller.names("webhook", &found.id, &found.name);
    Ok(found.clone())
}

fn view(admin: &Admin, hook: &WebhookRecord) -> WebhookView {
    let standing = admin.deps().events.standing(&hook.id);
    WebhookView {
        id: hook.id.clone(),
        name: hook.name.clone(),
        url: hook.url.clone(),
        events: hook.kinds.iter().copied().collect(),
        state: hook.state,
        waiting: standing.waiting,
        told: standing.told,
        dropped: standing.dropped,
        last: standing.last.map(tried),
        managed_by: hook.managed_by,
        created: hook.created,
        updated: hook.updated,
    }
}

fn tried(last: LastTry) -> WebhookTry {
    WebhookTry { at: last.at, taken: last.taken, what: last.what }
}
