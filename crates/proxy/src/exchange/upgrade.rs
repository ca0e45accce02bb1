//! Completes a WebSocket handshake: when the upstream answers 101, the agent's stream and the upstream's are
//! joined.

use http::{HeaderValue, Response, header};
use hyper_util::rt::TokioIo;

use super::answer_body::AnswerBody;
use super::guard::ExchangeGuard;
use super::scrub::ScrubbedBody;
use crate::request::agent_upgrade::{AgentUpgrade, UpgradeAborted};
use crate::tunnel::websocket;
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
    tokio::spawn(async move {
        let mut exchange = exchange;
        let AgentUpgrade { stream, session } = agents;
        let upstream = async { upstream.await.map_err(|_| UpgradeAborted) };
        match tokio::try_join!(stream.joined(), upstream) {
            Ok((agents, upstream)) => {
                let upstream = TokioIo::new(upstream);
                let gateway = lease.gateway();
                websocket::splice(agents, upstream, &mut exchange.record, &session, gateway).await;
            }
            Err(error) => {
                tracing::debug!(%error, "no WebSocket");
                exchange.record.set_outcome(Outcome::ClientAborted);
            }
        }
        // The stream is no HTTP stream any more: it is closed, never pooled.
        drop(lease);
    });
    let fields = response.headers_mut();
    strip::answer(fields);
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.map(|_| AnswerBody::detached())
}
