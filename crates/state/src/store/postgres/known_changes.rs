//! [`KnownChanges`]: the changes that this replica made or read, by their numbers and times. After a failover that lost
//! changes, the database gives their numbers to other changes, which have other times.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use tokio_postgres::Row;

use crate::store::Table;
use crate::store::shared::ReplicaPosition;

/// A part of a table.
pub(super) type Place = (Table, u16);

/// A change of one part of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KnownChange {
    pub(super) number: u64,
    /// When it was made, by the clock of the database, in microseconds.
    at: i64,
}

/// The changes that this replica knows.
#[derive(Debug, Default)]
pub(super) struct KnownChanges {
    /// Those that it made, which the feed must omit.
    own: BTreeMap<(Table, u16, u64), i64>,
    /// The last one that it read, of each part.
    last: BTreeMap<Place, KnownChange>,
    /// The tables of which the database lost changes, until the feed has returned them.
    lost: BTreeSet<Table>,
}

impl KnownChange {
    /// Of a row that has the number and the time in these columns.
    pub(super) fn of(row: &Row, number: usize, at: usize) -> Self {
        Self { number: row.get::<_, i64>(number).cast_unsigned(), at: row.get(at) }
    }
}

impl KnownChanges {
    pub(super) fn made(&mut self, (table, part): Place, change: KnownChange) {
        self.own.insert((table, part, change.number), change.at);
    }

    /// The numbers of changes that this replica made.
    pub(super) fn own_numbers(&self) -> Vec<(Table, u16, u64)> {
        self.own.keys().copied().collect()
    }

    /// Looks for changes of this replica above the position of the database, which was read after the numbers in `own`: the
    /// database lost them.
    pub(super) fn compare_own(&mut self, own: &[(Table, u16, u64)], now: &ReplicaPosition) {
        for change in own {
            let (table, part, number) = *change;
            if now.0.get(&(table, part)).is_some_and(|count| number > *count) {
                self.own.remove(change);
                self.lost.insert(table);
            }
        }
    }

    /// Remembers the last change of a part. If this replica knew another one by its number, the database lost that.
    pub(super) fn read(&mut self, place: Place, change: KnownChange) {
        let before = self.last.insert(place, change);
        if before.is_some_and(|it| it.number == change.number && it != change) {
            self.lost.insert(place.0);
        }
    }

    /// Removes a change from those of this replica, and returns whether it is one of them.
    pub(super) fn take_own(&mut self, (table, part): Place, change: KnownChange) -> bool {
        let own = self.own.remove(&(table, part, change.number));
        if own.is_some_and(|at| at != change.at) {
            self.lost.insert(table);
        }
        own == Some(change.at)
    }

    /// Forgets changes of this replica up to a number.
    pub(super) fn forget_own(&mut self, place: Place, up_to: u64) {
        self.own.retain(|(table, part, number), _| (*table, *part) != place || *number > up_to);
    }

    /// The tables of which the database lost changes.
    pub(super) fn take_lost(&mut self) -> BTreeSet<Table> {
        mem::take(&mut self.lost)
    }
}
