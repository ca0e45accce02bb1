//! Conformance tests of commits of several rows; `conformance.rs` runs them.

use std::sync::Arc;

use crate::store::{Expect, Row, Store, StoreError, Table, Version, Write};

pub(super) async fn fill(store: &Arc<dyn Store>, table: Table, keys: &[&str]) {
    for key in keys {
        store.put(table, key, key.as_bytes(), Expect::Absent).await.unwrap();
    }
}

fn exists(table: Table, key: &str) -> Write {
    Write::Exists { table, key: key.to_owned() }
}

fn none_below(table: Table, key: &str) -> Write {
    Write::NoneBelow { table, key: key.to_owned() }
}

pub(in crate::store) async fn a_commit_with_one_unmet_precondition_changes_nothing(
    store: Arc<dyn Store>,
) {
    fill(&store, Table::Agents, &["o/a", "o/b"]).await;
    let before = store.snapshot().await.unwrap();
    let over = |version| Expect::Version(Version(version));
    for unmet in [
        Write::put(Table::Agents, "o/b", b"x", Expect::Absent),
        Write::put(Table::Agents, "o/b", b"x", over(2)),
        Write::delete(Table::Agents, "o/b", over(2)),
        Write::delete(Table::Agents, "o/b", Expect::Absent),
        Write::put(Table::Grants, "o/b", b"x", over(1)),
        Write::delete(Table::Grants, "o/b", over(1)),
        exists(Table::Grants, "o/b"),
        none_below(Table::Agents, "o/"),
    ] {
        let conflict =
            StoreError::Conflict { table: unmet.table().name(), key: unmet.key().to_owned() };
        let others = [
            Write::put(Table::Names, "o/n", b"x", Expect::Absent),
            Write::put(Table::Agents, "o/a", b"x", over(1)),
            Write::delete(Table::Tokens, "o/none", Expect::Any),
        ];
        for at in 0..=others.len() {
            let mut writes = others.to_vec();
            writes.insert(at, unmet.clone());
            let refused = store.commit(writes).await.unwrap_err();
            assert_eq!(refused.to_string(), conflict.to_string(), "{unmet:?}");
        }
        assert_eq!(store.snapshot().await.unwrap(), before, "{unmet:?}");
    }
    let refused = Write::put(Table::Agents, "a key", b"x", Expect::Any);
    let writes = vec![Write::put(Table::Names, "o/n", b"x", Expect::Any), refused];
    assert!(matches!(store.commit(writes).await, Err(StoreError::KeyRefused { .. })));
    assert_eq!(store.snapshot().await.unwrap(), before);
}

pub(in crate::store) async fn a_commit_changes_all_of_its_rows(store: Arc<dyn Store>) {
    fill(&store, Table::Agents, &["o/a", "o/b"]).await;
    let seen = store.changed(Table::Tokens, Version(0)).await.unwrap();
    let over = Expect::Version(Version(1));
    let writes = vec![
        Write::delete(Table::Agents, "o/b", over),
        Write::put(Table::Tokens, "o/t", b"token", Expect::Absent),
        exists(Table::Agents, "o/a"),
        none_below(Table::Agents, "o/c"),
        none_below(Table::Grants, "o/"),
        Write::put(Table::Agents, "o/a", b"two", over),
        Write::delete(Table::Names, "o/none", Expect::Any),
        Write::put(Table::Names, "o/n", b"name", Expect::Any),
    ];
    assert_eq!(store.commit(writes).await.unwrap(), [Version(1), Version(2), Version(1)]);
    let row = |key: &str, value: &[u8], version| Row {
        key: key.to_owned(),
        value: value.to_vec(),
        version: Version(version),
    };
    let expected = [
        (Table::Agents, row("o/a", b"two", 2)),
        (Table::Names, row("o/n", b"name", 1)),
        (Table::Tokens, row("o/t", b"token", 1)),
    ];
    assert_eq!(store.snapshot().await.unwrap().rows(), expected);
    assert!(store.changed(Table::Tokens, seen).await.unwrap() > seen, "watchers are woken");
    assert_eq!(store.commit(vec![exists(Table::Agents, "o/a")]).await.unwrap(), []);
    assert_eq!(store.commit(Vec::new()).await.unwrap(), []);
}

/// One writer adds a row below another row, which a second writer deletes unless there is a row below it.
pub(in crate::store) async fn no_row_is_added_below_a_row_that_a_commit_has_deleted(
    store: Arc<dyn Store>,
) {
    for round in 0..20 {
        let (above, below) = (format!("{round}/org"), format!("{round}/a"));
        store.put(Table::Orgs, &above, b"x", Expect::Absent).await.unwrap();
        let add = vec![
            Write::put(Table::Agents, below.as_str(), b"x", Expect::Absent),
            exists(Table::Orgs, &above),
        ];
        let remove = vec![
            none_below(Table::Agents, &format!("{round}/")),
            Write::delete(Table::Orgs, above.as_str(), Expect::Any),
        ];
        let both = [add, remove].map(|writes| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(writes).await })
        });
        let done = futures_util::future::join_all(both).await;
        let is_made: Vec<_> = done.into_iter().map(|one| one.unwrap().is_ok()).collect();
        let has_row = store.get(Table::Agents, &below).await.unwrap().is_some();
        let has_above = store.get(Table::Orgs, &above).await.unwrap().is_some();
        assert_eq!((has_row, has_above), (is_made[0], !is_made[1]));
        assert_eq!(has_row, has_above, "round {round}");
    }
}

pub(in crate::store) async fn concurrent_commits_of_the_same_rows_in_any_order_are_made_one_after_the_other(
    store: Arc<dyn Store>,
) {
    const STEPS: u64 = 10;
    let places = [(Table::Agents, "o/a"), (Table::Agents, "o/b"), (Table::Names, "o/a")];
    let writers = (0..4u8).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..STEPS {
                let mut writes =
                    places.map(|(table, key)| Write::put(table, key, [writer], Expect::Any));
                if writer % 2 == 0 {
                    writes.reverse();
                }
                store.commit(writes.to_vec()).await.unwrap();
            }
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.unwrap();
    }
    let snapshot = store.snapshot().await.unwrap();
    let last = &snapshot.rows()[0].1.value;
    assert_eq!(snapshot.rows().len(), places.len());
    for (_, row) in snapshot.rows() {
        assert_eq!((row.version, &row.value), (Version(4 * STEPS), last));
    }
}
