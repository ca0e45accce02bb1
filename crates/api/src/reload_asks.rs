//! How handlers ask the gateway to read its configuration; `reload.rs` has the handlers, `app` answers.

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot, watch};

use crate::wire::{PlanView, ReloadView};

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
