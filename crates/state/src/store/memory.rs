//! A store in memory: for tests, and for gateways that must not persist anything.

mod replica;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{check, conflict};
use super::lease::{Lease, Leases};
use super::watch::ChangeCounters;
use super::{Expect, Row, RowRange, Snapshot, Store, StoreError, Table, Version};
pub use replica::MemoryReplica;

/// A store in memory, which ends with the process.
#[derive(Debug)]
pub struct MemoryStore {
    rows: Mutex<BTreeMap<(Table, String), MemoryRow>>,
    leases: Leases,
    changes: ChangeCounters,
}

#[derive(Debug)]
struct MemoryRow {
    version: Version,
    value: Vec<u8>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { rows: Mutex::default(), leases: Leases::default(), changes: ChangeCounters::new() }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRow {
    fn row(&self, key: &str) -> Row {
        Row { key: key.to_owned(), value: self.value.clone(), version: self.version }
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        Ok(self.rows.lock().get(&(table, key.to_owned())).map(|kept| kept.row(key)))
    }

    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError> {
        check(table, key, value)?;
        let at = (table, key.to_owned());
        let mut rows = self.rows.lock();
        let version = expect.admits(table, key, rows.get(&at).map(|kept| kept.version))?;
        rows.insert(at, MemoryRow { version, value: value.to_vec() });
        drop(rows);
        self.changes.count(table);
        Ok(version)
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        check(table, &row.key, value)?;
        let mut rows = self.rows.lock();
        let found = rows.get_mut(&(table, row.key.clone()));
        match found.filter(|kept| kept.version == row.version && kept.value == row.value) {
            Some(kept) => kept.value = value.to_vec(),
            None => return Err(conflict(table, &row.key)),
        }
        Ok(())
    }

    async fn delete(&self, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        let at = (table, key.to_owned());
        let mut rows = self.rows.lock();
        expect.admits(table, key, rows.get(&at).map(|kept| kept.version))?;
        let removed = rows.remove(&at);
        drop(rows);
        if removed.is_some() {
            self.changes.count(table);
        }
        Ok(())
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        let RowRange { prefix, after, limit } = range;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded((table, after.to_owned())),
            _ => Bound::Included((table, prefix.to_owned())),
        };
        let rows = self.rows.lock();
        let listed = rows
            .range((from, Bound::Unbounded))
            .take_while(|((of, key), _)| *of == table && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), kept)| kept.row(key));
        Ok(listed.collect())
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let rows = self.rows.lock();
        let rows = rows.iter().map(|((table, key), kept)| (*table, kept.row(key)));
        Ok(Snapshot::new(rows.collect()))
    }

    async fn load(&self, rows: Vec<(Table, Row)>) -> Result<(), StoreError> {
        for (table, Row { key, value, version }) in rows {
            check(table, &key, &value)?;
            match self.rows.lock().entry((table, key)) {
                Entry::Vacant(free) => drop(free.insert(MemoryRow { version, value })),
                Entry::Occupied(taken) => return Err(conflict(table, &taken.key().1)),
            }
            self.changes.count(table);
        }
        Ok(())
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        Ok(self.leases.claim(name, ttl))
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.leases.renew(lease, ttl))
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        Ok(self.changes.after(table, seen).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::conformance::conforms;

    conforms!(std::future::ready(((), MemoryStore::new())));
}
