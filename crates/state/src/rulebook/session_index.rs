//! [`SessionIndex`]: the sessions of an organisation by agent, user and connection, to find those that a change affects.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::directory::ConnectionRecord;
use keyward_base::id::{AgentId, ConnectionId, SessionId, UserId};
use keyward_model::{Record, Reference, Session};

/// The sessions of one org by agent, user and connection, and the connections of each owner.
#[derive(Debug, Default)]
pub(super) struct SessionIndex {
    pub(super) of_agent: Sets<AgentId, SessionId>,
    pub(super) of_user: Sets<UserId, SessionId>,
    /// Sessions that name the connection.
    pub(super) naming: Sets<ConnectionId, SessionId>,
    pub(super) owned: Sets<UserId, ConnectionId>,
}

/// Sets by key; an empty one is removed.
#[derive(Debug)]
pub(super) struct Sets<K, V>(HashMap<K, BTreeSet<V>, RandomState>);

impl<K, V> Default for Sets<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone + Ord> Sets<K, V> {
    pub(super) fn put(&mut self, key: &K, value: &V) {
        self.0.entry(key.clone()).or_default().insert(value.clone());
    }

    pub(super) fn take(&mut self, key: &K, value: &V) {
        let Some(set) = self.0.get_mut(key) else { return };
        set.remove(value);
        if set.is_empty() {
            self.0.remove(key);
        }
    }

    pub(super) fn get(&self, key: &K) -> impl Iterator<Item = &V> + use<'_, K, V> {
        self.0.get(key).into_iter().flatten()
    }
}

impl SessionIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.of_agent.0.is_empty() && self.owned.0.is_empty()
    }

    /// The sessions that may use a connection, before or after its change.
    pub(super) fn using<'a>(
        &'a self,
        connection: &ConnectionId,
        versions: [Option<&Arc<ConnectionRecord>>; 2],
    ) -> BTreeSet<&'a SessionId> {
        let owners = versions.into_iter().flatten().filter_map(|it| it.facts.owner.as_ref());
        self.naming
            .get(connection)
            .chain(owners.flat_map(|owner| self.of_user.get(owner)))
            .collect()
    }

    /// Adds or removes a session, which is never changed.
    pub(super) fn set(&mut self, session: &Record<Session>, is_there: bool) {
        fn one<K: Clone + Eq + Hash>(
            sets: &mut Sets<K, SessionId>,
            key: &K,
            id: &SessionId,
            is_there: bool,
        ) {
            if is_there { sets.put(key, id) } else { sets.take(key, id) }
        }
        let id = &session.id;
        if let Some(agent) = session.agent.id() {
            one(&mut self.of_agent, agent, id, is_there);
        }
        if let Some(user) = session.user.as_ref().and_then(Reference::id) {
            one(&mut self.of_user, user, id, is_there);
        }
        for connection in session.connections.iter().flatten().filter_map(Reference::id) {
            one(&mut self.naming, connection, id, is_there);
        }
    }
}
