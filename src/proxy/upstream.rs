//! Sending an [`Outbound`]: an idle stream of this core or a new one, then the head of the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::Core;
use super::answer::Sent;
use super::body::{Gate, RequestBody};
use super::error::Refusal;
use super::outbound::{Outbound, Plaintext};
use super::pool::{Key, Lease, Stream};
use super::stream::Upstream;
use super::tunnel::silence;
use crate::base::host::{Scheme, Target};
use crate::net::dial::Dialled;
use crate::net::{client, corporate};

/// An upstream rarely closes a stream that it answered on so lately; older idle ones are kept a copy
/// of the request for.
const FRESH: Duration = Duration::from_secs(1);

const CUT: &str = "it ended before the head was whole";
const BROKEN: &str = "the stream broke";

/// Sends the request and waits for the head of the answer.
///
/// # Errors
/// When no checked, verified stream can be had, or the answer is none.
pub async fn send(core: &Arc<Core>, outbound: Outbound) -> Result<Sent, Refusal> {
    let Outbound { mut request, key, plaintext, upgrade, repeatable, needles } = outbound;
    let (gate, uploaded) = (request.body().gate(), request.body().count());
    let flood = watch_interim(core, &mut request, gate.clone());
    let limit = core.gateway.limits.answer_timeout;
    // The time to the answer's head counts from the last byte of the upload.
    let uploads = [&*uploaded];
    let (mut lease, response) = tokio::select! {
        biased;
        () = flood.notified() => return Err(protocol("it sends interim answers without end")),
        result = with_stream(core, request, (&key, plaintext, repeatable)) => result?,
        () = silence(&uploads, limit) => return Err(Refusal::AnswerTimeout),
    };
    lease.gate = gate;
    lease.reusable = !binds_identity(&response);
    check_head(&response, upgrade.is_some())?;
    let forwarding = lease.stream().forwarding();
    if let Some(refused) = forwarding.and_then(|by| by.refused(response.status())) {
        return Err(refused.into());
    }
    Ok(Sent::new(response, lease, upgrade, needles))
}

/// What hyper leaves to check: statuses are 100 to 599, 101 comes only for the
/// WebSocket that was asked for, and the coding is `chunked` alone.
fn check_head(response: &Response<Incoming>, upgrading: bool) -> Result<(), Refusal> {
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    match response.status().as_u16() {
        101 if !upgrading => Err(protocol("it switches protocols unasked")),
        101 if !response.headers().get(header::UPGRADE).is_some_and(is_websocket) => {
            Err(protocol("it switches to another protocol than was asked for"))
        }
        600.. => Err(protocol("its status is none of HTTP")),
        _ => check_coding(response),
    }
}

fn check_coding(response: &Response<Incoming>) -> Result<(), Refusal> {
    let mut codings = response.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(protocol("its transfer coding is not `chunked`")),
    }
}

fn protocol(what: &'static str) -> Refusal {
    Refusal::Protocol { what, source: None }
}

/// Takes an idle stream while there is one that takes the request, else dials.
async fn with_stream(
    core: &Arc<Core>,
    mut request: Request<RequestBody>,
    (key, plaintext, repeatable): (&Key, Plaintext, bool),
) -> Result<(Lease, Response<Incoming>), Refusal> {
    // A proxy that forwards requests one by one does not switch protocols.
    let upgrading = request.headers().contains_key(header::UPGRADE);
    while let Some(mut stream) = core.pool.take(key) {
        let current = stream.number() == core.gateway.outward.load().number;
        let fits = current && !(upgrading && stream.forwarding().is_some());
        if !fits || !plaintext.allows(key.target.scheme(), stream.is_private()) {
            continue;
        }
        let spare = (repeatable && stream.idle_for() > FRESH).then(|| copy(&request));
        match (try_send(&mut stream, request).await, spare) {
            (Ok(response), _) => {
                core.gateway.metrics.reused.inc();
                return Ok((Lease::new(stream, key.clone(), core.clone()), response));
            }
            // The upstream closed the stream before it took the request: RFC 9112 §9.3.1.
            (Err((Some(unsent), _)), _) => request = *unsent,
            // It closed while the request was on its way, which is safe to send again.
            (Err((None, Refusal::Protocol { what: CUT | BROKEN, .. })), Some(spare)) => {
                request = spare;
            }
            (Err((None, error)), _) => return Err(error),
        }
    }
    let mut stream = dial(core, (&key.target, upgrading), plaintext).await?;
    match try_send(&mut stream, request).await {
        Ok(response) => Ok((Lease::new(stream, key.clone(), core.clone()), response)),
        Err((_, error)) => Err(error),
    }
}

/// A second copy of a request that has no body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

/// Sends on one stream. The error holds the request when no byte of it was written.
async fn try_send(
    stream: &mut Stream,
    mut request: Request<RequestBody>,
) -> Result<Response<Incoming>, (Option<Box<Request<RequestBody>>>, Refusal)> {
    corporate::fit(&mut request, stream.forwarding());
    stream.sender().try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message().map(Box::new);
        (unsent, refusal(error.into_error()))
    })
}

/// Tells an upstream that hung up from one that spoke nonsense.
fn refusal(error: hyper::Error) -> Refusal {
    let what = match () {
        () if error.is_parse() => "it is not HTTP/1.1",
        () if error.is_incomplete_message() => CUT,
        () if error.is_user() => "the request's body ended early",
        () => BROKEN,
    };
    Refusal::Protocol { what, source: Some(error) }
}

/// A new stream: checked address, verified TLS, hyper's handshake.
async fn dial(
    core: &Arc<Core>,
    (target, upgrading): (&Target, bool),
    plaintext: Plaintext,
) -> Result<Stream, Refusal> {
    let gateway = &core.gateway;
    let limit = gateway.limits.connect_timeout;
    let outward = gateway.outward.load_full();
    let dialled = match upgrading {
        true => gateway.dialler.dial(target, limit).await?,
        false => gateway.dialler.dial_for_requests(target, limit).await?,
    };
    gateway.metrics.dialled.inc();
    let Dialled { stream, private, forwarded } = dialled;
    if !plaintext.allows(target.scheme(), private) {
        return Err(Refusal::Plaintext);
    }
    let socket = Upstream::new(stream);
    let sender = match target.scheme() {
        Scheme::Http => handshake(core, socket).await?,
        Scheme::Https => {
            let tls = client::connect_tls(socket, target, outward.tls.clone(), limit).await?;
            handshake(core, tls).await?
        }
    };
    Ok(Stream::new(sender, private, outward.number).forwarded(forwarded))
}

/// hyper's client on the stream; its connection runs in a task of this core.
async fn handshake<IO>(core: &Core, io: IO) -> Result<http1::SendRequest<RequestBody>, Refusal>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
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

/// Opens the gate at `100 Continue` and counts interim answers. 103 and others are
/// not passed on: hyper cannot write them to an HTTP/1.1 agent.
fn watch_interim(
    core: &Core,
    request: &mut Request<RequestBody>,
    gate: Option<Arc<Gate>>,
) -> Arc<Notify> {
    let flood = Arc::new(Notify::new());
    let (flooded, max) = (flood.clone(), core.gateway.limits.interim_answers_max);
    let count = AtomicUsize::new(0);
    hyper::ext::on_informational(request, move |answer| {
        if count.fetch_add(1, Relaxed) == max {
            flooded.notify_one();
        }
        if answer.status() == StatusCode::CONTINUE
            && let Some(gate) = &gate
        {
            gate.open();
        }
    });
    flood
}

/// NTLM and Negotiate authenticate the stream, not the request (RFC 4559): never shared.
fn binds_identity(response: &Response<Incoming>) -> bool {
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    // Several challenges may stand in one field; a quoted word too many only costs a stream.
    let words =
        challenges.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split([' ', ',']));
    words
        .into_iter()
        .any(|word| word.eq_ignore_ascii_case("negotiate") || word.eq_ignore_ascii_case("ntlm"))
}
