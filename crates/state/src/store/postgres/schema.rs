//! The tables of the store in PostgreSQL, and their versions. A newer replica migrates them when it starts; a replica
//! of an older version keeps running as long as the database permits its version.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use deadpool_postgres::Client;

use super::failure::{PostgresError, PostgresFailure};
use super::pool::PostgresPool;
use super::sql::typed;
use crate::store::shared::PARTS;
use crate::store::{StoreError, Table};

/// A change of the tables. Migrations of later versions only add, so that replicas of the previous version keep running
/// during an upgrade. A migration that does more raises `oldest_program`.
pub(super) struct Migration {
    /// The version of the tables afterwards.
    pub(super) version: i32,
    /// The oldest version whose programs can use the tables afterwards.
    pub(super) oldest_program: i32,
    /// The statements, which may run twice, because two replicas may start at the same time.
    pub(super) sql: &'static str,
}

/// All migrations, in order. The first one creates the tables.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, oldest_program: 1, sql: TABLES },
    // Stores which program made the last change, for the error of an older program.
    Migration {
        version: WITH_PROGRAM,
        oldest_program: 1,
        sql: "ALTER TABLE keyward_schema ADD COLUMN IF NOT EXISTS program text",
    },
    // The replica with which a lease ends.
    Migration {
        version: 3,
        oldest_program: 1,
        sql: "ALTER TABLE keyward_leases ADD COLUMN IF NOT EXISTS replica bigint",
    },
];

/// From this version on, the tables contain the version of the program that changed them last.
const WITH_PROGRAM: i32 = 2;

/// How often the creation of the tables is tried: of several replicas that start together, all but one fail and retry.
const TRIES: usize = 10;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS keyward_schema (
    id int PRIMARY KEY, version int NOT NULL, oldest_program int NOT NULL);
CREATE TABLE IF NOT EXISTS keyward_rows (
    tbl text NOT NULL, key bytea NOT NULL, version bigint NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (tbl, key));
CREATE TABLE IF NOT EXISTS keyward_counts (
    tbl text NOT NULL, part smallint NOT NULL, n bigint NOT NULL, PRIMARY KEY (tbl, part));
CREATE TABLE IF NOT EXISTS keyward_changes (
    tbl text NOT NULL, part smallint NOT NULL, n bigint NOT NULL, key bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tbl, part, n));
CREATE TABLE IF NOT EXISTS keyward_leases (
    name bytea PRIMARY KEY, holder bigint NOT NULL, until timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS keyward_replicas (
    name bytea PRIMARY KEY, about text NOT NULL, seen timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS keyward_kept (
    name bytea PRIMARY KEY, value bytea NOT NULL, until timestamptz NOT NULL);
";

/// The versions that are stored in the database.
struct SchemaState {
    version: i32,
    oldest_program: i32,
}

/// The version that this program knows, compared with the database while the program runs: a newer program may have
/// changed the tables while this replica was paused or cut off.
#[derive(Debug)]
pub(super) struct KnownVersion {
    known: i32,
    /// The oldest version whose programs may write.
    oldest: AtomicI64,
}

impl KnownVersion {
    pub(super) fn of(migrations: &[Migration]) -> Self {
        let known = migrations.last().map_or(1, |last| last.version);
        Self { known, oldest: AtomicI64::new(0) }
    }

    /// Updates the oldest permitted version from the database.
    pub(super) fn see(&self, oldest: i64) {
        let before = self.oldest.swap(oldest, Relaxed);
        if oldest > self.known.into() && oldest != before {
            tracing::error!(
                id = "store_newer",
                oldest,
                known = self.known,
                "a newer version of Keyward changed the tables of the store: this replica writes nothing any more, update it"
            );
        }
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.oldest.load(Relaxed) > self.known.into()
    }

    pub(super) fn may_write(&self, action: &'static str) -> Result<(), StoreError> {
        match self.is_outdated() {
            false => Ok(()),
            true => {
                let what = "a newer version of Keyward changed the tables: update this replica";
                Err(StoreError::Unreached { action, source: io::Error::other(what) })
            }
        }
    }
}

/// Creates missing tables, and refuses a database that only newer programs can use.
pub(super) async fn prepare(
    pool: &PostgresPool,
    migrations: &[Migration],
) -> Result<(), PostgresError> {
    let mut last = None;
    for _ in 0..TRIES {
        match attempt(pool, migrations).await {
            Err(PostgresError::Unusable(failure)) if failure.is_repeated() => last = Some(failure),
            done => return done,
        }
    }
    Err(last.map_or(PostgresError::Interrupted, PostgresError::Unusable))
}

async fn attempt(pool: &PostgresPool, migrations: &[Migration]) -> Result<(), PostgresError> {
    let mut stream = pool.connect().await?;
    let is_made = stream
        .query_typed(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() \
                AND table_name IN ('keyward_schema', 'keyward_leases', 'keyward_replicas', 'keyward_kept')",
            &[],
        )
        .await
        .map_err(PostgresFailure::of)?
        .len()
        == 4;
    // A role that may not create tables can use those that exist.
    if !is_made {
        stream.batch_execute(TABLES).await.map_err(PostgresFailure::of)?;
    }
    let new = "INSERT INTO keyward_schema (id, version, oldest_program) VALUES (1, 1, 1) \
               ON CONFLICT (id) DO NOTHING";
    let mut found = match found(&stream).await? {
        Some(found) => found,
        None => {
            stream.batch_execute(new).await.map_err(PostgresFailure::of)?;
            SchemaState { version: 1, oldest_program: 1 }
        }
    };
    let known = migrations.last().map_or(1, |last| last.version);
    if found.oldest_program > known {
        let by = changed_by(&stream, &found).await?;
        return Err(PostgresError::Newer { oldest: found.oldest_program, known, by });
    }
    for migration in migrations {
        if migration.version > found.version {
            migrate(&mut stream, migration, &found).await?;
            found = SchemaState {
                version: migration.version,
                oldest_program: migration.oldest_program,
            };
        }
    }
    add_counts(&stream).await
}

async fn found(stream: &Client) -> Result<Option<SchemaState>, PostgresError> {
    let rows = stream
        .query_typed("SELECT version, oldest_program FROM keyward_schema WHERE id = 1", &[])
        .await
        .map_err(PostgresFailure::of)?;
    Ok(rows.first().map(|row| SchemaState { version: row.get(0), oldest_program: row.get(1) }))
}

/// The version of Keyward that changed the tables last.
async fn changed_by(stream: &Client, found: &SchemaState) -> Result<String, PostgresError> {
    let unknown = || "unknown".to_owned();
    if found.version < WITH_PROGRAM {
        return Ok(unknown());
    }
    let rows = stream.query_typed("SELECT program FROM keyward_schema WHERE id = 1", &[]).await;
    let rows = rows.map_err(PostgresFailure::of)?;
    Ok(rows.first().and_then(|row| row.get(0)).unwrap_or_else(unknown))
}

/// One migration as one transaction.
async fn migrate(
    stream: &mut Client,
    migration: &Migration,
    found: &SchemaState,
) -> Result<(), PostgresError> {
    let transaction = stream.transaction().await.map_err(PostgresFailure::of)?;
    if migration.oldest_program > found.version {
        // Running replicas may be of the previous version.
        let running = transaction.query_typed(super::sql::REPLICAS_RUNNING, &[]).await;
        if !running.map_err(PostgresFailure::of)?.is_empty() {
            return Err(PostgresError::OlderRunning {
                found: found.version,
                needed: migration.version,
            });
        }
    }
    transaction.batch_execute(migration.sql).await.map_err(PostgresFailure::of)?;
    let reached = "UPDATE keyward_schema SET version = $1, oldest_program = $2 \
                   WHERE id = 1 AND version < $1";
    let Migration { version, oldest_program, .. } = migration;
    let reached = transaction.execute_typed(reached, &typed(&[version, oldest_program])).await;
    if reached.map_err(PostgresFailure::of)? > 0 && *version >= WITH_PROGRAM {
        let by = env!("CARGO_PKG_VERSION");
        let named = "UPDATE keyward_schema SET program = $1 WHERE id = 1";
        transaction.execute_typed(named, &typed(&[&by])).await.map_err(PostgresFailure::of)?;
    }
    transaction.commit().await.map_err(PostgresFailure::of)?;
    Ok(())
}

/// Creates the counters of the tables that this program knows.
async fn add_counts(stream: &Client) -> Result<(), PostgresError> {
    let counted = stream.query_typed("SELECT tbl, part FROM keyward_counts", &[]).await;
    if counted.map_err(PostgresFailure::of)?.len() < Table::ALL.len() * usize::from(PARTS) {
        let names: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
        for part in 0..PARTS.cast_signed() {
            let new = "INSERT INTO keyward_counts (tbl, part, n) \
                       SELECT name, $2, 0 FROM unnest($1::text[]) AS name \
                       ON CONFLICT (tbl, part) DO NOTHING";
            stream
                .execute_typed(new, &typed(&[&names, &part]))
                .await
                .map_err(PostgresFailure::of)?;
        }
    }
    Ok(())
}

/// The error for a row in an unknown table of a newer program, where all rows are needed.
pub(super) fn unknown_table(name: &str) -> StoreError {
    let what = format!("it has rows of table {name}, which this version does not know: update it");
    StoreError::Io { action: "read all rows", source: io::Error::other(what) }
}

/// Deletes old rows that no replica needs.
pub(super) async fn forget(pool: &PostgresPool) -> Result<(), StoreError> {
    let action = "forget old changes";
    pool.query(action, super::sql::FORGET_CHANGES, &[]).await?;
    pool.query(action, super::sql::FORGET_LEASES, &[]).await?;
    pool.query(action, super::sql::FORGET_KEPT, &[]).await?;
    pool.query(action, super::sql::FORGET_REPLICAS, &[]).await.map(drop)
}
