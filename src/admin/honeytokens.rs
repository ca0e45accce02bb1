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
use crate::directory::{self, HoneytokenRecord, ManagedBy};
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
    let wanted = directory.honeytokens(caller.org()).filter(wants);
    let page = page.cut(wanted.collect(), |it| &it.name)?;
    Ok(Json(page.map(|it| view(it))))
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
    let NewHoneytoken { name, provider, revokes } = new;
    let managed_by = ManagedBy::Store;
    let new = directory::NewHoneytoken { name, placeholder, provider, revokes, managed_by };
    let made = admin.deps().directory.add_honeytoken(caller.org(), new).await?;
    caller.names("honeytoken", &made.id, &made.name);
    Ok((StatusCode::CREATED, Json(view(&made))))
}

async fn remove(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let found = found(&admin, &caller, &name)?;
    admin.deps().directory.remove_honeytoken(&found.org, &found.id, ManagedBy::Store).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// In the shape of a provider's keys.
fn shaped(admin: &Admin, provider: Option<&str>) -> Result<Placeholder, ApiError> {
    let Some(id) = provider else { return Ok(Placeholder::issue("", None)) };
    let catalogue = admin.deps().vault.catalogue();
    let known = || catalogue.all().map(|provider| &*provider.id);
    let provider = catalogue.get(id);
    let provider = provider.ok_or_else(|| ApiError::not_found_among("provider", id, known()))?;
    let (prefix, length) = provider.key_shape();
    Ok(Placeholder::issue(prefix, length))
}

/// By name or id.
fn found(admin: &Admin, caller: &Caller, name: &str) -> Result<Arc<HoneytokenRecord>, ApiError> {
    let (view, org) = (admin.deps().directory.view(), caller.org());
    let known = || view.honeytokens(org).map(|it| &*it.name);
    let found = view.find_honeytoken(org, name);
    let found = found.ok_or_else(|| ApiError::not_found_among("honeytoken", name, known()))?;
    caller.names("honeytoken", &found.id, &found.name);
    Ok(found.clone())
}

fn view(record: &HoneytokenRecord) -> HoneytokenView {
    HoneytokenView {
        id: record.id.clone(),
        name: record.name.clone(),
        text: record.placeholder.as_str().to_owned(),
        provider: record.provider.clone(),
        revokes: record.revokes,
        managed_by: record.managed_by,
        created: record.created,
    }
}
