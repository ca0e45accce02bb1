//! `/orgs`: organisations. The operator makes and removes them; everybody else knows their own.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::{List, NewOrg, OrgView};
use keyward_base::id::OrgId;
use keyward_state::directory::{ManagedBy, OrgRecord};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/orgs", get(list).post(add)).route("/orgs/{org}", get(show).delete(remove))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<OrgView>>, ApiError> {
    let directory = admin.deps().directory.view();
    let seen = directory.orgs().filter(|org| sees(&caller, &org.id));
    let wanted = seen.filter(|org| page.wants(&[org.id.name()])).map(|org| view(org)).collect();
    page.cut(wanted, |org: &OrgView| &org.name).map(Json)
}

async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<OrgView>, ApiError> {
    let directory = admin.deps().directory.view();
    let id = parsed(&name).filter(|id| sees(&caller, id));
    let found = id.and_then(|id| directory.org(&id).cloned());
    let known = || directory.orgs().filter(|org| sees(&caller, &org.id)).map(|org| org.id.name());
    let found = found.ok_or_else(|| ApiError::not_found_among("organisation", &name, known()))?;
    Ok(Json(view(&found)))
}

async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewOrg>,
) -> Result<(StatusCode, Json<OrgView>), ApiError> {
    of_operator(&caller)?;
    let refused = "must be 2 to 40 lower-case letters, digits and inner hyphens";
    let id = OrgId::named(&new.name).map_err(|_| ApiError::field("name", refused))?;
    let org = admin.deps().directory.add_org(&id, ManagedBy::Store).await?;
    caller.names("org", &org.id, org.id.name());
    Ok((StatusCode::CREATED, Json(view(&org))))
}

async fn remove(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    of_operator(&caller)?;
    let id = parsed(&name).ok_or_else(|| ApiError::not_found("organisation", &name))?;
    caller.names("org", &id, id.name());
    admin.deps().directory.remove_org(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By name or id.
fn parsed(name: &str) -> Option<OrgId> {
    OrgId::named(name.strip_prefix("org_").unwrap_or(name)).ok()
}

fn sees(caller: &Caller, org: &OrgId) -> bool {
    caller.is_operator() || caller.org() == org
}

fn of_operator(caller: &Caller) -> Result<(), ApiError> {
    match caller.user() {
        None => Ok(()),
        Some(user) => Err(ApiError::RoleRefused(user.role.as_str())),
    }
}

fn view(org: &OrgRecord) -> OrgView {
    let (id, name) = (org.id.clone(), org.id.name().to_owned());
    OrgView { id, name, managed_by: org.managed_by, created: org.created }
}
