//! [`SharedMap`]: a hash map whose clones share unchanged parts. A new version of a large map costs only what has changed.
//! In debug builds, look-ups are counted ([`LookupCounter`]): tests of cost compare counts instead of times.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::{self, RandomState as SipState};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::slice;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// Average number of entries per shard at which the number of shards doubles.
const SHARD_ENTRIES: usize = 32;

/// Shards of a group, a power of two. A change copies the lists of pointers of one group and of all groups: 256 and 128 for a
/// million entries.
const GROUP_SHARDS: usize = 256;

type Shard<K, V, S> = Arc<HashMap<K, V, S>>;

/// Full, unless it is the only one.
type Group<K, V, S> = Arc<Vec<Shard<K, V, S>>>;

/// A sharded hash map. A clone shares all shards; a change copies its shard, the list of shards of its group, and the list of
/// groups. Look-ups are O(1). The number of shards grows with the map and never shrinks.
pub struct SharedMap<K, V, S = RandomState> {
    groups: Arc<Vec<Group<K, V, S>>>,
    /// Zero, or a power of two.
    shards: usize,
    len: usize,
    hasher: S,
}

/// A map with a collision-resistant hash, for keys that people choose.
pub type SharedNames<K, V> = SharedMap<K, V, SipState>;

/// A key whose value differs between two maps; at least one of the values is present.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Difference<'a, V> {
    /// The value in the older map.
    pub before: Option<&'a V>,
    /// The value in the newer map.
    pub now: Option<&'a V>,
}

impl<K, V, S: Default> Default for SharedMap<K, V, S> {
    fn default() -> Self {
        Self { groups: Arc::default(), shards: 0, len: 0, hasher: S::default() }
    }
}

impl<K, V, S: Clone> Clone for SharedMap<K, V, S> {
    fn clone(&self) -> Self {
        let (groups, hasher) = (Arc::clone(&self.groups), self.hasher.clone());
        Self { groups, shards: self.shards, len: self.len, hasher }
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for SharedMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K, V, S> SharedMap<K, V, S> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Iterates over the entries in unspecified order.
    pub fn iter(&self) -> Iter<'_, K, V, S> {
        let (groups, shards) = (self.groups.iter(), [].iter());
        Iter { groups, shards, entries: hash_map::Iter::default(), left: self.len }
    }

    /// Iterates over the keys in unspecified order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Iterates over the values in unspecified order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

/// The entries of a map, in unspecified order. A named type, because the directory and the API build on it: made of
/// adapters, the type of a search was several KiB long, and each stage of the compiler compared it.
pub struct Iter<'a, K, V, S> {
    groups: slice::Iter<'a, Group<K, V, S>>,
    /// The rest of the present group.
    shards: slice::Iter<'a, Shard<K, V, S>>,
    /// The rest of the present shard.
    entries: hash_map::Iter<'a, K, V>,
    left: usize,
}

impl<'a, K, V, S> Iterator for Iter<'a, K, V, S> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                self.left -= 1;
                return Some(entry);
            }
            match self.shards.next() {
                Some(shard) => self.entries = shard.iter(),
                None => self.shards = self.groups.next()?.iter(),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> SharedMap<K, V, S> {
    /// The value of a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        increment();
        let at = self.place(key);
        self.groups.get(at / GROUP_SHARDS)?.get(at % GROUP_SHARDS)?.get(key)
    }

    /// Whether the key has a value.
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The keys whose values differ according to `is_same`. Shards that both maps share are skipped, so the
    /// cost depends on what has changed.
    pub fn differences<'a>(
        &'a self,
        before: &'a Self,
        is_same: impl Fn(&V, &V) -> bool,
    ) -> Vec<Difference<'a, V>> {
        let mut found = Vec::new();
        if Arc::ptr_eq(&self.groups, &before.groups) {
            return found;
        }
        // One shard in both maps has the same entries of both, however they are spread.
        let unlike = |one: &'a Self, other: &'a Self| {
            let groups = unlike(&one.groups, &other.groups);
            let shards = groups.flat_map(|(group, theirs)| {
                unlike(group, theirs.map_or(&[], |group| group.as_slice()))
            });
            shards.flat_map(|(shard, _)| shard.iter())
        };
        for (key, value) in unlike(self, before) {
            let old = before.get(key);
            if !old.is_some_and(|old| is_same(old, value)) {
                found.push(Difference { before: old, now: Some(value) });
            }
        }
        let gone = unlike(before, self).filter(|(key, _)| !self.contains_key(*key));
        found.extend(gone.map(|(_, value)| Difference { before: Some(value), now: None }));
        found
    }

    /// The shard that holds the key.
    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        match self.shards {
            0 | 1 => 0,
            // The map of a shard looks at the lowest and highest bits.
            count => (self.hasher.hash_one(key) >> 32) as usize & (count - 1),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone, S: BuildHasher + Clone> SharedMap<K, V, S> {
    /// Inserts a value and returns the previous one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.make_room();
        let before = self.shard_mut(self.place(&key)).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes and returns a value. Copies nothing if the key is absent.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return None;
        }
        self.len -= 1;
        self.shard_mut(self.place(key)).remove(key)
    }

    /// A mutable reference to a value. Copies nothing if the key is absent.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match self.contains_key(key) {
            true => self.shard_mut(self.place(key)).get_mut(key),
            false => None,
        }
    }

    /// A mutable reference to a value, inserted if absent.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.contains_key(&key) {
            self.insert(key.clone(), V::default());
        }
        self.shard_mut(self.place(&key)).entry(key).or_default()
    }

    fn shard_mut(&mut self, at: usize) -> &mut HashMap<K, V, S> {
        let group = &mut Arc::make_mut(&mut self.groups)[at / GROUP_SHARDS];
        Arc::make_mut(&mut Arc::make_mut(group)[at % GROUP_SHARDS])
    }

    /// Doubles the number of shards if the present ones would be full. Moves entries that no other map shares; clones
    /// the others.
    fn make_room(&mut self) {
        if self.len < self.shards * SHARD_ENTRIES {
            return;
        }
        self.shards = (self.shards * 2).max(1);
        let empty = |_| Arc::new(HashMap::with_hasher(self.hasher.clone()));
        let group = |_| Arc::new((0..self.shards.min(GROUP_SHARDS)).map(empty).collect());
        let groups = (0..self.shards.div_ceil(GROUP_SHARDS)).map(group).collect();
        let before = std::mem::replace(&mut self.groups, Arc::new(groups));
        for group in Arc::unwrap_or_clone(before) {
            for shard in Arc::unwrap_or_clone(group) {
                for (key, value) in Arc::unwrap_or_clone(shard) {
                    self.shard_mut(self.place(&key)).insert(key, value);
                }
            }
        }
    }
}

/// The elements of `one` that `other` does not share, each with the element of `other` at the same index.
fn unlike<'a, T>(
    one: &'a [Arc<T>],
    other: &'a [Arc<T>],
) -> impl Iterator<Item = (&'a Arc<T>, Option<&'a Arc<T>>)> {
    let with_other = one.iter().enumerate().map(|(at, mine)| (mine, other.get(at)));
    with_other.filter(|(mine, theirs)| !theirs.is_some_and(|theirs| Arc::ptr_eq(mine, theirs)))
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Records one look-up. Does nothing in optimised builds.
pub fn increment() {
    if cfg!(debug_assertions) {
        COUNT.set(COUNT.get() + 1);
    }
}

/// How often [`increment`] was called on this thread so far.
pub fn so_far() -> u64 {
    COUNT.get()
}

/// How often `work` called [`increment`] on this thread.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = so_far();
    let done = work();
    (done, so_far() - before)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn sorted(map: &SharedMap<u16, u32>) -> BTreeMap<u16, u32> {
        map.iter().map(|(key, value)| (*key, *value)).collect()
    }

    /// Inserts a value that is not zero; removes the key if it is.
    fn change(map: &mut SharedMap<u16, u32>, model: &mut BTreeMap<u16, u32>, key: u16, to: u32) {
        match to {
            0 => assert_eq!(map.remove(&key), model.remove(&key)),
            1..4 => assert_eq!(map.insert(key, to), model.insert(key, to)),
            _ => {
                *map.entry(key) += to;
                *model.entry(key).or_default() += to;
            }
        }
    }

    #[test]
    fn a_change_copies_one_shard_and_is_found_without_a_look_at_the_others() {
        let mut map = SharedMap::<u32, u32>::default();
        (0..20_000).for_each(|key| assert_eq!(map.insert(key, 1), None));
        let before = map.clone();
        *map.get_mut(&7).expect("it is there") = 2;
        map.remove(&8);
        map.remove(&20_001);
        let groups = unlike(&map.groups, &before.groups).count();
        let copied = unlike(&map.groups, &before.groups)
            .flat_map(|(group, theirs)| unlike(group, theirs.expect("as many")))
            .count();
        assert!(map.groups.len() >= 2 && (1..=2).contains(&groups), "{groups}");
        assert!(map.shards >= 512 && (1..=2).contains(&copied), "{copied}");
        assert_eq!((before.get(&7), before.get(&8)), (Some(&1), Some(&1)));
        let (found, looked) = super::count(|| map.differences(&before, |one, other| one == other));
        assert_eq!(found.len(), 2);
        assert!(found.contains(&Difference { before: Some(&1), now: Some(&2) }));
        assert!(found.contains(&Difference { before: Some(&1), now: None }));
        assert!(looked < 500, "{looked}");
    }

    proptest! {
        #[test]
        fn a_shared_map_behaves_like_a_map_and_its_copies_do_not_change(
            first in proptest::collection::vec((0u16..400, 0u32..6), 0..600),
            then in proptest::collection::vec((0u16..400, 0u32..6), 0..200),
        ) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            first.into_iter().for_each(|(key, to)| change(&mut map, &mut model, key, to));
            let (before, old) = (map.clone(), model.clone());
            then.into_iter().for_each(|(key, to)| change(&mut map, &mut model, key, to));
            prop_assert_eq!(&sorted(&map), &model);
            prop_assert_eq!(&sorted(&before), &old);
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(map.values().size_hint(), (model.len(), Some(model.len())));
            prop_assert!(map.keys().all(|key| model.contains_key(key)));
            prop_assert!((0..400).all(|key| map.get(&key) == model.get(&key)));
            let mut found: Vec<_> = map
                .differences(&before, |one, other| one == other)
                .iter()
                .map(|it| (it.before.copied(), it.now.copied()))
                .collect();
            let keys = (0..400u16).map(|key| (old.get(&key).copied(), model.get(&key).copied()));
            let mut expected: Vec<_> = keys.filter(|(before, now)| before != now).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn differences_between_independently_built_maps_are_found(
            one in proptest::collection::btree_map(0u16..90, 0u32..3, 0..90),
            other in proptest::collection::btree_map(0u16..90, 0u32..3, 0..90),
        ) {
            let shared = |model: &BTreeMap<u16, u32>| {
                let mut map = SharedMap::<u16, u32>::default();
                model.iter().for_each(|(key, value)| assert_eq!(map.insert(*key, *value), None));
                map
            };
            let (now, before) = (shared(&one), shared(&other));
            let mut found: Vec<_> = now
                .differences(&before, |one, other| one == other)
                .iter()
                .map(|it| (it.before.copied(), it.now.copied()))
                .collect();
            let keys = (0..90u16).map(|key| (other.get(&key).copied(), one.get(&key).copied()));
            let mut expected: Vec<_> = keys.filter(|(before, now)| before != now).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
