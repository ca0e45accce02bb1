//! [`Protocols`]: what upstreams have shown to speak, so that it is found out once.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::base::host::Target;

/// Upstreams remembered, per core.
const KEPT: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// How long. An upstream that learns HTTP/2 is asked again then.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// What is known of an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// Nothing, or that it speaks both.
    Nothing,
    /// It chose HTTP/1.1 although HTTP/2 was offered, or asked for it.
    OnlyHttp1,
    /// It shook no hands where HTTP/1.1 alone was offered.
    OnlyHttp2,
}

/// What is known of the upstreams of a core.
#[derive(Debug)]
pub struct Protocols(Mutex<LruCache<Target, (Known, Instant)>>);

impl Known {
    /// Whether a request of an agent that speaks HTTP/2, or does not, is tried over HTTP/2.
    pub fn http2(self, agent: bool) -> bool {
        match self {
            Self::Nothing => agent,
            Self::OnlyHttp1 => false,
            Self::OnlyHttp2 => true,
        }
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Protocols {
    /// What is known of `target`.
    pub fn of(&self, target: &Target) -> Known {
        match self.0.lock().get(target) {
            Some((known, since)) if since.elapsed() < KEPT_FOR => *known,
            _ => Known::Nothing,
        }
    }

    /// Remembers what `target` has shown.
    pub fn learn(&self, target: &Target, known: Known) {
        self.0.lock().put(target.clone(), (known, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::host::Scheme;

    #[tokio::test(start_paused = true)]
    async fn what_an_upstream_showed_is_forgotten_after_a_while() {
        let protocols = Protocols::default();
        let target = Target::parse(Scheme::Https, "api.test").unwrap();
        assert_eq!(protocols.of(&target), Known::Nothing);
        protocols.learn(&target, Known::OnlyHttp1);
        assert_eq!(protocols.of(&target), Known::OnlyHttp1);
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(protocols.of(&target), Known::Nothing);
    }

    #[test]
    fn the_agents_protocol_is_used_unless_the_upstream_has_only_the_other() {
        assert!(Known::Nothing.http2(true) && !Known::Nothing.http2(false));
        assert!(!Known::OnlyHttp1.http2(true) && Known::OnlyHttp2.http2(false));
    }
}
