//! [`Protocols`]: a cache of the HTTP versions that upstreams speak.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use keyward_base::host::Target;

/// The number of upstreams that are remembered, per core.
const KEPT: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// How long an entry is valid. Afterwards an upstream may have learnt HTTP/2.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// What an upstream is known to speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KnownProtocol {
    /// Unknown, or both.
    Nothing,
    /// Only HTTP/1.1: it chose that although HTTP/2 was offered, or asked for it.
    OnlyHttp1,
    /// Only HTTP/2: it refused a handshake that offered only HTTP/1.1.
    OnlyHttp2,
}

/// The protocols of the upstreams of a core.
#[derive(Debug)]
pub struct Protocols(Mutex<LruCache<Target, (KnownProtocol, Instant)>>);

impl KnownProtocol {
    /// Whether a request is tried over HTTP/2. `agent`: whether its agent speaks HTTP/2.
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
    /// What `target` is known to speak.
    pub fn of(&self, target: &Target) -> KnownProtocol {
        match self.0.lock().get(target) {
            Some((known, since)) if since.elapsed() < KEPT_FOR => *known,
            _ => KnownProtocol::Nothing,
        }
    }

    /// Remembers what `target` speaks.
    pub fn learn(&self, target: &Target, known: KnownProtocol) {
        self.0.lock().put(target.clone(), (known, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::Scheme;

    #[tokio::test(start_paused = true)]
    async fn the_learned_protocol_of_an_upstream_is_forgotten_after_a_while() {
        let protocols = Protocols::default();
        let target = Target::parse(Scheme::Https, "api.test").unwrap();
        assert_eq!(protocols.of(&target), KnownProtocol::Nothing);
        protocols.learn(&target, KnownProtocol::OnlyHttp1);
        assert_eq!(protocols.of(&target), KnownProtocol::OnlyHttp1);
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(protocols.of(&target), KnownProtocol::Nothing);
    }

    #[test]
    fn the_agents_protocol_is_used_unless_the_upstream_has_only_the_other() {
        assert!(KnownProtocol::Nothing.http2(true) && !KnownProtocol::Nothing.http2(false));
        assert!(!KnownProtocol::OnlyHttp1.http2(true) && KnownProtocol::OnlyHttp2.http2(false));
    }
}
