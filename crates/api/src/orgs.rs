//! `/orgs`: organisations. The operator adds and removes them; other callers see only their own.

use axum::Json;
use http::StatusCode;

use super::body::{Body, Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::etag::{Etag, IfMatch, TaggedAnswer};
use super::openapi::Routes;
use super::page::Page;
use super::wire::List;
use keyward_base::codes::Code;
use keyward_base::id::OrgId;
use keyward_model::{ManagedBy, NoMembers, Org, OrgSpec, Record, Resource, Shown};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/orgs", ["listOrgs", "List organisations"], list)
        .post("/orgs", ["addOrg", "Add an organisation"], add)
        .get("/orgs/{org}", ["getOrg", "Show an organisation"], show)
        .delete("/orgs/{org}", ["removeOrg", "Remove an empty organisation"], remove)
}

async fn list(
    context: Context,
    Params(page): Params<Page>,
) -> Result<Json<List<Shown<Org>>>, ApiError> {
    let directory = context.view();
    let seen = directory.orgs().filter(|org| sees(&context, &org.id));
    let wanted = seen.filter(|org| page.wants(&[org.name()])).map(|org| shown(org)).collect();
    page.cut(wanted, |org: &Shown<Org>| org.name()).map(Json)
}

async fn show(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<TaggedAnswer<Shown<Org>>, ApiError> {
    let directory = context.view();
    let id = parsed(&name).filter(|id| sees(&context, id));
    let found = id.and_then(|id| directory.org(&id).cloned());
    let known = || directory.orgs().filter(|org| sees(&context, &org.id)).map(|org| org.name());
    let found = found.ok_or_else(|| ApiError::not_found_among("organisation", &name, known()))?;
    Ok(TaggedAnswer { etag: Some(Etag::of(&found)), body: shown(&found) })
}

async fn add(
    context: Context,
    Body(spec): Body<OrgSpec>,
) -> Result<(StatusCode, Json<Shown<Org>>), ApiError> {
    of_operator(&context)?;
    Org::check(&spec)?;
    let id = OrgId::named(&spec.name).map_err(ApiError::internal)?;
    let org = context.deps().directory.add_org(&id, ManagedBy::Store).await?;
    context.caller.record_changed("org", &org.id, org.name());
    Ok((StatusCode::CREATED, Json(shown(&org))))
}

async fn remove(
    context: Context,
    Segments(name): Segments<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    of_operator(&context)?;
    let id = parsed(&name).ok_or_else(|| ApiError::not_found("organisation", &name))?;
    context.caller.record_changed("org", &id, id.name());
    if let Some(org) = context.view().org(&id) {
        if_match.check(org)?;
    }
    context.deps().directory.remove_org(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parsed(name: &str) -> Option<OrgId> {
    OrgId::named(name.strip_prefix("org_").unwrap_or(name)).ok()
}

fn sees(context: &Context, org: &OrgId) -> bool {
    context.caller.is_operator() || context.caller.org() == org
}

fn of_operator(context: &Context) -> Result<(), ApiError> {
    match context.caller.user() {
        None => Ok(()),
        Some(_) => Err(Code::NotAllowed
            .because("only the operator adds and removes organisations")
            .hint("use the command on the gateway's machine, without a token")
            .into()),
    }
}

fn shown(org: &Record<Org>) -> Shown<Org> {
    org.shown(NoMembers {})
}
