//! [`Collection`]: the records of one kind in one organisation, found by id and by name. [`UniqueIndex`] finds a record
//! by a value that only one record has at a time, such as a name or a token. Indexes of tokens have the session, login,
//! link or connect session that the token with a given hash belongs to; tokens of agents and personal tokens are found
//! in the view itself.

use std::borrow::{Borrow, Cow};
use std::hash::Hash;
use std::sync::Arc;

use crate::crypto::token::TokenHash;
use keyward_base::agent::Agent;
use keyward_base::id::{ConnectSessionId, Id, OrgId, TokenId};
use keyward_base::shared_map::{SharedMap, SharedNames};
use keyward_model::{Login, Record, Resource, Session, User};

/// Tokens of ended sessions that are remembered, so that their refusals say so. If there are more, all are dropped.
const ENDED_MAX: usize = 10_000;

/// The records of one kind in one organisation, by id and by name. Lookups are O(1).
#[derive(Clone, Debug)]
pub struct Collection<R: Resource> {
    by_id: SharedMap<R::Id, Arc<Record<R>>>,
    by_name: UniqueIndex<Arc<str>, R::Id>,
}

impl<R: Resource> Default for Collection<R> {
    fn default() -> Self {
        Self { by_id: SharedMap::default(), by_name: UniqueIndex::default() }
    }
}

impl<R: Resource> Collection<R> {
    pub(super) fn by_id(&self) -> &SharedMap<R::Id, Arc<Record<R>>> {
        &self.by_id
    }

    pub(super) fn get(&self, id: &R::Id) -> Option<&Arc<Record<R>>> {
        self.by_id.get(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Record<R>>> {
        self.by_id.values()
    }

    /// By name or id. No name looks like an id.
    pub(super) fn find(&self, name_or_id: &str) -> Option<&Arc<Record<R>>> {
        match R::Id::parse(name_or_id) {
            Ok(id) => self.by_id.get(&id),
            Err(_) => self.by_id.get(self.by_name.get(name_or_id)?),
        }
    }

    /// Adds a record that is found by `name`.
    pub(super) fn put(&mut self, name: Arc<str>, record: Arc<Record<R>>) {
        self.by_name.put(name, record.id.clone(), |id| *id == record.id);
        self.by_id.insert(record.id.clone(), record);
    }

    /// Removes a record, and the name that it was put with.
    pub(super) fn remove(
        &mut self,
        id: &R::Id,
        name: impl Fn(&Record<R>) -> Cow<'_, str>,
    ) -> Option<Arc<Record<R>>> {
        let record = self.by_id.remove(id)?;
        self.by_name.remove(&*name(&record), |named| named == id);
        Some(record)
    }
}

/// An index of the view. The changes of other replicas enter the view in any order, so a record and its successor may
/// both have a value for a moment. The record that was put last is found, and each removes only its own entry: when
/// one is removed, the other one is found.
#[derive(Clone, Debug)]
pub(super) struct UniqueIndex<K, V> {
    entries: SharedNames<K, V>,
    /// Entries of records whose value a later record has too, in the order in which they were displaced. Nearly always
    /// empty.
    displaced: Vec<(K, V)>,
}

impl<K, V> Default for UniqueIndex<K, V> {
    fn default() -> Self {
        Self { entries: SharedNames::default(), displaced: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> UniqueIndex<K, V> {
    pub(super) fn get<Q>(&self, value: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.get(value)
    }

    /// The entries that are found.
    pub(super) fn entries(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }

    /// Adds the entry of a record, which is found from now on. `is_its`: whether an entry is of this record.
    pub(super) fn put(&mut self, value: K, entry: V, is_its: impl Fn(&V) -> bool) {
        self.displaced.retain(|(of, other)| *of != value || !is_its(other));
        if let Some(other) = self.entries.get(&value).filter(|other| !is_its(other)) {
            self.displaced.push((value.clone(), other.clone()));
        }
        self.entries.insert(value, entry);
    }

    /// Removes the entry of a record. `is_its`: whether an entry is of this record.
    pub(super) fn remove<Q>(&mut self, value: &Q, is_its: impl Fn(&V) -> bool)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let has_value = |of: &K| Borrow::<Q>::borrow(of) == value;
        if !self.entries.get(value).is_some_and(&is_its) {
            self.displaced.retain(|(of, entry)| !has_value(of) || !is_its(entry));
            return;
        }
        match self.displaced.iter().rposition(|(of, _)| has_value(of)) {
            Some(at) => {
                let (value, entry) = self.displaced.remove(at);
                self.entries.insert(value, entry);
            }
            None => drop(self.entries.remove(value)),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct SessionTokens {
    live: UniqueIndex<TokenHash, Arc<Record<Session>>>,
    /// Tokens of sessions that were ended, or that expired and were removed.
    ended: SharedNames<TokenHash, ()>,
}

/// Tokens of logins and of links that users sign in with, and passkeys.
#[derive(Clone, Debug, Default)]
pub(super) struct LoginTokens {
    pub(super) live: UniqueIndex<TokenHash, Arc<Record<Login>>>,
    pub(super) links: UniqueIndex<TokenHash, Arc<Record<User>>>,
    /// By the hash of the credential's id.
    pub(super) passkeys: UniqueIndex<TokenHash, Arc<Record<User>>>,
}

/// Connect sessions by the hash of their link's token, and by that of their browser's cookie.
pub(super) type ConnectTokens = UniqueIndex<TokenHash, ConnectSessionAt>;

#[derive(Clone, Debug)]
pub(super) struct ConnectSessionAt {
    pub(super) org: OrgId,
    pub(super) id: ConnectSessionId,
}

/// A token of an agent that was valid once.
#[derive(Clone, Debug)]
pub struct FormerToken {
    pub agent: Agent,
    pub token: TokenId,
    /// `revoked` or `expired`.
    pub reason: &'static str,
}

impl SessionTokens {
    pub(super) fn add(&mut self, hash: TokenHash, session: &Arc<Record<Session>>) {
        self.live.put(hash, Arc::clone(session), |it| it.id == session.id);
    }

    /// Removes the token of a session, and remembers that the session has ended.
    pub(super) fn end(&mut self, hash: TokenHash, session: &Record<Session>) {
        self.live.remove(&hash, |it| it.id == session.id);
        if self.ended.len() >= ENDED_MAX {
            self.ended = SharedNames::default();
        }
        self.ended.insert(hash, ());
    }

    /// The session of a token: hash look-up, then constant-time comparison.
    pub(super) fn session(&self, hash: &TokenHash) -> Option<&Arc<Record<Session>>> {
        let session = self.live.get(hash)?;
        let known = TokenHash::from_hex(&session.facts.hash)?;
        known.matches(hash).then_some(session)
    }

    /// Whether the token belongs to a session, or to an ended one that is remembered.
    pub(super) fn has_known(&self, hash: &TokenHash) -> bool {
        self.live.get(hash).is_some() || self.ended.contains_key(hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_record_that_was_put_last_and_not_removed_since_is_found(
            changes in proptest::collection::vec((0u8..2, 0u8..4, any::<bool>()), 0..60),
        ) {
            let mut index = UniqueIndex::<u8, u8>::default();
            let mut records: [Vec<u8>; 2] = Default::default();
            for (value, record, is_put) in changes {
                let model = &mut records[usize::from(value)];
                model.retain(|other| *other != record);
                if is_put {
                    index.put(value, record, |other| *other == record);
                    model.push(record);
                } else {
                    index.remove(&value, |other| *other == record);
                }
                for (value, model) in (0..).zip(&records) {
                    prop_assert_eq!(index.get(&value), model.last());
                }
            }
            for (value, model) in (0..).zip(&records) {
                model.iter().for_each(|record| index.remove(&value, |other| other == record));
                prop_assert_eq!(index.get(&value), None);
            }
            prop_assert!(index.displaced.is_empty());
        }
    }
}
