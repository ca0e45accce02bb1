//! Sending an [`Outbound`]: on a stream of this core that the upstream keeps open or on a new one, in
//! the protocol that the agent speaks where the upstream speaks it too, then the head of the answer.

mod alone;
mod dial;
mod interim;
pub mod protocols;
mod shared;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, header};

pub use self::interim::Interim;
use super::Core;
use super::answer::Sent;
use super::arriving::Arriving;
use super::body::RequestBody;
use super::error::Refusal;
use super::outbound::{Outbound, Plaintext};
use super::pool::{Key, Lease};
use super::retry::Tries;
use super::tunnel::silence;
use super::upgrade;
use crate::base::host::Scheme;

/// How a request goes out.
#[derive(Debug)]
struct Way {
    key: Key,
    plaintext: Plaintext,
    /// Whether it may be sent again although the upstream may have processed it.
    repeatable: bool,
    /// What is tried first.
    http2: bool,
    /// Whether it becomes a WebSocket, which needs HTTP/1.1.
    upgrades: bool,
    interim: Arc<Interim>,
    /// The attempts that this is one of, where there may be several.
    tries: Option<Arc<Tries>>,
}

/// Sends the request and waits for the head of the answer.
///
/// # Errors
/// When no checked, verified stream can be had, or the answer is none.
pub async fn send(core: &Arc<Core>, outbound: Outbound) -> Result<Sent, Refusal> {
    let Outbound { request, upgrade, needles, timeout, .. } = outbound;
    let Outbound { key, plaintext, repeatable, http2, tries, .. } = outbound;
    let (gate, uploaded) = (request.body().gate(), request.body().count());
    let interim = Interim::new(gate.clone(), core.gateway.limits.interim_answers_max);
    let upgrades = upgrade.is_some();
    let way = Way { key, plaintext, repeatable, http2, upgrades, interim: interim.clone(), tries };
    let limit = timeout.unwrap_or(core.gateway.limits.answer_timeout);
    // The time to the answer's head counts from the last byte of the upload.
    let uploads = [&*uploaded];
    let (mut lease, response) = tokio::select! {
        biased;
        () = interim.flooded() => return Err(protocol("it sends interim answers without end")),
        result = with_stream(core, request, way) => result?,
        () = silence(&uploads, limit) => return Err(Refusal::AnswerTimeout),
    };
    lease.gate = gate;
    lease.reusable = !binds_identity(&response);
    check_head(&response, upgrade.as_ref().map(|(agents, _)| agents))?;
    Ok(Sent::new(response, lease, upgrade, needles))
}

/// In the protocol that both sides speak: the agent's, unless the upstream has shown that it does not
/// speak that one.
async fn with_stream(
    core: &Arc<Core>,
    request: Box<Request<RequestBody>>,
    way: Way,
) -> Result<(Lease, Response<Arriving>), Refusal> {
    let target = &way.key.target;
    let known = core.protocols.of(target);
    match target.scheme() {
        Scheme::Https if !way.upgrades && known.http2(way.http2) => {
            // On the heap: agents that speak HTTP/1.1 do not keep room for it.
            Box::pin(shared::send(core, request, way)).await
        }
        _ => alone::send(core, request, way).await,
    }
}

/// What hyper and h2 leave to check: statuses are 100 to 599, 101 comes only for the
/// WebSocket that was asked for, and the coding is `chunked` alone.
fn check_head(
    response: &Response<Arriving>,
    upgrading: Option<&upgrade::Agents>,
) -> Result<(), Refusal> {
    match (response.status().as_u16(), upgrading) {
        (101, None) => Err(protocol("it switches protocols unasked")),
        (101, Some(agents)) => check_upgrade(response.headers(), agents),
        // Over HTTP/2, any of these says that the WebSocket is open (RFC 8441 §5).
        (200..=299, Some(upgrade::Agents::Http2(_))) => {
            Err(protocol("it answers a WebSocket handshake as any request"))
        }
        (600.., _) => Err(protocol("its status is none of HTTP")),
        _ => check_coding(response),
    }
}

fn check_upgrade(fields: &HeaderMap, agents: &upgrade::Agents) -> Result<(), Refusal> {
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    if !fields.get(header::UPGRADE).is_some_and(is_websocket) {
        return Err(protocol("it switches to another protocol than was asked for"));
    }
    match agents.may_be_agreed_by(fields) {
        true => Ok(()),
        false => Err(protocol("it agrees to another WebSocket handshake than was sent")),
    }
}

fn check_coding(response: &Response<Arriving>) -> Result<(), Refusal> {
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

/// A second copy of a request that has no body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

/// NTLM and Negotiate authenticate the stream, not the request (RFC 4559): never shared.
fn binds_identity(response: &Response<Arriving>) -> bool {
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    // Several challenges may stand in one field; a quoted word too many only costs a stream.
    let words =
        challenges.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split([' ', ',']));
    words
        .into_iter()
        .any(|word| word.eq_ignore_ascii_case("negotiate") || word.eq_ignore_ascii_case("ntlm"))
}

impl Way {
    /// Whether the request may go over cleartext to an address on the private list or not.
    fn allows(&self, private: bool) -> bool {
        self.plaintext.allows(self.key.target.scheme(), private)
    }
}
