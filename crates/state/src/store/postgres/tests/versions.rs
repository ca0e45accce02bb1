//! Replicas of several versions on one database, as during a rolling upgrade.

use super::*;
use crate::store::postgres::schema::{MIGRATIONS, Migration};

/// A migration of the next version of Keyward, which only adds.
const ADDS: Migration = Migration {
    version: 4,
    oldest_program: 1,
    sql: "ALTER TABLE keyward_leases ADD COLUMN IF NOT EXISTS note text; \
          CREATE TABLE IF NOT EXISTS keyward_notes (id int PRIMARY KEY)",
};

/// A migration of the version after it: older programs can no longer read the tables.
const CHANGES: Migration = Migration {
    version: 5,
    oldest_program: 5,
    sql: "ALTER TABLE keyward_kept RENAME COLUMN until TO ends",
};

fn present() -> Vec<Migration> {
    MIGRATIONS
        .iter()
        .map(|Migration { version, oldest_program, sql }| Migration {
            version: *version,
            oldest_program: *oldest_program,
            sql,
        })
        .collect()
}

fn and(mut migrations: Vec<Migration>, next: Migration) -> Vec<Migration> {
    migrations.push(next);
    migrations
}

/// Each replica writes, reads, gets the other's change, and holds a lease that the other does not get.
async fn work_together(one: &PostgresStore, other: &PostgresStore) {
    for (writer, reader) in [(one, other), (other, one)] {
        let mut position = reader.position().await.unwrap();
        let row_of = row(Table::Agents, "o/shared");
        let version = writer.put(Table::Agents, "o/shared", b"x", Expect::Any).await.unwrap();
        assert_eq!(drained(reader, &mut position).await.rows, [row_of].into());
        let late = Expect::Version(Version(version.0 - 1));
        assert!(reader.put(Table::Agents, "o/shared", b"y", late).await.is_err());
        let lease = writer.lease("l", Duration::from_secs(60)).await.unwrap().expect("free");
        assert!(reader.lease("l", Duration::from_secs(60)).await.unwrap().is_none());
        assert!(writer.renew_lease(&lease, Duration::ZERO).await.unwrap());
        std::mem::forget(lease);
        writer.announce("{}").await.unwrap();
        assert!(reader.replicas().await.unwrap().iter().any(|it| !it.is_own));
        writer.keep("k", b"sealed", Duration::from_secs(60)).await.unwrap();
        assert_eq!(reader.kept("k").await.unwrap().as_deref(), Some(&b"sealed"[..]));
    }
}

/// Migrates from the first version of the tables to the current one, and then to one that adds.
#[tokio::test]
async fn an_older_replica_goes_on_while_newer_ones_migrate_the_tables() {
    let server = Server::shared();
    let database = server.database();
    let settings = || server.settings(&database);
    let first = PostgresStore::open_with(settings(), &MIGRATIONS[..1]).await.unwrap();
    first.put(Table::Agents, "o/old", b"of the first", Expect::Absent).await.unwrap();
    let present_one = PostgresStore::open(settings()).await.unwrap();
    work_together(&first, &present_one).await;
    let next = PostgresStore::open_with(settings(), &and(present(), ADDS)).await.unwrap();
    work_together(&first, &next).await;
    work_together(&present_one, &next).await;
    let old = next.get(Table::Agents, "o/old").await.unwrap().unwrap();
    assert_eq!(old.value, b"of the first");
    // An older replica can also start again, as after a stopped upgrade, and reverts nothing.
    drop(first);
    let again = PostgresStore::open_with(settings(), &MIGRATIONS[..1]).await.unwrap();
    work_together(&again, &next).await;
    server.sql(&database, "SELECT note FROM keyward_leases; SELECT 1 / count(*) FROM keyward_schema WHERE version = 4");
}

#[tokio::test]
async fn an_older_program_gets_the_version_that_changed_the_tables_and_the_remedy() {
    let server = Server::shared();
    let database = server.database();
    let open = async |migrations: &[Migration]| {
        PostgresStore::open_with(server.settings(&database), migrations).await
    };
    let (adds, changes) = (and(present(), ADDS), and(and(present(), ADDS), CHANGES));
    let running = open(&adds).await.unwrap();
    let refused = open(&changes).await.unwrap_err();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(
        refused.to_string(),
        format!(
            "the database has tables of version 4, this program, Keyward {own}, needs version 5, which running \
             replicas may not know"
        )
    );
    assert!(refused.hint().is_some_and(|hint| hint.contains("stop all replicas")), "{refused:?}");
    // The tables are unchanged, so the running replica still works.
    let lease = running.lease("l", Duration::from_secs(60)).await.unwrap();
    assert!(lease.is_some());
    drop((lease, running));
    server.sql(&database, "DELETE FROM keyward_leases");
    drop(open(&changes).await.unwrap());
    let refused = open(&present()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "the tables of the database are for programs that know version 5 (Keyward {own} changed them), and this \
             program, Keyward {own}, knows version 3"
        )
    );
    assert!(refused.hint().is_some_and(|hint| hint.contains("update this program")), "{refused:?}");
}

/// The replica was paused while a newer program changed the tables, so that program did not see it.
#[tokio::test]
async fn a_running_replica_writes_nothing_after_a_change_that_it_does_not_know() {
    let server = Server::shared();
    let database = server.database();
    let paused = server.open_in(&database).await;
    paused.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap();
    paused.position().await.unwrap();
    assert!(!paused.is_outdated());
    server.sql(&database, "DELETE FROM keyward_leases");
    let changes = Migration { sql: "SELECT 1", ..CHANGES };
    let newer = and(and(present(), ADDS), changes);
    let newer = PostgresStore::open_with(server.settings(&database), &newer).await.unwrap();
    paused.position().await.unwrap();
    assert!(paused.is_outdated());
    let refused = paused.put(Table::Agents, "o/a", b"y", Expect::Any).await.unwrap_err();
    assert!(refused.to_string().contains("update this replica"), "{refused}");
    let row = paused.get(Table::Agents, "o/a").await.unwrap().unwrap();
    assert!(paused.reseal(Table::Agents, &row, b"z").await.is_err());
    assert!(paused.delete(Table::Agents, "o/a", Expect::Any).await.is_err());
    assert!(paused.load(vec![(Table::Agents, row)]).await.is_err());
    assert!(paused.lease("l", Duration::from_secs(60)).await.is_err());
    assert!(paused.keep("k", b"x", Duration::from_secs(60)).await.is_err());
    newer.position().await.unwrap();
    assert_eq!(newer.get(Table::Agents, "o/a").await.unwrap().unwrap().value, b"x");
    newer.put(Table::Agents, "o/a", b"y", Expect::Any).await.unwrap();
}
