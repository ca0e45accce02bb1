//! A store in PostgreSQL, which several replicas share. The statements are plain SQL (`postgres/sql.rs`): commits of
//! rows by compare and swap (`postgres/commit.rs`), rows for leases, and a log of changes that replicas poll. `NOTIFY` only shortens the wait for
//! the next poll. Nothing relies on it, on advisory locks or on the order of sequences, so databases with PostgreSQL's
//! protocol and dialect can be used as well.
//!
//! A statement that fails may have been executed: its caller gets an error and repeats it, and compare-and-swap
//! tells whether it was.

mod change_notice;
mod commit;
mod failure;
mod feed;
mod pool;
mod presence;
mod schema;
mod servers;
mod sql;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::IsolationLevel;

use super::error::{check, conflict};
use super::shared::PARTS;
use super::{
    Lease, Row, RowRange, SharedStore, Snapshot, Store, StoreError, Table, Version, Write,
};
use change_notice::{
    ChangeNotice, KnownChange, KnownChanges, Listening, POLL, Place, random_number,
};
pub use failure::PostgresError;
use failure::failed;
use pool::PostgresPool;
pub use pool::PostgresSettings;
use presence::ReplicaPresence;
use schema::KnownVersion;
use sql::Parameter;

/// A store in PostgreSQL.
pub struct PostgresStore {
    pool: PostgresPool,
    notice: Arc<ChangeNotice>,
    presence: ReplicaPresence,
    version: KnownVersion,
    listening: OnceLock<Listening>,
    /// The poll interval without a notification.
    poll: Duration,
    /// The earliest time of the next poll of the feed.
    next_poll: Mutex<Instant>,
    known: Mutex<KnownChanges>,
    /// The earliest time of the next search for lost changes.
    next_search: Mutex<Instant>,
    /// Leases that are being released.
    releases: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl PostgresStore {
    /// Connects, and makes or updates the tables.
    ///
    /// # Errors
    /// When the database cannot be reached, refuses the login, or belongs to a newer version of Keyward.
    pub async fn open(settings: PostgresSettings) -> Result<Self, PostgresError> {
        Self::open_with(settings, schema::MIGRATIONS).await
    }

    /// Like [`Self::open`], for a program with these migrations.
    async fn open_with(
        settings: PostgresSettings,
        migrations: &[schema::Migration],
    ) -> Result<Self, PostgresError> {
        let notice = Arc::new(ChangeNotice::new().map_err(PostgresError::Store)?);
        let pool = PostgresPool::new(settings, &notice)?;
        schema::prepare(&pool, migrations).await?;
        let presence = ReplicaPresence::begin(&pool).await?;
        let version = KnownVersion::of(migrations);
        let (listening, known, now) = (OnceLock::new(), Mutex::default(), Instant::now());
        let (poll, next_poll, next_search) = (POLL, Mutex::new(now), Mutex::new(now));
        let releases = Arc::default();
        Ok(Self {
            pool,
            notice,
            presence,
            version,
            listening,
            poll,
            next_poll,
            known,
            next_search,
            releases,
        })
    }

    /// Remembers a committed change of this replica.
    fn made(&self, place: Place, change: KnownChange) {
        self.known.lock().made(place, change);
        self.notice.committed.notify_one();
    }
}

/// The half of a lease's number that is random.
const LOWER: i64 = u32::MAX as i64;

/// The pause before a lease is released again after a failure.
const RELEASE_AGAIN: Duration = Duration::from_millis(500);

impl PostgresStore {
    /// Takes a lease, which ends with a replica. The number distinguishes two holders of one name: the holder may renew
    /// and release the lease until another holder replaces the number.
    async fn claim_lease(
        &self,
        name: &str,
        number: i64,
        ttl: Duration,
        replica: Option<i64>,
    ) -> Result<Option<Lease>, StoreError> {
        self.version.may_write("take a lease")?;
        // Made before the statement: if the answer is lost or the caller stops waiting, the lease may be held, and is
        // released.
        let lease = self.released_when_dropped(name, number, ttl);
        let seconds = ttl.as_secs_f64();
        let parameters: [&dyn Parameter; 4] = [&name.as_bytes(), &number, &seconds, &replica];
        let taken = self.pool.query("take a lease", sql::LEASE, &parameters).await;
        let is_not_held =
            taken.as_ref().map_or_else(|error| !error.is_outcome_unknown(), Vec::is_empty);
        if is_not_held {
            // There is nothing to release.
            lease.keep_until_expiry();
            return taken.map(|_| None);
        }
        taken.map(|_| Some(lease))
    }

    /// A lease whose release is repeated until it would have expired: the failure of one statement must not exclude all
    /// replicas for that time.
    fn released_when_dropped(&self, name: &str, number: i64, ttl: Duration) -> Lease {
        let (pool, held, releases) =
            (self.pool.clone(), name.to_owned(), Arc::clone(&self.releases));
        let release = move || {
            let Ok(runtime) = Handle::try_current() else { return };
            let until = Instant::now() + ttl;
            let release = runtime.spawn(async move {
                let parameters: [&dyn Parameter; 2] = [&held.as_bytes(), &number];
                while let Err(error) = pool.query("end a lease", sql::RELEASE, &parameters).await {
                    tracing::debug!(%error, lease = held, "a lease is not released yet");
                    if Instant::now() >= until {
                        break;
                    }
                    tokio::time::sleep(RELEASE_AGAIN).await;
                }
            });
            let mut releases = releases.lock();
            releases.retain(|release| !release.is_finished());
            releases.push(release);
        };
        Lease::new(name, number.cast_unsigned(), release)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

/// The part of its table in which changes of a row are counted. Every replica must compute the same part.
fn part_of(key: &str) -> u16 {
    (crc32fast::hash(key.as_bytes()) % u32::from(PARTS)) as u16
}

/// Versions are stored as signed numbers with the same bits, because SQL has no unsigned ones.
fn version(stored: i64) -> Version {
    Version(stored.cast_unsigned())
}

/// The first key of a page, and the key after the last one. Keys are visible ASCII, so that a byte 0 follows every key, and
/// 0xff every key of a prefix.
fn between(prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let from = match after {
        Some(after) if after >= prefix => [after.as_bytes(), b"\0"].concat(),
        _ => prefix.into(),
    };
    (from, [prefix.as_bytes(), b"\xff"].concat())
}

fn key(table: Table, stored: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(stored.to_vec()).map_err(|_| StoreError::Corrupt {
        table: table.name(),
        key: stored.escape_ascii().to_string(),
    })
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let place: [&dyn Parameter; 2] = [&table.name(), &key.as_bytes()];
        let rows = self.pool.query("read a row", sql::GET, &place).await?;
        let row = rows.into_iter().next().map(|row| Row {
            key: key.to_owned(),
            version: version(row.get(0)),
            value: row.get(1),
        });
        Ok(row)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        writes.iter().try_for_each(Write::check)?;
        self.commit_rows(&writes).await
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        check(table, &row.key, value)?;
        self.version.may_write("seal a row again")?;
        let (name, at, over) = (table.name(), row.key.as_bytes(), row.version.0.cast_signed());
        let parameters: [&dyn Parameter; 5] = [&name, &at, &over, &row.value.as_slice(), &value];
        let done = self.pool.query("seal a row again", sql::RESEAL, &parameters).await?;
        match done.is_empty() {
            true => Err(conflict(table, &row.key)),
            false => Ok(()),
        }
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        let (from, to) = between(range.prefix, range.after);
        let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
        let parameters: [&dyn Parameter; 4] = [&table.name(), &from, &to, &limit];
        let rows = self.pool.query("list rows", sql::LIST, &parameters).await?;
        let row = |row: tokio_postgres::Row| {
            Ok(Row {
                key: key(table, row.get(0))?,
                version: version(row.get(1)),
                value: row.get(2),
            })
        };
        rows.into_iter().map(row).collect()
    }

    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        let (from, to) = between(range.prefix, range.after);
        let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
        let parameters: [&dyn Parameter; 4] = [&table.name(), &from, &to, &limit];
        let rows = self.pool.query("list keys", sql::LIST_KEYS, &parameters).await?;
        rows.into_iter().map(|row| Ok((key(table, row.get(0))?, version(row.get(1))))).collect()
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let action = "read all rows";
        let mut stream = self.pool.stream(action).await?;
        let begun = stream
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start();
        let transaction = begun.await.map_err(|error| failed(action, &error))?;
        // The time depends on the number of rows, so it is not limited.
        let unbounded = transaction.batch_execute("SET LOCAL statement_timeout = 0");
        unbounded.await.map_err(|error| failed(action, &error))?;
        let read =
            transaction.query_typed(sql::ALL, &[]).await.map_err(|error| failed(action, &error))?;
        transaction.commit().await.map_err(|error| failed(action, &error))?;
        let mut rows = Vec::with_capacity(read.len());
        for row in read {
            let name: &str = row.get(0);
            let table = Table::named(name).ok_or_else(|| schema::unknown_table(name))?;
            let (key, version) = (key(table, row.get(1))?, version(row.get(2)));
            rows.push((table, Row { key, version, value: row.get(3) }));
        }
        rows.sort_by(|(a, one), (b, other)| (a, &one.key).cmp(&(b, &other.key)));
        Ok(Snapshot::new(rows))
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        // Half of the number shows the replica.
        let replica = self.presence.number();
        let number = (replica & !LOWER) | (random_number()? & LOWER);
        self.claim_lease(name, number, ttl, Some(replica)).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        let (name, number) = (lease.name().as_bytes(), lease.number().cast_signed());
        let parameters: [&dyn Parameter; 3] = [&name, &number, &ttl.as_secs_f64()];
        Ok(!self.pool.query("renew a lease", sql::RENEW, &parameters).await?.is_empty())
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        loop {
            let position = self.position().await?;
            let counts = position.0.iter().filter(|((of, _), _)| *of == table);
            let count = Version(1 + counts.map(|(_, count)| count).sum::<u64>());
            if count > seen {
                return Ok(count);
            }
            tokio::time::sleep(self.poll).await;
        }
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[cfg(feature = "real")]
#[cfg(test)]
mod tests;
