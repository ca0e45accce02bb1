//! Counts the flights that run, and the refreshes by connection.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::late::PendingRefreshes;
use std::time::Duration;

/// The runtime of flights, their number, and their refreshes by connection.
#[derive(Clone, Debug)]
pub struct Flights {
    pub(super) runtime: Handle,
    pub(super) under_way: Arc<watch::Sender<usize>>,
    pub(super) refreshes: PendingRefreshes,
}

/// Counts a flight until it is dropped.
pub(super) struct InFlight(pub(super) Arc<watch::Sender<usize>>);

impl Flights {
    /// Uses the current runtime, which must outlive all requests.
    pub fn here() -> Self {
        let under_way = Arc::new(watch::Sender::new(0));
        Self { runtime: Handle::current(), under_way, refreshes: PendingRefreshes::default() }
    }

    /// The running refreshes by connection.
    pub(super) fn refreshes(&self) -> &PendingRefreshes {
        &self.refreshes
    }

    pub(super) fn begin_flight(&self) -> InFlight {
        self.under_way.send_modify(|count| *count += 1);
        InFlight(self.under_way.clone())
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
