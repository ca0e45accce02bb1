//! Serves one request of an agent's HTTP/2 stream: runs the exchange, sends the answer, and discards what is left
//! of the request's body.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream, StreamId};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request, response};
use http_body::{Body, Frame};

use crate::body::expect_continue::BodyDemand;
use crate::body::http2_body::{CountedBody, DiscardAllowance, Http2Body, Http2Upload, UnreadBody};
use crate::body::incoming_body::IncomingBody;
use crate::body::request_body::RequestBody;
use crate::body::{BodyError, ReceiveError};
use crate::exchange;
use crate::exchange::answer_body::AnswerBody;
use crate::gateway::Core;
use crate::h2::send_body::{SendStop, send_body};
use crate::h2::websocket::{self, WebSocketHandshake};
use crate::h2::{BytesGuard, without_fields_of_http1, without_outer_blanks};
use crate::session::ProxySession;
use crate::sockets::watchdog::InterimAnswers;

/// A running exchange, as the connection's task sees it.
#[derive(Debug)]
pub struct ActiveStream {
    session: Arc<ProxySession>,
    /// At how many checks in a row no byte had moved.
    quiet: AtomicU32,
    /// It has become a WebSocket, which ends by itself with a close frame.
    joined: AtomicBool,
    /// The allowance of its connection for discarding unread bodies.
    allowance: Arc<DiscardAllowance>,
    waker: AtomicWaker,
}

/// A stream whose exchange has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub id: StreamId,
    /// The agent ended the stream after it was answered.
    pub after_answer: bool,
}

impl ActiveStream {
    /// A running exchange with a session of its own.
    pub fn new(session: Arc<ProxySession>, allowance: Arc<DiscardAllowance>) -> Self {
        Self {
            session,
            quiet: AtomicU32::new(0),
            joined: AtomicBool::new(false),
            allowance,
            waker: AtomicWaker::new(),
        }
    }

    pub fn session(&self) -> &ProxySession {
        &self.session
    }

    /// Whether it has become a WebSocket. Then it checks revocation and idleness itself.
    pub fn is_joined(&self) -> bool {
        self.joined.load(Relaxed)
    }

    /// Ends the exchange at once.
    pub fn cut(&self) {
        self.session.watchdog.cut();
        self.waker.wake();
    }

    /// Whether it may be silent for longer than `body_idle`.
    pub fn may_be_silent(&self, body_idle: Duration) -> bool {
        self.is_joined() || self.session.watchdog.silence_max(body_idle) > body_idle
    }

    /// Whether no byte has moved for as long as it may be silent. To be checked after each half of `body_idle`.
    pub fn is_overdue(&self, body_idle: Duration) -> bool {
        let watchdog = &self.session.watchdog;
        if watchdog.has_moved() {
            self.quiet.store(0, Relaxed);
            return false;
        }
        let quiet = self.quiet.fetch_add(1, Relaxed).saturating_add(1);
        (body_idle / 2).saturating_mul(quiet) >= watchdog.silence_max(body_idle)
    }

    async fn was_cut(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.session.watchdog.was_cut() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Resolves when a person has cut the exchange. A WebSocket waits for that itself, and is not waited for here.
    async fn was_cut_by_person(&self) {
        let mut cut = pin!(self.session.revocation().current().cut_by_person());
        poll_fn(|cx| if self.is_joined() { Poll::Pending } else { cut.as_mut().poll(cx) }).await;
        self.session.watchdog.cut();
    }
}

/// Runs the exchange until its answer was sent and its body was read or discarded, the agent resets the stream, or
/// it is cut. Dropping it resets the streams of both legs.
///
/// Each request allocates this future and is moved into it. So it is a block and no `async fn`, whose future would have
/// room for each argument twice, and what it is made of is pinned where it is: `select!` would move it.
pub fn serve(
    core: Arc<Core>,
    live: Arc<ActiveStream>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = Ended> {
    let id = respond.stream_id();
    let prepared = PreparedRequest::of(request, &live.session).map(Box::new);
    async move {
        let mut served = pin!(async {
            match answer(&core, &live, prepared, respond).await {
                None => false,
                Some(unread) => unread.discard(&core.gateway.limits, &live.allowance).await,
            }
        });
        let after_answer = tokio::select! {
            biased;
            () = live.was_cut() => false,
            () = live.was_cut_by_person() => false,
            after_answer = served.as_mut() => after_answer,
        };
        Ended { id, after_answer }
    }
}

/// Sends the answer. Returns the rest of the request's body if the whole answer was sent.
async fn answer(
    core: &Arc<Core>,
    live: &ActiveStream,
    prepared: Option<Box<PreparedRequest>>,
    mut respond: SendResponse<Bytes>,
) -> Option<UnreadBody> {
    let (session, prepared) = (&live.session, prepared?);
    let bodyless = prepared.request.method() == Method::HEAD;
    // What is only moved, and never borrowed, takes no room in the future.
    let PreparedRequest { request, demand, bridge, unread } = *prepared;
    let response = {
        let exchange = pin!(exchange::answer(core.clone(), session.clone(), request));
        through(exchange, &mut respond, demand, &session.watchdog.interim).await?
    };
    let (head, mut body) = response.into_parts();
    let AnsweredHandshake { head, joins, unread } = AnsweredHandshake::of(head, bridge, unread);
    let ended = joins.is_none() && (bodyless || body.is_end_stream());
    let mut stream = respond.send_response(Response::from_parts(head, ()), ended).ok()?;
    if let Some(bridge) = joins {
        live.joined.store(true, Relaxed);
        // Joining the streams ends this one: the sender is dropped with them.
        let counted = session.own_descriptor().map(|descriptor| descriptor.clone() as BytesGuard);
        let _ = bridge.join(stream, counted).await;
        return None;
    }
    let mut body = CountedBody::new(&mut body, session.own_descriptor());
    let whole = ended || send(&mut body, &mut stream).await;
    whole.then_some(unread)
}

/// The head of an answer for the agent, and the WebSocket that it accepts.
struct AnsweredHandshake {
    head: response::Parts,
    joins: Option<Box<WebSocketHandshake>>,
    unread: UnreadBody,
}

impl AnsweredHandshake {
    fn of(
        mut head: response::Parts,
        bridge: Option<Box<WebSocketHandshake>>,
        unread: UnreadBody,
    ) -> Self {
        let (joins, unread) = match bridge {
            None => (None, unread),
            Some(bridge) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                bridge.agree(&mut head);
                (Some(bridge), unread)
            }
            // An answer to another handshake, or to none, has been refused.
            Some(bridge) => (None, UnreadBody::handshake(bridge.into_frames())),
        };
        without_fields_of_http1(&mut head.headers);
        Self { head, joins, unread }
    }
}

/// Runs the exchange; `None` when the agent has reset the stream.
async fn through(
    mut exchange: Pin<&mut impl Future<Output = Response<AnswerBody>>>,
    respond: &mut SendResponse<Bytes>,
    demand: Option<Arc<BodyDemand>>,
    interim: &InterimAnswers,
) -> Option<Response<AnswerBody>> {
    poll_fn(|cx| {
        // First: where the agent has reset the stream, the exchange fails for that and nothing else.
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        let answered = exchange.as_mut().poll(cx);
        let demand = demand.as_ref().filter(|_| answered.is_pending());
        if demand.is_some_and(|demand| demand.poll(cx).is_ready()) {
            interim.add(want_body());
        }
        if interim.is_pending() {
            for answer in interim.take() {
                if respond.send_informational(answer).is_err() {
                    return Poll::Ready(None);
                }
            }
            interim.were_sent();
        }
        answered.map(Some)
    })
    .await
}

/// Sends a body. Returns whether all of it was sent.
async fn send(body: &mut CountedBody<'_, AnswerBody>, stream: &mut SendStream<Bytes>) -> bool {
    match send_body(body, stream).await {
        Ok(()) => return true,
        Err(SendStop::Peer) => {}
        Err(SendStop::Body(error)) => stream.send_reset(reason(&error)),
    }
    false
}

/// The reset code for an answer that breaks. The upstream's code is passed on if it means the same on this leg.
fn reason(error: &BodyError) -> Reason {
    let told = match error {
        BodyError::Receive(cut) => cut.reason(),
        _ => None,
    };
    match told {
        Some(reason @ (Reason::CANCEL | Reason::ENHANCE_YOUR_CALM)) => reason,
        _ => Reason::INTERNAL_ERROR,
    }
}

/// A request, prepared for the exchange.
struct PreparedRequest {
    request: Request<RequestBody>,
    /// With `Expect`: signals that the body is wanted.
    demand: Option<Arc<BodyDemand>>,
    /// The WebSocket handshake, if it is one.
    bridge: Option<Box<WebSocketHandshake>>,
    /// The possible rest of the body.
    unread: UnreadBody,
}

impl PreparedRequest {
    fn of(mut request: Request<RecvStream>, session: &ProxySession) -> Option<Self> {
        without_outer_blanks(request.headers_mut());
        one_cookie(request.headers_mut());
        if websocket::is_handshake(&request) {
            let (request, joins, bridge) = websocket::bridge(request)?;
            let request = request.map(|()| RequestBody::handshake(joins));
            let (bridge, unread) = (Some(Box::new(bridge)), UnreadBody::Nothing);
            return Some(Self { request, demand: None, bridge, unread });
        }
        let (head, stream) = request.into_parts();
        let (arriving, unread) = match stream.is_end_stream() {
            true => (IncomingBody::Empty, UnreadBody::Nothing),
            false => {
                let body = Http2Body::new(stream, &head.headers, Some(session.watchdog.clone()));
                arriving_body(body, &head)
            }
        };
        let mut body = RequestBody::new(arriving);
        let demand = head.headers.contains_key(header::EXPECT).then(|| body.demand());
        Some(Self { request: Request::from_parts(head, body), demand, bridge: None, unread })
    }
}

/// The body of a request, and its possible rest. A body that has ended without a byte is none: some clients end a GET or an
/// empty POST by an empty DATA frame.
fn arriving_body(mut body: Http2Body, head: &request::Parts) -> (IncomingBody, UnreadBody) {
    let mut read: VecDeque<Result<Frame<Bytes>, ReceiveError>> = VecDeque::new();
    if is_unannounced(head) {
        // The next poll of the body registers a waker.
        read.extend(poll_fn(|cx| body.poll_frame(cx)).now_or_never().flatten());
        let is_empty = |frame: &Result<Frame<Bytes>, ReceiveError>| {
            let data = frame.as_ref().ok().and_then(Frame::data_ref);
            data.is_some_and(Bytes::is_empty)
        };
        if body.is_end_stream() && read.iter().all(is_empty) {
            return (IncomingBody::Empty, UnreadBody::Nothing);
        }
    }
    let (upload, unread) = Http2Upload::new(body, &head.headers);
    (IncomingBody::Http2Upload(upload).after(read), unread)
}

/// Whether no field announces the body.
fn is_unannounced(head: &request::Parts) -> bool {
    let is_announced = |name| head.headers.contains_key(name);
    !is_announced(header::CONTENT_LENGTH) && !is_announced(header::EXPECT)
}

/// Joins cookie fields. HTTP/2 allows one field for each pair; elsewhere there is one field (RFC 9113 §8.2.3).
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

fn want_body() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future_size::bytes_of;

    #[test]
    fn several_cookie_fields_are_joined_into_one_and_a_single_one_stays() {
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

    /// Each request allocates this much memory and is moved there.
    #[test]
    #[allow(unreachable_code)]
    fn the_future_of_a_request_fits_into_its_allocator_size_class() {
        let serve = || serve(unreachable!(), unreachable!(), unreachable!(), unreachable!());
        let bytes = bytes_of(serve);
        // A size class of jemalloc; the next is 3,072.
        assert!(bytes <= 2_560, "{bytes} bytes");
    }
}
