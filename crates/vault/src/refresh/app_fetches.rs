//! Fetches of the secrets of apps by reference: one at a time for each app, with a pause after a failure. The pause is
//! read without waiting for a fetch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::backoff::Backoff;
use keyward_base::id::AppId;

/// Fetches for apps. Bounded by the number of apps with references.
#[derive(Debug, Default)]
pub(crate) struct AppFetches(pub(crate) Mutex<HashMap<AppId, Arc<AppFetch>>>);

#[derive(Debug, Default)]
pub(crate) struct AppFetch {
    /// The number of fetches that began.
    pub(crate) begun: AtomicU64,
    /// Held while a fetch runs, or while the app's row is written.
    turn: tokio::sync::Mutex<LastFetch>,
    backoff: Mutex<Backoff>,
}

/// The last fetch that succeeded.
#[derive(Debug, Default)]
pub(crate) struct LastFetch {
    pub(crate) number: u64,
}

impl AppFetches {
    pub(crate) fn of(&self, app: &AppId) -> Arc<AppFetch> {
        self.0.lock().entry(app.clone()).or_default().clone()
    }

    pub(crate) fn known(&self, app: &AppId) -> Option<Arc<AppFetch>> {
        self.0.lock().get(app).cloned()
    }

    pub(crate) fn forget(&self, app: &AppId) {
        self.0.lock().remove(app);
    }
}

impl AppFetch {
    /// Waits until no fetch runs, and prevents the next one.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, LastFetch> {
        self.turn.lock().await
    }

    /// The pause after the last fetch that has ended.
    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff.lock().clone()
    }

    pub(crate) fn change_backoff<T>(&self, change: impl FnOnce(&mut Backoff) -> T) -> T {
        change(&mut self.backoff.lock())
    }
}
