//! [`Answer`]: an upstream's answer that may be passed to the agent, because the credential was scrubbed from it. When the upstream
//! answers 101, a WebSocket handshake or another upgrade is completed: the agent's stream and the upstream's are joined.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;

use super::answer_body::AnswerBody;
use super::guard::ExchangeGuard;
use super::scrub::{self, ScrubbedBody};
use crate::limits::budget::BudgetShare;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::request::agent_upgrade::{AgentUpgrade, UpgradeAborted};
use crate::tunnel::{StreamPair, websocket};
use crate::upstream::lease::StreamLease;
use crate::upstream::sent::SentRequest;
use keyward_rules::inject::strip;
use keyward_state::observe::event::Outcome;

/// An answer without the credential; its body is cut where the credential appears. Only [`Answer::scrub`] makes
/// one.
#[derive(Debug)]
pub struct Answer {
    response: Response<ScrubbedBody>,
    lease: StreamLease,
    upgrade: Option<AgentUpgrade>,
}

impl Answer {
    /// Removes the credential from the answer. If no credential was sent, nothing is searched. `memory` makes a
    /// share of the budget for decoding the answer.
    ///
    /// # Errors
    /// When the body cannot be scanned, or its beginning already shows that it must not be passed on.
    pub async fn scrub(
        sent: SentRequest,
        memory: impl Fn() -> BudgetShare,
        record: &mut Record,
    ) -> Result<Self, Refusal> {
        let (unscrubbed, lease, upgrade) = sent.into_unscrubbed();
        let (response, masked) = scrub::scrubbed(unscrubbed, memory).await?;
        record.add_masked(masked);
        Ok(Self { response, lease, upgrade })
    }

    /// The answer for the agent: without hop-by-hop fields, its body passed on as it arrives.
    pub fn forward(self, exchange: ExchangeGuard) -> Response<AnswerBody> {
        let Self { mut response, lease, upgrade } = self;
        if response.status() == StatusCode::UNAUTHORIZED {
            exchange.record.count_rejection();
        }
        if let (Some(upgrade), StatusCode::SWITCHING_PROTOCOLS) = (upgrade, response.status()) {
            return join_streams(upgrade, response, exchange, lease);
        }
        let coded = response.headers().contains_key(header::TRANSFER_ENCODING);
        strip::answer(response.headers_mut());
        if coded || response.status() == StatusCode::NO_CONTENT {
            // A `Content-Length` beside a transfer coding is ignored and removed (RFC 9112 §6.3). A 204 has none (RFC 9110
            // §8.6), and clients refuse it.
            response.headers_mut().remove(header::CONTENT_LENGTH);
        } else {
            unite_lengths(response.headers_mut());
        }
        *response.version_mut() = http::Version::HTTP_11;
        response.map(|incoming| AnswerBody::upstream(incoming, lease, exchange))
    }
}

/// Leaves one `Content-Length`. Upstreams may repeat a length, also as a list (RFC 9110 §8.6), which not all clients accept,
/// and none over HTTP/2. hyper has checked the values only where content follows; others that are invalid are removed.
fn unite_lengths(fields: &mut HeaderMap) {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let is_one = match (lengths.next(), lengths.next()) {
        (None, _) => true,
        (Some(only), None) => is_number(only.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    if is_one {
        return;
    }
    match stated_length(fields) {
        Some(length) => fields.insert(header::CONTENT_LENGTH, length),
        None => fields.remove(header::CONTENT_LENGTH),
    };
}

/// The length that all values state, which may be lists.
fn stated_length(fields: &HeaderMap) -> Option<HeaderValue> {
    let values = fields.get_all(header::CONTENT_LENGTH).iter();
    let mut members = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let first = members.next().filter(|first| is_number(first))?;
    members.all(|member| member == first).then(|| HeaderValue::from_bytes(first).ok())?
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Answers 101, and joins the two streams once both are available.
fn join_streams(
    agents: AgentUpgrade,
    mut response: Response<ScrubbedBody>,
    exchange: ExchangeGuard,
    lease: StreamLease,
) -> Response<AnswerBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let is_opaque = agents.stream.is_opaque();
    let protocol = response.headers().get(header::UPGRADE).cloned();
    tokio::spawn(async move {
        let mut exchange = exchange;
        let AgentUpgrade { stream, session } = agents;
        let upstream = async { upstream.await.map_err(|_| UpgradeAborted) };
        match tokio::try_join!(stream.joined(), upstream) {
            Ok((agents, upstream)) => {
                let upstream = TokioIo::new(upstream);
                let (gateway, record) = (lease.gateway(), &mut exchange.record);
                if is_opaque {
                    let mut pair = StreamPair::of_bytes(agents, upstream, record);
                    let end = pair.run(&session, gateway).await;
                    pair.write_to(record, end.outcome());
                } else {
                    websocket::splice(agents, upstream, record, &session, gateway).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no upgrade");
                exchange.record.set_outcome(Outcome::ClientAborted);
            }
        }
        // The stream is no HTTP stream any more: it is closed, never pooled.
        drop(lease);
    });
    let fields = response.headers_mut();
    strip::answer(fields);
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
    response.map(|_| AnswerBody::detached())
}
