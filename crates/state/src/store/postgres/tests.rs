//! Tests with a real PostgreSQL server: the conformance tests, and tests of several replicas.

mod away;
mod lost;
mod notified;
mod present;
mod serializable;
mod server;
mod versions;

use std::collections::BTreeSet;

use super::*;
use crate::store::Expect;
use crate::store::shared::ReplicaChanges;
use crate::store::tests::conformance::conforms;
use server::Server;

conforms!(@together fresh());

/// All stores of a test are on one server, in schemas of their own.
async fn fresh() -> (&'static Server, PostgresStore) {
    let server = Server::shared();
    (server, server.open().await)
}

async fn two() -> (PostgresStore, PostgresStore) {
    let server = Server::shared();
    let database = server.database();
    (server.open_in(&database).await, server.open_in(&database).await)
}

fn row(table: Table, key: &str) -> (Table, String) {
    (table, key.to_owned())
}

/// Collects changes until there are none for a while.
async fn drained(
    store: &PostgresStore,
    position: &mut super::super::shared::ReplicaPosition,
) -> ReplicaChanges {
    let mut all = ReplicaChanges::default();
    loop {
        let (changes, next) = store.changes_after(position).await.unwrap();
        let is_last = next == *position;
        *position = next;
        all.rows.extend(changes.rows);
        all.unknown.extend(changes.unknown);
        if is_last {
            return all;
        }
    }
}

#[tokio::test]
async fn a_replica_gets_the_changes_of_others_and_not_its_own() {
    let (one, other) = two().await;
    let mut position = one.position().await.unwrap();
    one.put(Table::Agents, "o/own", b"x", Expect::Absent).await.unwrap();
    other.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap();
    other.put(Table::Grants, "o/b", b"x", Expect::Any).await.unwrap();
    other.delete(Table::Grants, "o/b", Expect::Any).await.unwrap();
    other.delete(Table::Grants, "o/none", Expect::Any).await.unwrap();
    let resealed = other.get(Table::Agents, "o/a").await.unwrap().unwrap();
    other.reseal(Table::Agents, &resealed, b"y").await.unwrap();
    let all = drained(&one, &mut position).await;
    let expected = [row(Table::Agents, "o/a"), row(Table::Grants, "o/b")];
    assert_eq!((all.rows, all.unknown), (expected.into(), BTreeSet::new()));
}

/// Otherwise a poll could have a change, but not an earlier one of a table that it read before, which the change needs.
#[tokio::test]
async fn a_poll_reads_no_change_that_is_newer_than_its_counters() {
    let (one, other) = two().await;
    let begun = one.position().await.unwrap();
    let (table, key) = row(Table::Sessions, "o/a");
    other.put(table, &key, b"x", Expect::Absent).await.unwrap();
    let now = one.position().await.unwrap();
    let (place, count) = now.0.into_iter().find(|(at, to)| begun.0.get(at) != Some(to)).unwrap();
    other.delete(table, &key, Expect::Any).await.unwrap();
    let mut changes = ReplicaChanges::default();
    let followed = one.follow(place, count..=count, &mut changes).await.unwrap();
    assert_eq!((place.0, followed), (table, count), "the deletion is for the next poll");
    assert_eq!(changes.rows, [row(table, &key)].into());
}

/// With a sequence, a number that is visible before a smaller one would make a poller miss the smaller one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_missed_while_many_writers_commit_in_any_order() {
    const WRITERS: usize = 16;
    const ROWS: usize = 25;
    let (reader, writer) = two().await;
    let (mut position, writer) = (reader.position().await.unwrap(), Arc::new(writer));
    let writers = (0..WRITERS).map(|at| {
        let writer = writer.clone();
        tokio::spawn(async move {
            for row in 0..ROWS {
                let key = format!("o/{at}-{row}");
                writer.put(Table::Agents, &key, b"x", Expect::Absent).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut seen = BTreeSet::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let (changes, next) = reader.changes_after(&position).await.unwrap();
        assert!(changes.unknown.is_empty());
        seen.extend(changes.rows);
        position = next;
    }
    seen.extend(drained(&reader, &mut position).await.rows);
    assert_eq!(seen.len(), WRITERS * ROWS);
}

#[tokio::test]
async fn a_replica_that_was_away_for_too_long_gets_the_tables_to_read_again() {
    let server = Server::shared();
    let database = server.database();
    let (one, other) = (server.open_in(&database).await, server.open_in(&database).await);
    let mut position = one.position().await.unwrap();
    other.put(Table::Agents, "o/a", b"x", Expect::Any).await.unwrap();
    server.sql(&database, "UPDATE keyward_changes SET at = now() - interval '2 hours'");
    other.forget_old().await.unwrap();
    other.put(Table::Agents, "o/a", b"y", Expect::Any).await.unwrap();
    let all = drained(&one, &mut position).await;
    assert_eq!(all.unknown, [Table::Agents].into());
    other.put(Table::Agents, "o/a", b"z", Expect::Any).await.unwrap();
    let all = drained(&one, &mut position).await;
    assert_eq!((all.rows, all.unknown), ([row(Table::Agents, "o/a")].into(), BTreeSet::new()));
}

/// Ends the streams whose statements wait for the table, as a failover or a pooler does, until this many have ended.
async fn cut_waiting(store: &PostgresStore, count: usize) {
    const CUT: &str = "SELECT pid, pg_terminate_backend(pid) FROM pg_locks \
                       WHERE relation = 'keyward_rows'::regclass AND NOT granted";
    let stream = store.pool.stream("cut").await.unwrap();
    let mut cut = BTreeSet::new();
    while cut.len() < count {
        cut.extend(stream.query(CUT, &[]).await.unwrap().iter().map(|row| row.get::<_, i32>(0)));
    }
}

#[tokio::test]
async fn a_read_whose_stream_ends_is_repeated_once() {
    let (store, other) = two().await;
    let (table, key) = row(Table::Agents, "o/a");
    store.put(table, &key, b"x", Expect::Absent).await.unwrap();
    let during = async |cuts| {
        let lock = other.pool.stream("lock").await.unwrap();
        let lock_all = "BEGIN; LOCK TABLE keyward_rows IN ACCESS EXCLUSIVE MODE";
        lock.batch_execute(lock_all).await.unwrap();
        let cut = async {
            cut_waiting(&other, cuts).await;
            lock.batch_execute("ROLLBACK").await.unwrap();
        };
        let limit = std::time::Duration::from_secs(20);
        let (read, cut) = tokio::join!(store.get(table, &key), tokio::time::timeout(limit, cut));
        cut.expect("statements that wait");
        read
    };
    assert_eq!(during(1).await.unwrap().map(|row| row.value), Some(b"x".to_vec()));
    during(2).await.expect_err("the second stream ended too");
}

/// A process that fails to start ends right after that.
#[tokio::test]
async fn a_replica_that_leaves_has_released_its_leases() {
    let (one, other) = two().await;
    let long = Duration::from_secs(3600);
    drop(one.lease("start", long).await.unwrap());
    one.leave().await.unwrap();
    assert!(other.lease("start", long).await.unwrap().is_some());
    assert!(other.is_alone().await.unwrap());
}

#[tokio::test]
async fn a_lease_of_one_replica_excludes_the_other() {
    let (one, other) = two().await;
    let long = Duration::from_secs(3600);
    let held = one.lease("con_1", long).await.unwrap().unwrap();
    assert!(other.lease("con_1", long).await.unwrap().is_none());
    // The lease of the holder expires, and another replica takes it: then the holder has lost it.
    assert!(one.renew_lease(&held, Duration::ZERO).await.unwrap());
    let next = other.lease("con_1", long).await.unwrap().unwrap();
    assert!(!one.renew_lease(&held, long).await.unwrap());
    drop(held);
    assert!(other.renew_lease(&next, long).await.unwrap());
}

/// Excludes all statements about leases until the stream ends the transaction.
const LOCK_LEASES: &str = "BEGIN; LOCK TABLE keyward_leases IN ACCESS EXCLUSIVE MODE";

/// Ends the stream of a release that waits for the lock.
async fn end_a_release(store: &PostgresStore) {
    let end_waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE %'";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.pool.query("end a release", end_waiting, &[]).await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no lease is released");
        tokio::task::yield_now().await;
    }
}

/// Waits until this replica gets the lease.
async fn until_leased(store: &PostgresStore, name: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.lease(name, Duration::from_secs(3600)).await.unwrap().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the lease of {name} is not released");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lease_whose_release_fails_is_released_when_the_database_answers() {
    let (one, other) = two().await;
    let held = one.lease("con_1", Duration::from_secs(3600)).await.unwrap().unwrap();
    let locking = other.pool.stream("hold all leases").await.unwrap();
    locking.batch_execute(LOCK_LEASES).await.unwrap();
    drop(held);
    end_a_release(&other).await;
    locking.batch_execute("ROLLBACK").await.unwrap();
    until_leased(&other, "con_1").await;
}

/// The pool's error has one cause, and the first server is not the one to look at.
#[tokio::test]
async fn an_error_names_the_failure_of_each_server() {
    let server = Server::shared();
    let mut settings = server.settings("postgres");
    let mut config = tokio_postgres::Config::new();
    let absent = settings.database.get_hosts()[0].clone();
    let tokio_postgres::config::Host::Unix(folder) = absent else { panic!("it is on a socket") };
    config.host_path(folder.join("absent")).host_path(&folder).user("unknown").dbname("postgres");
    settings.database = config;
    let refused = PostgresStore::open(settings).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("/absent: error connecting to server: No such file"), "{text}");
    assert!(text.contains("role \"unknown\" does not exist"), "{text}");
    assert!(!refused.is_transient(), "a login was refused");
}

/// A commit that waits for a standby has been made: the end of its stream loses only the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_answer_is_lost_is_released() {
    let server = Server::start();
    let database = server.database();
    let (one, other) = (server.open_in(&database).await, server.open_in(&database).await);
    server.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'absent'");
    server.sql("postgres", "SELECT pg_reload_conf()");
    let leasing = tokio::spawn(async move {
        // The server may need some time to read its configuration again.
        for number in 0.. {
            let name = format!("con_{number}");
            match one.lease(&name, Duration::from_secs(3600)).await {
                Ok(held) => held.expect("a new name").keep_until_expiry(),
                Err(lost) => return (name, lost),
            }
        }
        unreachable!("the loop ends with an error")
    });
    let end_committed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT INTO keyward_leases %'";
    while !leasing.is_finished() {
        other.pool.query("end a commit", end_committed, &[]).await.unwrap();
    }
    let (name, lost) = leasing.await.unwrap();
    assert!(lost.is_outcome_unknown(), "{lost}");
    server.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("postgres", "SELECT pg_reload_conf()");
    until_leased(&other, &name).await;
}

#[tokio::test]
async fn a_replica_knows_whether_it_is_alone() {
    let (one, other) = two().await;
    assert!(!one.is_alone().await.unwrap());
    drop(other);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !one.is_alone().await.unwrap() {
        assert!(tokio::time::Instant::now() < deadline, "it is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stopped_database_is_an_error_within_the_timeout_and_serves_again_afterwards() {
    let server = Server::start();
    let database = server.database();
    let store = server.open_in(&database).await;
    store.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap();
    server.stop();
    let failed = store.put(Table::Agents, "o/b", b"x", Expect::Absent).await.unwrap_err();
    assert!(failed.is_io(), "{failed}");
    server.run();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.get(Table::Agents, "o/a").await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it does not heal");
        tokio::task::yield_now().await;
    }
    assert_eq!(store.get(Table::Agents, "o/a").await.unwrap().unwrap().value, b"x");
}

#[tokio::test]
async fn a_database_that_hangs_fails_calls_after_the_timeout_and_serves_again_afterwards() {
    let server = Server::shared();
    let database = server.database();
    let second = Duration::from_secs(1);
    let settings = PostgresSettings { timeout: second, ..server.settings(&database) };
    let store = PostgresStore::open(settings).await.unwrap();
    let holder = store.pool.stream("hold all rows").await.unwrap();
    let hold = "BEGIN; LOCK TABLE keyward_rows IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(hold).await.unwrap();
    // More calls than streams: those that wait for a stream fail too.
    let calls = (0..20).map(|_| store.get(Table::Agents, "o/a"));
    for failed in futures_util::future::join_all(calls).await {
        assert!(failed.as_ref().is_err_and(StoreError::is_io), "{failed:?}");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert!(store.get(Table::Agents, "o/a").await.unwrap().is_none());
}

/// A pooler may send the next statement to another session.
#[tokio::test]
async fn no_statement_is_prepared_in_a_session() {
    let server = Server::shared();
    // The only stream executes all statements.
    let settings = PostgresSettings { streams_max: 1, ..server.settings(&server.database()) };
    let store = PostgresStore::open(settings).await.unwrap();
    let version = store.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap();
    store.put(Table::Agents, "o/a", b"y", Expect::Version(version)).await.unwrap();
    let row = store.get(Table::Agents, "o/a").await.unwrap().unwrap();
    store.load(vec![(Table::Grants, row)]).await.unwrap();
    store.delete(Table::Agents, "o/a", Expect::Any).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().rows().len(), 1);
    drop(store.lease("con_1", Duration::from_secs(3600)).await.unwrap().unwrap());
    store.keep("n", b"sealed", Duration::from_secs(3600)).await.unwrap();
    store.announce("one").await.unwrap();
    drained(&store, &mut super::super::shared::ReplicaPosition::default()).await;
    let prepared = "SELECT count(*) FROM pg_prepared_statements";
    let count = store.pool.query("count", prepared, &[]).await.unwrap()[0].get::<_, i64>(0);
    assert_eq!(count, 0);
}

/// The announcement of a replica exists as long as the replica, and kept bytes exist for their time.
#[tokio::test]
async fn replicas_see_the_announcements_and_kept_bytes_of_each_other() {
    let (one, other) = two().await;
    one.announce("one").await.unwrap();
    other.announce("first").await.unwrap();
    other.announce("other").await.unwrap();
    let mut all = one.replicas().await.unwrap();
    all.sort_by(|a, b| a.about.cmp(&b.about));
    let told: Vec<_> = all.iter().map(|it| (&*it.about, it.is_own)).collect();
    assert_eq!(told, [("one", true), ("other", false)]);
    assert!(all.iter().all(|it| it.ago < Duration::from_secs(10)));
    one.keep("n", b"sealed", Duration::from_secs(3600)).await.unwrap();
    assert_eq!(other.kept("n").await.unwrap().as_deref(), Some(&b"sealed"[..]));
    one.keep("n", b"sealed", Duration::ZERO).await.unwrap();
    assert_eq!(other.kept("n").await.unwrap(), None);
    drop(other);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while one.replicas().await.unwrap().len() > 1 {
        assert!(tokio::time::Instant::now() < deadline, "it is still listed");
        tokio::task::yield_now().await;
    }
}
