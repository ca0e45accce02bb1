//! The lease of a flight.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cache::FlightResult;
use keyward_state::store::Lease;

/// A lease of this flight.
pub(super) struct HeldLease {
    pub(super) lease: Arc<Lease>,
    /// When it was claimed, or renewed last. It lasts from then on at least.
    pub(super) since: Mutex<Instant>,
}

/// The result of waiting for a lease.
pub(super) enum LeaseResult {
    Lease(HeldLease),
    Landed(FlightResult),
}
