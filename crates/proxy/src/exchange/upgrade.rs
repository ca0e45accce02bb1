//! Completes a WebSocket handshake or another upgrade: when the upstream answers 101, the agent's stream and the
//! upstream's are joined.

use http::{HeaderValue, Response, header};
use hyper_util::rt::TokioIo;

use super::answer_body::AnswerBody;
use super::guard::ExchangeGuard;
use super::scrub::ScrubbedBody;
use crate::request::agent_upgrade::{AgentUpgrade, UpgradeAborted};
use crate::tunnel::{StreamPair, websocket};
use crate::upstream::lease::StreamLease;
use keyward_rules::inject::strip;
use keyward_state::observe::event::Outcome;

/// Answers 101, and joins the two streams once both are available.
pub fn join(
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
