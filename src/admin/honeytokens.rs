//! `/honeytokens`: placeholders that are bound to nothing, to be left where nobody should look.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::{HoneytokenView, List, NewHoneytoken};
use crate::directory::HoneytokenRecord;
use crate::inject::placeholder::Placeholder;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/honeytokens", get(list).post(add))
        .route("/honeytokens/{honeytoken}", get(show).delete(remove))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<HoneytokenView>>, ApiError> {
    let directory = admin.deps().directory.view();
    let wants = |it: &&Arc<HoneytokenRecord>| page.wants(&[&it.name, it.id.as_str()]);
    let wanted = directory.honeytokens(caller.org()).filter(wants).map(|it| view(it));
    page.cut(wanted.collect(), |it: &HoneytokenView| &it.name).map(Json)
}

async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<HoneytokenView>, ApiError> {
    Ok(Json(view(&*found(&admin, &caller, &name)?)))
}

async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewHoneytoken>,
) -> Result<(StatusCode, Json<HoneytokenView>), ApiError> {
    let placeholder = shaped(&admin, new.provider.as_deref())?;
    let directory = &admin.deps().directory;
    let made = directory.add_honeytoken(caller.org(), new.name, (placeholder, new.revokes)).await?;
    caller.names("honeytoken", &made.id, &made.name);
    Ok((StatusCode::CREATED, Json(view(&made))))
}

async fn remove(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let found = found(&admin, &caller, &name)?;
    admin.deps().directory.remove_honeytoken(&found.org, &found.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// In the shape of a provider's keys.
fn shaped(admin: &Admin, provider: Option<&str>) -> Result<Placeholder, ApiError> {
    let Some(id) = provider else { return Ok(Placeholder::issue("", None)) };
    let catalogue = admin.deps().vault.catalogue();
    let known = || catalogue.all().map(|provider| &*provider.id);
    let provider = catalogue.get(id);
    let provider = provider.ok_or_else(|| ApiError::not_found_among("provider", id, known()))?;
    let field = provider.auth.iter().find_map(|auth| auth.carried().next());
    let prefix = field.and_then(|field| field.prefixes.first()).map_or("", String::as_str);
    Ok(Placeholder::issue(prefix, field.and_then(|field| field.length)))
}

/// By name or id.
fn found(admin: &Admin, caller: &Caller, name: &str) -> Result<Arc<HoneytokenRecord>, ApiError> {
    let (view, org) = (admin.deps().directory.view(), caller.org());
    let is_it = |it: &&Arc<HoneytokenRecord>| it.id.as_str() == name || it.name == name;
    let known = || view.honeytokens(org).map(|it| &*it.name);
    let found = view.honeytokens(org).find(is_it);
    let found = found.ok_or_else(|| ApiError::not_found_among("honeytoken", name, known()))?;
    caller.names("honeytoken", &found.id, &found.name);
    Ok(found.clone())
}

fn view(record: &HoneytokenRecord) -> HoneytokenView {
    HoneytokenView {
        id: record.id.clone(),
        name: record.name.clone(),
        text: record.placeholder.as_str().to_owned(),
        revokes: record.revokes,
        created: record.created,
    }
}
