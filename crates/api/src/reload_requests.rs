//! The channel by which handlers request a reload or a plan; `reload.rs` has the handlers, `app` serves the
//! requests.

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot, watch};

use crate::wire::{PlanView, ReloadView};

/// A request about the configuration, with the sender of its answer.
#[derive(Debug)]
pub enum ReloadRequest {
    /// Reads and applies the configuration.
    Reload(oneshot::Sender<ReloadView>),
    /// Compares it, or the configuration in another file, with the state of the gateway. Nothing is changed.
    Plan(Option<PathBuf>, oneshot::Sender<PlanView>),
}

/// The queue of requests, for the gateway.
pub type ReloadRequests = mpsc::Receiver<ReloadRequest>;

/// Asks a gateway to read its configuration again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads {
    asks: mpsc::Sender<ReloadRequest>,
    last: watch::Receiver<Option<ReloadView>>,
}

impl Reloads {
    /// The sender for handlers and the queue for the gateway. `last`: the result of the last reload.
    pub fn new(last: watch::Receiver<Option<ReloadView>>) -> (Self, ReloadRequests) {
        let (asks, asked) = mpsc::channel(1);
        (Self { asks, last }, asked)
    }

    /// Requests a reload and waits for its result; `None` when the gateway is stopping.
    pub async fn reload(&self) -> Option<ReloadView> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ReloadRequest::Reload(answer)).await.ok()?;
        answered.await.ok()
    }

    /// Requests a plan of a reload, from `file` if given; `None` when the gateway is stopping.
    pub async fn plan(&self, file: Option<PathBuf>) -> Option<PlanView> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ReloadRequest::Plan(file, answer)).await.ok()?;
        answered.await.ok()
    }

    /// The result of the last reload; `None` before the first.
    pub fn last(&self) -> Option<ReloadView> {
        self.last.borrow().clone()
    }
}
