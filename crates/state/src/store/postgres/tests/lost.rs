//! A database that lost changes, as after a failover without synchronous replication: their numbers are given to other
//! changes.

use std::collections::BTreeSet;

use super::*;
use crate::store::shared::ReplicaPosition;

/// The tables of which a copy has the state of an earlier moment.
const TABLES: [&str; 3] = ["keyward_rows", "keyward_counts", "keyward_changes"];

struct Copied {
    server: &'static Server,
    database: String,
}

impl Copied {
    /// Two replicas, and a copy of their database.
    async fn new() -> (Self, PostgresStore, PostgresStore) {
        let server = Server::shared();
        let database = server.database();
        let (one, other) = (server.open_in(&database).await, server.open_in(&database).await);
        other.put(Table::Agents, "o/a", b"first", Expect::Absent).await.unwrap();
        for table in TABLES {
            server.sql(&database, &format!("CREATE TABLE copy_{table} AS SELECT * FROM {table}"));
        }
        (Self { server, database }, one, other)
    }

    /// Loses all changes since the copy.
    fn lose(&self) {
        for table in TABLES {
            let again = format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM copy_{table}");
            self.server.sql(&self.database, &again);
        }
    }
}

async fn put(store: &PostgresStore, value: &[u8]) {
    store.put(Table::Agents, "o/a", value, Expect::Any).await.unwrap();
}

/// The tables that a replica must read again. It looks for lost changes at once.
async fn unknown(store: &PostgresStore, position: &mut ReplicaPosition) -> BTreeSet<Table> {
    *store.next_search.lock() = Instant::now();
    drained(store, position).await.unknown
}

#[tokio::test]
async fn a_replica_notices_changes_that_were_lost_and_replaced_by_as_many_or_more() {
    for more in [1, 2] {
        let (copied, one, other) = Copied::new().await;
        let mut position = one.position().await.unwrap();
        put(&other, b"lost").await;
        assert!(unknown(&one, &mut position).await.is_empty());
        copied.lose();
        for _ in 0..more {
            put(&other, b"after").await;
        }
        assert_eq!(unknown(&one, &mut position).await, [Table::Agents].into(), "{more}");
        assert!(unknown(&one, &mut position).await.is_empty(), "{more}");
    }
}

#[tokio::test]
async fn a_replica_notices_that_its_own_changes_were_lost_before_it_read_them() {
    for more in [0, 1] {
        let (copied, one, other) = Copied::new().await;
        let mut position = one.position().await.unwrap();
        put(&one, b"lost").await;
        copied.lose();
        for _ in 0..more {
            put(&other, b"after").await;
        }
        assert_eq!(unknown(&one, &mut position).await, [Table::Agents].into(), "{more}");
        assert!(unknown(&one, &mut position).await.is_empty(), "{more}");
    }
}

/// Polls fail at the time of a failover.
#[tokio::test]
async fn what_a_failed_poll_has_noticed_is_returned_by_the_next_one() {
    let (copied, one, other) = Copied::new().await;
    let mut position = one.position().await.unwrap();
    put(&one, b"lost").await;
    put(&one, b"lost").await;
    copied.lose();
    put(&other, b"after").await;
    *one.next_search.lock() = Instant::now() + Duration::from_secs(3600);
    let sql = |text| copied.server.sql(&copied.database, text);
    sql("ALTER TABLE keyward_changes RENAME TO away");
    one.changes_after(&position).await.unwrap_err();
    sql("ALTER TABLE away RENAME TO keyward_changes");
    assert_eq!(drained(&one, &mut position).await.unknown, [Table::Agents].into());
}
