//! Copies bytes between an agent's stream and an upstream's: for opaque tunnels and for upgraded streams. A FIN
//! from one side is passed on as a half-close, and the other direction stays open.

mod permitted_tunnel;
pub mod websocket;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::permitted_tunnel::PermittedTunnel;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::session::ProxySession;
use crate::session::revocation::Revocation;
use crate::sockets::copy::{Broken, CopyDirection, stalled};
use crate::sockets::streams::AgentIo;
use crate::sockets::wake_filter::WakeFilter;
use crate::sockets::websocket_frames::FrameTracker;
use keyward_state::observe::event::Outcome;

/// An agent's stream and an upstream's, copied in both directions.
#[derive(Debug)]
pub struct StreamPair<A, U> {
    pub agents: A,
    pub upstream: U,
    /// From the agent to the upstream.
    pub up: CopyDirection,
    /// From the upstream to the agent.
    pub down: CopyDirection,
}

/// Why copying has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TunnelEnd {
    /// Both sides have ended.
    Finished,
    /// Close frames were exchanged and the upstream has ended its stream; the agent has not.
    Closed,
    /// The agent's stream broke.
    AgentBroke,
    /// The upstream's stream broke.
    UpstreamBroke,
    /// No byte moved for `tunnel_idle_timeout`.
    Idle,
    /// The session was revoked, or a person has cut it.
    Revoked,
    GatewayStopped,
}

/// How long the agent's system has for what the upstream sent before it broke off: a reset discards the rest of it.
const DELIVERED_WITHIN: Duration = Duration::from_millis(500);

/// Copies until both directions have ended, one breaks, no byte moves for `tunnel_idle_timeout`, the session is
/// revoked, or the gateway stops. The agent's stream then ends by a reset, unless the agent has broken it, or the
/// upstream's end was passed on.
pub async fn splice<A: AgentIo>(
    agents: A,
    tunnel: PermittedTunnel,
    record: &mut Record,
    session: &ProxySession,
    gateway: &Gateway,
) {
    let mut pair = StreamPair::of_bytes(agents, tunnel.into_stream(), record);
    let end = pair.run(session, gateway).await;
    if end.is_cut() && !pair.down.has_ended() {
        if end == TunnelEnd::UpstreamBroke {
            tokio::select! {
                () = tokio::time::sleep(DELIVERED_WITHIN) => {}
                () = session.revocation().revoked(gateway) => {}
                () = gateway.cut() => {}
            }
        }
        pair.agents.end_by_reset();
    }
    pair.write_to(record, end.outcome());
    if let Some(by) = session.revocation().end_exchange() {
        record.set_cut_by(&by);
    }
}

impl<A, U> StreamPair<A, U>
where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// A pair of opaque byte streams.
    pub fn of_bytes(agents: A, upstream: U, record: &Record) -> Self {
        let (up, down) =
            (CopyDirection::new(record.bytes_in(), None), CopyDirection::new(Arc::default(), None));
        Self { agents, upstream, up, down }
    }

    pub fn of_frames(agents: A, upstream: U, record: &Record) -> Self {
        let up = CopyDirection::new(record.bytes_in(), Some(FrameTracker::new()));
        let down = CopyDirection::new(Arc::default(), Some(FrameTracker::new()));
        Self { agents, upstream, up, down }
    }

    /// Copies until one of the reasons in [`TunnelEnd`].
    pub async fn run(&mut self, session: &ProxySession, gateway: &Gateway) -> TunnelEnd {
        self.run_until_revoked(session.revocation(), gateway).await
    }

    /// [`StreamPair::run`] for a stream that has no session of HTTP.
    pub async fn run_until_revoked(
        &mut self,
        revocation: &Revocation,
        gateway: &Gateway,
    ) -> TunnelEnd {
        revocation.current().join(self.down.moved(), self.down.has_frames());
        let counts = [self.up.moved().clone(), self.down.moved().clone()];
        let counts = [&*counts[0], &*counts[1]];
        let interrupt = pin!(async {
            tokio::select! {
                () = stalled(&counts, gateway.limits.tunnel_idle_timeout) => TunnelEnd::Idle,
                () = revocation.revoked(gateway) => TunnelEnd::Revoked,
                () = gateway.cut() => TunnelEnd::GatewayStopped,
            }
        });
        // Bytes wake this task often, and these timers and watchers seldom.
        let mut interrupt = WakeFilter::new(interrupt);
        tokio::select! {
            biased;
            end = &mut interrupt => end,
            end = poll_fn(|cx| self.poll(cx)) => end,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        let Self { agents, upstream, up, down } = self;
        let (went_up, went_down) = (up.poll(cx, agents, upstream), down.poll(cx, upstream, agents));
        match (went_up, went_down) {
            (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Sink))) => {
                Poll::Ready(TunnelEnd::AgentBroke)
            }
            (Poll::Ready(Err(Broken::Sink)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                Poll::Ready(TunnelEnd::UpstreamBroke)
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(TunnelEnd::Finished),
            (Poll::Pending, Poll::Ready(Ok(()))) if up.is_closed() && down.is_closed() => {
                Poll::Ready(TunnelEnd::Closed)
            }
            _ => Poll::Pending,
        }
    }

    /// Writes the result to the record.
    pub fn write_to(&self, record: &mut Record, outcome: Outcome) {
        record.add_sent(self.down.moved().load(Relaxed));
        record.set_outcome(outcome);
    }
}

impl TunnelEnd {
    /// Whether the agent's stream ends within what the upstream sends. Some protocols have no other end than a FIN.
    fn is_cut(self) -> bool {
        match self {
            Self::UpstreamBroke | Self::Idle | Self::Revoked | Self::GatewayStopped => true,
            Self::Finished | Self::Closed | Self::AgentBroke => false,
        }
    }

    /// The outcome for the audit log.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Finished | Self::Closed => Outcome::Completed,
            Self::AgentBroke => Outcome::ClientAborted,
            Self::UpstreamBroke => Outcome::UpstreamAborted,
            Self::Idle | Self::Revoked | Self::GatewayStopped => Outcome::Ended,
        }
    }
}
