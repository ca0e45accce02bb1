//! Serves HTTP/1.1 on an agent's stream, by hyper. Ends the stream on a timeout, a drain or a revocation. The proxy
//! port and intercepted tunnels both use it. An idle stream is parked without hyper and its buffers until the next
//! request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::linger;
use crate::body::incoming_body::{Http1Upload, IncomingBody};
use crate::body::request_body::RequestBody;
use crate::exchange::answer_body::AnswerBody;
use crate::gateway::Core;
use crate::record::Record;
use crate::session::ProxySession;
use crate::session::revocation::Revocation;
use crate::sockets::h1_idle::{H1Idle, TrackedIo};
use crate::sockets::streams::AgentIo;
use crate::sockets::wake_filter::WakeFilter;
use crate::sockets::watchdog::{Overdue, Watchdog};
use keyward_base::codes::Code;

/// The interval of checks whether a stream has become idle. hyper is removed after one to two intervals.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The number of bytes read to wake an idle stream; hyper reads the rest.
const WAKE_BYTES_MAX: usize = 256;

/// What hyper reads ahead of a request's body, and what it keeps of an answer until it is written; heads may need more. Its
/// default is 408 KiB, which is much for an agent that has many streams and does not read.
const BUFFER_MAX: usize = 64 * 1024;

/// Where a stream is served, and its owner as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct StreamContext<'a> {
    pub core: &'a Core,
    pub watchdog: &'a Arc<Watchdog>,
    /// Closes the stream on revocation.
    pub revocation: &'a Revocation,
    /// The session, inside a tunnel.
    pub session: Option<&'a ProxySession>,
}

/// An event that interrupts the serving of requests.
enum Interrupt {
    Idle,
    MustEnd,
    Drain,
}

enum StreamState<IO> {
    /// Idle, without hyper.
    Idle(IO),
    /// Served by hyper, which reads these bytes first.
    Serving(IO, Bytes),
    Ends(IO, StreamEnd),
    Upgraded,
}

/// Why a stream ends.
enum StreamEnd {
    Finished(hyper::Result<()>),
    /// The idle timeout has expired, or the agent has ended the idle stream.
    Idle,
    /// The gateway drains and the stream carries no exchange. hyper may have ended it already.
    Drained,
    Cut,
}

impl StreamEnd {
    /// Whether the stream ends in the middle of a message.
    fn is_broken(&self) -> bool {
        matches!(self, Self::Finished(Err(_)) | Self::Cut)
    }
}

/// Serves requests until the stream ends or must end.
pub async fn serve<IO, S, F>(io: IO, context: StreamContext<'_>, service: S)
where
    IO: AgentIo,
    S: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let (mut must_end, mut drain_begins) =
        (pin!(must_end(&context)), pin!(drain_begins(context.core)));
    let mut drained = false;
    let mut interrupt = poll_fn(|cx| {
        if let Poll::Ready(what) = must_end.as_mut().poll(cx) {
            return Poll::Ready(what);
        }
        if drained || drain_begins.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        drained = true;
        Poll::Ready(Interrupt::Drain)
    });
    let mut turn = StreamState::Serving(io, Bytes::new());
    loop {
        turn = match turn {
            // On the heap what an idle stream does not need.
            StreamState::Serving(io, early) => {
                Box::pin(requests(io, early, context, &service, &mut interrupt)).await
            }
            StreamState::Idle(io) => wait_idle(io, &mut interrupt).await,
            StreamState::Ends(io, end) => return Box::pin(close(context, io, end)).await,
            StreamState::Upgraded => return,
        }
    }
}

async fn requests<IO, S, F>(
    io: IO,
    early: Bytes,
    context: StreamContext<'_>,
    service: &S,
    interrupt: impl Future<Output = Interrupt> + Unpin,
) -> StreamState<IO>
where
    IO: AgentIo,
    S: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let limits = &context.core.gateway.limits;
    let idle = Arc::new(H1Idle::default());
    let retirement = &context.core.gateway.retirement;
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let opens_tunnel = head.method == Method::CONNECT;
        let knows_chunks = head.version != Version::HTTP_10;
        let body = Http1Upload::new(body, &head.headers, &idle);
        let body = RequestBody::new(IncomingBody::Http1Upload(body));
        // On the heap: hyper keeps room for one in each stream, idle or not.
        let answer = Box::pin(service(Request::from_parts(head, body)));
        let idle = &idle;
        async move {
            let mut answer = answer.await;
            context.watchdog.interim.all_sent().await;
            let upgrades = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if upgrades {
                idle.upgrade_ready();
            }
            // An atomic load; `borrow` takes a lock that all cores share.
            let is_retiring = retirement.has_changed().unwrap_or(false);
            if is_retiring && !opens_tunnel && !upgrades {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if !knows_chunks && answer.body().size_hint().exact().is_none() {
                idle.answer_until_closed();
            }
            idle.answer_ready();
            Ok::<_, Infallible>(answer)
        }
    });
    let io = TrackedIo::new(io, early, idle.clone(), context.watchdog.clone());
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .title_case_headers(true)
        // One more than the limit, so that ours is the answer that says which limit it was.
        .max_headers(limits.head_fields_max + 1)
        .max_header_size(limits.head_bytes_max * 2)
        .max_buf_size((limits.head_bytes_max * 2).max(BUFFER_MAX))
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    served(connection, &idle, context.watchdog, interrupt).await
}

/// Polls hyper until the stream ends or becomes idle, and then removes hyper.
async fn served<IO, S>(
    mut connection: UpgradeableConnection<TokioIo<TrackedIo<IO>>, S>,
    idle: &H1Idle,
    watchdog: &Watchdog,
    mut interrupt: impl Future<Output = Interrupt> + Unpin,
) -> StreamState<IO>
where
    IO: AgentIo,
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
{
    let mut becomes_idle = pin!(becomes_idle(watchdog, idle));
    let mut others = WakeFilter::new(poll_fn(|cx| match Pin::new(&mut interrupt).poll(cx) {
        Poll::Ready(what) => Poll::Ready(Some(what)),
        Poll::Pending => becomes_idle.as_mut().poll(cx).map(|()| None),
    }));
    let mut drained = false;
    let end = loop {
        let what = tokio::select! {
            biased;
            said = &mut connection => break Some(StreamEnd::Finished(said)),
            what = &mut others => what,
        };
        match what {
            None => break None,
            // An answer that the agent does not read is cut, so that it is not taken for complete.
            Some(Interrupt::Idle) if !idle.is_idle() => break Some(StreamEnd::Cut),
            Some(Interrupt::Idle) => break Some(StreamEnd::Idle),
            Some(Interrupt::MustEnd) => break Some(StreamEnd::Cut),
            Some(Interrupt::Drain) => {
                drained = !watchdog.is_busy();
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Some(StreamEnd::Cut) = &end {
        // Marked before the running exchanges are dropped, because they record the reason.
        watchdog.cut();
    }
    let parts = connection.into_parts();
    let parts = parts.map(|parts| (parts.io.into_inner().into_inner(), parts.read_buf));
    match (end, parts) {
        (None, Some((io, early))) if early.is_empty() => StreamState::Idle(io),
        (None, Some((io, early))) => {
            // A part of the next head arrived with the last request; its timeout begins now.
            watchdog.on_read();
            StreamState::Serving(io, early)
        }
        (Some(StreamEnd::Finished(Ok(()))), Some((io, _))) if drained => {
            StreamState::Ends(io, StreamEnd::Drained)
        }
        (Some(end), Some((io, _))) => {
            if idle.is_until_closed() && end.is_broken() {
                io.end_by_reset();
            }
            StreamState::Ends(io, end)
        }
        (_, None) => StreamState::Upgraded,
    }
}

/// Resolves when hyper has been idle for a while.
async fn becomes_idle(watchdog: &Watchdog, idle: &H1Idle) {
    loop {
        tokio::time::sleep(IDLE_CHECK_INTERVAL).await;
        if watchdog.is_idle_for(IDLE_CHECK_INTERVAL) && idle.is_idle() {
            return;
        }
    }
}

/// Waits on an idle stream until its agent sends something or an interrupt happens.
async fn wait_idle<IO>(
    mut io: IO,
    mut interrupt: impl Future<Output = Interrupt> + Unpin,
) -> StreamState<IO>
where
    IO: AsyncRead + Unpin,
{
    let woken = poll_fn(|cx| {
        let mut bytes = [0; WAKE_BYTES_MAX];
        let mut read = ReadBuf::new(&mut bytes);
        let result = ready!(Pin::new(&mut io).poll_read(cx, &mut read));
        Poll::Ready(result.map(|()| Bytes::copy_from_slice(read.filled())))
    });
    let end = tokio::select! {
        biased;
        woken = woken => match woken {
            Ok(early) if early.is_empty() => StreamEnd::Idle,
            Ok(early) => return StreamState::Serving(io, early),
            Err(_) => StreamEnd::Cut,
        },
        what = &mut interrupt => match what {
            Interrupt::Idle => StreamEnd::Idle,
            Interrupt::MustEnd => StreamEnd::Cut,
            Interrupt::Drain => StreamEnd::Drained,
        },
    };
    StreamState::Ends(io, end)
}

async fn close<IO>(context: StreamContext<'_>, io: IO, end: StreamEnd)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let gateway = &context.core.gateway;
    if let StreamEnd::Finished(Err(error)) = &end
        && error.is_parse()
    {
        let status = if error.is_parse_too_large() { 431 } else { 400 };
        unparsed(context.core, context.session, status).await;
    }
    let lingers = async {
        match end {
            StreamEnd::Finished(Ok(())) => linger::drain(io, gateway).await,
            StreamEnd::Finished(Err(error)) if error.is_parse() => linger::drain(io, gateway).await,
            // No orderly close: the peer must see that the stream broke.
            StreamEnd::Finished(Err(_)) | StreamEnd::Cut => {}
            StreamEnd::Idle => linger::shut_down_and_drain(io, gateway).await,
            StreamEnd::Drained => linger::shut_down(io, gateway).await,
        }
    };
    tokio::select! {
        biased;
        () = lingers => {}
        () = context.revocation.evicted() => {}
    }
}

/// The stream after an upgrade, and the bytes that hyper read ahead.
pub fn reclaim<IO>(upgraded: Upgraded) -> Option<(IO, Bytes)>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let parts = upgraded.downcast::<TokioIo<TrackedIo<IO>>>().ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}

async fn drain_begins(core: &Core) {
    draining(&mut core.gateway.draining.clone()).await;
}

/// Resolves when the gateway drains; never resolves once the gateway is dropped.
pub async fn draining(drain: &mut watch::Receiver<bool>) {
    if drain.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn must_end(context: &StreamContext<'_>) -> Interrupt {
    let gateway = &context.core.gateway;
    tokio::select! {
        why = context.watchdog.overdue(&gateway.limits) => match why {
            Overdue::Idle => Interrupt::Idle,
            Overdue::Head | Overdue::Body => Interrupt::MustEnd,
        },
        () = context.revocation.revoked(gateway) => Interrupt::MustEnd,
        () = gateway.cut() => Interrupt::MustEnd,
    }
}

/// Writes a record for a request that hyper or h2 refused by itself: a head with a bare 400, 414 or 431, or a whole
/// HTTP/2 stream.
pub async fn unparsed(core: &Core, session: Option<&ProxySession>, status: u16) {
    let Ok(mut record) = Record::begin(&core.gateway).await else { return };
    if let Some(ProxySession { agent, target_source, .. }) = session {
        record.set_agent(agent);
        record.set_target(target_source.target());
    }
    match status {
        431 => record.set_refused(Code::HeadersTooLarge),
        _ => record.set_refused(Code::BadRequest),
    }
}
