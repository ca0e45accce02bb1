//! [`Http1Pool`]: idle HTTP/1.1 streams to upstreams, one pool for each core. Only requests with an equal [`PoolKey`]
//! share a stream.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::body::request_body::RequestBody;
use crate::sockets::streams::SocketState;
use keyward_base::host::Target;
use keyward_base::id::OrgId;
use keyward_base::limits::Limits;
use keyward_net::corporate::ForwardingStream;
use keyward_rules::inject::tls::TlsId;

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

/// A stream to an upstream, ready for a request.
#[derive(Debug)]
pub struct Http1Stream {
    sender: SendRequest<RequestBody>,
    /// Whether the dialled address is on the private list.
    private: bool,
    /// The generation of the TLS settings that it was made with.
    tls_generation: u64,
    /// How a corporate proxy expects requests that it forwards.
    forwarded: Option<ForwardingStream>,
    idle_since: Instant,
    /// How long the upstream keeps it while it is idle; `None`: unknown.
    kept_for: Option<Duration>,
    /// How long it was idle before it was taken.
    rested: Duration,
    socket: Arc<SocketState>,
    /// Bytes that the socket had accepted when it was taken.
    written: u64,
}

/// The number of keys that stay in the map while all their streams are in use.
const EMPTY_MAX: usize = 1_024;

/// Idle streams by key; the last one used is taken first.
pub struct Http1Pool {
    idle: Mutex<Idle>,
    per_key_max: usize,
    total_max: usize,
    timeout: Duration,
}

#[derive(Default)]
#[expect(clippy::vec_box, reason = "a stream is handed on from stage to stage")]
struct Idle {
    streams: HashMap<PoolKey, Vec<Box<Http1Stream>>, RandomState>,
    count: usize,
    swept: Option<Instant>,
}

impl Http1Stream {
    pub fn new(
        sender: SendRequest<RequestBody>,
        socket: Arc<SocketState>,
        private: bool,
        tls_generation: u64,
    ) -> Self {
        let (idle_since, rested) = (Instant::now(), Duration::ZERO);
        let (forwarded, kept_for, written) = (None, None, socket.written());
        Self {
            sender,
            private,
            tls_generation,
            forwarded,
            idle_since,
            kept_for,
            rested,
            socket,
            written,
        }
    }

    /// Marks a stream to a corporate proxy that forwards requests.
    pub fn forwarded(mut self, forwarded: Option<ForwardingStream>) -> Self {
        self.forwarded = forwarded;
        self
    }

    /// How requests on it are forwarded, if they are.
    pub fn forwarding(&self) -> Option<&ForwardingStream> {
        self.forwarded.as_ref()
    }

    /// Whether the dialled address is on the private list.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// The generation of the TLS settings that it was made with.
    pub fn tls_generation(&self) -> u64 {
        self.tls_generation
    }

    /// How long it was idle in the pool.
    pub fn rested(&self) -> Duration {
        self.rested
    }

    /// Whether the system has accepted a byte since the stream was taken.
    pub fn has_written(&self) -> bool {
        self.socket.written() > self.written
    }

    fn is_usable(&self, idle_for: Duration, timeout: Duration) -> bool {
        let kept_for = self.kept_for.map_or(timeout, |kept_for| kept_for.min(timeout));
        self.sender.is_ready() && idle_for < kept_for
    }

    /// Prepares it for use after it was idle.
    fn take(&mut self, now: Instant) {
        self.rested = now.duration_since(self.idle_since);
        self.written = self.socket.written();
        // The upstream may have closed it, and the runtime may not have polled the socket since. hyper reads before it
        // takes the request.
        self.socket.check_before_write();
    }

    /// Sets how long the upstream keeps the stream while it is idle.
    pub fn set_kept_for(&mut self, time: Option<Duration>) {
        self.kept_for = time;
    }

    pub fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender
    }
}

impl Http1Pool {
    /// A pool within the limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            idle: Mutex::default(),
            per_key_max: limits.idle_upstreams_per_key_max,
            total_max: limits.idle_upstreams_max,
            timeout: limits.idle_upstream_timeout,
        }
    }

    /// The stream for the key that was used last, if one is still usable.
    pub fn take(&self, key: &PoolKey) -> Option<Box<Http1Stream>> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        let Idle { streams, count, .. } = &mut *idle;
        let list = streams.get_mut(key)?;
        let mut found = None;
        while let Some(mut stream) = list.pop() {
            *count -= 1;
            if stream.is_usable(now.duration_since(stream.idle_since), self.timeout) {
                stream.take(now);
                found = Some(stream);
                break;
            }
        }
        // Empty lists stay, because streams usually return; but not for single sessions, nor too many.
        if list.is_empty() && (key.session.is_some() || streams.len() > EMPTY_MAX) {
            streams.remove(key);
        }
        found
    }

    /// Keeps a stream for the next request, within the limits.
    pub fn put(&self, key: PoolKey, mut stream: Box<Http1Stream>) {
        let now = Instant::now();
        stream.idle_since = now;
        let mut idle = self.idle.lock();
        if idle.swept.is_none_or(|swept| now.duration_since(swept) >= self.timeout) {
            idle.sweep(self.timeout, now);
        }
        let full = idle.count >= self.total_max;
        if full {
            return;
        }
        let list = idle.streams.entry(key).or_default();
        if list.len() < self.per_key_max {
            list.push(stream);
            idle.count += 1;
        }
    }
}

impl Idle {
    /// Drops closed and expired streams. Runs at most once per idle timeout, so a stream is kept at most twice as
    /// long while the core has traffic; otherwise the upstream's timeout ends it.
    fn sweep(&mut self, timeout: Duration, now: Instant) {
        self.swept = Some(now);
        for list in self.streams.values_mut() {
            list.retain(|s| s.is_usable(now.duration_since(s.idle_since), timeout));
        }
        self.streams.retain(|_, list| !list.is_empty());
        self.count = self.streams.values().map(Vec::len).sum();
    }
}

impl fmt::Debug for Http1Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
