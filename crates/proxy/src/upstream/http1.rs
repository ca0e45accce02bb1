//! Sends a request over HTTP/1.1. An exchange has a stream for itself.
//!
//! `http1.rs` and `http2.rs` import each other: each falls back to the other when the upstream does not speak its
//! protocol.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::http2;
use super::lease::StreamLease;
use super::plan::{SendPlan, TlsOffer, dial};
use super::retries::SpareRequest;
use crate::body::incoming_body::IncomingBody;
use crate::body::request_body::RequestBody;
use crate::gateway::Core;
use crate::pool::http1::{Http1Connection, Http1Stream};
use crate::pool::interim::Interim;
use crate::pool::{DialledStream, KnownProtocol};
use crate::refusal::Refusal;
use crate::sockets::streams::Io;
use keyward_net::corporate;

/// An upstream rarely closes a stream so soon after an answer. Only for streams that were idle longer, a copy of a
/// request is kept that is sent again only if no byte of it was written.
const FRESH: Duration = Duration::from_secs(1);

/// What hyper reads ahead of an answer's body, and what it keeps of a request until it is written; heads may need more. Its
/// default is 408 KiB, which is much for an agent that has many streams and does not read.
const BUFFER_MAX: usize = 64 * 1024;

/// Methods that have a meaning for content (RFC 9110 §9.3, RFC 5789).
const WITH_CONTENT: [Method; 3] = [Method::POST, Method::PUT, Method::PATCH];

const CUT: &str = "it ended before the head was whole";
const BROKEN: &str = "the stream broke";

/// Sends on an idle stream if one accepts the request, otherwise on a new one.
///
/// # Errors
/// When there is no stream or no answer.
pub async fn send(
    core: &Arc<Core>,
    mut request: Box<Request<RequestBody>>,
    plan: Box<SendPlan>,
) -> Result<(StreamLease, Response<IncomingBody>), Refusal> {
    watch(&mut request, &plan.interim);
    while let Some(mut stream) = core.pool.take(&plan.key) {
        let current = stream.tls_generation() == core.gateway.upstream_tls.load().generation;
        // An upgrade needs a tunnel of its own through a corporate proxy.
        let fits = current && !(plan.upgrades() && stream.forwarding().is_some());
        if !fits || !plan.allows(stream.is_private()) {
            continue;
        }
        let may_need = plan.repeatable || stream.idle_before_use() > FRESH;
        let spare = may_need.then(|| Box::new(SpareRequest::of(core, &mut request)));
        let (unsent, error) = match try_send(&mut stream, request).await {
            Ok(response) => {
                discard(spare);
                core.gateway.metrics.reused.inc();
                return Ok((StreamLease::alone(stream, plan.key, core.clone()), response));
            }
            Err(failed) => failed,
        };
        // The upstream ended the stream before hyper wrote any of the request (RFC 9112 §9.3.1).
        if let Some(unsent) = unsent {
            discard(spare);
            request = unsent;
            continue;
        }
        let spare = spare.filter(|_| may_go_again(&error, &stream, &plan));
        let Some(spare) = spare else { return Err(error) };
        // On the heap: few requests are sent again.
        request = Box::pin(spare.into_request()).await.ok_or(error)?;
        if stream.has_written() {
            // Once more, and not on another stream that the upstream may have ended too.
            break;
        }
    }
    // On the heap, so that the future of an idle tunnel stays small.
    let fresh = match Box::pin(dial(core, &plan, TlsOffer::Http1)).await {
        Ok(fresh) => fresh,
        Err(Refusal::Tls(error)) if error.is_of_protocol() && !plan.upgrades() => {
            core.protocols.learn(&plan.key.target, KnownProtocol::OnlyHttp2);
            return Box::pin(http2::send(core, request, plan)).await;
        }
        Err(error) => return Err(error),
    };
    let mut stream = Box::pin(begin(core, fresh)).await?;
    match try_send(&mut stream, request).await {
        Ok(response) => Ok((StreamLease::alone(stream, plan.key, core.clone()), response)),
        Err((_, error)) => Err(error),
    }
}

fn discard(spare: Option<Box<SpareRequest>>) {
    if let Some(spare) = spare {
        spare.discard();
    }
}

/// Whether a request that failed on a reused stream may be sent on another one: the stream broke, and the system
/// accepted no byte of the request or the request is idempotent (RFC 9110 §9.2.2).
fn may_go_again(error: &Refusal, stream: &Http1Stream, plan: &SendPlan) -> bool {
    let broke = matches!(error, Refusal::Protocol { what: CUT | BROKEN, .. });
    broke && (plan.repeatable || !stream.has_written())
}

/// Sends on one stream. The error contains the request if no byte of it was written.
async fn try_send(
    stream: &mut Http1Stream,
    mut request: Box<Request<RequestBody>>,
) -> Result<Response<IncomingBody>, (Option<Box<Request<RequestBody>>>, Refusal)> {
    if lacks_content(&request) {
        return Err((None, Refusal::Internal("a request has a length and no content")));
    }
    corporate::fit(&mut request, stream.forwarding());
    frame(&mut request);
    let sent = stream.sender().try_send_request(*request).await;
    let response = sent.map_err(|mut error| {
        let unsent = error.take_message().map(Box::new);
        (unsent, refusal(error.into_error()))
    })?;
    match stream.forwarding().and_then(|by| by.refused(response.status())) {
        Some(refused) => Err((None, refused.into())),
        None => Ok(response.map(IncomingBody::Http1)),
    }
}

/// Whether the head announces content that the body does not have. hyper would send the length alone, and the upstream
/// would take the next request on the stream for the content.
fn lacks_content(request: &Request<RequestBody>) -> bool {
    let is_zero = |length: &HeaderValue| length.as_bytes().iter().all(|digit| *digit == b'0');
    let lengths = request.headers().get_all(CONTENT_LENGTH);
    request.body().is_end_stream() && !lengths.iter().all(is_zero)
}

/// Names the framing of the body. Without it hyper sends none of a body of unknown length with a GET or HEAD, although a
/// request of any method may have content (RFC 9110 §9.3.1), and says nothing of an empty one, whose length servers ask for
/// where the method has a meaning for content (RFC 9110 §8.6). HTTP/2 has no need of it.
fn frame(request: &mut Request<RequestBody>) {
    if request.headers().contains_key(CONTENT_LENGTH) {
        return;
    }
    let (body, method) = (request.body(), request.method());
    let (name, value) = match body.is_end_stream() {
        true if WITH_CONTENT.contains(method) => (CONTENT_LENGTH, "0"),
        false if body.size_hint().exact().is_none() => (TRANSFER_ENCODING, "chunked"),
        _ => return,
    };
    request.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Distinguishes an upstream that closed its stream, one that sent invalid HTTP, and a failure of the agent.
fn refusal(error: hyper::Error) -> Refusal {
    let what = match () {
        () if error.is_user() && is_cut(&error) => return Refusal::AgentGone,
        () if error.is_parse_too_large() => {
            "its head exceeds `limits.head_fields_max` or `limits.head_bytes_max`"
        }
        () if error.is_parse() => "it is not HTTP/1.1",
        () if error.is_incomplete_message() => CUT,
        () if error.is_user() => return Refusal::BadRequest("the request's body is malformed"),
        () => BROKEN,
    };
    Refusal::Protocol { what, source: Some(error.into()) }
}

/// Whether the agent's stream ended, as opposed to invalid chunks.
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

/// Starts hyper's client on a stream; the connection runs in a task of this core.
///
/// # Errors
/// When the stream breaks.
pub async fn begin(core: &Core, fresh: DialledStream) -> Result<Box<Http1Stream>, Refusal> {
    let DialledStream { io, socket, private, tls_generation, forwarded, .. } = fresh;
    let (sender, connection) = handshake(core, io).await?;
    let stream = Http1Stream::new(sender, connection, socket, private, tls_generation);
    Ok(Box::new(stream.forwarded(forwarded)))
}

async fn handshake(
    core: &Core,
    io: Box<dyn Io>,
) -> Result<(http1::SendRequest<RequestBody>, Http1Connection), Refusal> {
    let limits = &core.gateway.limits;
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_headers(limits.head_fields_max)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max.max(BUFFER_MAX))
        // hyper puts blanks for a fold, as RFC 9112 §5.2 asks for.
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(refusal)?;
    Ok((sender, Http1Connection::spawn(connection.with_upgrades())))
}

fn watch(request: &mut Request<RequestBody>, interim: &Arc<Interim>) {
    let interim = interim.clone();
    hyper::ext::on_informational(request, move |answer| {
        interim.on_answer(answer.status(), answer.headers());
    });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_content_length_without_a_body_is_detected() {
        let own = || RequestBody::own(Bytes::from_static(b"body"));
        for (length, body, lacks) in [
            (Some("4"), RequestBody::empty(), true),
            (Some("00"), RequestBody::empty(), false),
            (None, RequestBody::empty(), false),
            (Some("4"), own(), false),
            (None, own(), false),
        ] {
            let mut request = Request::new(body);
            if let Some(length) = length {
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            assert_eq!(lacks_content(&request), lacks, "{length:?}");
        }
    }
}
