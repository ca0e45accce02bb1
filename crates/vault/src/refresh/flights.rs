//! Counts the flights that run, and the refreshes by connection.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::late::PendingRefreshes;
use keyward_base::id::ConnectionId;
use keyward_state::store::Lease;

/// The runtime of flights, their number, and their refreshes by connection.
#[derive(Clone)]
pub struct Flights {
    pub(crate) runtime: Handle,
    pub(crate) in_progress: Arc<watch::Sender<usize>>,
    pub(crate) refreshes: PendingRefreshes,
    leases: Arc<Mutex<HashMap<ConnectionId, Weak<Lease>>>>,
}

/// Counts a flight until it is dropped.
pub(crate) struct InFlight(pub(crate) Arc<watch::Sender<usize>>);

impl Flights {
    /// Uses the current runtime, which must outlive all requests.
    pub fn here() -> Self {
        let (in_progress, runtime) = (Arc::new(watch::Sender::new(0)), Handle::current());
        Self {
            runtime,
            in_progress,
            refreshes: PendingRefreshes::default(),
            leases: Arc::default(),
        }
    }

    /// Notes that a flight of this process has the lease of a connection, until the lease is dropped.
    pub(crate) fn note_lease(&self, id: &ConnectionId, lease: &Arc<Lease>) {
        let mut leases = self.leases.lock();
        leases.retain(|_, lease| lease.strong_count() > 0);
        leases.insert(id.clone(), Arc::downgrade(lease));
    }

    /// Whether a flight of this process got the lease of the connection and has not ended, whether the lease still lasts
    /// or not.
    pub(crate) fn has_lease(&self, id: &ConnectionId) -> bool {
        self.leases.lock().get(id).is_some_and(|lease| lease.strong_count() > 0)
    }

    /// The running refreshes by connection.
    pub(crate) fn refreshes(&self) -> &PendingRefreshes {
        &self.refreshes
    }

    pub(crate) fn begin_flight(&self) -> InFlight {
        self.in_progress.send_modify(|count| *count += 1);
        InFlight(self.in_progress.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Pauses between attempts to store a response, which may have spent the old token.
pub(crate) const STORE_AGAIN: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_millis(2_000),
];
