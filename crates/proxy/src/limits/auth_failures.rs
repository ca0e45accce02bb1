//! [`AuthFailures`]: counts failed authentications by address, so that tokens cannot be guessed. [`AlertLimit`]: reports each
//! event, such as the use of a honeytoken, at most once within a period.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::shared::{LimitSpace, SharedLimits};
use keyward_base::settings::Rate;

/// Failed authentications by address, at all replicas. A correct token is accepted regardless of earlier failures.
#[derive(Debug)]
pub struct AuthFailures {
    limits: Arc<SharedLimits>,
    space: LimitSpace,
    rate: Rate,
}

impl AuthFailures {
    /// At most `max` failures of an address within a minute.
    pub fn new(limits: Arc<SharedLimits>, space: LimitSpace, max: u32) -> Self {
        Self { limits, space, rate: Rate::per_minute(max) }
    }

    /// Counts a failure of `peer`. Returns the time to wait when `peer` has exceeded the limit.
    pub fn failed(&self, peer: Option<IpAddr>) -> Option<Duration> {
        let peer = peer?.to_canonical().to_string();
        self.limits.take(self.space, peer.as_bytes(), self.rate).err()
    }
}

/// The number of events that are remembered. The oldest is forgotten first.
const EVENTS_MAX: usize = 4_096;

/// Reported events and the time of their last report.
#[derive(Debug)]
pub struct AlertLimit(Mutex<LruCache<String, Instant>>);

impl Default for AlertLimit {
    fn default() -> Self {
        let most = NonZeroUsize::new(EVENTS_MAX).expect("a constant above zero");
        Self(Mutex::new(LruCache::new(most)))
    }
}

impl AlertLimit {
    /// Whether the event is due: it was not reported within `every`.
    pub fn is_new(&self, what: String, every: Duration) -> bool {
        let now = Instant::now();
        let mut reported = self.0.lock();
        // `peek` does not refresh the entry: a suppressed event must not extend its period.
        if reported.peek(&what).is_some_and(|last| now.duration_since(*last) < every) {
            return false;
        }
        reported.put(what, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn guesses_are_limited_by_address_and_forgiven_after_a_minute() {
        let limits = SharedLimits::new(None).unwrap();
        let auth_failures = AuthFailures::new(limits, LimitSpace::AgentTokens, 2);
        let (one, other) = (Some(IpAddr::from([127, 0, 0, 1])), Some(IpAddr::from([127, 0, 0, 2])));
        let limited = |peer| auth_failures.failed(peer).is_some();
        assert_eq!([limited(one), limited(one), limited(one)], [false, false, true]);
        assert!(!limited(other));
        tokio::time::advance(MINUTE).await;
        assert!(!limited(one));
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_use_bounded_memory() {
        let limits = SharedLimits::new(None).unwrap();
        let auth_failures = AuthFailures::new(limits.clone(), LimitSpace::AgentTokens, 2);
        for address in 0..5_000u32 {
            auth_failures.failed(Some(IpAddr::from(address.to_be_bytes())));
        }
        assert_eq!(limits.len(LimitSpace::AgentTokens), 4_096);
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_event_is_reported_once_per_period() {
        let alert_limit = AlertLimit::default();
        let every = Duration::from_secs(60);
        let new = |what: &str| alert_limit.is_new(what.to_owned(), every);
        assert!(new("a"));
        assert!(new("b"));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(!new("a"));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(new("a"), "asking in between delays nothing");
        assert!(!new("a"));
    }
}
