//! `/reload` and `/plan`: the configuration is read again and applied, or only compared with what the gateway holds.
//! Handlers pass the request to the gateway. The result of a reload is in the answer, and later in `/status`.

use axum::Json;
use axum::extract::State;

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::{PlanRequest, PlanView, ReloadView};

pub(super) fn routes() -> Routes {
    Routes::new()
        .post("/reload", ["reloadConfiguration", "Read the configuration again"], reload)
        .post("/plan", ["planConfiguration", "Show what a configuration would change"], plan)
}

async fn reload(State(admin): State<Admin>) -> Result<Json<ReloadView>, ApiError> {
    let reloads = admin.reloads().ok_or(ApiError::NoSuchPath)?;
    let view = reloads.reload().await.ok_or(ApiError::Draining)?;
    match (view.errors.is_empty(), view.incomplete) {
        (true, _) => Ok(Json(view)),
        (false, false) => Err(ApiError::ConfigRefused { errors: view.errors }),
        (false, true) => Err(ApiError::ReloadIncomplete { causes: view.errors.join("; ") }),
    }
}

/// Without a body, plans the gateway's own file. A configuration names files and commands that are read with the
/// gateway's rights, so only the operator, who has these rights on the socket, names another file.
async fn plan(
    State(admin): State<Admin>,
    caller: Caller,
    ask: Option<Body<PlanRequest>>,
) -> Result<Json<PlanView>, ApiError> {
    let reloads = admin.reloads().ok_or(ApiError::NoSuchPath)?;
    let PlanRequest { file } = ask.map(|Body(ask)| ask).unwrap_or_default();
    if file.is_some() && !caller.is_operator() {
        let message = "is for the operator of the gateway: omit it to plan the gateway's own file";
        return Err(ApiError::field("file", message));
    }
    if file.as_ref().is_some_and(|file| !file.is_absolute()) {
        return Err(ApiError::field("file", "must be an absolute path"));
    }
    Ok(Json(reloads.plan(file).await.ok_or(ApiError::Draining)?))
}
