//! [`Meter`] counts the requests of one connection against its limits, for all cores. Meters are kept by connection
//! and not by policy, so a change of rules does not reset the counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::rate::RetryBudget;
use super::shared::{LimitSpace, SharedBucket, SharedLimits};
use keyward_base::id::ConnectionId;
use keyward_base::settings::{Rate, Settings};

/// From this number on, unused meters are removed.
const SWEPT_FROM: usize = 1_024;

/// The meters of all connections that were used with limits. Agents cannot add connections, so their number is
/// bounded. Meters of removed connections are dropped when there are many.
#[derive(Debug)]
pub struct Meters {
    limits: Arc<SharedLimits>,
    meters: RwLock<HashMap<ConnectionId, Arc<Meter>>>,
}

/// The counts of one connection. Replicas share the rate; concurrent requests and retries are those of this gateway.
#[derive(Debug)]
pub struct Meter {
    connection: ConnectionId,
    limits: Arc<SharedLimits>,
    state: Mutex<MeterState>,
    in_progress: AtomicU32,
}

#[derive(Debug)]
struct MeterState {
    bucket: Option<Arc<SharedBucket>>,
    budget: RetryBudget,
}

/// One running exchange of a connection; counted until it is dropped.
#[derive(Debug)]
pub struct ExchangeSlot(Arc<Meter>);

/// The limit that is exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Excess {
    /// Too many requests in a period.
    Rate {
        rate: Rate,
        /// The time until the next request is allowed.
        free_in: Duration,
    },
    Concurrency {
        max: u32,
    },
}

impl Meters {
    pub fn new(limits: Arc<SharedLimits>) -> Self {
        Self { limits, meters: RwLock::default() }
    }

    pub fn of(&self, connection: &ConnectionId) -> Arc<Meter> {
        if let Some(meter) = self.meters.read().get(connection) {
            return meter.clone();
        }
        let mut meters = self.meters.write();
        if meters.len() >= SWEPT_FROM && meters.len().is_power_of_two() {
            let now = Instant::now();
            meters.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_forgettable(now));
        }
        let new = || Meter::new(connection.clone(), self.limits.clone(), Instant::now());
        meters.entry(connection.clone()).or_insert_with(new).clone()
    }
}

impl Meter {
    fn new(connection: ConnectionId, limits: Arc<SharedLimits>, now: Instant) -> Arc<Self> {
        let state = MeterState { bucket: None, budget: RetryBudget::new(now) };
        let in_progress = AtomicU32::new(0);
        Arc::new(Self { connection, limits, state: Mutex::new(state), in_progress })
    }

    /// Begins an exchange within the limits of `settings`.
    ///
    /// # Errors
    /// The limit that is exceeded; nothing is counted then.
    pub fn begin(
        self: &Arc<Self>,
        settings: &Settings,
        now: Instant,
    ) -> Result<ExchangeSlot, Excess> {
        let max = settings.concurrency.unwrap_or(u32::MAX);
        let room = |count: u32| (count < max).then(|| count + 1);
        let counted = self.in_progress.fetch_update(SeqCst, SeqCst, room);
        counted.map_err(|_| Excess::Concurrency { max })?;
        // Released on drop, also on an error.
        let slot = ExchangeSlot(self.clone());
        let mut state = self.state.lock();
        self.take(&mut state, settings, now)?;
        state.budget.request();
        drop(state);
        Ok(slot)
    }

    /// Whether a request may be retried within the retry budget and the rate limit.
    pub fn again(&self, settings: &Settings, now: Instant) -> bool {
        let mut state = self.state.lock();
        let mut budget = state.budget;
        if !budget.attempt(now) || self.take(&mut state, settings, now).is_err() {
            return false;
        }
        state.budget = budget;
        true
    }

    /// Whether a new meter would be equal.
    fn is_forgettable(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let is_free = state.bucket.as_ref().is_none_or(|bucket| bucket.is_free(now));
        is_free && state.budget.is_full(now)
    }

    fn take(
        &self,
        state: &mut MeterState,
        settings: &Settings,
        now: Instant,
    ) -> Result<(), Excess> {
        let Some(rate) = settings.rate_limit else { return Ok(()) };
        let of = self.connection.as_str().as_bytes();
        let new = || self.limits.bucket(LimitSpace::Connections, of, rate, now);
        let bucket = state.bucket.get_or_insert_with(new);
        let taken = self.limits.take_from(bucket, rate, now);
        taken.map_err(|free_in| Excess::Rate { rate, free_in })
    }
}

impl Excess {
    /// The value of `Retry-After`.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Rate { free_in, .. } => free_in,
            // The end of an exchange is unknown.
            Self::Concurrency { .. } => Duration::from_secs(1),
        }
    }
}

impl ExchangeSlot {
    pub fn meter(&self) -> &Arc<Meter> {
        &self.0
    }
}

impl Drop for ExchangeSlot {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Arc<SharedLimits> {
        SharedLimits::new(None).unwrap()
    }

    fn meter() -> Arc<Meter> {
        Meter::new(ConnectionId::random(), limits(), Instant::now())
    }

    fn settings(json: &str) -> Settings {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_refused_request_does_not_count_toward_rate_or_concurrency() {
        let (meter, now) = (meter(), Instant::now());
        let limits = settings(r#"{"concurrency": 1, "rate_limit": "2/h"}"#);
        let first = meter.begin(&limits, now).unwrap();
        for _ in 0..5 {
            assert_eq!(meter.begin(&limits, now).unwrap_err(), Excess::Concurrency { max: 1 });
        }
        drop(first);
        drop(meter.begin(&limits, now).unwrap());
        let excess = meter.begin(&limits, now).unwrap_err();
        assert!(matches!(excess, Excess::Rate { .. }), "{excess:?}");
        assert_eq!(meter.in_progress.load(SeqCst), 0);
    }

    #[test]
    fn a_retry_that_the_rate_refuses_does_not_use_the_retry_budget() {
        let (meter, now) = (meter(), Instant::now());
        let limits = settings(r#"{"rate_limit": "1/h"}"#);
        drop(meter.begin(&limits, now).unwrap());
        assert!((0..100).all(|_| !meter.again(&limits, now)));
        assert!(meter.again(&settings("{}"), now), "the budget was not touched");
    }

    #[test]
    fn a_meter_with_a_used_rate_is_kept_when_unused_meters_are_removed() {
        let meters = Meters::new(limits());
        let limits = settings(r#"{"rate_limit": "1/h"}"#);
        let used = ConnectionId::random();
        drop(meters.of(&used).begin(&limits, Instant::now()).unwrap());
        for _ in 0..SWEPT_FROM * 3 {
            meters.of(&ConnectionId::random());
        }
        assert!(meters.meters.read().len() <= SWEPT_FROM, "those that say nothing are forgotten");
        assert!(meters.of(&used).begin(&limits, Instant::now()).is_err());
    }
}
