//! [`UniqueIndex`]: finds a record by a value that only one record has at a time, such as a name or a token.

use std::borrow::Borrow;
use std::hash::Hash;

use keyward_base::shared_map::SharedNames;

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
