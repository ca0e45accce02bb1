//! `/agents`: who may use the proxy.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

use super::bindings;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::tokens;
use super::wire::{AgentView, List, NewAgent};
use crate::directory::{self, AgentRecord, ManagedBy};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/agents", get(list).post(add))
        .route("/agents/{agent}", get(show).delete(remove))
}

async fn list(
    State(admin): State<Admin>,
    Params(page): Params<Page>,
) -> Result<Json<List<AgentView>>, ApiError> {
    let (directory, org) = (admin.deps().directory.view(), admin.org());
    let wanted = directory
        .agents()
        .filter(|agent| agent.org == org && page.wants(&[&agent.name, agent.id.as_str()]))
        .map(|agent| view(&admin, agent))
        .collect();
    page.cut(wanted, |agent: &AgentView| &agent.name).map(Json)
}

async fn show(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
) -> Result<Json<AgentView>, ApiError> {
    Ok(Json(view(&admin, &*admin.agent(&name)?)))
}

async fn add(
    State(admin): State<Admin>,
    Body(new): Body<NewAgent>,
) -> Result<(StatusCode, Json<AgentView>), ApiError> {
    let NewAgent { name, labels, environment } = new;
    let new = directory::NewAgent { name, labels, environment, managed_by: ManagedBy::Store };
    let agent = admin.deps().directory.add_agent(&admin.org(), new).await?;
    admin.enforce().await?;
    Ok((StatusCode::CREATED, Json(view(&admin, &agent))))
}

async fn remove(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let agent = admin.agent(&name)?;
    admin.deps().directory.remove_agent(&admin.org(), &agent.id).await?;
    admin.enforce().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(admin: &Admin, agent: &AgentRecord) -> AgentView {
    AgentView {
        id: agent.id.clone(),
        name: agent.name.clone(),
        environment: agent.environment.clone(),
        labels: agent.labels.clone(),
        managed_by: agent.managed_by,
        paused: agent.paused,
        created: agent.created,
        tokens: agent.tokens.iter().map(tokens::view).collect(),
        bindings: agent.bindings.iter().filter_map(|b| bindings::view(admin, agent, b)).collect(),
    }
}
