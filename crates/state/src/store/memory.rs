//! A store in memory: for tests, and for gateways that must not persist anything. [`MemoryReplica`]: one of several
//! replicas of one store in memory, with the feed of the changes by other replicas. For simulations: it has the
//! guarantees of `PostgresStore`, without a database.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{check, conflict};
use super::lease::{Lease, Leases};
use super::shared::{AnnouncedReplica, KeptBytes, ReplicaChanges, ReplicaPosition, SharedStore};
use super::watch::ChangeCounters;
use super::{Row, RowRange, Snapshot, Store, StoreError, StoreWrapper, Table, Version, Write};

/// The longest wait for changes, as with a database.
const POLL: Duration = Duration::from_secs(1);

/// Marks a change that no replica recognises as its own.
const NO_REPLICA: usize = usize::MAX;

/// The key of the length of the log in a [`ReplicaPosition`].
const LOG: (Table, u16) = (Table::Meta, 0);

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

/// The version of the row that a write names, or of one below its key.
fn version_for(rows: &BTreeMap<(Table, String), MemoryRow>, write: &Write) -> Option<Version> {
    let at = (write.table(), write.key().to_owned());
    match write {
        Write::NoneBelow { .. } => {
            let next = rows.range(&at..).next();
            let below = next.filter(|((table, key), _)| *table == at.0 && key.starts_with(&at.1));
            below.map(|(_, row)| row.version)
        }
        _ => rows.get(&at).map(|row| row.version),
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        Ok(self.rows.lock().get(&(table, key.to_owned())).map(|kept| kept.row(key)))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        writes.iter().try_for_each(Write::check)?;
        let mut rows = self.rows.lock();
        let admitted: Result<Vec<_>, _> =
            writes.iter().map(|write| write.admits(version_for(&rows, write))).collect();
        let (mut versions, mut changed) = (Vec::new(), Vec::new());
        for (write, version) in writes.into_iter().zip(admitted?) {
            match write {
                Write::Put { table, key, value, .. } => {
                    rows.insert((table, key), MemoryRow { version, value });
                    versions.push(version);
                    changed.push(table);
                }
                Write::Delete { table, key, .. } => {
                    changed.extend(rows.remove(&(table, key)).map(|_| table));
                }
                Write::Exists { .. } | Write::NoneBelow { .. } => {}
            }
        }
        drop(rows);
        changed.into_iter().for_each(|table| self.changes.count(table));
        Ok(versions)
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

/// A replica of a store in memory.
pub struct MemoryReplica {
    shared: Arc<SharedRows>,
    number: usize,
}

struct SharedRows {
    rows: MemoryStore,
    log: Mutex<Vec<LoggedChange>>,
    length: watch::Sender<u64>,
    replicas: AtomicUsize,
    announced: Mutex<BTreeMap<usize, (String, Instant)>>,
    kept: Mutex<BTreeMap<String, (Vec<u8>, Instant)>>,
}

struct LoggedChange {
    by: usize,
    table: Table,
    key: String,
}

impl MemoryReplica {
    /// The first replica of an empty store.
    pub fn first() -> Self {
        let shared = SharedRows {
            rows: MemoryStore::new(),
            log: Mutex::default(),
            length: watch::Sender::new(0),
            replicas: AtomicUsize::new(1),
            announced: Mutex::default(),
            kept: Mutex::default(),
        };
        Self { shared: Arc::new(shared), number: 0 }
    }

    /// Another replica of the same store.
    #[must_use]
    pub fn another(&self) -> Self {
        let number = self.shared.replicas.fetch_add(1, Ordering::SeqCst);
        Self { shared: self.shared.clone(), number }
    }

    /// Simulates a lost answer to a write: the replica does not recognise the change as its own, and gets it from the
    /// feed. The same happens when a database fails between the write and its answer.
    pub fn answer_lost(&self, table: Table, key: &str) {
        self.log_by(NO_REPLICA, table, key);
    }

    fn log(&self, table: Table, key: &str) {
        self.log_by(self.number, table, key);
    }

    fn log_by(&self, by: usize, table: Table, key: &str) {
        let mut log = self.shared.log.lock();
        log.push(LoggedChange { by, table, key: key.to_owned() });
        self.shared.length.send_replace(log.len() as u64);
    }

    fn reached(length: u64) -> ReplicaPosition {
        ReplicaPosition(BTreeMap::from([(LOG, length)]))
    }
}

impl fmt::Debug for MemoryReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReplica").field("number", &self.number).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl StoreWrapper for MemoryReplica {
    fn inner(&self) -> &dyn Store {
        &self.shared.rows
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let changed = writes.iter().filter_map(Write::changed);
        let changed: Vec<_> = changed.map(|(table, key)| (table, key.to_owned())).collect();
        let versions = self.shared.rows.commit(writes).await?;
        changed.iter().for_each(|(table, key)| self.log(*table, key));
        Ok(versions)
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl SharedStore for MemoryReplica {
    async fn position(&self) -> Result<ReplicaPosition, StoreError> {
        Ok(Self::reached(self.shared.log.lock().len() as u64))
    }

    async fn changes_after(
        &self,
        position: &ReplicaPosition,
    ) -> Result<(ReplicaChanges, ReplicaPosition), StoreError> {
        let from = position.0.get(&LOG).copied().unwrap_or_default();
        let mut length = self.shared.length.subscribe();
        // Returns without a change after this time, so that the caller knows that the store answers.
        drop(tokio::time::timeout(POLL, length.wait_for(|length| *length > from)).await);
        let log = self.shared.log.lock();
        let others = log[from as usize..].iter().filter(|change| change.by != self.number);
        let rows = others.map(|change| (change.table, change.key.clone())).collect();
        Ok((ReplicaChanges { rows, ..ReplicaChanges::default() }, Self::reached(log.len() as u64)))
    }

    async fn is_alone(&self) -> Result<bool, StoreError> {
        Ok(self.shared.replicas.load(Ordering::SeqCst) == 1)
    }

    async fn claim_once(&self, name: &str, life: Duration) -> Result<bool, StoreError> {
        Ok(self.lease(name, life).await?.map(Lease::keep_until_expiry).is_some())
    }

    async fn announce(&self, about: &str) -> Result<(), StoreError> {
        let announced = (about.to_owned(), Instant::now());
        self.shared.announced.lock().insert(self.number, announced);
        Ok(())
    }

    async fn replicas(&self) -> Result<Vec<AnnouncedReplica>, StoreError> {
        let announced = self.shared.announced.lock();
        let all = announced.iter().map(|(number, (about, at))| AnnouncedReplica {
            is_own: *number == self.number,
            about: about.clone(),
            ago: at.elapsed(),
            seen: None,
        });
        Ok(all.collect())
    }

    async fn keep(&self, name: &str, sealed: &[u8], life: Duration) -> Result<(), StoreError> {
        let kept = (sealed.to_vec(), Instant::now() + life);
        self.shared.kept.lock().insert(name.to_owned(), kept);
        Ok(())
    }

    async fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let all = self.shared.kept.lock();
        let found = all.get(name).filter(|(_, until)| *until > Instant::now());
        Ok(found.map(|(sealed, _)| sealed.clone()))
    }

    async fn kept_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let all = self.shared.kept.lock();
        let current = all.iter().filter(|(_, (_, until))| *until > Instant::now());
        let names = current.map(|(name, _)| name).filter(|name| name.starts_with(prefix));
        Ok(names.cloned().collect())
    }

    async fn kept_within(
        &self,
        prefix: &str,
        life: Duration,
        within: Duration,
    ) -> Result<Vec<KeptBytes>, StoreError> {
        let now = Instant::now();
        let all = self.shared.kept.lock();
        let kept = all.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(name, kept)| {
            let ago = life.saturating_sub(kept.1.saturating_duration_since(now));
            KeptBytes { name: name.clone(), sealed: kept.0.clone(), ago }
        });
        Ok(kept.filter(|kept| kept.ago < within.min(life)).collect())
    }

    async fn forget_old(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Expect;
    use crate::store::tests::conformance::conforms;

    conforms!(std::future::ready(((), MemoryStore::new())));

    mod of_a_replica {
        use super::*;

        conforms!(std::future::ready(((), MemoryReplica::first())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_gets_the_changes_of_others_and_not_its_own() {
        let one = MemoryReplica::first();
        let other = one.another();
        let begun = one.position().await.unwrap();
        one.put(Table::Agents, "o/own", b"x", Expect::Any).await.unwrap();
        other.put(Table::Agents, "o/a", b"x", Expect::Any).await.unwrap();
        let (changes, reached) = one.changes_after(&begun).await.unwrap();
        assert_eq!(changes.rows, [(Table::Agents, "o/a".to_owned())].into());
        assert!(one.changes_after(&reached).await.unwrap().0.is_empty());
        assert!(!one.is_alone().await.unwrap());
    }
}
