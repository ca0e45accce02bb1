//! `/reload` and `/plan`: the configuration is read again and applied, or only compared with what the gateway holds.
//! The gateway does it; this asks. What came of a reload is answered at once, and later in `/status`.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use tokio::sync::{mpsc, oneshot, watch};

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::{PlanAsk, PlanView, ReloadView};

/// What a gateway is asked to do with its configuration, with who waits for the answer.
#[derive(Debug)]
pub enum ReloadAsk {
    /// To read and apply it.
    Reload(oneshot::Sender<ReloadView>),
    /// To compare it, or the configuration of another file, with what it holds. Nothing is changed.
    Plan(Option<PathBuf>, oneshot::Sender<PlanView>),
}

/// What a gateway is asked, one by one.
pub type ReloadAsks = mpsc::Receiver<ReloadAsk>;

/// Asks a gateway to read its configuration again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads {
    asks: mpsc::Sender<ReloadAsk>,
    last: watch::Receiver<Option<ReloadView>>,
}

impl Reloads {
    /// A way to ask, and what the gateway listens on. `last`: what came of the last reload.
    pub fn new(last: watch::Receiver<Option<ReloadView>>) -> (Self, ReloadAsks) {
        let (asks, asked) = mpsc::channel(1);
        (Self { asks, last }, asked)
    }

    /// Asks, and waits for what comes of it; `None` when the gateway is about to end.
    pub async fn ask(&self) -> Option<ReloadView> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ReloadAsk::Reload(answer)).await.ok()?;
        answered.await.ok()
    }

    /// Asks what a reload would do, if the configuration stood in `file`; `None` when the gateway is about to end.
    pub async fn plan(&self, file: Option<PathBuf>) -> Option<PlanView> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ReloadAsk::Plan(file, answer)).await.ok()?;
        answered.await.ok()
    }

    /// What came of the last reload; `None` before the first.
    pub fn last(&self) -> Option<ReloadView> {
        self.last.borrow().clone()
    }
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .post("/reload", ["reloadConfiguration", "Read the configuration again"], reload)
        .post("/plan", ["planConfiguration", "Show what a configuration would change"], plan)
}

async fn reload(State(admin): State<Admin>) -> Result<Json<ReloadView>, ApiError> {
    let reloads = admin.reloads().ok_or(ApiError::NoSuchPath)?;
    let view = reloads.ask().await.ok_or(ApiError::Draining)?;
    match view.errors.is_empty() {
        true => Ok(Json(view)),
        false => Err(ApiError::ConfigRefused { errors: view.errors }),
    }
}

/// Without a body, plans the gateway's own file. A configuration names files and commands that are read with the
/// gateway's rights, so only the operator, who has these rights on the socket, names another file.
async fn plan(
    State(admin): State<Admin>,
    caller: Caller,
    ask: Option<Body<PlanAsk>>,
) -> Result<Json<PlanView>, ApiError> {
    let reloads = admin.reloads().ok_or(ApiError::NoSuchPath)?;
    let PlanAsk { file } = ask.map(|Body(ask)| ask).unwrap_or_default();
    if file.is_some() && !caller.is_operator() {
        let message =
            "is for the operator of the gateway: leave it out to plan the gateway's own file";
        return Err(ApiError::field("file", message));
    }
    if file.as_ref().is_some_and(|file| !file.is_absolute()) {
        return Err(ApiError::field("file", "must be an absolute path"));
    }
    Ok(Json(reloads.plan(file).await.ok_or(ApiError::Draining)?))
}
