//! [`Budget`]: an amount that agents share, such as memory or streams. An agent may take at most as much as it
//! leaves free: one agent alone gets half, two greedy agents a third each. Some is always left for one more agent.
//! Clients that are no agents, or have not authenticated, share in the same way by their addresses.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use keyward_base::id::AgentId;
use keyward_net::evictable::PeerAddress;

#[derive(Debug)]
pub struct Budget {
    state: Mutex<BudgetState>,
    /// [`BudgetState::untaken_room`], to be read without the lock.
    untaken_room: AtomicUsize,
}

#[derive(Debug)]
struct BudgetState {
    total: usize,
    each: PerAgent,
    taken: usize,
    /// Amounts by agent or address; `None` for requests without an agent.
    by: HashMap<Option<Taker>, usize, RandomState>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Taker {
    Agent(AgentId),
    Address(PeerAddress),
}

/// Limits of one agent.
#[derive(Clone, Copy, Debug)]
pub struct PerAgent {
    /// The need of one request: allowed whenever that much is free.
    pub min: usize,
    pub max: usize,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct BudgetShare {
    budget: Arc<Budget>,
    taker: Option<Taker>,
    amount: usize,
}

impl PerAgent {
    /// At least `min`, otherwise limited only by the rule that an agent leaves as much free as it takes.
    pub fn at_least(min: usize) -> Self {
        Self { min, max: usize::MAX }
    }
}

impl Budget {
    /// A budget of `total`.
    pub fn new(total: usize, each: PerAgent) -> Arc<Self> {
        let state = BudgetState { total, each, taken: 0, by: HashMap::default() };
        let untaken_room = AtomicUsize::new(state.untaken_room());
        Arc::new(Self { state: Mutex::new(state), untaken_room })
    }

    /// Changes the total. Shares that are taken stay valid.
    pub fn resize(&self, total: usize, each: PerAgent) {
        let mut state = self.state.lock();
        (state.total, state.each) = (total, each);
        self.untaken_room.store(state.untaken_room(), Ordering::Relaxed);
    }

    /// Whether an agent, or a request without one, could take `amount` more now. Needs no lock while nothing is taken.
    pub fn has_room(&self, taker: Option<&AgentId>, amount: usize) -> bool {
        amount <= self.untaken_room.load(Ordering::Relaxed)
            || self.state.lock().has_room(&taker.cloned().map(Taker::Agent), amount)
    }

    /// An empty share, for an agent or for a request without one.
    pub fn share(self: &Arc<Self>, taker: Option<&AgentId>) -> BudgetShare {
        BudgetShare { budget: self.clone(), taker: taker.cloned().map(Taker::Agent), amount: 0 }
    }

    /// An empty share, for a client at this address.
    pub fn share_at(self: &Arc<Self>, address: PeerAddress) -> BudgetShare {
        let mut share = self.share(None);
        share.taker = Some(Taker::Address(address));
        share
    }

    /// The sum of all shares.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        let state = self.state.lock();
        assert_eq!(state.taken, state.by.values().sum::<usize>());
        assert!(state.by.values().all(|taken| *taken > 0), "an entry without a share");
        state.taken
    }
}

impl BudgetState {
    /// How much any agent may take while nothing is taken; 0 while something is.
    fn untaken_room(&self) -> usize {
        match self.taken {
            0 => self.total.min((self.total / 2).max(self.each.min)).min(self.each.max),
            _ => 0,
        }
    }

    /// The sum of all shares with `amount` more, and the most that one agent may have then; `None` beyond the total.
    fn with(&self, amount: usize) -> Option<(usize, usize)> {
        let taken = self.taken.checked_add(amount).filter(|taken| *taken <= self.total)?;
        Some((taken, (self.total - taken).max(self.each.min).min(self.each.max)))
    }

    /// Whether the agent could take `amount` more.
    fn has_room(&self, taker: &Option<Taker>, amount: usize) -> bool {
        let own = self.by.get(taker).copied().unwrap_or_default();
        self.with(amount).is_some_and(|(_, own_max)| own + amount <= own_max)
    }

    /// Takes `amount` more for the agent. Returns how much it has then; `None`, and nothing is changed, beyond the limits.
    fn take(&mut self, taker: &Option<Taker>, amount: usize) -> Option<usize> {
        let (taken, own_max) = self.with(amount)?;
        let own = match self.by.get_mut(taker) {
            Some(own) if *own + amount <= own_max => {
                *own += amount;
                *own
            }
            None if amount <= own_max => {
                if amount > 0 {
                    self.by.insert(taker.clone(), amount);
                }
                amount
            }
            _ => return None,
        };
        self.taken = taken;
        Some(own)
    }
}

impl BudgetShare {
    /// Takes `amount` more. `false`, and nothing is changed, beyond the limits.
    #[must_use]
    pub fn take(&mut self, amount: usize) -> bool {
        self.take_counted(amount).is_some()
    }

    /// As [`BudgetShare::take`]. Returns how much the agent has then.
    pub fn take_counted(&mut self, amount: usize) -> Option<usize> {
        let mut state = self.budget.state.lock();
        let own = state.take(&self.taker, amount)?;
        self.budget.untaken_room.store(state.untaken_room(), Ordering::Relaxed);
        self.amount += amount;
        Some(own)
    }

    /// Grows or shrinks the share to `amount`. `false`, and nothing is changed, beyond the limits.
    #[must_use]
    pub fn resize(&mut self, amount: usize) -> bool {
        if amount > self.amount {
            return self.take(amount - self.amount);
        }
        self.release(self.amount - amount);
        true
    }

    fn release(&mut self, amount: usize) {
        if amount == 0 {
            return;
        }
        self.amount -= amount;
        let mut state = self.budget.state.lock();
        state.taken -= amount;
        if let Some(own) = state.by.get_mut(&self.taker) {
            *own -= amount;
            if *own == 0 {
                state.by.remove(&self.taker);
            }
        }
        self.budget.untaken_room.store(state.untaken_room(), Ordering::Relaxed);
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.release(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(total: usize, min: usize) -> (Arc<Budget>, [AgentId; 3]) {
        (Budget::new(total, PerAgent::at_least(min)), [(); 3].map(|()| AgentId::random()))
    }

    /// How much of it an agent gets, one by one.
    fn all(share: &mut BudgetShare) -> usize {
        (0..1_000).take_while(|_| share.take(1)).count()
    }

    #[test]
    fn each_agent_leaves_as_much_free_as_it_takes() {
        let (budget, agents) = budget(120, 1);
        let mut shares = agents.each_ref().map(|agent| budget.share(Some(agent)));
        assert_eq!(all(&mut shares[0]), 60);
        assert_eq!(all(&mut shares[1]), 30);
        assert_eq!(all(&mut shares[2]), 15);
        assert!(!budget.share(Some(&agents[0])).take(1), "another share of the same agent");
        drop(shares);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn an_agent_gets_its_minimum_while_that_much_is_free() {
        let (budget, agents) = budget(100, 80);
        let mut first = budget.share(Some(&agents[0]));
        assert!(first.take(80));
        assert!(!first.take(1));
        let mut other = budget.share(None);
        assert!(other.take(20) && !other.take(1));
    }

    #[test]
    fn no_agent_exceeds_its_maximum() {
        let (budget, agents) = budget(100, 1);
        budget.resize(100, PerAgent { min: 1, max: 7 });
        assert_eq!(all(&mut budget.share(Some(&agents[0]))), 7);
    }

    #[test]
    fn has_room_is_true_exactly_for_the_amounts_that_can_be_taken() {
        let (only_min, bounded) = (PerAgent::at_least(1), PerAgent { min: 1, max: 7 });
        for (total, each) in
            [(100, only_min), (101, only_min), (5, PerAgent::at_least(80)), (100, bounded)]
        {
            let (budget, [agent, other, _]) = budget(0, 1);
            let agrees = |when: &str| {
                for amount in 1..total + 2 {
                    let is_taken = budget.share(Some(&agent)).take(amount);
                    let has_room = budget.has_room(Some(&agent), amount);
                    assert_eq!(has_room, is_taken, "{amount} of {total}, {each:?}, {when}");
                }
            };
            let without_lock = || budget.untaken_room.load(Ordering::Relaxed);
            budget.resize(total, each);
            agrees("nothing is taken");
            assert!(without_lock() > 0);
            let mut of_other = budget.share(Some(&other));
            assert!(of_other.take(3));
            agrees("another has some");
            assert_eq!(without_lock(), 0);
            let mut own = budget.share(Some(&agent));
            assert!(own.take(2));
            agrees("it has some");
            drop((own, of_other));
            agrees("all was given back");
            assert!(without_lock() > 0);
        }
    }

    #[test]
    fn a_share_frees_what_it_shrinks_by_and_keeps_its_size_when_it_cannot_grow() {
        let (budget, agents) = budget(100, 1);
        let mut share = budget.share(Some(&agents[0]));
        assert!(share.resize(40) && share.resize(10));
        assert_eq!(budget.taken(), 10);
        assert!(!share.resize(60) && !share.take(usize::MAX));
        assert_eq!(budget.taken(), 10);
        budget.resize(5, PerAgent::at_least(1));
        assert!(!share.take(1));
        drop(share);
        assert_eq!(budget.taken(), 0);
    }
}
