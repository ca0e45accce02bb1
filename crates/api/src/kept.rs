//! Handlers of resources that the directory keeps generically: list, show, add and remove.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::List;
use keyward_base::id::Id;
use keyward_model::{ManagedBy, Record, Shown};
use keyward_state::directory::Kept;

/// A resource of the API.
pub(super) trait Exposed: Kept {
    /// What the gateway adds to a new one.
    fn facts(admin: &Admin, spec: &Self::Spec) -> Result<Self::Facts, ApiError>;

    /// What is shown beside the spec.
    fn shown(admin: &Admin, caller: &Caller, record: &Record<Self>) -> Self::Shown;
}

pub(super) async fn list<R: Exposed>(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<Shown<R>>>, ApiError> {
    let directory = admin.deps().directory.view();
    let wants = |it: &&Arc<Record<R>>| page.wants(&[it.name(), it.id.as_str()]);
    let wanted = directory.all::<R>(caller.org()).filter(wants);
    let page = page.cut(wanted.collect(), |it| it.name())?;
    Ok(Json(page.map(|it| it.shown(R::shown(&admin, &caller, it)))))
}

pub(super) async fn show<R: Exposed>(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<Shown<R>>, ApiError> {
    let found = found::<R>(&admin, &caller, &name)?;
    Ok(Json(found.shown(R::shown(&admin, &caller, &found))))
}

pub(super) async fn add<R: Exposed>(
    State(admin): State<Admin>,
    caller: Caller,
    Body(spec): Body<R::Spec>,
) -> Result<(StatusCode, Json<Shown<R>>), ApiError> {
    let facts = R::facts(&admin, &spec)?;
    let directory = &admin.deps().directory;
    let made = directory.add::<R>(caller.org(), ManagedBy::Store, spec, facts).await?;
    caller.names(R::KIND.one, &made.id, made.name());
    Ok((StatusCode::CREATED, Json(made.shown(R::shown(&admin, &caller, &made)))))
}

pub(super) async fn remove<R: Exposed>(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let found = found::<R>(&admin, &caller, &name)?;
    admin.deps().directory.remove::<R>(&found.org, &found.id, ManagedBy::Store).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By name or id.
pub(super) fn found<R: Exposed>(
    admin: &Admin,
    caller: &Caller,
    name: &str,
) -> Result<Arc<Record<R>>, ApiError> {
    let (view, org) = (admin.deps().directory.view(), caller.org());
    let known = || view.all::<R>(org).map(|it| it.name());
    let found = view.find::<R>(org, name);
    let found = found.ok_or_else(|| ApiError::not_found_among(R::KIND.one, name, known()))?;
    caller.names(R::KIND.one, &found.id, found.name());
    Ok(found.clone())
}
