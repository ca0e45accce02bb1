//! [`IdleCount`]: the number of idle streams to upstreams on a core. No agent's share of descriptors contains them, so both
//! protocols together are reduced to `limits.idle_upstreams_max`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

/// Counts the idle streams of a core, and wakes what closes some of them when there are too many.
#[derive(Debug)]
pub struct IdleCount {
    /// Changed only under the lock of the HTTP/1.1 pool.
    http1: AtomicUsize,
    http2: AtomicUsize,
    max: usize,
    too_many: Notify,
}

impl IdleCount {
    /// No streams, of which at most `max` are kept.
    pub fn new(max: usize) -> Arc<Self> {
        let (http1, http2) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { http1, http2, max, too_many: Notify::new() })
    }

    fn total(&self) -> usize {
        self.http1.load(Relaxed) + self.http2.load(Relaxed)
    }

    /// Counts an HTTP/1.1 stream. `false`, and some idle streams are closed soon, when there are too many.
    #[must_use]
    pub fn add_http1(&self) -> bool {
        if self.total() >= self.max {
            self.too_many.notify_one();
            return false;
        }
        self.http1.store(self.http1.load(Relaxed) + 1, Relaxed);
        true
    }

    pub fn remove_http1(&self, count: usize) {
        self.http1.store(self.http1.load(Relaxed) - count, Relaxed);
    }

    /// Counts an HTTP/2 stream. When there are too many, some idle streams are closed soon.
    pub fn add_http2(&self) {
        self.http2.fetch_add(1, Relaxed);
        if self.total() > self.max {
            self.too_many.notify_one();
        }
    }

    pub fn remove_http2(&self) {
        self.http2.fetch_sub(1, Relaxed);
    }

    /// Resolves when there were too many.
    pub async fn too_many(&self) {
        self.too_many.notified().await;
    }

    /// How many must be closed, so that the next ones do not require it again: an eighth of the limit stays free.
    pub fn excess(&self) -> usize {
        self.total().saturating_sub(self.max - self.max.div_ceil(8))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn streams_of_both_protocols_share_the_limit() {
        let idle = IdleCount::new(3);
        idle.add_http2();
        assert!(idle.add_http1() && idle.add_http1());
        assert!(idle.too_many().now_or_never().is_none(), "as many as are allowed");
        assert!(!idle.add_http1());
        assert!(idle.too_many().now_or_never().is_some());
        idle.remove_http2();
        assert!(idle.add_http1());
        idle.add_http2();
        assert!(idle.too_many().now_or_never().is_some());
    }

    #[test]
    fn an_eighth_of_the_idle_limit_and_at_least_one_stream_is_freed() {
        for (max, there, excess) in [(0, 1, 1), (1, 1, 1), (4, 4, 1), (16, 16, 2), (16, 20, 6)] {
            let idle = IdleCount::new(max);
            (0..there).for_each(|_| idle.add_http2());
            assert_eq!(idle.excess(), excess, "{there} of {max}");
        }
        assert_eq!(IdleCount::new(16).excess(), 0);
    }
}
