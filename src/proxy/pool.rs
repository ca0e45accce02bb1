//! Idle upstream streams of one core, and the [`Lease`] of one that is in use. A stream is shared
//! only between requests with an equal key.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::body::RequestBody;
use super::gate::Gate;
use super::h2::upstream::Stay;
use super::{Core, Gateway};
use crate::base::host::Target;
use crate::base::id::OrgId;
use crate::base::limits::Limits;
use crate::net::corporate::Forwarded;

/// What must be equal for a stream to be shared. HTTP/1.1 without client certificates, so ALPN and
/// TLS identity are the target's.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// The org: a hard wall here too.
    pub org: OrgId,
    /// Where the stream goes.
    pub target: Target,
    /// The session that alone may use it: set where no credential of ours is sent, because then
    /// the agent may have bound the stream to an identity of its own.
    pub session: Option<u64>,
}

/// A stream to an upstream, ready for a request.
#[derive(Debug)]
pub struct Stream {
    sender: SendRequest<RequestBody>,
    /// Whether the dialled address stands on the explicit private list.
    private: bool,
    /// Of the [`Outward`](super::Outward) that it was made with.
    number: u64,
    /// How a corporate proxy wants requests that it forwards.
    forwarded: Option<Forwarded>,
    idle_since: Instant,
    /// How long it was idle when it was taken.
    rested: Duration,
}

/// So many keys keep their place while all their streams are in use.
const EMPTY_MAX: usize = 1_024;

/// Idle streams by key, last in first out.
pub struct Pool {
    idle: Mutex<Idle>,
    per_key_max: usize,
    total_max: usize,
    timeout: Duration,
}

#[derive(Default)]
#[expect(clippy::vec_box, reason = "a stream is handed on from stage to stage")]
struct Idle {
    streams: HashMap<Key, Vec<Box<Stream>>, RandomState>,
    count: usize,
    swept: Option<Instant>,
}

/// A stream in use. Goes back to its pool with [`Lease::finish`]; dropped, it is closed.
pub struct Lease {
    held: Held,
    core: Arc<Core>,
    /// Holds the request's body back; abandoned when the answer ends first.
    pub gate: Option<Arc<Gate>>,
    /// False when the answer binds identity to the stream, or the stream is to be closed.
    pub reusable: bool,
}

enum Held {
    /// For one exchange at a time.
    Alone(Box<Stream>, Key),
    /// With others.
    Shared(Stay),
}

impl Stream {
    /// A new stream.
    pub fn new(sender: SendRequest<RequestBody>, private: bool, number: u64) -> Self {
        let (idle_since, rested) = (Instant::now(), Duration::ZERO);
        Self { sender, private, number, forwarded: None, idle_since, rested }
    }

    /// The same to a corporate proxy that forwards requests.
    pub fn forwarded(mut self, forwarded: Option<Forwarded>) -> Self {
        self.forwarded = forwarded;
        self
    }

    /// How its requests are forwarded, when they are.
    pub fn forwarding(&self) -> Option<&Forwarded> {
        self.forwarded.as_ref()
    }

    /// Whether the dialled address stands on the explicit private list.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Which way out it was made by.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How long it was idle in the pool.
    pub fn rested(&self) -> Duration {
        self.rested
    }

    /// hyper's handle.
    pub fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender
    }
}

impl Pool {
    /// A pool within the limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            idle: Mutex::default(),
            per_key_max: limits.idle_upstreams_per_key_max,
            total_max: limits.idle_upstreams_max,
            timeout: limits.idle_upstream_timeout,
        }
    }

    /// The stream for the key that was used last, unless all have closed or aged.
    pub fn take(&self, key: &Key) -> Option<Box<Stream>> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        let Idle { streams, count, .. } = &mut *idle;
        let list = streams.get_mut(key)?;
        let mut found = None;
        while let Some(mut stream) = list.pop() {
            *count -= 1;
            stream.rested = now.duration_since(stream.idle_since);
            if stream.sender.is_ready() && stream.rested < self.timeout {
                found = Some(stream);
                break;
            }
        }
        // Nearly always a stream comes back. What a session leaves does not, nor what is one of many.
        if list.is_empty() && (key.session.is_some() || streams.len() > EMPTY_MAX) {
            streams.remove(key);
        }
        found
    }

    /// Keeps a stream for the next request, within the limits.
    pub fn put(&self, key: Key, mut stream: Box<Stream>) {
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
    /// Drops what has closed or aged. Runs at most once per idle timeout, so a stream is kept at
    /// most twice it while the core has traffic; the upstream's own timeout ends it otherwise.
    fn sweep(&mut self, timeout: Duration, now: Instant) {
        self.swept = Some(now);
        for list in self.streams.values_mut() {
            list.retain(|s| s.sender.is_ready() && now.duration_since(s.idle_since) < timeout);
        }
        self.streams.retain(|_, list| !list.is_empty());
        self.count = self.streams.values().map(Vec::len).sum();
    }
}

impl Lease {
    /// Takes a stream into use.
    pub fn alone(stream: Box<Stream>, key: Key, core: Arc<Core>) -> Self {
        Self { held: Held::Alone(stream, key), core, gate: None, reusable: true }
    }

    /// Uses a stream that others use too.
    pub fn shared(stay: Stay, core: Arc<Core>) -> Self {
        Self { held: Held::Shared(stay), core, gate: None, reusable: true }
    }

    /// The shared state.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.core.gateway
    }

    /// The answer has ended. The stream goes back to the pool once hyper has taken the request's
    /// last byte too; an upload that goes on after the answer is drained meanwhile, because closing
    /// on a client that still sends can cost it the answer (RFC 9112 §9.6).
    pub fn finish(self) {
        if let Some(gate) = &self.gate {
            gate.abandon();
        }
        let Self { held, core, reusable, .. } = self;
        let (mut stream, key) = match held {
            Held::Alone(stream, key) => (stream, key),
            Held::Shared(stay) => return stay.end(reusable),
        };
        if stream.sender.is_ready() {
            if reusable {
                core.pool.put(key, stream);
            }
            return;
        }
        if stream.sender.is_closed() {
            return;
        }
        tokio::spawn(async move {
            if stream.sender.ready().await.is_ok() && reusable {
                core.pool.put(key, stream);
            }
        });
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("reusable", &self.reusable).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
