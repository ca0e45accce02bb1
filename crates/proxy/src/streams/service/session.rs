//! A session with a database after its permit: its servers, the copying of its bytes, and why that ended. Servers that the
//! connection does not name are listed by DNS or named by another server.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{FailedAttempt, ServiceExchange};
use crate::refusal::Refusal;
use crate::server::h1::draining;
use crate::sockets::copy::stalled;
use crate::sockets::wake_filter::WakeFilter;
use crate::tunnel::{StreamPair, TunnelEnd};
use keyward_base::host::Target;
use keyward_rules::policy::{DatabasePermit, Policy};
use keyward_state::observe::event::Outcome;

/// How long no byte of a session moves until it may be idle: what came last may have been a part of an answer.
const IDLE_AFTER: Duration = Duration::from_millis(100);

/// Why a session's bytes are copied no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionEnd {
    /// The agent has ended it.
    Closed,
    /// The server has closed its stream.
    ServerClosed,
    /// Its token, binding or connection was revoked, or a person has cut it.
    Revoked,
    /// No byte moved for `tunnel_idle_timeout`.
    Idle,
    /// The gateway stops.
    Stopped,
}

impl ServiceExchange {
    /// Copies bytes in both directions until one side ends, no byte moves for `tunnel_idle_timeout`, the session is
    /// revoked or cut, or the gateway stops: at once if `is_idle`, else when the drain has waited long enough.
    pub async fn splice<A, U>(
        &mut self,
        agents: A,
        upstream: U,
        is_idle: impl Fn() -> bool,
    ) -> SessionEnd
    where
        A: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(accepted) = self.accepted.clone() else { return SessionEnd::Closed };
        let mut pair = StreamPair::of_bytes(agents, upstream, &self.record);
        let counts = [pair.up.moved().clone(), pair.down.moved().clone()];
        let idle_in_drain = pin!(async {
            draining(&mut self.gateway.draining.clone()).await;
            loop {
                stalled(&[&*counts[0], &*counts[1]], IDLE_AFTER).await;
                if is_idle() {
                    break;
                }
            }
        });
        // Bytes wake this task often, and the drain once.
        let mut idle_in_drain = WakeFilter::new(idle_in_drain);
        let end = tokio::select! {
            biased;
            end = pair.run_until_revoked(&accepted.revocation, &self.gateway) => end,
            () = &mut idle_in_drain => TunnelEnd::GatewayStopped,
        };
        // Clients of databases end a session by closing the stream, servers by closing theirs.
        let outcome = match end {
            TunnelEnd::AgentBroke | TunnelEnd::UpstreamBroke => end.outcome(),
            TunnelEnd::Finished | TunnelEnd::Closed => Outcome::Completed,
            TunnelEnd::Idle | TunnelEnd::Revoked | TunnelEnd::GatewayStopped => Outcome::Ended,
        };
        pair.write_to(&mut self.record, outcome);
        if let Some(by) = accepted.revocation.end_exchange() {
            self.record.set_cut_by(&by);
        }
        match end {
            TunnelEnd::Revoked => SessionEnd::Revoked,
            TunnelEnd::UpstreamBroke => SessionEnd::ServerClosed,
            TunnelEnd::Idle => SessionEnd::Idle,
            TunnelEnd::GatewayStopped => SessionEnd::Stopped,
            TunnelEnd::Finished | TunnelEnd::Closed | TunnelEnd::AgentBroke => SessionEnd::Closed,
        }
    }
}

impl ServiceExchange {
    /// The permit for such a server. `None`: it cannot be one of the connection's servers. In the session by which a person
    /// tests a connection, no rule is asked.
    ///
    /// # Errors
    /// When policy refuses it, which [`ServiceExchange::refused_attempt`] records.
    pub fn permit_member(
        &self,
        permit: &DatabasePermit,
        member: Target,
    ) -> Result<Option<DatabasePermit>, FailedAttempt> {
        let Some(accepted) = &self.accepted else {
            return Ok(Policy::permit_member_test(permit, member));
        };
        let agent = accepted.revocation.agent().ok_or(FailedAttempt(Refusal::Unauthenticated))?;
        let permitted = self.gateway.rulebook.current().permit_member(&agent, permit, member);
        permitted.map_err(|reason| FailedAttempt(Refusal::Policy(reason)))
    }

    /// The session is at the server of this permit. A rule that denies the agent that server ends the session.
    pub fn use_member(&self, permit: &DatabasePermit) {
        if let Some(accepted) = &self.accepted {
            accepted.revocation.use_member(&permit.endpoint().target);
        }
    }
}
