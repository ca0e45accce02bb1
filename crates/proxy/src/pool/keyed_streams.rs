//! [`KeyedStreams`]: the streams of a pool by [`PoolKey`].

use std::collections::HashMap;
use std::iter;

use foldhash::fast::RandomState;

use keyward_base::host::Target;
use keyward_base::id::OrgId;
use keyward_rules::inject::credential::TlsId;

/// Requests with an equal key may share a stream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PoolKey {
    /// The org: streams are never shared between orgs.
    pub org: OrgId,
    /// Where the stream goes.
    pub target: Target,
    /// The only session that may use it. Set when Keyward sends no credential, because then the agent may have
    /// bound the stream to an identity of its own.
    pub session: Option<u64>,
    /// The certificates of the connection that it was dialled for; `None`: those of the gateway.
    pub tls: Option<TlsId>,
}

/// The number of keys and sessions from which empty lists are removed at once.
const EMPTY_MAX: usize = 1_024;

/// Lists of streams by key. The lists of a session can be removed together.
pub struct KeyedStreams<T> {
    shared: HashMap<PoolKey, Vec<T>, RandomState>,
    of_sessions: HashMap<u64, HashMap<PoolKey, Vec<T>, RandomState>, RandomState>,
}

impl<T> Default for KeyedStreams<T> {
    fn default() -> Self {
        Self { shared: HashMap::default(), of_sessions: HashMap::default() }
    }
}

impl<T> KeyedStreams<T> {
    /// The streams with this key.
    pub fn get(&self, key: &PoolKey) -> &[T] {
        let lists = match key.session {
            None => Some(&self.shared),
            Some(session) => self.of_sessions.get(&session),
        };
        lists.and_then(|lists| lists.get(key)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The list of this key, if there is one.
    pub fn get_mut(&mut self, key: &PoolKey) -> Option<&mut Vec<T>> {
        let lists = match key.session {
            None => Some(&mut self.shared),
            Some(session) => self.of_sessions.get_mut(&session),
        };
        lists?.get_mut(key)
    }

    /// The list of this key; a new one if there is none.
    pub fn entry(&mut self, key: PoolKey) -> &mut Vec<T> {
        let lists = match key.session {
            None => &mut self.shared,
            Some(session) => self.of_sessions.entry(session).or_default(),
        };
        lists.entry(key).or_default()
    }

    /// Removes the empty list of a key if there are many lists. Otherwise it stays, because streams usually return.
    pub fn remove_if_many(&mut self, key: &PoolKey) {
        if self.shared.len() + self.of_sessions.len() <= EMPTY_MAX {
            return;
        }
        let Some(session) = key.session else { return drop(self.shared.remove(key)) };
        if let Some(lists) = self.of_sessions.get_mut(&session) {
            lists.remove(key);
            if lists.is_empty() {
                self.of_sessions.remove(&session);
            }
        }
    }

    /// Removes and returns all streams of a session.
    pub fn remove_session(&mut self, session: u64) -> Vec<T> {
        let lists = self.of_sessions.remove(&session).into_iter();
        lists.flat_map(HashMap::into_values).flatten().collect()
    }

    /// Drops the streams that `keep` rejects, and empty lists.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for lists in iter::once(&mut self.shared).chain(self.of_sessions.values_mut()) {
            lists.retain(|_, list| {
                list.retain(&mut keep);
                !list.is_empty()
            });
        }
        self.of_sessions.retain(|_, lists| !lists.is_empty());
    }

    /// All streams.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let lists = iter::once(&self.shared).chain(self.of_sessions.values());
        lists.flat_map(HashMap::values).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::Scheme;

    fn key(host: &str, session: Option<u64>) -> PoolKey {
        let target = Target::parse(Scheme::Https, host).unwrap();
        PoolKey { org: OrgId::default_org(), target, session, tls: None }
    }

    #[test]
    fn the_streams_of_a_session_are_separate_from_other_and_from_shared_streams() {
        let mut streams = KeyedStreams::default();
        for (number, session) in [None, Some(1), Some(2)].into_iter().enumerate() {
            assert!(streams.get(&key("a.test", session)).is_empty());
            assert!(streams.get_mut(&key("a.test", session)).is_none());
            streams.entry(key("a.test", session)).push(number);
        }
        for (number, session) in [None, Some(1), Some(2)].into_iter().enumerate() {
            assert_eq!(streams.get(&key("a.test", session)), [number]);
            assert!(streams.get(&key("b.test", session)).is_empty());
        }
    }

    #[test]
    fn removing_a_session_removes_all_its_streams_and_no_others() {
        let mut streams = KeyedStreams::default();
        streams.entry(key("a.test", None)).push(1);
        for (host, session, number) in [("a.test", 1, 2), ("b.test", 1, 3), ("a.test", 2, 4)] {
            streams.entry(key(host, Some(session))).push(number);
        }
        assert!(streams.remove_session(3).is_empty());
        let mut removed = streams.remove_session(1);
        removed.sort_unstable();
        assert_eq!(removed, [2, 3]);
        let mut left: Vec<_> = streams.iter().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 4]);
    }

    #[test]
    fn empty_stream_lists_are_removed_by_retain_or_when_there_are_many() {
        let mut streams = KeyedStreams::default();
        for session in [None, Some(1)] {
            streams.entry(key("a.test", session)).push(1);
            streams.entry(key("b.test", session)).push(2);
        }
        streams.retain(|number| *number == 1);
        assert_eq!((streams.shared.len(), streams.of_sessions[&1].len()), (1, 1));
        streams.retain(|_| false);
        assert!(streams.shared.is_empty() && streams.of_sessions.is_empty());

        streams.entry(key("a.test", Some(1)));
        streams.remove_if_many(&key("a.test", Some(1)));
        assert_eq!(streams.of_sessions.len(), 1, "one is not many");
        for session in 2..=EMPTY_MAX as u64 {
            streams.entry(key("a.test", Some(session)));
        }
        streams.entry(key("a.test", None));
        streams.remove_if_many(&key("a.test", Some(1)));
        assert!(!streams.of_sessions.contains_key(&1));
    }
}
