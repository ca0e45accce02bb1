//! Conformance tests of store backends; [`conforms!`] runs them for one backend. Tests of restarts are with the
//! backends that persist.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::{Expect, Row, RowRange, Store, StoreError, Table, VALUE_BYTES_MAX, Version};

pub(in crate::store) use super::commits::*;

const LONG: Duration = Duration::from_secs(3600);

/// One test per guarantee. `$open` is a future of `(a guard that must outlive the store, the store)`. With `@together`, one
/// test for all, each with a store of its own: for backends that take long to start.
macro_rules! conforms {
    (@each $open:expr; $($claim:ident)*) => {$(
        #[tokio::test]
        async fn $claim() {
            let (_guard, store) = $open.await;
            $crate::store::tests::conformance::$claim(std::sync::Arc::new(store)).await;
        }
    )*};
    (@all $open:expr; $($claim:ident)*) => {
        #[tokio::test]
        async fn conforms() {
            $(
                let (_guard, store) = $open.await;
                println!("{}", stringify!($claim));
                $crate::store::tests::conformance::$claim(std::sync::Arc::new(store)).await;
            )*
        }
    };
    (@together $open:expr) => {
        $crate::store::tests::conformance::conforms! { @list all $open }
    };
    (@list $how:ident $open:expr) => {
        $crate::store::tests::conformance::conforms! { @$how $open;
            an_absent_row_is_none
            a_write_with_an_unmet_precondition_changes_nothing
            a_commit_with_one_unmet_precondition_changes_nothing
            a_commit_changes_all_of_its_rows
            no_row_is_added_below_a_row_that_a_commit_has_deleted
            concurrent_commits_of_the_same_rows_in_any_order_are_made_one_after_the_other
            versions_count_writes_and_restart_after_a_delete
            deleting_an_absent_row_fails_only_with_a_version
            invalid_keys_are_refused
            values_over_the_limit_are_refused_and_megabytes_are_kept
            equal_keys_in_different_tables_are_separate_rows
            paging_gives_every_row_once_in_order
            only_keys_with_the_prefix_are_listed
            a_held_lease_excludes_others_until_dropped
            a_lease_ends_by_itself
            a_lease_ends_by_the_time_of_its_last_renewal
            a_lease_that_has_ended_is_renewed_unless_another_holder_had_it
            a_lease_that_another_holder_released_is_not_renewed
            concurrent_counters_lose_no_step
            two_hundred_writers_of_one_new_row_have_one_winner
            watchers_are_notified_of_changes
            only_an_unchanged_row_is_resealed_and_it_keeps_its_version
            a_snapshot_is_consistent_while_pairs_of_rows_are_written
            loaded_rows_keep_their_versions_and_replace_nothing
        }
    };
    ($open:expr) => {
        $crate::store::tests::conformance::conforms! { @list each $open }
    };
}
pub(in crate::store) use conforms;

fn is_conflict<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict { .. }))
}

async fn keys(
    store: &Arc<dyn Store>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<String> {
    let range = RowRange { prefix, after, limit };
    let rows = store.list(Table::Agents, range).await.unwrap();
    let listed: Vec<_> = rows.into_iter().map(|row| (row.key, row.version)).collect();
    assert_eq!(store.list_keys(Table::Agents, range).await.unwrap(), listed);
    listed.into_iter().map(|(key, _)| key).collect()
}

pub(in crate::store) async fn an_absent_row_is_none(store: Arc<dyn Store>) {
    assert!(store.get(Table::Agents, "o/a").await.unwrap().is_none());
    assert!(store.list(Table::Agents, RowRange::first(10)).await.unwrap().is_empty());
}

pub(in crate::store) async fn a_write_with_an_unmet_precondition_changes_nothing(
    store: Arc<dyn Store>,
) {
    let (table, key) = (Table::Agents, "o/a");
    assert!(is_conflict(store.put(table, key, b"x", Expect::Version(Version(1))).await));
    store.put(table, key, b"one", Expect::Absent).await.unwrap();
    assert!(is_conflict(store.put(table, key, b"x", Expect::Absent).await));
    for wrong in [0, 2, u64::MAX] {
        assert!(is_conflict(store.put(table, key, b"x", Expect::Version(Version(wrong))).await));
        assert!(is_conflict(store.delete(table, key, Expect::Version(Version(wrong))).await));
    }
    assert!(is_conflict(store.delete(table, key, Expect::Absent).await));
    let row = store.get(table, key).await.unwrap().unwrap();
    assert_eq!((&row.value[..], row.version), (&b"one"[..], Version(1)));
}

pub(in crate::store) async fn only_an_unchanged_row_is_resealed_and_it_keeps_its_version(
    store: Arc<dyn Store>,
) {
    let (table, key) = (Table::Agents, "o/a");
    store.put(table, key, b"one", Expect::Absent).await.unwrap();
    let first = store.get(table, key).await.unwrap().unwrap();
    store.delete(table, key, Expect::Any).await.unwrap();
    assert!(is_conflict(store.reseal(table, &first, b"x").await), "it is gone");
    store.put(table, key, b"two", Expect::Absent).await.unwrap();
    assert!(is_conflict(store.reseal(table, &first, b"x").await), "another of the same version");
    let second = store.get(table, key).await.unwrap().unwrap();
    let told = store.changed(table, Version(0)).await.unwrap();
    store.reseal(table, &second, b"TWO").await.unwrap();
    let now = store.get(table, key).await.unwrap().unwrap();
    assert_eq!((&now.value[..], now.version), (&b"TWO"[..], second.version));
    assert_eq!(store.changed(table, Version(0)).await.unwrap(), told, "no watcher is woken");
    assert!(is_conflict(store.reseal(table, &second, b"x").await), "it was resealed");
    store.put(table, key, b"three", Expect::Version(second.version)).await.unwrap();
}

pub(in crate::store) async fn versions_count_writes_and_restart_after_a_delete(
    store: Arc<dyn Store>,
) {
    let (table, key) = (Table::Agents, "o/a");
    assert_eq!(store.put(table, key, b"1", Expect::Any).await.unwrap(), Version(1));
    let second = store.put(table, key, b"2", Expect::Version(Version(1))).await.unwrap();
    assert_eq!(second, Version(2));
    assert_eq!(store.put(table, key, b"3", Expect::Any).await.unwrap(), Version(3));
    store.delete(table, key, Expect::Version(Version(3))).await.unwrap();
    assert!(store.get(table, key).await.unwrap().is_none());
    assert_eq!(store.put(table, key, b"4", Expect::Absent).await.unwrap(), Version(1));
}

pub(in crate::store) async fn deleting_an_absent_row_fails_only_with_a_version(
    store: Arc<dyn Store>,
) {
    assert!(is_conflict(store.delete(Table::Agents, "o/a", Expect::Version(Version(1))).await));
    store.delete(Table::Agents, "o/a", Expect::Any).await.unwrap();
    store.delete(Table::Agents, "o/a", Expect::Absent).await.unwrap();
}

pub(in crate::store) async fn invalid_keys_are_refused(store: Arc<dyn Store>) {
    for bad in ["", "a b", "a\n", "\u{e9}", "nul\0", &"k".repeat(513)] {
        let refused = store.put(Table::Agents, bad, b"x", Expect::Any).await;
        assert!(matches!(refused, Err(StoreError::KeyRefused { .. })), "{bad:?}");
    }
    store.put(Table::Agents, &"k".repeat(512), b"x", Expect::Any).await.unwrap();
}

pub(in crate::store) async fn values_over_the_limit_are_refused_and_megabytes_are_kept(
    store: Arc<dyn Store>,
) {
    let large: Vec<u8> = (0..VALUE_BYTES_MAX + 1).map(|at| (at / 7) as u8).collect();
    let refused = store.put(Table::Agents, "o/a", &large, Expect::Any).await;
    assert!(matches!(refused, Err(StoreError::ValueTooLarge { .. })));
    for len in [0, 1 << 20, VALUE_BYTES_MAX] {
        store.put(Table::Agents, "o/a", &large[..len], Expect::Any).await.unwrap();
        let row = store.get(Table::Agents, "o/a").await.unwrap().unwrap();
        assert!(row.value == large[..len], "{len} bytes");
    }
}

pub(in crate::store) async fn equal_keys_in_different_tables_are_separate_rows(
    store: Arc<dyn Store>,
) {
    for table in Table::ALL {
        store.put(table, "o/a", table.name().as_bytes(), Expect::Absent).await.unwrap();
    }
    store.delete(Table::Meta, "o/a", Expect::Any).await.unwrap();
    for table in &Table::ALL[1..] {
        let rows = store.list(*table, RowRange::first(10)).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].value, table.name().as_bytes());
    }
}

pub(in crate::store) async fn paging_gives_every_row_once_in_order(store: Arc<dyn Store>) {
    let all: Vec<String> = (0..53).map(|n| format!("o/{n:03}")).collect();
    for key in all.iter().rev() {
        store.put(Table::Agents, key, b"x", Expect::Absent).await.unwrap();
    }
    let mut seen: Vec<String> = Vec::new();
    loop {
        let page = keys(&store, "o/", seen.last().map(String::as_str), 10).await;
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, all);
    assert!(keys(&store, "o/", None, 0).await.is_empty());
    // A deleted row is still a valid position to continue from.
    store.delete(Table::Agents, "o/010", Expect::Any).await.unwrap();
    assert_eq!(keys(&store, "o/", Some("o/010"), 1).await, ["o/011"]);
}

pub(in crate::store) async fn only_keys_with_the_prefix_are_listed(store: Arc<dyn Store>) {
    fill(&store, Table::Agents, &["o", "o.", "o/", "o/a", "o/b", "o0", "p/a"]).await;
    fill(&store, Table::Bindings, &["o/z"]).await;
    assert_eq!(keys(&store, "o/", None, 10).await, ["o/", "o/a", "o/b"]);
    assert_eq!(keys(&store, "o/", Some("a"), 10).await, ["o/", "o/a", "o/b"]);
    assert_eq!(keys(&store, "o/", Some("o/a"), 10).await, ["o/b"]);
    assert!(keys(&store, "o/", Some("o/b"), 10).await.is_empty());
    assert!(keys(&store, "o/", Some("z"), 10).await.is_empty());
    assert!(keys(&store, "q", None, 10).await.is_empty());
    assert_eq!(keys(&store, "", None, 10).await.len(), 7);
}

pub(in crate::store) async fn a_held_lease_excludes_others_until_dropped(store: Arc<dyn Store>) {
    let held = store.lease("con_1", LONG).await.unwrap().unwrap();
    assert!(store.lease("con_1", LONG).await.unwrap().is_none());
    assert!(store.lease("con_2", LONG).await.unwrap().is_some());
    drop(held);
    until_leased(&store, "con_1").await;
}

pub(in crate::store) async fn a_lease_ends_by_itself(store: Arc<dyn Store>) {
    let held = store.lease("con_1", Duration::from_millis(5)).await.unwrap().unwrap();
    until_leased(&store, "con_1").await;
    assert_eq!(held.name(), "con_1");
}

pub(in crate::store) async fn a_lease_ends_by_the_time_of_its_last_renewal(store: Arc<dyn Store>) {
    let held = store.lease("con_1", LONG).await.unwrap().unwrap();
    assert!(store.renew_lease(&held, Duration::from_millis(5)).await.unwrap());
    until_leased(&store, "con_1").await;
    assert!(!store.renew_lease(&held, LONG).await.unwrap(), "another had it");
}

pub(in crate::store) async fn a_lease_that_has_ended_is_renewed_unless_another_holder_had_it(
    store: Arc<dyn Store>,
) {
    let ended = store.lease("con_1", Duration::ZERO).await.unwrap().unwrap();
    assert!(store.renew_lease(&ended, Duration::ZERO).await.unwrap());
    let next = store.lease("con_1", LONG).await.unwrap().unwrap();
    assert!(!store.renew_lease(&ended, LONG).await.unwrap(), "it is another's");
    drop(ended);
    assert!(store.renew_lease(&next, LONG).await.unwrap());
    assert!(store.lease("con_1", LONG).await.unwrap().is_none());
}

/// The name is free, but the protected data may have changed meanwhile.
pub(in crate::store) async fn a_lease_that_another_holder_released_is_not_renewed(
    store: Arc<dyn Store>,
) {
    let ended = store.lease("con_1", Duration::ZERO).await.unwrap().unwrap();
    let next = store.lease("con_1", LONG).await.unwrap().unwrap();
    drop(next);
    until_leased(&store, "con_1").await;
    assert!(!store.renew_lease(&ended, LONG).await.unwrap());
}

/// Retries until the lease is free.
async fn until_leased(store: &Arc<dyn Store>, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.lease(name, LONG).await.unwrap().is_none() {
        assert!(Instant::now() < deadline, "the lease never ends");
        tokio::task::yield_now().await;
    }
}

pub(in crate::store) async fn concurrent_counters_lose_no_step(store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const STEPS: usize = 10;
    store.put(Table::Agents, "o/n", &0u64.to_be_bytes(), Expect::Absent).await.unwrap();
    let writers = (0..WRITERS).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..STEPS {
                step(&store).await;
            }
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.unwrap();
    }
    let row = store.get(Table::Agents, "o/n").await.unwrap().unwrap();
    assert_eq!(u64::from_be_bytes(row.value.try_into().unwrap()), (WRITERS * STEPS) as u64);
    assert_eq!(row.version, Version((WRITERS * STEPS) as u64 + 1));
}

/// Adds one by compare-and-swap, with retries.
async fn step(store: &Arc<dyn Store>) {
    loop {
        let row = store.get(Table::Agents, "o/n").await.unwrap().unwrap();
        let next = u64::from_be_bytes(row.value.try_into().unwrap()) + 1;
        let expect = Expect::Version(row.version);
        match store.put(Table::Agents, "o/n", &next.to_be_bytes(), expect).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

pub(in crate::store) async fn two_hundred_writers_of_one_new_row_have_one_winner(
    store: Arc<dyn Store>,
) {
    let writers = (0..200u32).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            let own = format!("o/{writer}");
            store.put(Table::Names, &own, b"x", Expect::Absent).await.unwrap();
            let value = writer.to_be_bytes();
            store.put(Table::Agents, "o/one", &value, Expect::Absent).await.is_ok()
        }
    });
    let won = futures_util::future::join_all(writers).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let row = store.get(Table::Agents, "o/one").await.unwrap().unwrap();
    let winner = u32::from_be_bytes(row.value.try_into().unwrap());
    assert!(won[winner as usize]);
    let own = store.list(Table::Names, RowRange::first(1000)).await.unwrap();
    assert_eq!(own.into_iter().map(|row| row.key).collect::<BTreeSet<_>>().len(), 200);
}

pub(in crate::store) async fn watchers_are_notified_of_changes(store: Arc<dyn Store>) {
    let seen = store.changed(Table::Agents, Version(0)).await.unwrap();
    assert!(seen >= Version(1));
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.changed(Table::Agents, seen).await.unwrap() })
    };
    store.put(Table::Names, "o/a", b"x", Expect::Any).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "another table is none of its business");
    store.put(Table::Agents, "o/a", b"x", Expect::Any).await.unwrap();
    let after_put = waiting.await.unwrap();
    assert!(after_put > seen);
    store.delete(Table::Agents, "o/a", Expect::Any).await.unwrap();
    assert!(store.changed(Table::Agents, after_put).await.unwrap() > after_put);
}

/// Each writer counts in two rows, the first one before the second: at any time, the second counter is equal to the
/// first or one behind. A snapshot that reads row by row while writers count would break this.
pub(in crate::store) async fn a_snapshot_is_consistent_while_pairs_of_rows_are_written(
    store: Arc<dyn Store>,
) {
    const STEPS: u64 = 40;
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for step in 1..=STEPS {
                // The tables are far apart in the order in which a snapshot reads them.
                for table in [Table::Logins, Table::Agents] {
                    let key = format!("o/{writer}");
                    store.put(table, &key, &step.to_be_bytes(), Expect::Any).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut seen = BTreeSet::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let snapshot = store.snapshot().await.unwrap();
        for writer in 0..4 {
            let count = |table| {
                let key = format!("o/{writer}");
                let found = snapshot.rows().iter().find(|(of, row)| *of == table && row.key == key);
                found.map_or(0, |(_, row)| u64::from_be_bytes(row.value[..].try_into().unwrap()))
            };
            let (first, second) = (count(Table::Logins), count(Table::Agents));
            assert!(second <= first && first <= second + 1, "{first} and {second}");
            seen.insert(first);
        }
        tokio::task::yield_now().await;
    }
    assert!(seen.len() > 2, "the snapshots were of different points");
    let last = store.snapshot().await.unwrap();
    assert_eq!((last.count(Table::Logins), last.count(Table::Agents)), (4, 4));
    assert!(last.rows().iter().all(|(_, row)| row.version == Version(STEPS)));
}

pub(in crate::store) async fn loaded_rows_keep_their_versions_and_replace_nothing(
    store: Arc<dyn Store>,
) {
    let row = |key: &str, version| Row {
        key: key.to_owned(),
        value: key.as_bytes().to_vec(),
        version: Version(version),
    };
    let rows = vec![(Table::Agents, row("o/a", 7)), (Table::Grants, row("o/a", u64::MAX - 1))];
    store.load(rows.clone()).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().rows(), rows);
    assert!(is_conflict(store.load(vec![(Table::Agents, row("o/a", 8))]).await));
    assert!(store.load(vec![(Table::Agents, row("a key", 1))]).await.is_err());
    assert_eq!(store.snapshot().await.unwrap().rows(), rows, "nothing was replaced");
    let next = store.put(Table::Agents, "o/a", b"x", Expect::Version(Version(7))).await.unwrap();
    assert_eq!(next, Version(8));
}
