//! [`Budget`]: an amount that agents share, such as memory or streams. An agent may take at most as much as it
//! leaves free: one agent alone gets half, two greedy agents a third each. Some is always left for one more agent.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use keyward_base::id::AgentId;

#[derive(Debug)]
pub struct Budget(Mutex<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    total: usize,
    each: PerAgent,
    taken: usize,
    /// Amounts by agent; `None` for requests without an agent.
    by: HashMap<Option<AgentId>, usize>,
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
    taker: Option<AgentId>,
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
        Arc::new(Self(Mutex::new(BudgetState { total, each, taken: 0, by: HashMap::new() })))
    }

    /// Changes the total. Shares that are taken stay valid.
    pub fn resize(&self, total: usize, each: PerAgent) {
        let mut state = self.0.lock();
        (state.total, state.each) = (total, each);
    }

    /// An empty share, for an agent or for a request without one.
    pub fn share(self: &Arc<Self>, taker: Option<&AgentId>) -> BudgetShare {
        BudgetShare { budget: self.clone(), taker: taker.cloned(), amount: 0 }
    }

    /// The sum of all shares.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        let state = self.0.lock();
        assert_eq!(state.taken, state.by.values().sum::<usize>());
        assert!(state.by.values().all(|taken| *taken > 0), "an entry without a share");
        state.taken
    }
}

impl BudgetState {
    /// The amounts of all agents and of this one after taking `amount` more; `None` beyond the limits.
    fn with(&self, taker: &Option<AgentId>, amount: usize) -> Option<(usize, usize)> {
        let own = self.by.get(taker).copied().unwrap_or_default();
        let taken = self.taken.checked_add(amount).filter(|taken| *taken <= self.total)?;
        let own = own + amount;
        let own_max = (self.total - taken).max(self.each.min).min(self.each.max);
        (own <= own_max).then_some((taken, own))
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
        let mut state = self.budget.0.lock();
        let (taken, own) = state.with(&self.taker, amount)?;
        if amount > 0 {
            state.taken = taken;
            state.by.insert(self.taker.clone(), own);
        }
        self.amount += amount;
        Some(own)
    }

    /// Whether `amount` more could be taken now.
    pub fn has_room(&self, amount: usize) -> bool {
        self.budget.0.lock().with(&self.taker, amount).is_some()
    }

    /// Grows or shrinks the share to `amount`. `false`, and nothing is changed, beyond the limits.
    #[must_use]
    pub fn resize(&mut self, amount: usize) -> bool {
        if amount > self.amount {
            return self.take(amount - self.amount);
        }
        self.give_back(self.amount - amount);
        true
    }

    fn give_back(&mut self, amount: usize) {
        if amount == 0 {
            return;
        }
        self.amount -= amount;
        let mut state = self.budget.0.lock();
        state.taken -= amount;
        if let Some(own) = state.by.get_mut(&self.taker) {
            *own -= amount;
            if *own == 0 {
                state.by.remove(&self.taker);
            }
        }
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.give_back(self.amount);
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
    fn the_minimum_of_one_request_is_allowed_while_it_is_free() {
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
    fn a_share_that_shrinks_gives_back_and_one_that_cannot_grow_keeps_what_it_has() {
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
