//! One request on an agent's HTTP/2 stream: through the spine, then its answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream, StreamId};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;

use super::pump::{Stop, pump};
use super::websocket::{self, Bridge};
use super::without_outer_blanks;
use crate::proxy::arriving::{Arriving, Streamed};
use crate::proxy::body::{AnswerBody, BodyError, RequestBody};
use crate::proxy::gate::Passed;
use crate::proxy::session::Session;
use crate::proxy::{Core, exchange};

/// Fields that HTTP/2 does not have (RFC 9113 §8.2.2).
static OF_HTTP1: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A stream with its exchange under way, as the connection's owner sees it.
#[derive(Debug)]
pub struct Live {
    session: Arc<Session>,
    /// Nothing moved when it was looked at last.
    quiet: AtomicBool,
    /// It has become a WebSocket, which ends by itself, with a close frame.
    joined: AtomicBool,
    waker: AtomicWaker,
}

impl Live {
    /// Of a session of its own.
    pub fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            quiet: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether it has become a WebSocket: what it rests on, and whether it is idle, is its own to see.
    pub fn is_joined(&self) -> bool {
        self.joined.load(Relaxed)
    }

    /// Ends it, whatever it is about.
    pub fn cut(&self) {
        self.session.pulse.cut();
        self.waker.wake();
    }

    /// Whether nothing has moved since this was asked the time before last.
    pub fn is_overdue(&self) -> bool {
        let quiet = !self.session.pulse.has_moved();
        self.quiet.swap(quiet, Relaxed) && quiet
    }

    async fn was_cut(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.session.pulse.was_cut() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Runs the exchange until its answer has gone out, the agent resets the stream, or it is cut. What
/// is dropped on the way resets the streams of both legs.
pub async fn serve(
    core: Arc<Core>,
    live: Arc<Live>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> StreamId {
    let id = respond.stream_id();
    tokio::select! {
        biased;
        () = live.was_cut() => {}
        () = answer(&core, &live, request, respond) => {}
    }
    id
}

async fn answer(
    core: &Arc<Core>,
    live: &Live,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let session = &live.session;
    let bodyless = request.method() == Method::HEAD;
    let Some(Dressed { request, passed, bridge }) = Dressed::of(request, session) else { return };
    let Some(response) = through(core, session, request, (&mut respond, passed)).await else {
        return;
    };
    let (mut head, mut body) = response.into_parts();
    // An answer to another handshake, or to none, has been refused.
    let joins = bridge.filter(|_| head.status == StatusCode::SWITCHING_PROTOCOLS);
    if joins.is_some() {
        websocket::agreed(&mut head);
    }
    without_fields_of_http1(&mut head.headers);
    let ended = joins.is_none() && (bodyless || body.is_end_stream());
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), ended) else {
        return;
    };
    match joins {
        // Whoever joins the streams ends this one.
        Some(bridge) => {
            live.joined.store(true, Relaxed);
            // The sender is dropped with the streams.
            let _ = bridge.join(stream).await;
        }
        None if ended => {}
        None => send(&mut body, &mut stream).await,
    }
}

/// The spine; `None` when the agent does not wait for it.
async fn through(
    core: &Arc<Core>,
    session: &Arc<Session>,
    request: Request<RequestBody>,
    (respond, passed): (&mut SendResponse<Bytes>, Option<Arc<Passed>>),
) -> Option<Response<AnswerBody>> {
    let mut exchange = pin!(exchange::answer(core, session, request));
    poll_fn(|cx| {
        // First: where the agent has reset the stream, the exchange fails for that and nothing else.
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(response) = exchange.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        if let Some(passed) = &passed
            && passed.poll(cx).is_ready()
            && respond.send_informational(interim()).is_err()
        {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

async fn send(body: &mut AnswerBody, stream: &mut SendStream<Bytes>) {
    match pump(body, stream).await {
        Ok(()) | Err(Stop::Peer) => {}
        Err(Stop::Body(error)) => stream.send_reset(reason(&error)),
    }
}

/// How an answer that breaks is told to the agent. The upstream's own code is passed on where it says
/// the same of this leg.
fn reason(error: &BodyError) -> Reason {
    let told = match error {
        BodyError::Cut(cut) => cut.reason(),
        _ => None,
    };
    match told {
        Some(reason @ (Reason::CANCEL | Reason::ENHANCE_YOUR_CALM)) => reason,
        _ => Reason::INTERNAL_ERROR,
    }
}

/// A request as the spine takes it.
struct Dressed {
    request: Request<RequestBody>,
    /// With `Expect`: tells that its body is wanted.
    passed: Option<Arc<Passed>>,
    /// Of the handshake of a WebSocket.
    bridge: Option<Bridge>,
}

impl Dressed {
    fn of(mut request: Request<RecvStream>, session: &Session) -> Option<Self> {
        without_outer_blanks(request.headers_mut());
        one_cookie(request.headers_mut());
        if websocket::is_handshake(&request) {
            let (request, joins, bridge) = websocket::bridge(request)?;
            let request = request.map(|()| RequestBody::handshake(joins));
            return Some(Self { request, passed: None, bridge: Some(bridge) });
        }
        let (head, stream) = request.into_parts();
        let pulse = Some(session.pulse.clone());
        let arriving = match stream.is_end_stream() {
            true => Arriving::Empty,
            false => Arriving::Http2(Streamed::new(stream, &head.headers, pulse)),
        };
        let mut body = RequestBody::new(arriving);
        let passed = head.headers.contains_key(header::EXPECT).then(|| body.tells());
        Some(Self { request: Request::from_parts(head, body), passed, bridge: None })
    }
}

/// HTTP/2 lets a client send each pair in a field of its own; elsewhere they are one
/// (RFC 9113 §8.2.3).
fn one_cookie(fields: &mut HeaderMap) {
    let mut crumbs = fields.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> =
        fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(header::COOKIE, whole);
    }
}

/// Removes what is said of a stream and not of the message.
pub fn without_fields_of_http1(fields: &mut HeaderMap) {
    for name in &OF_HTTP1 {
        fields.remove(name);
    }
}

fn interim() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_cookie_and_one_cookie_stays() {
        for (crumbs, whole) in [
            (&["a=1"][..], "a=1"),
            (&["a=1", "b=2"], "a=1; b=2"),
            (&["a=1", "b=2; c=3", "d=4"], "a=1; b=2; c=3; d=4"),
        ] {
            let mut fields = HeaderMap::new();
            for crumb in crumbs {
                fields.append(header::COOKIE, HeaderValue::from_static(crumb));
            }
            one_cookie(&mut fields);
            let found: Vec<_> = fields.get_all(header::COOKIE).iter().collect();
            assert_eq!(found, [whole]);
        }
    }
}
