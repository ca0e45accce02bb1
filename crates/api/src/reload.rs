//! `/reload`: the configuration, read again. The gateway does it; this asks, and tells what came of
//! it: at once to who asked, and in `/status` to who looks later.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot, watch};

use super::error::ApiError;
use super::state::Admin;
use super::wire::ReloadView;

/// Who asks is answered with what came of it.
pub type ReloadAsks = mpsc::Receiver<oneshot::Sender<ReloadView>>;

/// Asks a gateway to read its configuration again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads {
    asks: mpsc::Sender<oneshot::Sender<ReloadView>>,
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
        self.asks.send(answer).await.ok()?;
        answered.await.ok()
    }

    /// What came of the last reload; `None` before the first.
    pub fn last(&self) -> Option<ReloadView> {
        self.last.borrow().clone()
    }
}

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/reload", post(reload))
}

async fn reload(State(admin): State<Admin>) -> Result<Json<ReloadView>, ApiError> {
    let reloads = admin.reloads().ok_or(ApiError::NoSuchPath)?;
    let view = reloads.ask().await.ok_or(ApiError::Draining)?;
    match view.errors.is_empty() {
        true => Ok(Json(view)),
        false => Err(ApiError::ConfigRefused { errors: view.errors }),
    }
}
