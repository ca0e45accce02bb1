//! [`Runs`]: counts the open runs of programs, and keeps their tokens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use keyward_base::id::TokenId;

/// Counts open runs; also says whether the gateway serves only them.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    open: watch::Sender<usize>,
    /// Whether a run was ever requested, even without success.
    begun: watch::Sender<bool>,
    private: Arc<AtomicBool>,
    /// The tokens of open runs, and whether a request has announced the end of the run.
    pub(crate) tokens: Arc<Mutex<HashMap<TokenId, bool>>>,
}

/// Counts one open run; uncounted when dropped.
pub(crate) struct OpenRun(Runs);

impl Runs {
    /// The gateway will end with the last run.
    pub fn make_private(&self) {
        self.private.store(true, Ordering::Relaxed);
    }

    /// Whether the gateway ends with the last run.
    pub fn is_private(&self) -> bool {
        self.private.load(Ordering::Relaxed)
    }

    /// Number of open runs.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Resolves once a run was opened or refused.
    pub async fn begun(&self) {
        // `self` owns the sender, so it is not dropped.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }

    /// Resolves when no run is open.
    pub async fn ended(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Marks that a request ends the run of this token and records it; returns whether there is such a run.
    pub(crate) fn mark_ended_by_request(&self, token: &TokenId) -> bool {
        let mut tokens = self.tokens.lock();
        tokens.get_mut(token).map(|told| *told = true).is_some()
    }

    /// Undoes the mark, because the request failed.
    pub(crate) fn unmark_ended(&self, token: &TokenId) {
        if let Some(told) = self.tokens.lock().get_mut(token) {
            *told = false;
        }
    }

    pub(crate) fn count(&self) -> OpenRun {
        self.open.send_modify(|open| *open += 1);
        self.begun.send_replace(true);
        OpenRun(self.clone())
    }
}

impl OpenRun {
    pub(crate) fn forget(&self, token: &TokenId) {
        self.0.tokens.lock().remove(token);
    }
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_end_of_the_last_run_is_reported() {
        let runs = Runs::default();
        let (first, second) = (runs.count(), runs.count());
        runs.begun().await;
        drop(first);
        assert!(futures_util::FutureExt::now_or_never(runs.ended()).is_none());
        drop(second);
        runs.ended().await;
    }
}
