//! Two streams joined: tunnels that are not looked into, and what an upgrade leaves. A FIN from one
//! side is passed on as a half-close; the other direction goes on.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Gateway;
use super::copy::{Broken, Direction};
use super::frames::Frames;
use super::record::Record;
use super::session::Session;
use crate::observe::event::Outcome;

/// An agent's stream and an upstream's, each written what the other says.
#[derive(Debug)]
pub struct Pair<A, U> {
    /// The agent's.
    pub agents: A,
    /// The upstream's.
    pub upstream: U,
    /// From the agent to the upstream.
    pub up: Direction,
    /// From the upstream to the agent.
    pub down: Direction,
}

/// Why a pair is copied no further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Both sides have said all.
    Said,
    /// The agent's stream broke.
    AgentBroke,
    /// The upstream's stream broke.
    UpstreamBroke,
    /// Nothing moved for `tunnel_idle_timeout`.
    Idle,
    /// What the session rests on is lost.
    Lost,
    /// The gateway ends.
    Cut,
}

/// Copies until both directions have ended, one breaks, nothing moves for `tunnel_idle_timeout`, what
/// the session rests on is lost, or the gateway ends.
pub async fn splice<A, U>(
    agents: A,
    upstream: U,
    record: &mut Record,
    session: &Session,
    gateway: &Gateway,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut pair = Pair::of_bytes(agents, upstream, record);
    let end = pair.run(session, gateway).await;
    pair.tell(record, end.outcome());
}

impl<A, U> Pair<A, U>
where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Of bytes that are not looked at.
    pub fn of_bytes(agents: A, upstream: U, record: &Record) -> Self {
        let (up, down) =
            (Direction::new(record.bytes_in(), None), Direction::new(Arc::default(), None));
        Self { agents, upstream, up, down }
    }

    /// Of WebSocket frames.
    pub fn of_frames(agents: A, upstream: U, record: &Record) -> Self {
        let up = Direction::new(record.bytes_in(), Some(Frames::new()));
        let down = Direction::new(Arc::default(), Some(Frames::new()));
        Self { agents, upstream, up, down }
    }

    /// Copies until there is a reason to end.
    pub async fn run(&mut self, session: &Session, gateway: &Gateway) -> End {
        let counts = [self.up.moved().clone(), self.down.moved().clone()];
        let counts = [&*counts[0], &*counts[1]];
        tokio::select! {
            end = poll_fn(|cx| self.poll(cx)) => end,
            () = silence(&counts, gateway.limits.tunnel_idle_timeout) => End::Idle,
            () = session.standing().lost(gateway) => End::Lost,
            () = gateway.cut() => End::Cut,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { agents, upstream, up, down } = self;
        let up = up.poll(cx, agents, upstream);
        let down = down.poll(cx, upstream, agents);
        match (up, down) {
            (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Sink))) => {
                Poll::Ready(End::AgentBroke)
            }
            (Poll::Ready(Err(Broken::Sink)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                Poll::Ready(End::UpstreamBroke)
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Said),
            _ => Poll::Pending,
        }
    }

    /// Tells the record how it went.
    pub fn tell(&self, record: &mut Record, outcome: Outcome) {
        record.sent(self.down.moved().load(Relaxed));
        record.ended(outcome);
    }
}

impl End {
    /// As the audit log has it.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Said => Outcome::Completed,
            Self::AgentBroke => Outcome::ClientAborted,
            Self::UpstreamBroke => Outcome::UpstreamAborted,
            Self::Idle | Self::Lost | Self::Cut => Outcome::Ended,
        }
    }
}

/// Resolves when no count has changed for `idle`, at most twice it.
pub async fn silence(counts: &[&AtomicU64], idle: Duration) {
    let sum = || counts.iter().map(|count| count.load(Relaxed)).fold(0, u64::wrapping_add);
    let mut before = sum();
    loop {
        tokio::time::sleep(idle).await;
        let now = sum();
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, MissedTickBehavior, interval};

    use super::*;
    use crate::base::limits::Limits;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_ping_now_and_then_keeps_a_tunnel_for_days() {
        let (moved, idle) = (AtomicU64::new(0), Limits::default().tunnel_idle_timeout);
        let (begun, counts) = (Instant::now(), [&moved]);
        let pings = async {
            let mut ping = interval(3 * HOUR);
            ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..20 {
                ping.tick().await;
                moved.fetch_add(2, Relaxed);
            }
        };
        tokio::select! {
            () = silence(&counts, idle) => panic!("idle after {:?}", begun.elapsed()),
            () = pings => assert!(begun.elapsed() >= 57 * HOUR),
        }
        silence(&counts, idle).await;
        assert!(begun.elapsed() <= 57 * HOUR + 2 * idle);
    }
}
