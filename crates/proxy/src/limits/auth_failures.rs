//! [`AuthFailures`]: counts failed authentications by address, so that tokens cannot be guessed.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The number of addresses whose failures are remembered. The one that failed longest ago is forgotten first.
const ADDRESSES_MAX: usize = 4_096;

/// The window in which failures of an address are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Failed authentications by address. A correct token is accepted regardless of earlier failures.
#[derive(Debug)]
pub struct AuthFailures {
    max: u32,
    failures: Mutex<LruCache<IpAddr, (Instant, u32)>>,
}

impl AuthFailures {
    /// At most `max` failures of an address within a minute.
    pub fn new(max: u32) -> Self {
        let capacity = NonZeroUsize::new(ADDRESSES_MAX).expect("a constant above zero");
        Self { max, failures: Mutex::new(LruCache::new(capacity)) }
    }

    /// Counts a failure of `peer`. Returns the time to wait when `peer` has exceeded the limit.
    pub fn failed(&self, peer: Option<IpAddr>) -> Option<Duration> {
        let peer = peer?;
        let now = Instant::now();
        let mut failures = self.failures.lock();
        let (since, count) = failures.get_or_insert_mut(peer, || (now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > self.max).then(|| WINDOW - now.duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn guesses_are_limited_by_address_and_forgiven_after_a_minute() {
        let auth_failures = AuthFailures::new(2);
        let (one, other) = (Some(IpAddr::from([127, 0, 0, 1])), Some(IpAddr::from([127, 0, 0, 2])));
        let limited = |peer| auth_failures.failed(peer).is_some();
        assert_eq!([limited(one), limited(one), limited(one)], [false, false, true]);
        assert!(!limited(other));
        tokio::time::advance(WINDOW).await;
        assert!(!limited(one));
    }
}
