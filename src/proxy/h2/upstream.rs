//! HTTP/2 streams to upstreams, each shared by the exchanges of one core that have an equal key.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::uri::{self, Uri};
use http::{Request, Response, Version, header, request};
use http_body::Body;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::gather::Gathered;
use super::pump::{Stop, pump};
use super::stream::without_fields_of_http1;
use super::{STREAM_WINDOW, bytes_u32, without_outer_blanks};
use crate::base::host::Target;
use crate::base::limits::Limits;
use crate::proxy::arriving::{Arriving, Streamed};
use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::error::Refusal;
use crate::proxy::pool::Key;
use crate::proxy::upstream::Interim;

/// Exchanges on one stream. With the window of each, none can take another's share of the
/// connection's window, however slowly its agent reads. Most servers allow as many.
const EXCHANGES_MAX: usize = 100;

/// All of them together, in bytes.
const WINDOW: u32 = STREAM_WINDOW * 100;

/// How often closed and idle streams are looked for, at most.
const SWEPT_EVERY: Duration = Duration::from_secs(30);

/// One stream of a core, with the way to send on it.
#[derive(Clone)]
pub struct Shared {
    sender: SendRequest<Bytes>,
    load: Arc<Load>,
    /// Whether the dialled address stands on the explicit private list.
    pub private: bool,
    /// Which way out it was made by.
    pub number: u64,
}

/// What a stream carries.
#[derive(Debug)]
struct Load {
    exchanges: AtomicUsize,
    /// It takes no more: the upstream said so, or it broke.
    closing: AtomicBool,
    idle_since: Mutex<Instant>,
}

/// The shared streams of a core by key, and who is dialling one.
#[derive(Default)]
pub struct SharedStreams(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    streams: HashMap<Key, Vec<Shared>>,
    dialling: HashMap<Key, Arc<Dial>>,
    swept: Option<Instant>,
}

/// What an exchange that needs a stream does next.
pub enum Turn {
    /// Sends on this one.
    Send(Shared, Stay),
    /// Dials, and tells the others by dropping this.
    Dial(Dialling),
    /// Somebody dials already.
    Wait(Arc<Dial>),
}

/// A stream that is being dialled.
#[derive(Debug, Default)]
pub struct Dial {
    done: Notify,
    succeeded: AtomicBool,
}

/// Others wait for what we dial.
pub struct Dialling {
    of: Arc<crate::proxy::Core>,
    key: Key,
    dial: Arc<Dial>,
}

/// One exchange on a shared stream: counted until it is dropped, its upload ended with it.
#[derive(Debug)]
pub struct Stay {
    load: Arc<Load>,
    upload: Option<JoinHandle<()>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The upstream has not processed the request, and says so or never got it: RFC 9113 §8.7.
    Unprocessed(Refusal),
    /// It wants HTTP/1.1 for this (RFC 9113 §7), and has not processed it.
    WantsHttp1,
    /// It reset the stream while the answer was due, or all is gone.
    Broken {
        /// What the agent is told.
        refusal: Refusal,
        /// The whole connection broke.
        gone: bool,
    },
}

impl SharedStreams {
    /// A stream with room for one more that `fits`; otherwise who gets one.
    pub fn turn(
        &self,
        core: &Arc<crate::proxy::Core>,
        key: &Key,
        fits: impl Fn(&Shared) -> bool,
    ) -> Turn {
        let mut inner = self.0.lock();
        inner.sweep(core.gateway.limits.idle_upstream_timeout);
        let streams = inner.streams.get(key).map_or(&[][..], Vec::as_slice);
        if let Some(found) = streams.iter().find(|stream| stream.has_room() && fits(stream)) {
            return Turn::Send(found.clone(), Stay::new(&found.load));
        }
        if let Some(others) = inner.dialling.get(key) {
            return Turn::Wait(others.clone());
        }
        let dial = Arc::new(Dial::default());
        inner.dialling.insert(key.clone(), dial.clone());
        Turn::Dial(Dialling { of: core.clone(), key: key.clone(), dial })
    }

    /// Lets others use the stream.
    pub fn add(&self, key: Key, stream: Shared) {
        self.0.lock().streams.entry(key).or_default().push(stream);
    }
}

impl Inner {
    /// Drops what is closed, or has been idle for long: its last handle closes a stream.
    fn sweep(&mut self, timeout: Duration) {
        let now = Instant::now();
        if self.swept.is_some_and(|swept| now.duration_since(swept) < timeout.min(SWEPT_EVERY)) {
            return;
        }
        self.swept = Some(now);
        for streams in self.streams.values_mut() {
            streams.retain(|stream| !stream.load.is_spent(timeout, now));
        }
        self.streams.retain(|_, streams| !streams.is_empty());
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.of.shared.0.lock().dialling.remove(&self.key);
        self.dial.done.notify_waiters();
    }
}

impl Dial {
    /// Waits for its end, and answers whether there is a stream now. Begin to wait before anything
    /// else of this core can run.
    pub async fn ended(&self) -> bool {
        self.done.notified().await;
        self.succeeded.load(Relaxed)
    }
}

impl Dialling {
    /// What was dialled is there for all.
    pub fn succeeded(self) {
        self.dial.succeeded.store(true, Relaxed);
    }
}

impl Load {
    fn is_spent(&self, timeout: Duration, now: Instant) -> bool {
        let idle = self.exchanges.load(Relaxed) == 0;
        self.closing.load(Relaxed) || idle && now.duration_since(*self.idle_since.lock()) >= timeout
    }
}

impl Shared {
    /// Whether it takes one more exchange.
    fn has_room(&self) -> bool {
        let max = self.sender.current_max_send_streams().min(EXCHANGES_MAX);
        !self.load.closing.load(Relaxed) && self.load.exchanges.load(Relaxed) < max
    }

    /// Counts one more exchange.
    pub fn stay(&self) -> Stay {
        Stay::new(&self.load)
    }

    /// Takes no more exchanges; those under way go on.
    pub fn close(&self) {
        self.load.closing.store(true, Relaxed);
    }

    /// Starts HTTP/2 on a verified stream; its connection runs in a task of this core.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn begin<IO>(io: IO, limits: &Limits, of: (bool, u64)) -> Result<Self, Refusal>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, drain) = Gathered::new(io);
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(bytes_u32(limits.head_bytes_max));
        let (sender, connection) = builder.handshake(io).await.map_err(broken)?;
        let load = Arc::new(Load {
            exchanges: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
        });
        let shared = load.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                // An error is found by the connection's next read or write.
                let _ = drain.poll_drain(cx);
                ended
            });
            // What ends the stream also ends the exchanges that use it, which report it.
            if let Err(error) = ended.await {
                tracing::trace!(%error, "upstream stream ended");
            }
            shared.closing.store(true, Relaxed);
        });
        let (private, number) = of;
        Ok(Self { sender, load, private, number })
    }

    /// Sends a request and waits for the head of its answer. A body goes on by itself.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(
        mut self,
        stay: &mut Stay,
        (head, body): (Request<()>, RequestBody),
        interim: &Interim,
    ) -> Result<Response<Arriving>, Unanswered> {
        poll_fn(|cx| self.sender.poll_ready(cx)).await.map_err(|error| self.refused(error))?;
        let ended = body.is_end_stream();
        let sent = self.sender.send_request(head, ended);
        let (mut answer, stream) = sent.map_err(|error| self.refused(error))?;
        if !ended {
            stay.upload(body, stream).await;
        }
        let response = poll_fn(|cx| {
            poll_interim(&mut answer, interim, cx);
            pin!(&mut answer).poll(cx)
        });
        match response.await {
            Ok(response) => {
                let (mut head, stream) = response.into_parts();
                without_outer_blanks(&mut head.headers);
                let body = Arriving::Http2(Streamed::new(stream, &head.headers, None));
                Ok(Response::from_parts(head, body))
            }
            Err(error) => Err(self.unanswered(error)),
        }
    }

    /// The stream did not take the request.
    fn refused(&self, error: h2::Error) -> Unanswered {
        self.close();
        Unanswered::Unprocessed(broken(error))
    }

    /// The request went out, and no answer came.
    fn unanswered(&self, error: h2::Error) -> Unanswered {
        let reason = error.reason().filter(|_| error.is_remote());
        match reason {
            Some(Reason::HTTP_1_1_REQUIRED) => {
                self.close();
                Unanswered::WantsHttp1
            }
            Some(Reason::REFUSED_STREAM) if error.is_reset() => {
                Unanswered::Unprocessed(broken(error))
            }
            Some(Reason::NO_ERROR) if error.is_go_away() => {
                self.close();
                Unanswered::Unprocessed(broken(error))
            }
            _ => {
                let gone = !error.is_reset();
                if gone {
                    self.close();
                }
                Unanswered::Broken { refusal: broken(error), gone }
            }
        }
    }
}

fn poll_interim(answer: &mut ResponseFuture, interim: &Interim, cx: &mut std::task::Context<'_>) {
    while let Poll::Ready(Some(Ok(response))) = answer.poll_informational(cx) {
        interim.saw(response.status());
    }
}

fn broken(error: h2::Error) -> Refusal {
    let what = match () {
        () if error.is_reset() => "it reset the stream",
        () if error.is_go_away() => "it closed the stream",
        () if error.is_library() => "it is not HTTP/2",
        () => "the stream broke",
    };
    Refusal::Protocol { what, source: Some(error.into()) }
}

impl Stay {
    fn new(load: &Arc<Load>) -> Self {
        load.exchanges.fetch_add(1, Relaxed);
        Self { load: load.clone(), upload: None }
    }

    /// Sends the body: what is there at once, the rest in a task, because an answer may come, and go
    /// on, before the body has ended.
    async fn upload(&mut self, mut body: RequestBody, mut stream: SendStream<Bytes>) {
        let mut upload = Box::pin(async move {
            match pump(&mut body, &mut stream).await {
                Ok(()) | Err(Stop::Peer) => {}
                Err(Stop::Body(error)) => stream.send_reset(reason(&error)),
            }
        });
        let ended = poll_fn(|cx| Poll::Ready(upload.as_mut().poll(cx).is_ready())).await;
        if !ended {
            self.upload = Some(tokio::spawn(upload));
        }
    }

    /// The answer has ended. Where it binds identity to the stream, nobody else gets it.
    pub fn end(self, reusable: bool) {
        if !reusable {
            self.load.closing.store(true, Relaxed);
        }
    }

    /// Ends the upload; the body has been dropped then.
    pub async fn stop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abort();
            // Whether it was aborted or had ended is all one.
            let _ = upload.await;
        }
    }
}

/// How a body that breaks is told to the upstream.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Cut(_) | BodyError::NotWanted => Reason::CANCEL,
        BodyError::Scrubbed(_) => Reason::INTERNAL_ERROR,
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        if self.load.exchanges.fetch_sub(1, Relaxed) == 1 {
            *self.load.idle_since.lock() = Instant::now();
        }
    }
}

/// The head of a request as HTTP/2 has it: the authority in the URI, nothing of the stream.
///
/// # Errors
/// When the target is no authority, which it was made from.
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

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("load", &self.load).finish_non_exhaustive()
    }
}
