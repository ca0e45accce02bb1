//! [`SeenRows`]: a shared store, of whose rows this process never accepts an older version than it has seen.
//!
//! A row that the owner of the database put back opens, because a replica sealed it. So each replica remembers the
//! version of each row that it has read or written, and which rows were deleted, whose ids are not used again. The
//! deletion of a row that restricts agents or reports about them leaves a sealed mark; without one, it is not accepted.
//! A process that starts has seen nothing.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::index::everyone;
use super::replicas::KEPT;
use super::tables::{RowGuard, guard_of};
use crate::crypto::envelope::Place;
use crate::crypto::keyring::Keyring;
use crate::observe::metrics::Metrics;
use crate::store::{Row, RowRange, Store, StoreError, StoreWrapper, Table, Version, Write};

/// How long the mark of a deletion is kept: longer than a replica may lag.
const MARK_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How many deletions are remembered, and how many refused rows are reported.
const REMEMBERED: usize = 1_000_000;

/// A shared store, and the versions of its rows that this process has seen.
#[derive(Debug)]
pub struct SeenRows {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    seen: Mutex<SeenVersions>,
    hashes: RandomState,
    metrics: Arc<Metrics>,
}

/// By hashes of tables and keys.
#[derive(Debug, Default)]
struct SeenVersions {
    present: HashMap<u64, Version>,
    deleted: HashSet<u64>,
    refused: HashSet<u64>,
}

fn is_guarded(table: Table) -> bool {
    guard_of(table) != RowGuard::Unguarded
}

fn is_marked(table: Table) -> bool {
    guard_of(table) == RowGuard::Marked
}

fn mark_name(table: Table, key: &str) -> String {
    format!("deleted/{}/{key}", table.name())
}

impl SeenVersions {
    /// The version that a row must have; `None`: it was deleted.
    fn least(&self, row: u64) -> Option<Version> {
        let least = self.present.get(&row).copied().unwrap_or_default();
        (!self.deleted.contains(&row)).then_some(least)
    }

    fn delete(&mut self, row: u64) {
        self.present.remove(&row);
        if self.deleted.len() >= REMEMBERED {
            self.deleted.clear();
        }
        self.deleted.insert(row);
    }

    fn read(&mut self, row: u64, version: Version) {
        let seen = self.present.entry(row).or_default();
        *seen = version.max(*seen);
    }

    /// A write of this process counts also over a row that was put back.
    fn write(&mut self, row: u64, version: Version) {
        self.present.insert(row, version);
        self.deleted.remove(&row);
    }
}

impl SeenRows {
    /// `store` itself where one process owns it.
    pub fn over(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        metrics: Arc<Metrics>,
    ) -> Arc<dyn Store> {
        if store.shared().is_none() {
            return store;
        }
        let (seen, hashes) = (Mutex::default(), RandomState::default());
        Arc::new(Self { store, keyring, seen, hashes, metrics })
    }

    fn hash(&self, table: Table, key: &str) -> u64 {
        self.hashes.hash_one((table, key))
    }

    /// Leaves the mark of a deletion, before the row is deleted. The writer of the commit holds a guard for sealing: beside it,
    /// a second one would wait for a new master key that waits for the first.
    async fn mark(&self, table: Table, key: &str) -> Result<(), StoreError> {
        let Some(shared) = self.store.shared() else { return Ok(()) };
        let (action, name) = ("mark a deletion", mark_name(table, key));
        let place = Place { org: &everyone(), table: KEPT, key: &name };
        let sealed = self.keyring.seal_unguarded(&place, &[]);
        let failed = |error| StoreError::Unreached { action, source: io::Error::other(error) };
        shared.keep(&name, &sealed.map_err(failed)?, MARK_LIFE).await
    }

    async fn has_mark(&self, table: Table, key: &str) -> Result<bool, StoreError> {
        let Some(shared) = self.store.shared() else { return Ok(true) };
        let name = mark_name(table, key);
        let place = Place { org: &everyone(), table: KEPT, key: &name };
        let mark = shared.kept(&name).await?;
        Ok(mark.is_some_and(|mark| self.keyring.open(&place, &mark).is_ok()))
    }

    fn refuse(&self, table: Table, key: &str, found: Option<Version>) -> StoreError {
        let error = StoreError::RolledBack { table: table.name(), key: key.to_owned(), found };
        let mut seen = self.seen.lock();
        if seen.refused.len() < REMEMBERED && seen.refused.insert(self.hash(table, key)) {
            self.metrics.health.rows_refused.inc();
            tracing::error!(id = "row_rolled_back", %error, hint = error.hint(), "a row of the database went back");
        }
        error
    }
}

#[async_trait::async_trait]
impl StoreWrapper for SeenRows {
    fn inner(&self) -> &dyn Store {
        &*self.store
    }

    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let hash = self.hash(table, key);
        // As seen before the row is read: what is written meanwhile is newer.
        let least = self.seen.lock().least(hash);
        let row = self.store.get(table, key).await?;
        let found = row.as_ref().map(|row| row.version);
        match (found, least) {
            _ if !is_guarded(table) => {}
            (Some(version), Some(least)) if version >= least => {
                self.seen.lock().read(hash, version);
            }
            (Some(_), _) => return Err(self.refuse(table, key, found)),
            (None, None | Some(Version(0))) => {}
            (None, Some(_)) if is_marked(table) && !self.has_mark(table, key).await? => {
                return Err(self.refuse(table, key, None));
            }
            (None, Some(_)) => self.seen.lock().delete(hash),
        }
        Ok(row)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let mut changes = Vec::with_capacity(writes.len());
        for write in &writes {
            let Some((table, key)) = write.changed() else { continue };
            let is_put = matches!(write, Write::Put { .. });
            if !is_put && is_marked(table) {
                self.mark(table, key).await?;
            }
            changes.push((is_put, is_guarded(table).then(|| self.hash(table, key))));
        }
        let versions = self.store.commit(writes).await?;
        let (mut put, mut seen) = (versions.iter(), self.seen.lock());
        for (is_put, row) in changes {
            let version = is_put.then(|| put.next()).flatten();
            match (row, version) {
                (Some(row), Some(version)) => seen.write(row, *version),
                (Some(row), None) => seen.delete(row),
                (None, _) => {}
            }
        }
        drop(seen);
        Ok(versions)
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        let rows = self.store.list(table, range).await?;
        if is_guarded(table) {
            let mut seen = self.seen.lock();
            rows.iter().for_each(|row| seen.read(self.hash(table, &row.key), row.version));
        }
        Ok(rows)
    }

    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        self.store.list_keys(table, range).await
    }
}
