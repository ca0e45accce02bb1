//! Sends requests to upstreams: [`outbound::Outbound`] is what may be sent, [`sent::SentRequest`] is the answer. A request uses
//! a kept stream of this core or a new one, in the agent's protocol where the upstream speaks that too.

pub mod lease;
pub mod outbound;
pub mod retries;
pub mod sent;

mod body_injection;
mod head;
mod http1;
mod http2;
mod plan;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, Response, header};

use self::lease::StreamLease;
use self::plan::{AskedProtocol, SendPlan};
use crate::body::ReceiveError;
use crate::body::incoming_body::IncomingBody;
use crate::body::request_body::RequestBody;
use crate::gateway::Core;
use crate::refusal::Refusal;
use crate::request::agent_upgrade::PendingStream;
use keyward_base::host::Scheme;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The maximum time by which a stream is given up before the upstream closes it.
const ENDS_BEFORE: Duration = Duration::from_secs(1);

/// Sends in the agent's protocol, unless the upstream is known not to speak it.
async fn with_stream(
    core: &Arc<Core>,
    request: Box<Request<RequestBody>>,
    plan: Box<SendPlan>,
) -> Result<(StreamLease, Response<IncomingBody>), Refusal> {
    let target = &plan.key.target;
    let known = core.protocols.of(target);
    match target.scheme() {
        Scheme::Https if !plan.upgrades() && known.http2(plan.protocol == AskedProtocol::Http2) => {
            // On the heap: agents that speak HTTP/1.1 do not keep room for it.
            Box::pin(http2::send(core, request, plan)).await
        }
        _ => http1::send(core, request, plan).await,
    }
}

/// Checks what hyper and h2 do not: statuses are 100 to 599, 101 answers a request for an upgrade only, and the only
/// coding is `chunked`.
fn check_head(
    response: &Response<IncomingBody>,
    upgrading: Option<&PendingStream>,
) -> Result<(), Refusal> {
    match (response.status().as_u16(), upgrading) {
        (101, None) => Err(protocol("it switches protocols, which was not requested")),
        (101, Some(agents)) => check_upgrade(response.headers(), agents),
        // Over HTTP/2, any of these says that the WebSocket is open (RFC 8441 §5).
        (200..=299, Some(PendingStream::Http2(_))) => {
            Err(protocol("it answers a WebSocket handshake like an ordinary request"))
        }
        (600.., _) => Err(protocol("its status is not an HTTP status")),
        _ => check_coding(response),
    }
}

fn check_upgrade(fields: &HeaderMap, agents: &PendingStream) -> Result<(), Refusal> {
    if !fields.get(header::UPGRADE).is_some_and(|protocol| agents.asks_for(protocol)) {
        return Err(protocol("it switches to another protocol than was requested"));
    }
    match agents.is_agreed_by(fields) {
        true => Ok(()),
        false => Err(protocol("it accepts another WebSocket handshake than was sent")),
    }
}

fn check_coding(response: &Response<IncomingBody>) -> Result<(), Refusal> {
    let mut codings = response.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(protocol("its transfer coding is not `chunked`")),
    }
}

/// The refusal of an answer that breaks the protocol; `what` follows "malformed" in its message.
pub fn protocol(what: &'static str) -> Refusal {
    Refusal::Protocol { what, source: None }
}

/// The refusal of an answer whose stream ended within its body.
pub fn ended_early(cut: ReceiveError) -> Refusal {
    Refusal::Protocol { what: "it ended before its body did", source: Some(cut) }
}

/// NTLM and Negotiate authenticate the stream, not the request (RFC 4559): never shared.
fn binds_identity(response: &Response<IncomingBody>) -> bool {
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    // Several challenges may stand in one field; a quoted word too many only costs a stream.
    let words =
        challenges.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split([' ', ',']));
    words
        .into_iter()
        .any(|word| word.eq_ignore_ascii_case("negotiate") || word.eq_ignore_ascii_case("ntlm"))
}

/// How long an idle HTTP/1.1 stream may be reused according to the upstream: `Keep-Alive: timeout=5` (RFC 2068
/// §19.7.1.1; Node sends it). Up to a second less, so that a request does not cross the upstream's close.
fn keep_alive(fields: &HeaderMap) -> Option<Duration> {
    let value = fields.get(&KEEP_ALIVE)?.to_str().ok()?;
    let named = |part: &str| part.trim().strip_prefix("timeout=")?.parse().ok();
    let time = Duration::from_secs(value.split(',').find_map(named)?);
    Some(time - (time / 2).min(ENDS_BEFORE))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_idle_stream_is_dropped_before_the_keep_alive_timeout_of_the_upstream() {
        let seconds = Duration::from_secs;
        for (value, time) in [
            ("timeout=5", Some(seconds(4))),
            ("max=100, timeout=60", Some(seconds(59))),
            ("timeout=1", Some(Duration::from_millis(500))),
            ("timeout=0", Some(Duration::ZERO)),
            ("timeout", None),
            ("timeout=-1", None),
            ("timeout=5s", None),
            ("timeout=99999999999999999999999", None),
            ("max=5", None),
            ("", None),
        ] {
            let mut fields = HeaderMap::new();
            assert_eq!(keep_alive(&fields), None);
            fields.insert(&KEEP_ALIVE, HeaderValue::from_static(value));
            assert_eq!(keep_alive(&fields), time, "{value}");
        }
    }
}
