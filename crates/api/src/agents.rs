//! `/agents`: who may use the proxy.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;

use super::auth::Caller;
use super::bindings;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::owners;
use super::page::Page;
use super::state::Admin;
use super::tokens;
use super::wire::{AgentPatch, AgentView, List, NewAgent};
use keyward_state::directory::{self, AgentRecord, ManagedBy};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/agents", get(list).post(add))
        .route("/agents/{agent}", get(show).patch(change).delete(remove))
        .route("/agents/{agent}/pause", post(pause))
        .route("/agents/{agent}/resume", post(resume))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<AgentView>>, ApiError> {
    let directory = admin.deps().directory.view();
    let wanted = directory
        .agents()
        .filter(|agent| caller.sees_agent(agent) && page.wants(&[&agent.name, agent.id.as_str()]));
    let page = page.cut(wanted.collect(), |agent| &agent.name)?;
    Ok(Json(page.map(|agent| view(&admin, &caller, agent))))
}

async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<AgentView>, ApiError> {
    Ok(Json(view(&admin, &caller, &*admin.agent(&caller, &name)?)))
}

async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewAgent>,
) -> Result<(StatusCode, Json<AgentView>), ApiError> {
    let NewAgent { name, labels, environment, owner } = new;
    let owner = owners::of_new(&admin, &caller, owner.as_deref())?;
    let new =
        directory::NewAgent { name, labels, environment, owner, managed_by: ManagedBy::Store };
    let agent = admin.deps().directory.add_agent(caller.org(), new).await?;
    caller.names("agent", &agent.id, &agent.name);
    admin.enforce().await?;
    Ok((StatusCode::CREATED, Json(view(&admin, &caller, &agent))))
}

/// Gives it to somebody else: what is private of its owner must not be bound to it.
async fn change(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
    Body(patch): Body<AgentPatch>,
) -> Result<Json<AgentView>, ApiError> {
    let agent = admin.agent(&caller, &name)?;
    let Some(owner) = patch.owner else { return Ok(Json(view(&admin, &caller, &agent))) };
    let owner = owners::given_to(&admin, &caller, owner.as_deref())?;
    caller.because(owner.as_ref().map_or("of the organisation", |id| id.as_str()));
    let directory = &admin.deps().directory;
    let changed = directory.set_agent_owner(&agent.org, &agent.id, owner).await?;
    admin.enforce().await?;
    Ok(Json(view(&admin, &caller, &changed)))
}

/// Its tokens open nothing from now on, and its open streams end.
async fn pause(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<AgentView>, ApiError> {
    set_held(&admin, &caller, &name, true).await
}

/// Ends the pause of a person or an alarm. One that the configuration names no more stays paused.
async fn resume(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<AgentView>, ApiError> {
    set_held(&admin, &caller, &name, false).await
}

async fn set_held(
    admin: &Admin,
    caller: &Caller,
    name: &str,
    held: bool,
) -> Result<Json<AgentView>, ApiError> {
    let agent = admin.agent(caller, name)?;
    caller.because(if held { "paused" } else { "resumed" });
    let changed = admin.deps().directory.set_agent_held(&agent.org, &agent.id, held).await?;
    admin.enforce().await?;
    Ok(Json(view(admin, caller, &changed)))
}

/// Of one that may do nothing: why, and what to do about it.
pub(super) fn why_paused(agent: &AgentRecord) -> (&'static str, &'static str) {
    match (agent.held, agent.paused) {
        (true, _) => ("a person or an alarm did that", "`keyward agent resume` ends it"),
        (_, true) => ("it was taken out of the configuration file", "put it back into the file"),
        _ => {
            ("its owner is", "`keyward user set NAME --resume`, or give the agent to somebody else")
        }
    }
}

async fn remove(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let agent = admin.agent(&caller, &name)?;
    admin.deps().directory.remove_agent(caller.org(), &agent.id).await?;
    admin.enforce().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where the agent has a listener of its own.
fn listeners(admin: &Admin, agent: &AgentRecord) -> Vec<String> {
    let all = admin.locations().into_iter().flat_map(|places| &places.agents);
    let own = all.filter(|(owner, _)| owner.org == agent.org && owner.agent == agent.name);
    own.map(|(_, at)| at.clone()).collect()
}

fn view(admin: &Admin, caller: &Caller, agent: &AgentRecord) -> AgentView {
    AgentView {
        id: agent.id.clone(),
        name: agent.name.clone(),
        environment: agent.environment.clone(),
        labels: agent.labels.clone(),
        owner: agent.owner.clone(),
        managed_by: agent.managed_by,
        paused: agent.is_paused(),
        held: agent.held,
        created: agent.created,
        tokens: agent.tokens.iter().map(|token| tokens::view(admin, token)).collect(),
        bindings: agent
            .bindings
            .iter()
            .filter_map(|binding| bindings::view(admin, caller, (agent, binding)))
            .collect(),
        listeners: listeners(admin, agent),
    }
}
