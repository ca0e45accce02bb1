//! The lease of a flight.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::refresh::cache::FlightResult;
use keyward_base::time::{Clock, Moment};
use keyward_state::store::Lease;

/// A lease of this flight.
pub(super) struct HeldLease {
    pub(super) lease: Arc<Lease>,
    /// When it was claimed, or renewed last. It lasts from then on at least.
    pub(super) since: Arc<Mutex<Moment>>,
}

/// The result of waiting for a lease.
pub(super) enum LeaseResult {
    Lease(HeldLease),
    Landed(FlightResult),
}

impl HeldLease {
    /// Whether it was claimed or renewed within this time. The sleep of a machine counts, during which steady clocks stop.
    pub(super) fn is_renewed_within(&self, time: Duration, now: Moment) -> bool {
        now.since(&self.since.lock()) < time
    }

    /// Says at each call whether it was renewed within this time.
    pub(super) fn check(&self, time: Duration, clock: Clock) -> impl Fn() -> bool + use<> {
        let since = Arc::clone(&self.since);
        move || clock.moment().since(&since.lock()) < time
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use keyward_state::store::Store;
    use keyward_state::store::memory::MemoryStore;

    #[tokio::test]
    async fn a_lease_is_not_trusted_after_the_machine_was_suspended() {
        let minute = Duration::from_secs(60);
        let lease = MemoryStore::new().lease("refresh/x", minute).await.unwrap().unwrap();
        let day = Arc::new(AtomicI64::new(0));
        let clock = Clock::Fixed(day.clone());
        let since = Arc::new(Mutex::new(clock.moment()));
        let held = HeldLease { lease: Arc::new(lease), since };
        let check = held.check(minute, clock.clone());
        assert!(held.is_renewed_within(minute, clock.moment()) && check());
        // Its monotonic clock has not moved.
        day.fetch_add(60_000, Ordering::SeqCst);
        assert!(!held.is_renewed_within(minute, clock.moment()) && !check());
    }
}
