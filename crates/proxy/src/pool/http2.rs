//! [`SharedStream`]: an HTTP/2 stream to an upstream, and the exchanges on it.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::uri::{self, Uri};
use http::{Method, Request, Response, StatusCode, Version, header, request};
use http_body::Body;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::interim::Interim;
use super::{DialledStream, IdleCount, overdue};
use crate::body::BodyError;
use crate::body::http2_body::Http2Body;
use crate::body::incoming_body::IncomingBody;
use crate::body::request_body::RequestBody;
use crate::h2::flood_limit::{FloodLimited, FloodPeer};
use crate::h2::send_body::{SendStop, send_body};
use crate::h2::write_buffer::BufferedWrites;
use crate::h2::{
    SEND_BUFFER_MAX, bytes_u32, described, without_fields_of_http1, without_outer_blanks,
};
use crate::refusal::Refusal;
use crate::sockets::streams::SocketState;
use keyward_base::host::Target;
use keyward_base::limits::{Limits, ReceiveWindow};

/// The maximum number of exchanges on one stream. With the window of each, none can use up the connection's window,
/// however slowly its agent reads. Most servers allow as many.
pub(super) const EXCHANGES_MAX: usize = 100;

/// The window of the connection, in windows of exchanges.
const WINDOWS: u32 = 100;

/// How long a stream may be silent after a request, if that is then given up without an answer. A request that is
/// given up earlier says nothing about the stream.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The same for one of several attempts: the time that is left for it may be a few milliseconds.
const ATTEMPT_SILENCE_MIN: Duration = Duration::from_secs(1);

/// How long the end of an answer without content is waited for, in frames of their own.
const END_WITHIN: Duration = Duration::from_secs(1);

/// One shared stream of a core.
#[derive(Clone)]
pub struct SharedStream {
    sender: SendRequest<Bytes>,
    load: Arc<Load>,
    socket: Arc<SocketState>,
    /// Whether the dialled address is on the private list.
    pub private: bool,
    /// The generation of the TLS settings that it was made with.
    pub tls_generation: u64,
    /// The window of each of its exchanges.
    pub window: ReceiveWindow,
}

/// The load of a stream.
#[derive(Debug)]
struct Load {
    exchanges: AtomicUsize,
    /// It accepts no more exchanges: the upstream said so, or it broke or is silent.
    closing: AtomicBool,
    idle_since: Mutex<Instant>,
    /// Counts the stream while there is no exchange on it.
    idle: Arc<IdleCount>,
    /// Is dropped with the load, which the task of the connection notices.
    _handles: oneshot::Sender<Infallible>,
}

/// One exchange on a shared stream, counted until it is dropped. Its upload ends with it.
#[derive(Debug)]
pub struct StreamUse {
    load: Arc<Load>,
    upload: Option<JoinHandle<()>>,
    /// What follows the head of an answer without content.
    rest: Option<RecvStream>,
}

/// How an exchange waits for the head of its answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerWait<'a> {
    interim: &'a Interim,
    silence_max: Duration,
}

/// Notices that the upstream sends nothing after a request. A network that has lost the state of a stream drops its
/// packets, and the system reports that only after 15 minutes.
struct SilenceGuard<'a> {
    load: &'a Load,
    socket: &'a SocketState,
    /// Bytes that were received before the request.
    received: u64,
    since: Instant,
    silence_max: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum SendError {
    /// The upstream did not process the request, and said so or never got it: RFC 9113 §8.7.
    Unprocessed(Refusal),
    /// The upstream did not process the request, because there were more on the stream than it allows. That was not known
    /// yet.
    OverLimit(Refusal),
    /// The upstream requires HTTP/1.1 (RFC 9113 §7) and did not process the request.
    WantsHttp1,
    /// The upstream reset the stream before it answered, or the connection broke.
    Broken {
        /// The refusal for the agent.
        refusal: Refusal,
        /// The whole connection broke.
        gone: bool,
    },
}

impl Load {
    /// The load of a stream without exchanges.
    fn new(idle: Arc<IdleCount>, handles: oneshot::Sender<Infallible>) -> Arc<Self> {
        idle.add_http2();
        Arc::new(Self {
            exchanges: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            idle,
            _handles: handles,
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Each exchange keeps its stream's load.
        self.idle.remove_http2();
    }
}

impl SharedStream {
    /// Whether it accepts one more exchange.
    pub(super) fn has_room(&self) -> bool {
        let exchanges = self.load.exchanges.load(Relaxed);
        !self.load.closing.load(Relaxed) && exchanges < self.exchanges_max()
    }

    /// How many exchanges it accepts: the number that was expected, until the upstream has sent its settings.
    pub(super) fn exchanges_max(&self) -> usize {
        self.sender.current_max_send_streams().min(EXCHANGES_MAX)
    }

    /// Whether it accepts no more exchanges, or has been idle for `timeout`.
    pub(super) fn is_spent(&self, timeout: Duration, now: Instant) -> bool {
        let expired = |since| now.duration_since(since) >= timeout;
        self.load.closing.load(Relaxed) || self.idle_since().is_some_and(expired)
    }

    /// Since when it has been idle; `None` while it has exchanges.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.load.exchanges.load(Relaxed) == 0;
        is_idle.then(|| *self.load.idle_since.lock())
    }

    /// Counts one more exchange.
    pub fn begin_use(&self) -> StreamUse {
        StreamUse::new(&self.load)
    }

    /// Accepts no more exchanges; running ones continue.
    pub fn close(&self) {
        self.load.closing.store(true, Relaxed);
    }

    /// Starts HTTP/2 on a verified stream. The connection runs in a task of this core. `exchanges_max`: how many exchanges
    /// the upstream is expected to allow. `window`: that of each.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn begin(
        fresh: DialledStream,
        limits: &Limits,
        idle: &Arc<IdleCount>,
        exchanges_max: usize,
        window: ReceiveWindow,
    ) -> Result<Self, Refusal> {
        let DialledStream { io, socket, private, tls_generation, .. } = fresh;
        let (io, drain) = BufferedWrites::new(FloodLimited::new(FloodPeer::Upstream, io));
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(exchanges_max)
            .initial_window_size(window.bytes())
            .initial_connection_window_size(window.bytes() * WINDOWS)
            .max_send_buffer_size(SEND_BUFFER_MAX)
            .max_header_list_size(bytes_u32(limits.head_bytes_max));
        let (sender, connection) = builder.handshake(io).await.map_err(broken)?;
        let (handles, dropped) = oneshot::channel();
        let load = Load::new(idle.clone(), handles);
        // The task lives longer than all handles: h2 writes what is left.
        let ending = Arc::downgrade(&load);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                // An error is found by the connection's next read or write.
                let _ = drain.poll_drain(cx);
                ended
            });
            tokio::select! {
                biased;
                // What ends the stream also ends the exchanges that use it, which report it.
                ended = ended => {
                    if let Err(error) = ended {
                        tracing::trace!(error = described(&error), "upstream stream ended");
                    }
                }
                () = overdue(dropped) => tracing::trace!("upstream stream was not closed in time"),
            }
            if let Some(load) = ending.upgrade() {
                load.closing.store(true, Relaxed);
            }
        });
        Ok(Self { sender, load, socket, private, tls_generation, window })
    }

    /// Sends a request and waits for the head of its answer. The body is sent concurrently.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        mut self,
        stream_use: &mut StreamUse,
        head: Request<()>,
        body: RequestBody,
        wait: AnswerWait<'_>,
    ) -> Result<Response<IncomingBody>, SendError> {
        poll_fn(|cx| self.sender.poll_ready(cx)).await.map_err(|error| self.refused(error))?;
        let exchanges = self.load.exchanges.load(Relaxed);
        if exchanges == 1 {
            // It was idle. The upstream may have closed it, and the runtime may not have polled the socket since.
            self.socket.check_before_write();
        }
        let written = self.socket.written();
        let _silence = SilenceGuard::new(&self.load, &self.socket, wait.silence_max);
        let (ended, is_head) = (body.is_end_stream(), head.method() == Method::HEAD);
        let sent = self.sender.send_request(head, ended);
        let (mut answer, stream) = sent.map_err(|error| self.refused(error))?;
        if !ended {
            stream_use.upload(body, stream).await;
        }
        let response = poll_fn(|cx| {
            poll_interim(&mut answer, wait.interim, cx);
            pin!(&mut answer).poll(cx)
        });
        match response.await {
            Ok(response) => {
                let (mut head, stream) = response.into_parts();
                without_outer_blanks(&mut head.headers);
                let body = match is_head || never_has_content(head.status) {
                    true => stream_use.with_rest(stream),
                    false => IncomingBody::Http2(Http2Body::new(stream, &head.headers, None)),
                };
                Ok(Response::from_parts(head, body))
            }
            Err(error) if is_refused(&error) && exchanges > self.exchanges_max() => {
                Err(SendError::OverLimit(broken(error)))
            }
            Err(error) => Err(self.unanswered(error, self.socket.written() > written)),
        }
    }

    /// The stream did not accept the request.
    fn refused(&self, error: h2::Error) -> SendError {
        self.close();
        SendError::Unprocessed(broken(error))
    }

    /// The stream accepted the request, and no answer arrived. `written`: the system has accepted bytes since then,
    /// of this request or another one.
    fn unanswered(&self, error: h2::Error, written: bool) -> SendError {
        let reason = error.reason().filter(|_| error.is_remote());
        match reason {
            Some(Reason::HTTP_1_1_REQUIRED) => {
                self.close();
                SendError::WantsHttp1
            }
            Some(_) if is_refused(&error) => SendError::Unprocessed(broken(error)),
            Some(Reason::NO_ERROR) if error.is_go_away() => {
                self.close();
                SendError::Unprocessed(broken(error))
            }
            _ => {
                let gone = !error.is_reset();
                if gone {
                    self.close();
                }
                if gone && !written {
                    return SendError::Unprocessed(broken(error));
                }
                SendError::Broken { refusal: broken(error), gone }
            }
        }
    }
}

impl<'a> AnswerWait<'a> {
    /// The exchange gives the request up after `timeout`. `within`: that is what is left of this time for several
    /// attempts.
    pub fn new(interim: &'a Interim, timeout: Duration, within: Option<Duration>) -> Self {
        let min = within.map_or(Duration::ZERO, |within| ATTEMPT_SILENCE_MIN.min(within / 2));
        Self { interim, silence_max: timeout.clamp(min, SILENCE_MAX) }
    }
}

impl<'a> SilenceGuard<'a> {
    fn new(load: &'a Load, socket: &'a SocketState, silence_max: Duration) -> Self {
        let (received, since) = (socket.received(), Instant::now());
        Self { load, socket, received, since, silence_max }
    }
}

impl Drop for SilenceGuard<'_> {
    /// Running exchanges continue, and the next one dials.
    fn drop(&mut self) {
        let is_silent = self.socket.received() == self.received;
        if is_silent && self.since.elapsed() >= self.silence_max {
            self.load.closing.store(true, Relaxed);
        }
    }
}

fn poll_interim(answer: &mut ResponseFuture, interim: &Interim, cx: &mut std::task::Context<'_>) {
    while let Poll::Ready(Some(Ok(response))) = answer.poll_informational(cx) {
        interim.on_answer(response.status(), response.headers());
    }
}

/// Whether an answer ends with its head, whatever its fields say (RFC 9112 §6.3).
fn never_has_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether the upstream has reset the stream of a request without processing it.
fn is_refused(error: &h2::Error) -> bool {
    let is_reset = error.is_reset() && error.is_remote();
    is_reset && error.reason() == Some(Reason::REFUSED_STREAM)
}

fn broken(error: h2::Error) -> Refusal {
    let what = match () {
        () if is_refused(&error) => "it did not process the request",
        () if error.is_reset() && error.is_library() => {
            "it is not HTTP/2, or its head exceeds `limits.head_bytes_max`"
        }
        () if error.is_reset() => "it reset the stream",
        () if error.is_go_away() => "it closed the stream",
        () if error.is_library() => "it is not HTTP/2",
        () => "the stream broke",
    };
    Refusal::Protocol { what, source: Some(error.into()) }
}

impl StreamUse {
    fn new(load: &Arc<Load>) -> Self {
        if load.exchanges.fetch_add(1, Relaxed) == 0 {
            load.idle.remove_http2();
        }
        Self { load: load.clone(), upload: None, rest: None }
    }

    /// The body of an answer without content. Frames that follow its head are not passed on.
    fn with_rest(&mut self, rest: RecvStream) -> IncomingBody {
        self.rest = (!rest.is_end_stream()).then_some(rest);
        IncomingBody::Empty
    }

    /// Sends the available part of the body at once and the rest in a task, because the answer may arrive before
    /// the body has ended.
    async fn upload(&mut self, mut body: RequestBody, mut stream: SendStream<Bytes>) {
        let mut upload = Box::pin(async move {
            match send_body(&mut body, &mut stream).await {
                Ok(()) | Err(SendStop::Peer) => {}
                Err(SendStop::Body(error)) => stream.send_reset(reason(&error)),
            }
        });
        let ended = poll_fn(|cx| Poll::Ready(upload.as_mut().poll(cx).is_ready())).await;
        if !ended {
            self.upload = Some(tokio::spawn(upload));
        }
    }

    /// Ends the use after the answer. A stream with a bound identity is not shared any more. What is left of an answer
    /// without content is waited for, because many resets make servers close their streams.
    pub fn end(mut self, reusable: bool) {
        if !reusable {
            self.load.closing.store(true, Relaxed);
        }
        let is_uploaded = self.upload.as_ref().is_none_or(JoinHandle::is_finished);
        if let Some(rest) = self.rest.take().filter(|_| is_uploaded) {
            tokio::spawn(async move {
                let _ = tokio::time::timeout(END_WITHIN, ended(rest)).await;
                drop(self);
            });
        }
    }

    /// Ends the upload; afterwards the body is dropped.
    pub async fn stop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abort();
            // An error means that it was aborted; both ends are the same here.
            let _ = upload.await;
        }
    }
}

/// Resolves at the end of a stream, or at content that it must not have.
async fn ended(mut stream: RecvStream) {
    while let Some(Ok(data)) = stream.data().await {
        if !data.is_empty() {
            return;
        }
    }
}

/// The reset code for a body that breaks.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Receive(_)
        | BodyError::NotWanted
        | BodyError::Chunks(_)
        | BodyError::Form(_) => Reason::CANCEL,
        BodyError::Scrubbed(_) | BodyError::PartLength | BodyError::NoRoom => {
            Reason::INTERNAL_ERROR
        }
    }
}

impl Drop for StreamUse {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        if self.load.exchanges.fetch_sub(1, Relaxed) == 1 {
            *self.load.idle_since.lock() = Instant::now();
            self.load.idle.add_http2();
        }
    }
}

/// Converts the head of a request to HTTP/2: the authority in the URI, no fields of the stream.
///
/// # Errors
/// When the target is not a valid authority.
pub fn head(target: &Target, mut from: request::Parts) -> Result<Request<()>, Refusal> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTPS);
    let authority = uri::Authority::try_from(target.authority());
    parts.authority = Some(authority.map_err(|_| Refusal::Internal("a target is no authority"))?);
    parts.path_and_query = from.uri.into_parts().path_and_query;
    from.uri = Uri::from_parts(parts).map_err(|_| Refusal::Internal("a target is no URI"))?;
    from.version = Version::HTTP_2;
    // `TE: trailers` stays: HTTP/2 has it too (RFC 9113 §8.2.2).
    without_fields_of_http1(&mut from.headers);
    from.headers.remove(header::HOST);
    Ok(Request::from_parts(from, ()))
}

impl fmt::Debug for SharedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStream").field("load", &self.load).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net;

    use futures_util::FutureExt;
    use tokio::net::TcpStream;

    use super::*;
    use crate::pool::stuck_io::{StuckIo, closes_in_time};
    use crate::sockets::streams::{Io, UpstreamSocket};

    fn dialled(io: impl Io + 'static, socket: Arc<SocketState>) -> DialledStream {
        let (private, tls_generation, forwarded) = (false, 0, None);
        DialledStream { io: Box::new(io), socket, http2: true, private, tls_generation, forwarded }
    }

    /// Both ends of a stream on which HTTP/2 was begun. The runtime polls the sockets only when a test awaits.
    async fn begun() -> (SharedStream, h2::server::Connection<TcpStream, Bytes>) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let [ours, peer] = [ours, peer].map(|socket| {
            socket.set_nonblocking(true).unwrap();
            TcpStream::from_std(socket).unwrap()
        });
        let upstream = UpstreamSocket::new(ours.into());
        let socket = upstream.state().clone();
        let fresh = dialled(upstream, socket);
        // Each idle stream is in excess.
        let (limits, idle) = (Limits::default(), IdleCount::new(0));
        let window = ReceiveWindow::Large;
        let begins = SharedStream::begin(fresh, &limits, &idle, EXCHANGES_MAX, window);
        let (shared, server) = tokio::join!(begins, h2::server::handshake(peer));
        (shared.unwrap(), server.unwrap())
    }

    async fn send(
        shared: &SharedStream,
        body: RequestBody,
    ) -> Result<Response<IncomingBody>, SendError> {
        send_within(shared, body, Duration::from_secs(600), None).await
    }

    async fn send_within(
        shared: &SharedStream,
        body: RequestBody,
        timeout: Duration,
        within: Option<Duration>,
    ) -> Result<Response<IncomingBody>, SendError> {
        let mut head = Request::new(());
        (*head.method_mut(), *head.uri_mut()) =
            (http::Method::POST, Uri::from_static("https://api.test/"));
        let (mut stream_use, interim) = (shared.begin_use(), Interim::new(None, 1, None, None));
        let wait = AnswerWait::new(&interim, timeout, within);
        shared.clone().send(&mut stream_use, head, body, wait).await
    }

    /// Sends a request, which `server` answers.
    async fn answered(
        shared: &SharedStream,
        server: &mut h2::server::Connection<TcpStream, Bytes>,
    ) {
        let serving = async {
            while let Some(asked) = server.accept().await {
                let (_, mut respond) = asked.unwrap();
                respond.send_response(Response::new(()), true).unwrap();
            }
        };
        tokio::select! {
            () = serving => panic!("it ended"),
            answer = send(shared, RequestBody::empty()) => assert_eq!(answer.unwrap().status(), 200),
        }
    }

    #[tokio::test]
    async fn a_dropped_stream_is_not_counted_while_its_task_has_not_ended() {
        let (shared, _server) = begun().await;
        let idle = shared.load.idle.clone();
        assert_eq!(idle.excess(), 1);
        drop(shared);
        // The task is not polled before the next await.
        assert_eq!(idle.excess(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_stream_that_cannot_write_is_closed_after_the_closing_timeout() {
        let (io, closed) = StuckIo::new();
        let fresh = dialled(io, Arc::default());
        let (limits, idle) = (Limits::default(), IdleCount::new(0));
        let window = ReceiveWindow::Large;
        let begins = SharedStream::begin(fresh, &limits, &idle, EXCHANGES_MAX, window);
        closes_in_time(begins.await.unwrap(), closed).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_was_silent_until_a_request_was_given_up_is_not_used_again() {
        let [little, second] = [1, 1_000].map(Duration::from_millis);
        let (long, short) = (Some(SILENCE_MAX * 9), Some(second / 2));
        for (timeout, within, given_up_after, is_usable) in [
            (SILENCE_MAX * 9, None, SILENCE_MAX - little, true),
            (SILENCE_MAX * 9, None, SILENCE_MAX, false),
            (second, None, second - little, true),
            (second, None, second, false),
            (little, None, little, false),
            (little, long, second - little, true),
            (little, long, second, false),
            (SILENCE_MAX * 9, long, SILENCE_MAX, false),
            (second / 2, short, second / 2, false),
            (little, short, second / 4 - little, true),
            (little, short, second / 4, false),
        ] {
            let (shared, mut server) = begun().await;
            answered(&shared, &mut server).await;
            let body = RequestBody::empty();
            let mut sending = Box::pin(send_within(&shared, body, timeout, within));
            assert!(sending.as_mut().now_or_never().is_none());
            tokio::time::advance(given_up_after).await;
            assert!(shared.has_room());
            drop(sending);
            assert_eq!(shared.has_room(), is_usable, "{given_up_after:?} of {timeout:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_on_which_something_arrived_is_used_again_after_a_request_was_given_up() {
        let (shared, mut server) = begun().await;
        answered(&shared, &mut server).await;
        let mut sending = Box::pin(send(&shared, RequestBody::empty()));
        assert!(sending.as_mut().now_or_never().is_none());
        tokio::time::advance(SILENCE_MAX).await;
        answered(&shared, &mut server).await;
        drop(sending);
        assert!(shared.has_room());
    }

    #[tokio::test]
    async fn a_request_on_a_stream_that_the_upstream_already_ended_is_unprocessed() {
        let (shared, mut server) = begun().await;
        answered(&shared, &mut server).await;
        let written = shared.socket.written();
        drop(server);
        let order = RequestBody::own(Bytes::from_static(b"an order"));
        let why = send(&shared, order).await.unwrap_err();
        assert!(matches!(why, SendError::Unprocessed(_)), "{why:?}");
        assert_eq!(shared.socket.written(), written, "not one byte");
        assert!(!shared.has_room(), "it is not used again");
    }

    #[tokio::test]
    async fn a_request_of_which_bytes_were_written_may_have_been_processed() {
        let (shared, mut server) = begun().await;
        let read = async {
            // It is read, and not answered.
            let asked = server.accept().await;
            drop((asked, server));
        };
        let (why, ()) = tokio::join!(send(&shared, RequestBody::empty()), read);
        let why = why.unwrap_err();
        assert!(matches!(why, SendError::Broken { .. }), "{why:?}");
    }
}
