//! [`Http1Pool`]: idle HTTP/1.1 streams to upstreams, one pool for each core.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{IdleCount, KeyedStreams, PoolKey, overdue};
use crate::body::request_body::RequestBody;
use crate::sockets::streams::SocketState;
use keyward_base::limits::Limits;
use keyward_net::corporate::ForwardingStream;

/// A stream to an upstream, ready for a request. If it is dropped while an exchange uses it, the exchange's upload ends
/// with it.
#[derive(Debug)]
pub struct Http1Stream {
    sender: SendRequest<RequestBody>,
    /// hyper's task, which owns the socket and the body of the request.
    connection: Http1Connection,
    /// Whether the dialled address is on the private list.
    private: bool,
    /// The generation of the TLS settings that it was made with.
    tls_generation: u64,
    /// How a corporate proxy expects requests that it forwards.
    forwarded: Option<ForwardingStream>,
    idle_since: Instant,
    /// How long the upstream keeps it while it is idle; `None`: unknown.
    keep_alive: Option<Duration>,
    /// How long it was idle before it was taken.
    idle_before_use: Duration,
    socket: Arc<SocketState>,
    /// Bytes that the socket had accepted when it was taken.
    written: u64,
}

/// The task in which hyper drives a stream. It may write for a limited time after this was dropped.
#[derive(Debug)]
pub struct Http1Connection {
    task: JoinHandle<()>,
    /// Is dropped with this, which the task notices.
    _open: oneshot::Sender<Infallible>,
}

/// Idle streams by key; the last one used is taken first.
pub struct Http1Pool {
    streams: Mutex<KeyedStreams<Box<Http1Stream>>>,
    idle: Arc<IdleCount>,
    per_key_max: usize,
    timeout: Duration,
}

impl Http1Connection {
    /// Drives a stream on this core.
    pub fn spawn(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        let (open, dropped) = oneshot::channel();
        Self { task: tokio::spawn(drive(connection, dropped)), _open: open }
    }
}

async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    dropped: oneshot::Receiver<Infallible>,
) {
    tokio::select! {
        biased;
        // What ends the stream also ends the exchange that uses it, which reports it.
        ended = connection => {
            if let Err(error) = ended {
                tracing::trace!(%error, "upstream stream ended");
            }
        }
        () = overdue(dropped) => tracing::trace!("upstream stream was not closed in time"),
    }
}

impl Http1Stream {
    pub fn new(
        sender: SendRequest<RequestBody>,
        connection: Http1Connection,
        socket: Arc<SocketState>,
        private: bool,
        tls_generation: u64,
    ) -> Self {
        let (idle_since, idle_before_use) = (Instant::now(), Duration::ZERO);
        let (forwarded, keep_alive, written) = (None, None, socket.written());
        Self {
            sender,
            connection,
            private,
            tls_generation,
            forwarded,
            idle_since,
            keep_alive,
            idle_before_use,
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
    pub fn idle_before_use(&self) -> Duration {
        self.idle_before_use
    }

    /// Whether the system has accepted a byte since the stream was taken.
    pub fn has_written(&self) -> bool {
        self.socket.written() > self.written
    }

    fn is_usable(&self, idle_for: Duration, timeout: Duration) -> bool {
        let keep_alive = self.keep_alive.map_or(timeout, |keep_alive| keep_alive.min(timeout));
        self.sender.is_ready() && idle_for < keep_alive
    }

    /// Prepares it for use after it was idle.
    fn take(&mut self, now: Instant) {
        self.idle_before_use = now.duration_since(self.idle_since);
        self.written = self.socket.written();
        // The upstream may have closed it, and the runtime may not have polled the socket since. hyper reads before it
        // takes the request.
        self.socket.check_before_write();
    }

    /// Sets how long the upstream keeps the stream while it is idle.
    pub fn set_keep_alive(&mut self, time: Option<Duration>) {
        self.keep_alive = time;
    }

    pub fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender
    }

    /// Ends the stream at once; afterwards the body of its request is dropped.
    pub async fn end(&mut self) {
        self.connection.task.abort();
        if !self.connection.task.is_finished() {
            // An error means that it was aborted; both ends are the same here.
            let _ = (&mut self.connection.task).await;
        }
    }
}

impl Drop for Http1Stream {
    /// hyper ends an idle stream in order. On a stream whose answer has ended, it would send the rest of the request.
    fn drop(&mut self) {
        if !self.sender.is_ready() && !self.sender.is_closed() {
            self.connection.task.abort();
        }
    }
}

impl Http1Pool {
    /// A pool within the limits, whose streams `idle` counts.
    pub fn new(limits: &Limits, idle: Arc<IdleCount>) -> Self {
        Self {
            streams: Mutex::default(),
            idle,
            per_key_max: limits.idle_upstreams_per_key_max,
            timeout: limits.idle_upstream_timeout,
        }
    }

    /// The stream for the key that was used last, if one is still usable.
    pub fn take(&self, key: &PoolKey) -> Option<Box<Http1Stream>> {
        let now = Instant::now();
        let mut streams = self.streams.lock();
        let list = streams.get_mut(key)?;
        let before = list.len();
        let mut found = None;
        while let Some(mut stream) = list.pop() {
            if stream.is_usable(now.duration_since(stream.idle_since), self.timeout) {
                stream.take(now);
                found = Some(stream);
                break;
            }
        }
        self.idle.remove_http1(before - list.len());
        if list.is_empty() {
            streams.remove_if_many(key);
        }
        found
    }

    /// Keeps a stream for the next request, within the limits.
    pub fn put(&self, key: PoolKey, mut stream: Box<Http1Stream>) {
        stream.idle_since = Instant::now();
        let mut streams = self.streams.lock();
        if !self.idle.add_http1() {
            return;
        }
        let list = streams.entry(key);
        match list.len() < self.per_key_max {
            true => list.push(stream),
            false => self.idle.remove_http1(1),
        }
    }

    /// Drops closed and expired streams.
    pub fn sweep(&self, now: Instant) {
        self.retain(|s| s.is_usable(now.duration_since(s.idle_since), self.timeout));
    }

    /// Drops the streams of a session.
    pub fn drop_session(&self, session: u64) {
        let mut streams = self.streams.lock();
        let dropped = streams.remove_session(session);
        self.idle.remove_http1(dropped.len());
    }

    /// Since when each stream has been idle.
    pub fn idle_since(&self) -> Vec<Instant> {
        self.streams.lock().iter().map(|stream| stream.idle_since).collect()
    }

    /// Drops streams that have been idle since `since` or for longer.
    pub fn drop_idle(&self, since: Instant) {
        self.retain(|stream| stream.idle_since > since);
    }

    fn retain(&self, keep: impl Fn(&Http1Stream) -> bool) {
        let mut streams = self.streams.lock();
        let mut dropped = 0;
        streams.retain(|stream| {
            let is_kept = keep(stream);
            dropped += usize::from(!is_kept);
            is_kept
        });
        self.idle.remove_http1(dropped);
    }
}

impl fmt::Debug for Http1Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::pool::stuck_io::{StuckIo, closes_in_time};

    #[tokio::test(start_paused = true)]
    async fn a_dropped_stream_that_cannot_write_is_closed_after_the_closing_timeout() {
        let (io, closed) = StuckIo::new();
        let begins = hyper::client::conn::http1::handshake::<_, RequestBody>(TokioIo::new(io));
        let (sender, connection) = begins.await.unwrap();
        closes_in_time((sender, Http1Connection::spawn(connection)), closed).await;
    }
}
