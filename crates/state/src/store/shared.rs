//! [`SharedStore`]: a store that several replicas write, and the feed of the changes by other replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::error::StoreError;
use super::table::Table;

/// Parts of a table with separate change counters, so that writers of one table rarely wait for each other.
pub const PARTS: u16 = 8;

/// A replica that has not renewed its presence for this time counts as ended, and so do its leases.
pub const PRESENCE: Duration = Duration::from_secs(20);

/// The presence of a replica lasts for this time at least after it has taken or renewed a lease.
pub const PRESENCE_LEAST: Duration = Duration::from_secs(15);

/// How far a replica has followed the changes of the store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReplicaPosition(pub(super) BTreeMap<(Table, u16), u64>);

/// Changes that other replicas have made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReplicaChanges {
    /// Rows that were written or deleted, ordered by table and key.
    pub rows: BTreeSet<(Table, String)>,
    /// Tables whose changes are no longer known, because the replica was away for too long.
    pub unknown: BTreeSet<Table>,
}

/// A replica, as it announced itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AnnouncedReplica {
    /// Whether it is this one.
    pub is_own: bool,
    /// Its description of itself.
    pub about: String,
    /// How long ago it was last seen, by the clock of the store.
    pub ago: Duration,
    /// When it was last seen, by the clock of the store; `None` in a simulation.
    pub seen: Option<Timestamp>,
}

/// Bytes that a replica keeps in the store for a time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptBytes {
    pub name: String,
    pub sealed: Vec<u8>,
    /// When they were written, by the clock of the store.
    pub ago: Duration,
}

/// The operations that only a store of several replicas has.
#[async_trait::async_trait]
pub trait SharedStore: Send + Sync {
    /// The current position: all later reads contain the changes up to it.
    ///
    /// # Errors
    /// `Io`.
    async fn position(&self) -> Result<ReplicaPosition, StoreError>;

    /// Waits for changes after `position`, and returns those of other replicas with the position after them. Returns at
    /// intervals even without changes, so that the caller knows that the store answers.
    ///
    /// # Errors
    /// `Io`.
    async fn changes_after(
        &self,
        position: &ReplicaPosition,
    ) -> Result<(ReplicaChanges, ReplicaPosition), StoreError>;

    /// Whether a newer program has changed the store so that this program may no longer write it.
    fn is_outdated(&self) -> bool {
        false
    }

    /// Lets operations wait for a store that does not answer, for this time from now on: while a process starts.
    fn wait_out(&self, _time: Duration) {}

    /// Whether no other replica has the store open.
    ///
    /// # Errors
    /// `Io`.
    async fn is_alone(&self) -> Result<bool, StoreError>;

    /// The name of this replica.
    fn own_name(&self) -> String {
        String::new()
    }

    /// Ends the presence of a replica that is known to have ended, and with it its leases.
    ///
    /// # Errors
    /// `Io`.
    async fn end_replica(&self, _name: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether no replica called this with the same name within `life`. It outlives the replica.
    ///
    /// # Errors
    /// `Io`.
    async fn claim_once(&self, name: &str, life: Duration) -> Result<bool, StoreError>;

    /// Ends the presence of this process at once, before the store is closed.
    ///
    /// # Errors
    /// `Io`: then the presence expires.
    async fn leave(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Publishes the description of this replica.
    ///
    /// # Errors
    /// `Io`.
    async fn announce(&self, about: &str) -> Result<(), StoreError>;

    /// The replicas that announced themselves within the last hour and have not ended since.
    ///
    /// # Errors
    /// `Io`.
    async fn replicas(&self) -> Result<Vec<AnnouncedReplica>, StoreError>;

    /// Stores sealed bytes for a time. Backups do not contain them.
    ///
    /// # Errors
    /// `Io`.
    async fn keep(&self, name: &str, sealed: &[u8], life: Duration) -> Result<(), StoreError>;

    /// The bytes that are kept under a name.
    ///
    /// # Errors
    /// `Io`.
    async fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// The names with this prefix under which bytes are kept, in order.
    ///
    /// # Errors
    /// `Io`.
    async fn kept_names(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// The bytes under names with this prefix that were stored within the last `within`, each for `life`.
    ///
    /// # Errors
    /// `Io`.
    async fn kept_within(
        &self,
        prefix: &str,
        life: Duration,
        within: Duration,
    ) -> Result<Vec<KeptBytes>, StoreError>;

    /// Deletes records of changes that are older than any replica needs.
    ///
    /// # Errors
    /// `Io`.
    async fn forget_old(&self) -> Result<(), StoreError>;
}

impl ReplicaPosition {
    /// Whether every change up to `other` is before this position too.
    pub fn has(&self, other: &Self) -> bool {
        other.0.iter().all(|(place, count)| self.0.get(place).is_some_and(|own| own >= count))
    }
}

impl ReplicaChanges {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.unknown.is_empty()
    }
}
