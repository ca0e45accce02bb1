//! [`ChangeNotice`]: notifications of changes, after which a replica reads the changes at once instead of at its next
//! poll. Nothing relies on them: a lost notification delays the changes until that poll. [`KnownChanges`]: the changes
//! that this replica made or read, by their numbers and times. After a failover that lost changes, the database gives
//! their numbers to other changes, which have other times. Random numbers distinguish replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use std::{io, mem};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_postgres::Row;

use crate::store::shared::ReplicaPosition;
use crate::store::{StoreError, Table};

/// The channel of the database on which replicas notify each other: [`super::sql::LISTEN`] and [`super::sql::NOTIFY`].
const CHANNEL: &str = "keyward_changes";

/// The pause between two notifications of a replica, and between two polls that notifications cause. Changes within a
/// pause share one notification.
pub(super) const PAUSE: Duration = Duration::from_millis(25);

/// The poll interval without a notification. A change is in force at all replicas within a second, even if a poll is
/// slow.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// The notifications that one replica sends and receives.
pub(super) struct ChangeNotice {
    /// The content of its own notifications.
    pub(super) own: String,
    /// Notified when this replica has committed a change.
    pub(super) committed: Notify,
    /// Notified when a stream of this replica to the database has ended.
    pub(super) stream_ended: Notify,
    received: watch::Sender<()>,
}

/// The task that sends notifications and listens. It ends when dropped.
pub(super) struct Listening(JoinHandle<()>);

impl ChangeNotice {
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(Self {
            own: format!("{:016x}", random_number()?.cast_unsigned()),
            committed: Notify::new(),
            stream_ended: Notify::new(),
            received: watch::Sender::new(()),
        })
    }

    /// Handles a notification of the database.
    pub(super) fn notified(&self, channel: &str, by: &str) {
        if channel == CHANNEL && by != self.own {
            self.may_have_changed();
        }
    }

    /// Tells the feed that other replicas may have made changes.
    pub(super) fn may_have_changed(&self) {
        self.received.send_replace(());
    }

    /// Receives notifications from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.received.subscribe()
    }
}

impl Listening {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn random_number() -> Result<i64, StoreError> {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(i64::from_be_bytes(bytes)),
        Err(error) => {
            let source = io::Error::other(error.to_string());
            Err(StoreError::Io { action: "take a lease", source })
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::sql;

    #[test]
    fn notifications_of_a_replica_itself_and_on_other_channels_are_ignored() {
        let notice = ChangeNotice::new().unwrap();
        let received = notice.subscribe();
        notice.notified(CHANNEL, &notice.own);
        notice.notified("other", "0");
        assert!(!received.has_changed().unwrap());
        notice.notified(CHANNEL, &ChangeNotice::new().unwrap().own);
        assert!(received.has_changed().unwrap());
    }

    #[test]
    fn the_statements_name_the_channel() {
        assert!(sql::LISTEN.ends_with(&format!("; LISTEN {CHANNEL}")));
        assert!(sql::NOTIFY.contains(&format!("('{CHANNEL}', ")));
    }
}
