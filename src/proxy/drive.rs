//! hyper's HTTP/1.1 server on one stream, with everything that may end it: the limits, a drain, a
//! revoked token. Used for the proxy port and inside tunnels alike.

use std::convert::Infallible;
use std::pin::pin;

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
pub async fn serve<IO, S, F>(core: &std::sync::Arc<Core>, io: IO, whose: Whose<'_>, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let limits = &core.gateway.limits;
    let service = service_fn(|request: Request<Incoming>| {
        let answer = service(request.map(|body| RequestBody::new(Arriving::Http1(body))));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .title_case_headers(true)
        // One more than the limit, so that ours is the answer that says which limit it was.
        .max_headers(limits.head_fields_max + 1)
        .max_header_size(limits.head_bytes_max * 2)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut drain = core.gateway.draining.clone();
    let mut must_end = pin!(must_end(core, whose));
    let mut drained = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    if error.is_parse() {
                        let status = if error.is_parse_too_large() { 431 } else { 400 };
                        unparsed(core, whose.session, status).await;
                    }
                }
                return;
            }
            () = must_end.as_mut() => return whose.pulse.cut(),
            () = draining(&mut drain), if !drained => {
                connection.as_mut().graceful_shutdown();
                drained = true;
            }
        }
    }
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
pub async fn unparsed(core: &std::sync::Arc<Core>, session: Option<&Session>, status: u16) {
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
