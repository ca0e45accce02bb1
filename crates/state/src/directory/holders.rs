//! [`HolderIndex`]: the agents whose bindings or plugins' slots name a connection. A change of one connection looks
//! only at these agents. Nearly every connection has one such agent, which is stored without a map.

use keyward_base::id::{AgentId, ConnectionId};
use keyward_base::shared_map::SharedMap;

#[derive(Clone, Debug, Default)]
pub(super) struct HolderIndex(SharedMap<ConnectionId, ConnectionHolders>);

/// The agents that name one connection, and how often each does.
#[derive(Clone, Debug)]
enum ConnectionHolders {
    One(AgentId, usize),
    Many(Box<SharedMap<AgentId, usize>>),
}

/// The connections that a record names for an agent.
#[derive(Debug, Eq, PartialEq)]
pub struct NamedConnections {
    pub(super) agent: AgentId,
    pub(super) connections: Vec<ConnectionId>,
}

impl HolderIndex {
    /// Updates the index after a record has changed its connections. Additions come first, so that unchanged entries
    /// are not removed in between.
    pub(super) fn change(
        &mut self,
        before: Option<&NamedConnections>,
        now: Option<&NamedConnections>,
    ) {
        if before == now {
            return;
        }
        if let Some(held) = now {
            held.connections.iter().for_each(|connection| self.add(connection, &held.agent));
        }
        if let Some(held) = before {
            held.connections.iter().for_each(|connection| self.remove(connection, &held.agent));
        }
    }

    /// The agents that name the connection.
    pub(super) fn of<'a>(
        &'a self,
        connection: &ConnectionId,
    ) -> impl Iterator<Item = &'a AgentId> + use<'a> {
        let (one, many) = match self.0.get(connection) {
            None => (None, None),
            Some(ConnectionHolders::One(agent, _)) => (Some(agent), None),
            Some(ConnectionHolders::Many(all)) => (None, Some(all.iter().map(|(agent, _)| agent))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn add(&mut self, connection: &ConnectionId, agent: &AgentId) {
        let Some(holders) = self.0.get_mut(connection) else {
            self.0.insert(connection.clone(), ConnectionHolders::One(agent.clone(), 1));
            return;
        };
        match holders {
            ConnectionHolders::One(only, count) if only == agent => *count += 1,
            ConnectionHolders::One(first, count) => {
                let mut both = SharedMap::default();
                both.insert(first.clone(), *count);
                both.insert(agent.clone(), 1);
                *holders = ConnectionHolders::Many(Box::new(both));
            }
            ConnectionHolders::Many(all) => *all.entry(agent.clone()) += 1,
        }
    }

    fn remove(&mut self, connection: &ConnectionId, agent: &AgentId) {
        let is_last = match self.0.get_mut(connection) {
            None => false,
            Some(ConnectionHolders::One(only, count)) => {
                *count -= usize::from(only == agent);
                *count == 0
            }
            Some(ConnectionHolders::Many(all)) => {
                match all.get_mut(agent) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => drop(all.remove(agent)),
                }
                all.is_empty()
            }
        };
        if is_last {
            self.0.remove(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_agent_is_a_holder_as_long_as_a_record_names_the_connection(
            changes in proptest::collection::vec((0usize..5, proptest::collection::vec(0usize..3, 0..4)), 0..40),
        ) {
            let connections: Vec<_> = (0..3).map(|_| ConnectionId::random()).collect();
            // Two agents, of which one has four records.
            let agents: Vec<_> = (0..2).map(|_| AgentId::random()).collect();
            let (mut index, mut records) = (HolderIndex::default(), BTreeMap::new());
            for (record, named) in changes {
                let agent = agents[usize::from(record > 3)].clone();
                let named = named.into_iter().map(|at| connections[at].clone()).collect();
                let now = NamedConnections { agent, connections: named };
                index.change(records.get(&record), Some(&now));
                records.insert(record, now);
            }
            for connection in &connections {
                let mut found: Vec<_> = index.of(connection).collect();
                let naming = records.values().filter(|held| held.connections.contains(connection));
                let mut expected: Vec<_> = naming.map(|held| &held.agent).collect();
                found.sort();
                expected.sort();
                expected.dedup();
                prop_assert_eq!(found, expected);
            }
            records.values().for_each(|held| index.change(Some(held), None));
            prop_assert!(index.0.is_empty());
        }
    }
}
