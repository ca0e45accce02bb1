//! [`AgentStreams`]: how many streams and descriptors each agent may have open. [`HandshakeLimit`] limits concurrent TLS handshakes
//! with agents on one core. Each agent has its own share, so an agent that never completes its handshakes does not block others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::{Budget, BudgetShare, PerAgent};
use keyward_base::id::AgentId;
use keyward_base::limits::Limits;
use keyward_net::evictable::{Evictable, EvictableSlot};

/// Streams on which no agent has authenticated yet. They may be closed to make room; each holds a permit of
/// `streams_max`.
pub type UnauthenticatedStreams = Evictable<OwnedSemaphorePermit>;

/// One entry of [`UnauthenticatedStreams`].
pub type UnauthenticatedPlace = EvictableSlot<OwnedSemaphorePermit>;

/// Counts a stream of a core while it is open, tunnels included.
#[derive(Debug)]
pub struct CoreStreamCount(Arc<AtomicUsize>);

/// Descriptors for each stream: its own, and that of the upstream's stream for its exchanges.
const DESCRIPTORS_PER_STREAM: usize = 2;

/// Limits the open streams and descriptors of each agent.
#[derive(Debug)]
pub struct AgentStreams {
    streams: Arc<Budget>,
    /// Prevents one agent from taking all descriptors of the process.
    descriptors: Arc<Budget>,
}

/// One counted stream; uncounted when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping them gives back")]
pub struct StreamSlot {
    stream: BudgetShare,
    descriptors: BudgetShare,
    /// The agent's descriptors when the stream was counted, its own included.
    agent_descriptors: usize,
}

/// The counted descriptor of one exchange over HTTP/2; uncounted when dropped. What h2 has not written yet of the answer
/// keeps it too: an agent that does not read has answers that have ended and are in memory.
#[derive(Debug)]
pub struct ExchangeDescriptor {
    #[expect(dead_code, reason = "held for what dropping it gives back")]
    descriptor: BudgetShare,
    /// The agent's descriptors when the exchange was counted, its own included.
    agent_descriptors: usize,
}

impl StreamSlot {
    pub fn agent_descriptors(&self) -> usize {
        self.agent_descriptors
    }
}

impl ExchangeDescriptor {
    pub fn agent_descriptors(&self) -> usize {
        self.agent_descriptors
    }
}

impl CoreStreamCount {
    /// Counts one more until this is dropped.
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for CoreStreamCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AgentStreams {
    /// Limits from the configuration, and the maximum number of descriptors.
    pub fn new(limits: &Limits, descriptors_max: usize) -> Self {
        let each = PerAgent { min: 1, max: limits.streams_per_agent_max };
        let streams = Budget::new(limits.streams_max, each);
        // What exchanges over HTTP/2 may use although the agent has all its streams.
        let exchanges = limits.exchanges_per_stream_max;
        let max = limits.streams_per_agent_max.saturating_mul(DESCRIPTORS_PER_STREAM);
        let each = PerAgent { min: DESCRIPTORS_PER_STREAM, max: max.saturating_add(exchanges) };
        Self { streams, descriptors: Budget::new(descriptors_max, each) }
    }

    /// Counts one more stream of the agent. `None` when the agent has reached its limit.
    pub fn admit(&self, agent: &AgentId) -> Option<StreamSlot> {
        let (mut stream, mut descriptors) =
            (self.streams.share(Some(agent)), self.descriptors.share(Some(agent)));
        if !stream.take(1) {
            return None;
        }
        let agent_descriptors = descriptors.take_counted(DESCRIPTORS_PER_STREAM)?;
        Some(StreamSlot { stream, descriptors, agent_descriptors })
    }

    /// Counts one more stream to an upstream. `None` when the agent has reached its limit.
    pub fn upstream(&self, agent: &AgentId) -> Option<ExchangeDescriptor> {
        let mut descriptor = self.descriptors.share(Some(agent));
        let agent_descriptors = descriptor.take_counted(1)?;
        Some(ExchangeDescriptor { descriptor, agent_descriptors })
    }
}

/// Each agent may have one part in this many of all handshakes.
const SHARE: usize = 4;

/// Concurrent handshakes in total and by agent.
#[derive(Debug)]
pub struct HandshakeLimit {
    all: Arc<Semaphore>,
    each_max: usize,
    each: Mutex<HashMap<AgentId, Arc<Semaphore>>>,
}

/// A running handshake.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping them gives back")]
pub struct HandshakeSlot {
    of_agent: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
}

impl HandshakeLimit {
    /// At most `max` at once.
    pub fn new(max: usize) -> Self {
        let all = Arc::new(Semaphore::new(max));
        Self { all, each_max: (max / SHARE).max(1), each: Mutex::default() }
    }

    /// Waits for a slot. Never returns `None`, because the semaphores are never closed.
    pub async fn take(&self, agent: &AgentId) -> Option<HandshakeSlot> {
        let own = self.of(agent);
        // Takes the agent's own slot first, so that a waiting agent holds no shared slot.
        let of_agent = own.acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(HandshakeSlot { of_agent, of_all })
    }

    fn of(&self, agent: &AgentId) -> Arc<Semaphore> {
        let mut each = self.each.lock();
        if let Some(own) = each.get(agent) {
            return own.clone();
        }
        // Unused semaphores are dropped, so the map holds busy agents only.
        each.retain(|_, own| Arc::strong_count(own) > 1);
        each.entry(agent.clone()).or_insert(Arc::new(Semaphore::new(self.each_max))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use keyward_base::limits::ReceiveWindow;

    fn agent_streams(streams_max: usize, per_agent: usize, descriptors_max: usize) -> AgentStreams {
        let limits = Limits { streams_max, streams_per_agent_max: per_agent, ..Limits::default() };
        AgentStreams::new(&limits, descriptors_max)
    }

    fn all(agent_streams: &AgentStreams, agent: &AgentId) -> Vec<StreamSlot> {
        std::iter::from_fn(|| agent_streams.admit(agent)).collect()
    }

    #[test]
    fn an_agent_at_its_stream_limit_does_not_block_another_agent() {
        let agent_streams = agent_streams(100, 2, 1_000);
        let (busy, other) = (AgentId::random(), AgentId::random());
        let seats = all(&agent_streams, &busy);
        assert_eq!(seats.len(), 2);
        assert!(agent_streams.admit(&other).is_some());
        drop(seats);
        assert!(agent_streams.admit(&busy).is_some());
        assert_eq!(agent_streams.streams.taken() + agent_streams.descriptors.taken(), 0);
    }

    #[test]
    fn agents_leave_streams_and_descriptors_to_each_other() {
        let (busy, other) = (AgentId::random(), AgentId::random());
        let many = agent_streams(100, 1_000, 1_000);
        let seats = all(&many, &busy);
        assert_eq!((seats.len(), all(&many, &other).len()), (50, 25));
        let few = agent_streams(100, 1_000, 60);
        let seats = all(&few, &busy);
        assert_eq!((seats.len(), all(&few, &other).len()), (15, 7));
    }

    #[test]
    fn descriptors_that_streams_do_not_use_are_available_to_exchanges() {
        let agent_streams = agent_streams(100, 10, 100_000);
        let agent = AgentId::random();
        let seats = all(&agent_streams, &agent);
        let count = || {
            let exchanges = std::iter::from_fn(|| agent_streams.upstream(&agent));
            exchanges.collect::<Vec<_>>().len()
        };
        assert_eq!((seats.len(), count()), (10, 200));
        drop(seats);
        let _seat = agent_streams.admit(&agent).unwrap();
        assert_eq!(count(), 218);
    }

    #[test]
    fn an_agent_has_no_more_large_windows_than_the_limit() {
        let limits = Limits { large_windows_per_agent_max: 34, ..Limits::default() };
        let agent_streams = AgentStreams::new(&limits, 1_000);
        let (agent, other) = (AgentId::random(), AgentId::random());
        let seats: Vec<_> = (0..3).map(|_| agent_streams.admit(&agent).unwrap()).collect();
        let of_streams: Vec<_> = seats
            .iter()
            .map(|seat| limits.stream_window(seat.agent_descriptors(), 16).bytes() / 1024)
            .collect();
        assert_eq!(of_streams, [512, 512, 64], "each for 16 exchanges");
        let is_large = |count: usize| limits.exchange_window(count) == ReceiveWindow::Large;
        let begin = |agent: &AgentId| agent_streams.upstream(agent).unwrap();
        let mut exchanges: Vec<_> = (0..40).map(|_| begin(&agent)).collect();
        let counts = exchanges.iter().map(ExchangeDescriptor::agent_descriptors);
        assert_eq!(counts.filter(|count| is_large(*count)).count(), 28, "34 less its streams' 6");
        assert!(!is_large(begin(&agent).agent_descriptors()));
        assert!(is_large(begin(&other).agent_descriptors()), "another agent has its own");
        exchanges.truncate(27);
        assert!(is_large(begin(&agent).agent_descriptors()), "one of them has ended");
    }

    #[test]
    fn exchanges_on_few_streams_leave_descriptors_to_others() {
        let agent_streams = agent_streams(100, 1_000, 60);
        let (busy, other) = (AgentId::random(), AgentId::random());
        let _seat = agent_streams.admit(&busy).unwrap();
        let exchanges: Vec<_> = std::iter::from_fn(|| agent_streams.upstream(&busy)).collect();
        assert_eq!(exchanges.len(), 28);
        assert!(agent_streams.admit(&other).is_some() && agent_streams.admit(&busy).is_none());
    }

    #[tokio::test]
    async fn one_agent_leaves_slots_to_others() {
        let turns = HandshakeLimit::new(8);
        let (greedy, other) = (AgentId::random(), AgentId::random());
        let mut held = Vec::new();
        while let Some(turn) = turns.take(&greedy).now_or_never() {
            held.push(turn);
        }
        assert_eq!(held.len(), 2);
        assert!(turns.take(&other).now_or_never().is_some());
        held.clear();
        assert!(turns.take(&greedy).now_or_never().is_some());
        drop(turns.take(&AgentId::random()).await);
        turns.of(&AgentId::random());
        assert_eq!(turns.each.lock().len(), 1, "idle agents are forgotten");
    }
}
