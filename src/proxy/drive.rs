//! hyper's HTTP/1.1 server on one stream, with everything that may end it: the limits, a drain, a
//! revoked token. Used for the proxy port and inside tunnels alike. A stream that is idle is left to
//! itself: hyper and its buffers come back with the next request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::Core;
use super::arriving::Arriving;
use super::between::{Between, Watched};
use super::body::{AnswerBody, RequestBody};
use super::lingering::{self, Upload};
use super::pulse::{Overdue, Pulse};
use super::rarely::Rarely;
use super::record::Record;
use super::session::Session;
use super::standing::Standing;

/// How often it is looked whether a stream has become idle: hyper goes between one and two of these after
/// the last answer.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// What is read to wake an idle stream, in bytes; hyper reads on.
const WAKES: usize = 256;

/// Whose stream it is, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The stream's pulse.
    pub pulse: &'a Pulse,
    /// What it rests on.
    pub standing: &'a Standing,
    /// The session of a tunnel.
    pub session: Option<&'a Session>,
}

/// What happens beside the requests of a stream.
enum Beside {
    Idle,
    MustEnd,
    Drains,
}

/// What becomes of a stream.
enum Turn<IO> {
    /// It is idle: hyper has gone.
    Rests(IO),
    /// hyper serves it, and reads these bytes first.
    Serves(IO, Bytes),
    Ends(IO, End),
    /// It is another's.
    Upgraded,
}

/// How a stream ends.
enum End {
    /// As hyper says, and has done to it.
    Said(hyper::Result<()>),
    /// No request came for too long, or the agent has ended it while it was idle.
    Idle,
    /// A drain found nothing on its way. hyper may have ended it already.
    Drained,
    /// At once.
    Cut,
}

/// Serves requests until the stream ends or must end.
pub async fn serve<IO, S, F>(core: &Arc<Core>, io: IO, whose: Whose<'_>, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let (mut must_end, mut drains) = (pin!(must_end(core, whose)), pin!(drains(core)));
    let mut drained = false;
    let mut beside = poll_fn(|cx| {
        if let Poll::Ready(what) = must_end.as_mut().poll(cx) {
            return Poll::Ready(what);
        }
        if drained || drains.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        drained = true;
        Poll::Ready(Beside::Drains)
    });
    let mut turn = Turn::Serves(io, Bytes::new());
    loop {
        turn = match turn {
            // On the heap what an idle stream does not need.
            Turn::Serves(io, early) => {
                Box::pin(requests(core, (io, early), whose, &service, &mut beside)).await
            }
            Turn::Rests(io) => rest(io, &mut beside).await,
            Turn::Ends(io, end) => return Box::pin(part(core, whose, io, end)).await,
            Turn::Upgraded => return,
        }
    }
}

/// hyper's part.
async fn requests<IO, S, F>(
    core: &Core,
    (io, early): (IO, Bytes),
    whose: Whose<'_>,
    service: &S,
    beside: impl Future<Output = Beside> + Unpin,
) -> Turn<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let limits = &core.gateway.limits;
    let between = Arc::new(Between::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let body = Upload::new(body, &head.headers, &between);
        let body = RequestBody::new(Arriving::Upload(body));
        // On the heap: hyper keeps room for one in each stream, idle or not.
        let answer = Box::pin(service(Request::from_parts(head, body)));
        let between = &between;
        async move {
            let answer = answer.await;
            between.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .title_case_headers(true)
        // One more than the limit, so that ours is the answer that says which limit it was.
        .max_headers(limits.head_fields_max + 1)
        .max_header_size(limits.head_bytes_max * 2)
        .serve_connection(TokioIo::new(Watched::new(io, early, between.clone())), service)
        .with_upgrades();
    served(connection, &between, whose.pulse, beside).await
}

/// Drives hyper until the stream ends or is idle, and takes it apart.
async fn served<IO, S>(
    mut connection: UpgradeableConnection<TokioIo<Watched<IO>>, S>,
    between: &Between,
    pulse: &Pulse,
    mut beside: impl Future<Output = Beside> + Unpin,
) -> Turn<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
{
    let mut rests = pin!(rests(pulse, between));
    let mut others = Rarely::new(poll_fn(|cx| match Pin::new(&mut beside).poll(cx) {
        Poll::Ready(what) => Poll::Ready(Some(what)),
        Poll::Pending => rests.as_mut().poll(cx).map(|()| None),
    }));
    let mut drained = false;
    let end = loop {
        let what = tokio::select! {
            biased;
            said = &mut connection => break Some(End::Said(said)),
            what = &mut others => what,
        };
        match what {
            None => break None,
            // An answer that is not read is cut: nobody may take it for whole.
            Some(Beside::Idle) if !between.holds() => break Some(End::Cut),
            Some(Beside::Idle) => break Some(End::Idle),
            Some(Beside::MustEnd) => break Some(End::Cut),
            Some(Beside::Drains) => {
                drained = !pulse.is_busy();
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Some(End::Cut) = &end {
        // Before what is under way is dropped, and asks.
        pulse.cut();
    }
    let parts = connection.into_parts();
    let parts = parts.map(|parts| (parts.io.into_inner().into_inner(), parts.read_buf));
    match (end, parts) {
        (None, Some((io, early))) if early.is_empty() => Turn::Rests(io),
        (None, Some((io, early))) => {
            // A part of the next head came with the last request, and is waited for from now on.
            pulse.read();
            Turn::Serves(io, early)
        }
        (Some(End::Said(Ok(()))), Some((io, _))) if drained => Turn::Ends(io, End::Drained),
        (Some(end), Some((io, _))) => Turn::Ends(io, end),
        (_, None) => Turn::Upgraded,
    }
}

/// Resolves when hyper has nothing to do for a while, and nothing in hand.
async fn rests(pulse: &Pulse, between: &Between) {
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        if pulse.is_idle_for(LOOKS_EVERY) && between.holds() {
            return;
        }
    }
}

/// An idle stream, until its agent sends something or there is another reason not to be.
async fn rest<IO>(mut io: IO, mut beside: impl Future<Output = Beside> + Unpin) -> Turn<IO>
where
    IO: AsyncRead + Unpin,
{
    let woken = poll_fn(|cx| {
        let mut bytes = [0; WAKES];
        let mut read = ReadBuf::new(&mut bytes);
        let result = ready!(Pin::new(&mut io).poll_read(cx, &mut read));
        Poll::Ready(result.map(|()| Bytes::copy_from_slice(read.filled())))
    });
    let end = tokio::select! {
        biased;
        woken = woken => match woken {
            Ok(early) if early.is_empty() => End::Idle,
            Ok(early) => return Turn::Serves(io, early),
            Err(_) => End::Cut,
        },
        what = &mut beside => match what {
            Beside::Idle => End::Idle,
            Beside::MustEnd => End::Cut,
            Beside::Drains => End::Drained,
        },
    };
    Turn::Ends(io, end)
}

async fn part<IO>(core: &Arc<Core>, whose: Whose<'_>, io: IO, end: End)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let gateway = &core.gateway;
    match end {
        End::Said(Ok(())) => lingering::forget(io, gateway).await,
        End::Said(Err(error)) if error.is_parse() => {
            let status = if error.is_parse_too_large() { 431 } else { 400 };
            unparsed(core, whose.session, status).await;
            lingering::forget(io, gateway).await;
        }
        // What broke stays visibly broken.
        End::Said(Err(_)) | End::Cut => {}
        End::Idle => lingering::leave(io, gateway).await,
        End::Drained => lingering::close(io, gateway).await,
    }
}

/// The stream that hyper has given away in an upgrade, and what it has read ahead of it.
pub fn reclaim<IO>(upgraded: Upgraded) -> Option<(IO, Bytes)>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let parts = upgraded.downcast::<TokioIo<Watched<IO>>>().ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}

async fn drains(core: &Core) {
    draining(&mut core.gateway.draining.clone()).await;
}

/// Resolves when the gateway drains; never when it is gone.
pub async fn draining(drain: &mut watch::Receiver<bool>) {
    if drain.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn must_end(core: &Core, whose: Whose<'_>) -> Beside {
    tokio::select! {
        why = whose.pulse.overdue(&core.gateway.limits) => match why {
            Overdue::Idle => Beside::Idle,
            Overdue::Head | Overdue::Body => Beside::MustEnd,
        },
        () = whose.standing.lost(&core.gateway) => Beside::MustEnd,
        () = core.gateway.cut() => Beside::MustEnd,
    }
}

/// Leaves a record for what hyper or h2 refused by itself: a head, with a bare 400, 414 or 431, or a
/// whole HTTP/2 stream.
pub async fn unparsed(core: &Arc<Core>, session: Option<&Session>, status: u16) {
    let Ok(mut record) = Record::begin(&core.gateway).await else { return };
    if let Some(Session { agent, entry, .. }) = session {
        record.asked_by(agent);
        record.at(entry.target());
    }
    match status {
        431 => record.refused(431, "headers_too_large"),
        _ => record.refused(400, "bad_request"),
    }
}
