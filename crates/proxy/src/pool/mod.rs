//! Streams to upstreams that are kept for reuse: idle HTTP/1.1 streams and shared HTTP/2 streams. This file has what both have:
//! [`DialledStream`]; [`KeyedStreams`], the streams of a pool by [`PoolKey`]; and [`Protocols`], a cache of the HTTP versions that
//! upstreams speak.
//!
//! [`IdleCount`]: the number of idle streams to upstreams on a core. No agent's share of descriptors contains them, so both
//! protocols together are reduced to `limits.idle_upstreams_max`.

pub mod http1;
pub mod http2;
pub mod interim;
pub mod shared_streams;
#[cfg(test)]
mod stuck_io;

use std::collections::HashMap;
use std::convert::Infallible;
use std::iter;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use foldhash::fast::RandomState;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::sockets::streams::{Io, SocketState};
use keyward_base::host::Target;
use keyward_base::id::OrgId;
use keyward_net::corporate::ForwardingStream;
use keyward_rules::inject::credential::TlsId;

/// A dialled and verified stream on which nothing has been sent.
pub struct DialledStream {
    pub io: Box<dyn Io>,
    pub socket: Arc<SocketState>,
    pub http2: bool,
    /// Whether the address is on the private list.
    pub private: bool,
    /// The generation of the TLS settings that it was made with.
    pub tls_generation: u64,
    /// How a corporate proxy expects requests that it forwards.
    pub forwarded: Option<ForwardingStream>,
}

/// Requests with an equal key may share a stream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PoolKey {
    /// The org: streams are never shared between orgs.
    pub org: OrgId,
    /// Where the stream goes.
    pub target: Target,
    /// The only session that may use it. Set when Keyward sends no credential, because then the agent may have
    /// bound the stream to an identity of its own.
    pub session: Option<u64>,
    /// The certificates of the connection that it was dialled for; `None`: those of the gateway.
    pub tls: Option<TlsId>,
}

/// The number of keys and sessions from which empty lists are removed at once.
const EMPTY_MAX: usize = 1_024;

/// Lists of streams by key. The lists of a session can be removed together.
pub struct KeyedStreams<T> {
    shared: HashMap<PoolKey, Vec<T>, RandomState>,
    of_sessions: HashMap<u64, HashMap<PoolKey, Vec<T>, RandomState>, RandomState>,
}

impl<T> Default for KeyedStreams<T> {
    fn default() -> Self {
        Self { shared: HashMap::default(), of_sessions: HashMap::default() }
    }
}

impl<T> KeyedStreams<T> {
    /// The streams with this key.
    pub fn get(&self, key: &PoolKey) -> &[T] {
        let lists = match key.session {
            None => Some(&self.shared),
            Some(session) => self.of_sessions.get(&session),
        };
        lists.and_then(|lists| lists.get(key)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The list of this key, if there is one.
    pub fn get_mut(&mut self, key: &PoolKey) -> Option<&mut Vec<T>> {
        let lists = match key.session {
            None => Some(&mut self.shared),
            Some(session) => self.of_sessions.get_mut(&session),
        };
        lists?.get_mut(key)
    }

    /// The list of this key; a new one if there is none.
    pub fn entry(&mut self, key: PoolKey) -> &mut Vec<T> {
        let lists = match key.session {
            None => &mut self.shared,
            Some(session) => self.of_sessions.entry(session).or_default(),
        };
        lists.entry(key).or_default()
    }

    /// Removes the empty list of a key if there are many lists. Otherwise it stays, because streams usually return.
    pub fn remove_if_many(&mut self, key: &PoolKey) {
        if self.shared.len() + self.of_sessions.len() <= EMPTY_MAX {
            return;
        }
        let Some(session) = key.session else { return drop(self.shared.remove(key)) };
        if let Some(lists) = self.of_sessions.get_mut(&session) {
            lists.remove(key);
            if lists.is_empty() {
                self.of_sessions.remove(&session);
            }
        }
    }

    /// Removes and returns all streams of a session.
    pub fn remove_session(&mut self, session: u64) -> Vec<T> {
        let lists = self.of_sessions.remove(&session).into_iter();
        lists.flat_map(HashMap::into_values).flatten().collect()
    }

    /// Drops the streams that `keep` rejects, and empty lists.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for lists in iter::once(&mut self.shared).chain(self.of_sessions.values_mut()) {
            lists.retain(|_, list| {
                list.retain(&mut keep);
                !list.is_empty()
            });
        }
        self.of_sessions.retain(|_, lists| !lists.is_empty());
    }

    /// All streams.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let lists = iter::once(&self.shared).chain(self.of_sessions.values());
        lists.flat_map(HashMap::values).flatten()
    }
}

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

/// How long a dropped stream may write what is left. A peer that does not read would keep its descriptor, which no agent's
/// share contains.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until a stream is overdue: dropped, and its time has passed.
async fn overdue(dropped: oneshot::Receiver<Infallible>) {
    // An error means that it was dropped.
    let _ = dropped.await;
    tokio::time::sleep(CLOSING_TIMEOUT).await;
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use keyward_base::host::Scheme;

    fn key(host: &str, session: Option<u64>) -> PoolKey {
        let target = Target::parse(Scheme::Https, host).unwrap();
        PoolKey { org: OrgId::default_org(), target, session, tls: None }
    }

    #[test]
    fn the_streams_of_a_session_are_separate_from_other_and_from_shared_streams() {
        let mut streams = KeyedStreams::default();
        for (number, session) in [None, Some(1), Some(2)].into_iter().enumerate() {
            assert!(streams.get(&key("a.test", session)).is_empty());
            assert!(streams.get_mut(&key("a.test", session)).is_none());
            streams.entry(key("a.test", session)).push(number);
        }
        for (number, session) in [None, Some(1), Some(2)].into_iter().enumerate() {
            assert_eq!(streams.get(&key("a.test", session)), [number]);
            assert!(streams.get(&key("b.test", session)).is_empty());
        }
    }

    #[test]
    fn removing_a_session_removes_all_its_streams_and_no_others() {
        let mut streams = KeyedStreams::default();
        streams.entry(key("a.test", None)).push(1);
        for (host, session, number) in [("a.test", 1, 2), ("b.test", 1, 3), ("a.test", 2, 4)] {
            streams.entry(key(host, Some(session))).push(number);
        }
        assert!(streams.remove_session(3).is_empty());
        let mut removed = streams.remove_session(1);
        removed.sort_unstable();
        assert_eq!(removed, [2, 3]);
        let mut left: Vec<_> = streams.iter().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 4]);
    }

    #[test]
    fn empty_stream_lists_are_removed_by_retain_or_when_there_are_many() {
        let mut streams = KeyedStreams::default();
        for session in [None, Some(1)] {
            streams.entry(key("a.test", session)).push(1);
            streams.entry(key("b.test", session)).push(2);
        }
        streams.retain(|number| *number == 1);
        assert_eq!((streams.shared.len(), streams.of_sessions[&1].len()), (1, 1));
        streams.retain(|_| false);
        assert!(streams.shared.is_empty() && streams.of_sessions.is_empty());

        streams.entry(key("a.test", Some(1)));
        streams.remove_if_many(&key("a.test", Some(1)));
        assert_eq!(streams.of_sessions.len(), 1, "one is not many");
        for session in 2..=EMPTY_MAX as u64 {
            streams.entry(key("a.test", Some(session)));
        }
        streams.entry(key("a.test", None));
        streams.remove_if_many(&key("a.test", Some(1)));
        assert!(!streams.of_sessions.contains_key(&1));
    }

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
