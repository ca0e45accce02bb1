//! [`AlertLimit`]: reports each event at most once within a period.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

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
