//! [`Session`]: whose requests these are and how their target became known. [`Census`] bounds the
//! streams of one agent.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::base::agent::Agent;
use crate::base::host::{Scheme, Target};
use crate::base::id::{AgentId, OrgId};

use super::Gateway;
use super::error::Refusal;
use super::pulse::Pulse;
use super::standing::Standing;

/// Who speaks on a stream and about what. Every request of the stream is decided anew.
#[derive(Debug)]
pub struct Session {
    /// The authenticated agent.
    pub agent: Agent,
    /// How targets become known.
    pub entry: Entry,
    /// Unique in the process: `pass` streams of a session are its own.
    pub number: u64,
    /// The pulse of the stream, or of the one HTTP/2 stream.
    pub pulse: Arc<Pulse>,
    /// What that rests on.
    standing: Arc<Standing>,
    /// The stream that it came on, with its places among the open ones: given back when the last
    /// user of the session ends.
    accepted: Arc<Accepted>,
}

/// How the target of a request becomes known.
#[derive(Clone, Debug)]
pub enum Entry {
    /// From the request itself, in absolute form.
    Absolute,
    /// From the CONNECT that opened the tunnel.
    Tunnel {
        /// Its target.
        target: Target,
        /// Whether the TLS client named the same host, or none.
        sni_agrees: bool,
    },
    /// From the base URL of the request.
    BaseUrl {
        /// The host that it stands for.
        target: Target,
        /// The name of the connection in it.
        connection: Arc<str>,
    },
}

/// An accepted stream before anyone is authenticated on it.
#[derive(Debug)]
pub struct Accepted {
    /// The peer's address, for the limit on guesses.
    pub peer: Option<IpAddr>,
    /// Whose listener it came on, when that is one agent's own.
    pub owner: Option<Arc<Owner>>,
    /// With which URLs that lead to its listener begin.
    pub scheme: Scheme,
    /// Its pulse.
    pub pulse: Arc<Pulse>,
    /// What it rests on once somebody has authenticated.
    pub standing: Arc<Standing>,
    /// Its share of `streams_max`.
    #[expect(dead_code, reason = "held for what dropping it gives back")]
    pub permit: OwnedSemaphorePermit,
    /// Its place among the streams of its core.
    #[expect(dead_code, reason = "held for what dropping it gives back")]
    pub counted: Counted,
}

/// The agent that a listener belongs to: whoever reaches it is that agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Its org.
    pub org: OrgId,
    /// Its name.
    pub agent: String,
}

/// Counts a stream of a core while it is open, tunnels included.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

/// Counts the open streams of each agent.
#[derive(Debug)]
pub struct Census {
    max: usize,
    counts: Arc<Mutex<HashMap<AgentId, usize>>>,
}

/// One counted stream; uncounted when dropped.
#[derive(Debug)]
pub struct Seat {
    agent: AgentId,
    counts: Arc<Mutex<HashMap<AgentId, usize>>>,
}

impl Session {
    /// A session with a number of its own.
    pub fn new(
        agent: Agent,
        entry: Entry,
        pulse: Arc<Pulse>,
        accepted: Arc<Accepted>,
    ) -> Arc<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let standing = accepted.standing.clone();
        Arc::new(Self { agent, entry, number, pulse, standing, accepted })
    }

    /// The session of one HTTP/2 stream of this one: only its exchange beats in its pulse, and only it
    /// ends with what that rests on.
    pub fn of_stream(&self) -> Arc<Self> {
        let pulse = Arc::new(Pulse::idle());
        let standing = Arc::new(Standing::of_stream(&self.agent));
        let (agent, entry) = (self.agent.clone(), self.entry.clone());
        let accepted = self.accepted.clone();
        Arc::new(Self { agent, entry, number: self.number, pulse, standing, accepted })
    }

    /// Asked anew by every request: a tunnel may be older than a change of the agent's tokens.
    ///
    /// # Errors
    /// When the token that opened the stream was revoked or has expired, or the listener's agent is
    /// gone.
    pub fn still_holds(&self, gateway: &Gateway) -> Result<(), Refusal> {
        let holds = gateway.directory.glance().still_holds(&self.agent, gateway.clock.now());
        match (holds, &self.accepted.owner) {
            (true, _) => Ok(()),
            (false, None) => Err(Refusal::Unauthenticated),
            (false, Some(owner)) => Err(Refusal::OwnerGone { agent: owner.agent.clone() }),
        }
    }

    /// What its stream rests on.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
}

impl Entry {
    /// The target of all its requests, when that is one.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Absolute => None,
            Self::Tunnel { target, .. } | Self::BaseUrl { target, .. } => Some(target),
        }
    }

    /// The connection that it names.
    pub fn connection(&self) -> Option<&Arc<str>> {
        match self {
            Self::Absolute | Self::Tunnel { .. } => None,
            Self::BaseUrl { connection, .. } => Some(connection),
        }
    }
}

impl Counted {
    /// Counts one more until this is dropped.
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Census {
    /// At most `max` streams for each agent.
    pub fn new(max: usize) -> Self {
        Self { max, counts: Arc::default() }
    }

    /// Counts one more stream of the agent, or `None` when it has as many as it may.
    pub fn admit(&self, agent: &AgentId) -> Option<Seat> {
        let mut counts = self.counts.lock();
        let count = counts.entry(agent.clone()).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Seat { agent: agent.clone(), counts: self.counts.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_agent_waits_for_one_of_its_own_streams_only() {
        let census = Census::new(2);
        let (busy, other) = (AgentId::random(), AgentId::random());
        let seats: Vec<_> = (0..2).map(|_| census.admit(&busy).unwrap()).collect();
        assert!(census.admit(&busy).is_none());
        assert!(census.admit(&other).is_some());
        drop(seats);
        assert!(census.admit(&busy).is_some());
        assert!(census.counts.lock().is_empty(), "agents without streams are forgotten");
    }
}
