//! HTTP/1.1: an exchange has its stream for itself.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::dial::{Fresh, Offer, dial};
use super::protocols::Known;
use super::{Interim, Way, copy, shared};
use crate::net::corporate;
use crate::proxy::Core;
use crate::proxy::arriving::Arriving;
use crate::proxy::body::RequestBody;
use crate::proxy::error::Refusal;
use crate::proxy::pool::{Lease, Stream};
use crate::proxy::stream::Io;

/// An upstream rarely closes a stream that it answered on so lately; older idle ones are kept a copy
/// of the request for.
const FRESH: Duration = Duration::from_secs(1);

const CUT: &str = "it ended before the head was whole";
const BROKEN: &str = "the stream broke";

/// Takes an idle stream while there is one that takes the request, else dials.
///
/// # Errors
/// When there is no stream, or no answer.
pub async fn send(
    core: &Arc<Core>,
    mut request: Box<Request<RequestBody>>,
    way: Way,
) -> Result<(Lease, Response<Arriving>), Refusal> {
    watch(&mut request, &way.interim);
    while let Some(mut stream) = core.pool.take(&way.key) {
        let current = stream.number() == core.gateway.outward.load().number;
        // Upgrades have a stream of their own there.
        let fits = current && !(way.upgrades && stream.forwarding().is_some());
        if !fits || !way.allows(stream.is_private()) {
            continue;
        }
        let spare = (way.repeatable && stream.rested() > FRESH).then(|| Box::new(copy(&request)));
        match (try_send(&mut stream, request).await, spare) {
            (Ok(response), _) => {
                core.gateway.metrics.reused.inc();
                return Ok((Lease::alone(stream, way.key, core.clone()), response));
            }
            // The upstream closed the stream before it took the request: RFC 9112 §9.3.1.
            (Err((Some(unsent), _)), _) => request = unsent,
            // It closed while the request was on its way, which is safe to send again.
            (Err((None, Refusal::Protocol { what: CUT | BROKEN, .. })), Some(spare)) => {
                request = spare;
            }
            (Err((None, error)), _) => return Err(error),
        }
    }
    // On the heap while it lasts: a tunnel keeps room for what its largest exchange may need.
    let fresh = match Box::pin(dial(core, &way, Offer::Http1)).await {
        Ok(fresh) => fresh,
        Err(Refusal::Tls(error)) if error.is_of_protocol() && !way.upgrades => {
            core.protocols.learn(&way.key.target, Known::OnlyHttp2);
            return Box::pin(shared::send(core, request, way)).await;
        }
        Err(error) => return Err(error),
    };
    let mut stream = Box::pin(begin(core, fresh)).await?;
    match try_send(&mut stream, request).await {
        Ok(response) => Ok((Lease::alone(stream, way.key, core.clone()), response)),
        Err((_, error)) => Err(error),
    }
}

/// Sends on one stream. The error holds the request when no byte of it was written.
async fn try_send(
    stream: &mut Stream,
    mut request: Box<Request<RequestBody>>,
) -> Result<Response<Arriving>, (Option<Box<Request<RequestBody>>>, Refusal)> {
    corporate::fit(&mut request, stream.forwarding());
    let sent = stream.sender().try_send_request(*request).await;
    let response = sent.map_err(|mut error| {
        let unsent = error.take_message().map(Box::new);
        (unsent, refusal(error.into_error()))
    })?;
    match stream.forwarding().and_then(|by| by.refused(response.status())) {
        Some(refused) => Err((None, refused.into())),
        None => Ok(response.map(Arriving::Http1)),
    }
}

/// Tells an upstream that hung up from one that spoke nonsense, and both from an agent that did.
fn refusal(error: hyper::Error) -> Refusal {
    let what = match () {
        () if error.is_user() && is_cut(&error) => return Refusal::AgentGone,
        () if error.is_parse() => "it is not HTTP/1.1",
        () if error.is_incomplete_message() => CUT,
        () if error.is_user() => return Refusal::BadRequest("the request's body is malformed"),
        () => BROKEN,
    };
    Refusal::Protocol { what, source: Some(error.into()) }
}

/// Whether the agent's stream ended, rather than that its chunks were none.
fn is_cut(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData);
        }
        cause = error.source();
    }
    true
}

/// hyper's client on a stream; its connection runs in a task of this core.
///
/// # Errors
/// When the stream breaks.
pub async fn begin(core: &Core, fresh: Fresh) -> Result<Box<Stream>, Refusal> {
    let Fresh { io, private, number, forwarded, .. } = fresh;
    let sender = handshake(core, io).await?;
    Ok(Box::new(Stream::new(sender, private, number).forwarded(forwarded)))
}

async fn handshake(
    core: &Core,
    io: Box<dyn Io>,
) -> Result<http1::SendRequest<RequestBody>, Refusal> {
    let limits = &core.gateway.limits;
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_headers(limits.head_fields_max)
        .max_header_size(limits.head_bytes_max)
        .handshake(TokioIo::new(io))
        .await
        .map_err(refusal)?;
    tokio::spawn(async move {
        // What ends the stream also ends the exchange that uses it, which reports it.
        if let Err(error) = connection.with_upgrades().await {
            tracing::trace!(%error, "upstream stream ended");
        }
    });
    Ok(sender)
}

fn watch(request: &mut Request<RequestBody>, interim: &Arc<Interim>) {
    let interim = interim.clone();
    hyper::ext::on_informational(request, move |answer| interim.saw(answer.status()));
}
