//! The tables of the store in PostgreSQL, and their versions. A newer replica adds what it needs; a replica of an older
//! version goes on as long as the database says that it may.

use std::io;

use super::pool::{Failure, Pool, PostgresError};
use crate::store::shared::PARTS;
use crate::store::{StoreError, Table};

/// The version of the tables that this program makes.
const VERSION: i32 = 1;

/// The oldest version whose programs can use these tables.
const OLDEST_PROGRAM: i32 = 1;

/// Replicas that start together make the tables at the same time; all but one fail and try again.
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

/// Makes what is missing, and refuses a database of a newer version.
pub(super) async fn prepare(pool: &Pool) -> Result<(), PostgresError> {
    let mut last = None;
    for _ in 0..TRIES {
        match attempt(pool).await {
            Err(PostgresError::Unusable(failure)) if failure.is_repeated() => last = Some(failure),
            done => return done,
        }
    }
    Err(last.map_or(PostgresError::Interrupted, PostgresError::Unusable))
}

async fn attempt(pool: &Pool) -> Result<(), PostgresError> {
    let stream = pool.connect().await?;
    let is_made = stream
        .query(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() \
                AND table_name IN ('keyward_schema', 'keyward_leases', 'keyward_replicas', 'keyward_kept')",
            &[],
        )
        .await
        .map_err(Failure::of)?
        .len()
        == 4;
    // A role that may not create tables can use those that exist.
    if !is_made {
        stream.batch_execute(TABLES).await.map_err(Failure::of)?;
    }
    let versions = stream
        .query("SELECT oldest_program FROM keyward_schema WHERE id = 1", &[])
        .await
        .map_err(Failure::of)?;
    match versions.first() {
        Some(row) if row.get::<_, i32>(0) > VERSION => {
            return Err(PostgresError::Newer { oldest: row.get(0), known: VERSION });
        }
        Some(_) => {}
        None => {
            let new = "INSERT INTO keyward_schema VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING";
            stream.execute(new, &[&VERSION, &OLDEST_PROGRAM]).await.map_err(Failure::of)?;
        }
    }
    let counted = stream.query("SELECT tbl, part FROM keyward_counts", &[]).await;
    if counted.map_err(Failure::of)?.len() < Table::ALL.len() * usize::from(PARTS) {
        let names: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
        for part in 0..PARTS.cast_signed() {
            let new = "INSERT INTO keyward_counts (tbl, part, n) \
                       SELECT name, $2, 0 FROM unnest($1::text[]) AS name \
                       ON CONFLICT (tbl, part) DO NOTHING";
            stream.execute(new, &[&names, &part]).await.map_err(Failure::of)?;
        }
    }
    Ok(())
}

/// A row of a newer replica, in what must be complete.
pub(super) fn unknown_table(name: &str) -> StoreError {
    let what = format!("it has rows of table {name}, which this version does not know: update it");
    StoreError::Io { action: "read all rows", source: io::Error::other(what) }
}

/// Forgets what no replica needs any more.
pub(super) async fn forget(pool: &Pool) -> Result<(), StoreError> {
    let action = "forget old changes";
    pool.query(action, super::sql::FORGET_CHANGES, &[]).await?;
    pool.query(action, super::sql::FORGET_LEASES, &[]).await?;
    pool.query(action, super::sql::FORGET_KEPT, &[]).await?;
    pool.query(action, super::sql::FORGET_REPLICAS, &[]).await.map(drop)
}
