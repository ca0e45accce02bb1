//! [`HandshakeLimit`] limits concurrent TLS handshakes with agents on one core. Each agent has its own share, so an
//! agent that never completes its handshakes does not block others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use keyward_base::id::AgentId;

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
