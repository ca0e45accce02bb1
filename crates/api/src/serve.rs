//! Serves the TCP listener and the socket: accepts streams, limits them, and shuts down gracefully.

use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use http::header;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::agents::runs::Peer;
use super::host::Arrival;
use super::network::{RunningRequest, STREAMS_MAX};
use super::router::{hooks_router, metrics_router, socket_router};
use super::socket::AdminSocket;
use super::state::Admin;
use keyward_base::limits::Limits;
use keyward_net::evictable::{Evictable, EvictableSlot};
use keyward_proxy::ProxyTls;
use keyward_proxy::ca::cache::LeafCache;

/// Maximum time for a request head on TCP, from the end of the previous response.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The media type of server-sent events (HTML, section 9.2).
const EVENTS: &str = "text/event-stream";
/// Pause after a failed accept, which would fail again immediately while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listeners` until `stop` turns true, then waits for running requests, at most
/// `limits.head_timeout`. A head must arrive within [`HEAD_WITHIN`].
pub async fn serve_network(
    listeners: Vec<TcpListener>,
    tls: Option<AdminTls>,
    admin: Admin,
    router: Router,
    stop: impl Into<ListenerStop>,
) {
    OpenListener { listeners, name: "admin", router, admin, tls }.serve(stop.into()).await;
}

/// Serves the metrics on `listener` in the same way.
pub async fn serve_metrics(listener: TcpListener, admin: Admin, stop: impl Into<ListenerStop>) {
    let router = metrics_router(admin.clone());
    OpenListener { listeners: vec![listener], name: "metrics", router, admin, tls: None }
        .serve(stop.into())
        .await;
}

/// Serves the webhooks of services on `listener` in the same way.
pub async fn serve_hooks(
    listener: TcpListener,
    tls: Option<AdminTls>,
    admin: Admin,
    stop: impl Into<ListenerStop>,
) {
    let router = hooks_router(admin.clone());
    OpenListener { listeners: vec![listener], name: "hooks", router, admin, tls }
        .serve(stop.into())
        .await;
}

/// When a listener stops. Each turns true, or its sender is dropped.
#[derive(Clone, Debug)]
pub struct ListenerStop {
    /// No further stream is accepted.
    pub accepting: watch::Receiver<bool>,
    /// Streams end after their running request.
    pub serving: watch::Receiver<bool>,
}

impl From<watch::Receiver<bool>> for ListenerStop {
    fn from(both: watch::Receiver<bool>) -> Self {
        Self { accepting: both.clone(), serving: both }
    }
}

/// A TCP listener that everybody can reach, at one address or several.
struct OpenListener {
    listeners: Vec<TcpListener>,
    /// Its label in the metrics.
    name: &'static str,
    router: Router,
    admin: Admin,
    tls: Option<AdminTls>,
}

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct AdminTls {
    tls: Arc<ProxyTls>,
    leaves: Arc<LeafCache>,
}

impl AdminTls {
    /// By this certificate, or by leaves of the local CA.
    pub fn new(tls: Arc<ProxyTls>, leaves: &Arc<LeafCache>) -> Self {
        Self { tls, leaves: leaves.clone() }
    }

    /// Accepts TLS. Errors of the peer need no action.
    async fn accept(
        self,
        within: Duration,
        socket: TcpStream,
    ) -> Option<Box<TlsStream<TcpStream>>> {
        let accepted = self.tls.accept(&self.leaves, within, socket).await;
        accepted
            .inspect_err(|error| {
                tracing::debug!(
                    error,
                    "the TLS handshake with a client of the admin listener failed"
                )
            })
            .ok()
    }
}

impl OpenListener {
    async fn serve(self, stop: ListenerStop) {
        let ListenerStop { accepting: mut stop, serving } = stop;
        let Self { listeners, name, router, admin, tls } = self;
        let metrics = admin.deps().metrics.clone();
        let limits = admin.deps().limits.clone();
        let handshake_within = limits.handshake_timeout.min(HEAD_WITHIN);
        let mut streams = Streams::over_tcp(router, limits, serving);
        let places = Evictable::new(STREAMS_MAX);
        loop {
            let accepted = tokio::select! {
                accepted = poll_fn(|cx| poll_accept(&listeners, cx)) => accepted,
                () = stopped(&mut stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            let local = match stream.local_addr() {
                Ok(local) => local,
                Err(error) => {
                    tracing::debug!(%error, "an admin stream ended at once");
                    continue;
                }
            };
            let place = tokio::select! {
                place = streams.place(&places, peer) => place,
                () = stopped(&mut stop) => break,
            };
            if place.has_evicted_another() {
                metrics.evicted(name);
            }
            let arrival = Arrival { local, peer, is_tls: tls.is_some() };
            match tls.clone() {
                None => streams.serve(ready(Some(stream)), arrival, Some(place)),
                Some(tls) => {
                    let accepting = tls.accept(handshake_within, stream);
                    streams.serve(accepting, arrival, Some(place));
                }
            }
        }
        drop(listeners);
        streams.finish().await;
    }
}

/// The next stream of the first of them that has one.
fn poll_accept(
    listeners: &[TcpListener],
    cx: &mut Context<'_>,
) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    let mut accepted = listeners.iter().map(|listener| listener.poll_accept(cx));
    accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
}

/// Serves all routes on the socket in the same way; a head must arrive within `limits.head_timeout`.
pub async fn serve_socket(socket: AdminSocket, admin: Admin, stop: impl Into<ListenerStop>) {
    let ListenerStop { accepting: mut stop, serving } = stop.into();
    let limits = admin.deps().limits.clone();
    let mut streams = Streams::new(socket_router(admin), limits, serving);
    loop {
        streams.room().await;
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok(stream) => {
                    let peer = Peer(pid_of(&stream));
                    streams.serve(ready(Some(stream)), peer, None);
                }
                Err(error) => pause(&error).await,
            },
            () = stopped(&mut stop) => break,
        }
    }
    streams.finish().await;
}

/// Waits for the signal, or for its sender to be dropped. The guard returned by `wait_for` must not be held in
/// a `select!`.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The peer's process id; `None` if it is in another namespace of processes.
fn pid_of(stream: &UnixStream) -> Option<u32> {
    let pid = stream.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin listener cannot accept");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The streams of one listener.
struct Streams {
    router: Router,
    limits: Limits,
    /// Maximum time for a head, from the end of the previous response.
    head_within: Duration,
    stop: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

impl Streams {
    fn new(router: Router, limits: Limits, stop: watch::Receiver<bool>) -> Self {
        let head_within = limits.head_timeout;
        Self { router, limits, head_within, stop, tasks: JoinSet::new() }
    }

    /// For a listener that anybody can reach, with a shorter time for heads.
    fn over_tcp(router: Router, limits: Limits, stop: watch::Receiver<bool>) -> Self {
        let head_within = limits.head_timeout.min(HEAD_WITHIN);
        Self { head_within, ..Self::new(router, limits, stop) }
    }

    /// Waits until another stream may be served.
    async fn room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= STREAMS_MAX {
            self.tasks.join_next().await;
        }
    }

    /// A place for a new stream: immediately, unless all others have a running request.
    async fn place(&mut self, places: &Arc<Evictable<()>>, peer: SocketAddr) -> EvictableSlot<()> {
        loop {
            while self.tasks.try_join_next().is_some() {}
            let is_free = self.tasks.len() < STREAMS_MAX;
            let from = Some(peer.ip().to_canonical());
            if let Some(place) = places.enter(from, || is_free.then_some(())) {
                return place;
            }
            self.tasks.join_next().await;
        }
    }

    /// Serves a stream that `opening` gives. `mark` is added to each request and describes the stream. `place` (TCP
    /// only) is not evictable from the end of a request to the end of its response.
    fn serve<S, M>(
        &mut self,
        opening: impl Future<Output = Option<S>> + Send + 'static,
        mark: M,
        place: Option<EvictableSlot<()>>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        M: Clone + Send + Sync + 'static,
    {
        let (router, limits, mut stop) =
            (self.router.clone(), self.limits.clone(), self.stop.clone());
        let head_within = self.head_within;
        self.tasks.spawn(async move {
            let place = place.map(Arc::new);
            let held = place.as_ref();
            let stream = tokio::select! {
                opened = opening => opened,
                () = evicted(held.map(|place| &**place)) => None,
                () = stopped(&mut stop) => None,
            };
            let Some(stream) = stream else { return };
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(mark.clone());
                let router = router.clone();
                async move {
                    let request = request.map(|body| Whole::new(body, held.cloned()));
                    let answer = router.oneshot(request.map(axum::body::Body::new)).await;
                    answer.map(|answer| Answering::answer(answer, held.cloned()))
                }
            });
            let stream = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_within)
                .max_buf_size(limits.head_bytes_max.max(8 * 1024))
                .max_headers(limits.head_fields_max)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(stream);
            tokio::select! {
                // Errors and aborts of the peer need no action.
                _ = &mut stream => return,
                () = evicted(held.map(|place| &**place)) => return,
                () = stopped(&mut stop) => {}
            }
            stream.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(limits.head_timeout, stream).await;
        });
    }

    async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A request body. At its end the stream becomes non-evictable; a stream whose body is incomplete stays
/// evictable.
struct Whole {
    body: Incoming,
    place: Option<Arc<EvictableSlot<()>>>,
}

impl Whole {
    fn new(body: Incoming, place: Option<Arc<EvictableSlot<()>>>) -> Self {
        let mut whole = Self { body, place };
        whole.look();
        whole
    }

    fn look(&mut self) {
        if self.body.is_end_stream()
            && let Some(place) = self.place.take()
        {
            place.make_permanent();
        }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.look();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body. At its end, or when it is dropped, the stream becomes evictable. That of server-sent events is so from
/// the beginning: such a body has no end of its own, and its client continues on another stream after the last event.
struct Answering {
    body: axum::body::Body,
    place: Option<Arc<EvictableSlot<()>>>,
    /// The count of its request.
    running: Option<Arc<RunningRequest>>,
}

impl Answering {
    fn answer(answer: Response, place: Option<Arc<EvictableSlot<()>>>) -> hyper::Response<Self> {
        let media = answer.headers().get(header::CONTENT_TYPE);
        let is_of_events = media.is_some_and(|media| media == EVENTS);
        let (mut head, body) = answer.into_parts();
        let running = head.extensions.remove().flatten();
        let mut answer = hyper::Response::from_parts(head, Self { body, place, running });
        if is_of_events {
            answer.body_mut().leave();
        }
        answer
    }

    fn leave(&mut self) {
        self.running = None;
        if let Some(place) = self.place.take() {
            place.make_evictable();
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Resolves when the stream is evicted.
async fn evicted(place: Option<&EvictableSlot<()>>) {
    match place {
        Some(place) => place.evicted().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::stream;
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::{Notify, mpsc};

    use super::*;
    use crate::handler::get;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A stream over which one answer with this media type runs, and the sender of its body.
    struct Running {
        peer: DuplexStream,
        body: mpsc::Sender<Bytes>,
        places: Arc<Evictable<()>>,
        streams: Streams,
        /// Dropped, it stops the stream.
        _stop: watch::Sender<bool>,
    }

    impl Running {
        async fn with(media: &'static str) -> Self {
            let (body, pieces) = mpsc::channel::<Bytes>(1);
            let pieces = Mutex::new(Some(pieces));
            let answer = move || {
                let pieces = pieces.lock().take().expect("one request");
                let next = |mut pieces: mpsc::Receiver<Bytes>| async move {
                    let piece = pieces.recv().await?;
                    Some((Ok::<_, std::convert::Infallible>(piece), pieces))
                };
                let body = axum::body::Body::from_stream(stream::unfold(pieces, next));
                ready(([(header::CONTENT_TYPE, media)], body))
            };
            let answer = Arc::new(answer);
            let router = Router::new().route("/", get(move || answer()));
            let (_stop, stopping) = watch::channel(false);
            let mut streams = Streams::over_tcp(router, Limits::default(), stopping);
            let places = Evictable::new(STREAMS_MAX);
            let place = places.enter(Some(PEER), || Some(()));
            let (mut peer, stream) = tokio::io::duplex(1024);
            streams.serve(ready(Some(stream)), (), place);
            peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut running = Self { peer, body, places, streams, _stop };
            running.body.send(Bytes::from_static(b"first")).await.unwrap();
            running.reads_until("first").await;
            running
        }

        async fn reads_until(&mut self, text: &str) {
            let mut read = String::new();
            while !read.contains(text) {
                read.push(char::from(self.peer.read_u8().await.expect("more of the answer")));
            }
        }

        /// Lets another stream in when all places are taken: the place of the stream that it evicted.
        fn evicting(&self) -> Option<EvictableSlot<()>> {
            self.places.enter(Some(PEER), || None)
        }
    }

    #[tokio::test]
    async fn a_stream_is_not_evicted_before_the_end_of_its_answer() {
        let mut running = Running::with("application/octet-stream").await;
        assert!(running.evicting().is_none());
        running.body.send(Bytes::from_static(b"last")).await.unwrap();
        drop(std::mem::replace(&mut running.body, mpsc::channel(1).0));
        running.reads_until("last\r\n0\r\n\r\n").await;
        assert!(running.evicting().is_some());
        running.streams.finish().await;
        assert_eq!(running.peer.read(&mut [0]).await.unwrap(), 0, "it is closed");
    }

    #[tokio::test]
    async fn a_stream_of_events_is_evicted_during_its_answer() {
        let running = Running::with(EVENTS).await;
        assert!(running.evicting().is_some());
        running.streams.finish().await;
    }

    /// A callback exchanges a code with a server that may be slow.
    #[tokio::test(start_paused = true)]
    async fn a_request_at_shutdown_has_as_long_as_the_configuration_says() {
        let begun = Arc::new(Notify::new());
        let begins = begun.clone();
        let slow = move || {
            let begins = begins.clone();
            async move {
                begins.notify_one();
                let _ = tokio::time::timeout(2 * HEAD_WITHIN, std::future::pending::<()>()).await;
            }
        };
        let limits = Limits { head_timeout: 3 * HEAD_WITHIN, ..Limits::default() };
        let (stop, stopping) = watch::channel(false);
        let router = Router::new().route("/", get(slow));
        let mut streams = Streams::over_tcp(router, limits, stopping);
        let (mut peer, stream) = tokio::io::duplex(1024);
        streams.serve(ready(Some(stream)), (), None);
        peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        begun.notified().await;
        stop.send_replace(true);
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        streams.finish().await;
    }
}
