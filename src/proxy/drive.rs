//! hyper's HTTP/1.1 server on one stream, with everything that may end it: the limits, a drain, a
//! revoked token. Used for the proxy port and inside tunnels alike.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Core;
use super::arriving::Arriving;
use super::body::{AnswerBody, RequestBody};
use super::lingering::{self, Upload};
use super::rarely::Rarely;
use super::record::Record;
use super::session::Session;

/// Whose stream it is, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The stream's pulse.
    pub pulse: &'a super::pulse::Pulse,
    /// What it rests on.
    pub standing: &'a super::standing::Standing,
    /// The session of a tunnel.
    pub session: Option<&'a Session>,
}

/// Serves requests until the stream ends or must end.
pub async fn serve<IO, S, F>(core: &Arc<Core>, io: IO, whose: Whose<'_>, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let limits = &core.gateway.limits;
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let body = RequestBody::new(Arriving::Upload(Upload::new(body, &head.headers)));
        // On the heap: hyper keeps room for one in each stream, idle or not.
        let answer = Box::pin(service(Request::from_parts(head, body)));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = http1::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .title_case_headers(true)
        // One more than the limit, so that ours is the answer that says which limit it was.
        .max_headers(limits.head_fields_max + 1)
        .max_header_size(limits.head_bytes_max * 2)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let (mut must_end, mut drains) = (pin!(must_end(core, whose)), pin!(drains(core)));
    let mut drained = false;
    let mut beside = Rarely::new(poll_fn(|cx| {
        if must_end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Beside::MustEnd);
        }
        if drained || drains.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        drained = true;
        Poll::Ready(Beside::Drains)
    }));
    let mut said_all = false;
    let ended = loop {
        let what = tokio::select! {
            biased;
            ended = &mut connection => break ended,
            what = &mut beside => what,
        };
        match what {
            Beside::MustEnd => return whose.pulse.cut(),
            Beside::Drains => {
                said_all = !whose.pulse.is_busy();
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    // There is no stream after an upgrade, and nothing on its way where a drain found it idle.
    if let Some(parts) = connection.into_parts()
        && !(said_all && ended.is_ok())
    {
        Box::pin(part(core, whose, parts.io.into_inner(), ended)).await;
    }
}

/// What happens beside the requests of a stream.
enum Beside {
    MustEnd,
    Drains,
}

/// After hyper has said its last, or broke the stream off.
async fn part<IO>(core: &Arc<Core>, whose: Whose<'_>, io: IO, ended: hyper::Result<()>)
where
    IO: AsyncRead + Unpin,
{
    match ended {
        Ok(()) => {}
        Err(error) if error.is_parse() => {
            let status = if error.is_parse_too_large() { 431 } else { 400 };
            unparsed(core, whose.session, status).await;
        }
        // What broke stays visibly broken.
        Err(_) => return,
    }
    lingering::forget(io, &core.gateway).await;
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

async fn must_end(core: &Core, whose: Whose<'_>) {
    tokio::select! {
        _ = whose.pulse.overdue(&core.gateway.limits) => {}
        () = whose.standing.lost(&core.gateway) => {}
        () = core.gateway.cut() => {}
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
