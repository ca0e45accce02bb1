//! Tests of the sled store: the conformance tests, restarts, locks, damage.

use super::*;
use crate::crypto::keyring::Keyring;
use crate::directory::{Directory, DirectoryError};
use crate::store::Expect;
use crate::store::tests::conformance::conforms;
use keyward_base::id::OrgId;
use keyward_base::time::Clock;
use keyward_model::{Agent, AgentFacts, AgentSpec, ManagedBy};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

conforms!(fresh());

async fn fresh() -> (tempfile::TempDir, SledStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(&dir.path().join("store")).await.unwrap();
    (dir, store)
}

fn files(store: &SledStore) -> Arc<StoreFiles> {
    store.files.now().expect("open")
}

/// Changes a row's bytes in sled directly.
fn tamper(store: &SledStore, key: &str, change: impl Fn(&mut Vec<u8>)) {
    let files = files(store);
    let tree = files.tree(Table::Agents);
    let mut bytes = tree.get(key).unwrap().unwrap().to_vec();
    change(&mut bytes);
    tree.insert(key, bytes).unwrap();
}

#[tokio::test]
async fn a_second_open_is_refused_soon_with_the_locking_process_and_harms_nothing() {
    let (dir, store) = fresh().await;
    store.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap();
    let begun = Instant::now();
    let refused = SledStore::open(&dir.path().join("store")).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(refused.to_string(), format!("store is locked by process {}", std::process::id()));
    assert!(store.get(Table::Agents, "o/a").await.unwrap().is_some());
}

#[tokio::test]
async fn at_most_four_of_many_concurrent_calls_run_at_the_same_time() {
    let (_dir, store) = fresh().await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let calls = (0..12).map(|_| {
        let (now, most) = (now.clone(), most.clone());
        store.on_files(move |_| {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            let deadline = Instant::now() + Duration::from_millis(50);
            while most.load(SeqCst) < 5 && Instant::now() < deadline {
                std::thread::yield_now();
            }
            now.fetch_sub(1, SeqCst);
            Ok(())
        })
    });
    let done: Result<Vec<()>, _> =
        futures_util::future::join_all(calls).await.into_iter().collect();
    assert_eq!(done.unwrap().len(), 12);
    assert!(most.load(SeqCst) <= 4, "{most:?}");
}

#[tokio::test]
async fn a_stale_pid_locks_no_process_out() {
    let (dir, store) = fresh().await;
    drop(store);
    let path = dir.path().join("store");
    fs::write(path.join("pid"), "4121\n").unwrap();
    SledStore::open(&path).await.unwrap();
}

/// How many descriptors of this process have the file open.
fn descriptors_of(file: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to == file))
        .count()
}

/// A restore replaces the store's directory while a start waits for the lock.
#[test]
fn an_awaited_lock_is_that_of_the_current_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (store, restored) = (root.join("store"), root.join("restored"));
    let old = StoreLock::take(&store).unwrap();
    drop(StoreLock::take(&restored).unwrap());
    let path = store.clone();
    let waiting = std::thread::spawn(move || {
        loop {
            match StoreLock::take(&path) {
                Err(StoreError::Locked { .. }) => {}
                taken => return taken,
            }
        }
    });
    while descriptors_of(&store.join("pid")) < 2 && !waiting.is_finished() {
        std::thread::yield_now();
    }
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, &store, rustix::fs::CWD, &restored, exchange)
        .unwrap();
    drop(old);
    let _taken = waiting.join().unwrap().unwrap();
    let second = StoreLock::take(&store);
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    StoreLock::take(&restored).unwrap();
}

#[tokio::test]
async fn a_directory_that_others_can_reach_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let refused = SledStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Exposed { mode: 0o750, .. }), "{refused}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_new_directory_is_private() {
    let (dir, _store) = fresh().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("store")), 0o700);
    assert_eq!(mode(&dir.path().join("store/pid")), 0o600);
    assert_eq!(mode(&dir.path().join("store/tip")), 0o600);
}

#[tokio::test]
async fn damaged_rows_are_named_and_neither_read_listed_nor_overwritten_unless_discarded() {
    let (_dir, store) = fresh().await;
    for key in ["o/cut", "o/flipped", "o/whole"] {
        store.put(Table::Agents, key, b"sealed bytes", Expect::Absent).await.unwrap();
    }
    tamper(&store, "o/cut", |bytes| bytes.truncate(9));
    tamper(&store, "o/flipped", |bytes| bytes[15] ^= 4);
    for key in ["o/cut", "o/flipped"] {
        let named = format!("agents row {key} is damaged: restore the store from a backup");
        let read = store.get(Table::Agents, key).await.unwrap_err();
        assert_eq!(read.to_string(), named);
        assert!(store.put(Table::Agents, key, b"new", Expect::Any).await.is_err());
        assert!(store.delete(Table::Agents, key, Expect::Any).await.is_err());
        assert!(files(&store).tree(Table::Agents).get(key).unwrap().is_some());
    }
    assert!(store.list(Table::Agents, RowRange::first(10)).await.is_err());
    assert!(store.snapshot().await.is_err());
    let scan = store.scan().await.unwrap();
    assert_eq!(scan.rows.iter().map(|(_, row)| row.key.as_str()).collect::<Vec<_>>(), ["o/whole"]);
    let damaged: Vec<_> = scan.damaged.iter().map(|it| (it.table, it.key.as_str())).collect();
    assert_eq!(damaged, [(Table::Agents, "o/cut"), (Table::Agents, "o/flipped")]);
    assert!(!store.discard_damaged(Table::Agents, "o/whole").await.unwrap());
    assert!(store.discard_damaged(Table::Agents, "o/cut").await.unwrap());
    assert!(store.get(Table::Agents, "o/cut").await.unwrap().is_none());
    assert!(store.get(Table::Agents, "o/whole").await.unwrap().is_some());
}

#[tokio::test]
async fn rows_outlive_restarts() {
    let (dir, mut store) = fresh().await;
    let path = dir.path().join("store");
    let large = vec![7; 1 << 20];
    store.put(Table::Grants, "o/large", &large, Expect::Absent).await.unwrap();
    for round in 1..=3u64 {
        store.put(Table::Agents, "o/a", &round.to_be_bytes(), Expect::Any).await.unwrap();
        drop(store);
        store = SledStore::open(&path).await.unwrap();
        let row = store.get(Table::Agents, "o/a").await.unwrap().unwrap();
        assert_eq!((row.version, row.value), (Version(round), round.to_be_bytes().to_vec()));
    }
    assert!(store.get(Table::Grants, "o/large").await.unwrap().unwrap().value == large);
}

/// The log, which survives a power failure, contains only the numbers of the blobs.
#[tokio::test]
async fn no_write_is_acknowledged_before_its_blob_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SledSettings {
        // Disables sled's own thread, which moves pages and writes blobs for them.
        flush_every_ms: 3_600_000,
        ..SledSettings::at(&dir.path().join("store"))
    };
    let store = SledStore::open_with(settings).await.unwrap();
    let synced = || {
        let blobs = files(&store).commits.synced_blobs();
        for entry in fs::read_dir(dir.path().join("store/sled/blobs")).unwrap() {
            let entry = entry.unwrap();
            let bytes = entry.metadata().unwrap().len();
            assert_eq!(blobs.get(&entry.file_name()), Some(&bytes), "{entry:?}");
        }
        blobs.len()
    };
    let large = vec![7; 1 << 20];
    store.put(Table::Grants, "o/large", &large, Expect::Absent).await.unwrap();
    let first = synced();
    assert!(first > 0);
    // Each row is small, but the leaf that contains them is large.
    for key in (0..160).map(|n| format!("o/{}", n % 16)) {
        store.put(Table::Agents, &key, &[7; 20 * 1024], Expect::Any).await.unwrap();
    }
    assert!(synced() > first);
}

#[tokio::test]
async fn a_log_that_lost_acknowledged_writes_is_refused() {
    let (dir, store) = fresh().await;
    let path = dir.path().join("store");
    store.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap();
    drop(store);
    fs::rename(path.join("sled"), dir.path().join("kept")).unwrap();
    let refused = SledStore::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("acknowledged writes are missing"), "{refused}");
}

/// Flips one bit at many positions of the log, each on a copy of the files: a store that opens has lost no
/// acknowledged write.
#[tokio::test]
async fn a_flipped_bit_in_the_log_is_never_a_silent_loss() {
    let (dir, store) = fresh().await;
    let path = dir.path().join("store");
    for n in 0..20 {
        let value = vec![0xA5; 200];
        store.put(Table::Agents, &format!("o/{n}"), &value, Expect::Absent).await.unwrap();
    }
    // The files as `kill -9` leaves them, without an orderly end of sled.
    let left = dir.path().join("left");
    copy_store(&path, &left);
    drop(store);
    let log = fs::read(left.join("sled/db")).unwrap();
    // The bytes up to the last row; sled's padding follows.
    let used = log.iter().rposition(|byte| *byte == 0xA5).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for at in (0..used).step_by(used / 60) {
        let copy = dir.path().join(format!("copy-{at}"));
        copy_store(&left, &copy);
        let mut changed = log.clone();
        changed[at] ^= 1;
        fs::write(copy.join("sled/db"), changed).unwrap();
        let Ok(store) = SledStore::open(&copy).await else {
            refused += 1;
            continue;
        };
        opened += 1;
        for n in 0..20 {
            let row = store.get(Table::Agents, &format!("o/{n}")).await;
            if let Ok(row) = row {
                assert!(row.is_some_and(|row| row.value == [0xA5; 200]), "byte {at}, row {n}");
            }
        }
    }
    assert!(refused > 0 && refused + opened > 50, "{refused} refused, {opened} opened");
}

#[tokio::test]
async fn every_acknowledged_write_is_in_the_files_that_kill_9_leaves() {
    let (dir, store) = fresh().await;
    for round in 0..10 {
        let keys: Vec<_> = (0..10).map(|n| format!("o/{round}-{n}")).collect();
        let puts = keys.iter().map(|key| store.put(Table::Agents, key, &[9; 3000], Expect::Absent));
        for put in futures_util::future::join_all(puts).await {
            put.unwrap();
        }
        let left = dir.path().join(format!("left-{round}"));
        copy_store(&dir.path().join("store"), &left);
        let reopened = SledStore::open(&left).await.unwrap();
        let rows = reopened.list(Table::Agents, RowRange::first(1000)).await.unwrap();
        assert_eq!(rows.len(), (round + 1) * 10);
        assert!(rows.iter().all(|row| row.value == [9; 3000]));
    }
}

/// The log is cut at each of many positions behind the first row, as a crash leaves it: of a commit, all rows are found or
/// none. Where the log is cut before what was acknowledged, the store is refused.
#[tokio::test]
async fn of_a_commit_a_crash_leaves_all_rows_or_none() {
    let (dir, store) = fresh().await;
    store.put(Table::Agents, "o/first", &[0xA5; 64], Expect::Absent).await.unwrap();
    let tip = fs::read(dir.path().join("store/tip")).unwrap();
    let before = dir.path().join("before");
    copy_store(&dir.path().join("store"), &before);
    let begin = fs::read(before.join("sled/db")).unwrap();
    let begin = begin.iter().rposition(|byte| *byte == 0xA5).unwrap();
    let tables = [Table::Agents, Table::Names, Table::Tokens];
    let writes = tables.map(|table| Write::put(table, "o/a", [0xA5; 64], Expect::Absent));
    store.commit(writes.to_vec()).await.unwrap();
    let left = dir.path().join("left");
    copy_store(&dir.path().join("store"), &left);
    drop(store);
    // The commit was not acknowledged.
    fs::write(left.join("tip"), tip).unwrap();
    let log = fs::read(left.join("sled/db")).unwrap();
    let used = log.iter().rposition(|byte| *byte == 0xA5).unwrap();
    assert!(used > begin);
    let mut found = std::collections::BTreeSet::new();
    let cuts = (begin + 1..used).step_by((used - begin) / 40 + 1);
    for at in cuts.chain([log.len()]) {
        let copy = dir.path().join(format!("copy-{at}"));
        copy_store(&left, &copy);
        let mut cut = log.clone();
        cut[at..].fill(0);
        fs::write(copy.join("sled/db"), cut).unwrap();
        let Ok(store) = SledStore::open(&copy).await else { continue };
        let mut rows = 0;
        for table in tables {
            rows += usize::from(store.get(table, "o/a").await.unwrap().is_some());
        }
        assert!(rows == 0 || rows == tables.len(), "{rows} rows, cut at {at} of {used}");
        found.insert(rows);
    }
    assert!(found.contains(&tables.len()), "the whole log has the commit: {found:?}");
}

/// An operator who copies a store over that of a running gateway: what it wrote afterwards was acknowledged, and lost.
#[tokio::test]
async fn nothing_is_written_to_files_that_were_replaced_while_they_were_open() {
    let (dir, store) = fresh().await;
    store.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap();
    let (at, moved) = (dir.path().join("store"), dir.path().join("moved"));
    fs::rename(&at, &moved).unwrap();
    copy_store(&moved, &at);
    let put = async || store.put(Table::Agents, "o/b", b"x", Expect::Absent).await;
    let refused = put().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreached { .. }), "{refused}");
    assert!(refused.to_string().contains("were replaced or removed"), "{refused}");
    assert!(store.get(Table::Agents, "o/a").await.unwrap().is_some());
    fs::remove_dir_all(&at).unwrap();
    assert!(put().await.is_err());
    fs::rename(&moved, &at).unwrap();
    put().await.unwrap();
}

fn copy_store(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_store(&entry.path(), &target),
            false => fs::copy(entry.path(), target).map(drop).unwrap(),
        }
    }
}

/// A write whose flush failed has changed the row only in memory, and a crash would lose it: no caller reads it before
/// it is on disk. Other rows can be read.
#[tokio::test]
async fn a_row_whose_write_was_not_flushed_is_not_read_before_it_is_on_disk() {
    let (dir, store) = fresh().await;
    for key in ["o/a", "o/b"] {
        store.put(Table::Grants, key, b"old", Expect::Absent).await.unwrap();
    }
    files(&store).commits.fail();
    // The path of the test file for disk space.
    let room = dir.path().join("store/room");
    fs::create_dir(&room).unwrap();
    let over = Expect::Version(Version(1));
    let put = async || store.put(Table::Grants, "o/a", b"new", over).await;
    assert!(put().await.is_err());
    let read = store.get(Table::Grants, "o/a").await;
    assert!(matches!(read, Err(StoreError::Io { .. })), "{read:?}");
    let again = put().await;
    let is_unreached = matches!(again, Err(StoreError::Unreached { .. }));
    assert!(is_unreached, "no conflict with itself, and no doubt: {again:?}");
    assert_eq!(store.get(Table::Grants, "o/b").await.unwrap().unwrap().value, b"old");
    fs::remove_dir(&room).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = put().await;
    while last.as_ref().is_err_and(StoreError::is_io) && Instant::now() < deadline {
        tokio::task::yield_now().await;
        last = put().await;
    }
    // The first write may have reached the files.
    assert!(matches!(last, Ok(Version(2)) | Err(StoreError::Conflict { .. })), "{last:?}");
    let row = store.get(Table::Grants, "o/a").await.unwrap().unwrap();
    assert_eq!((row.version, row.value), (Version(2), b"new".to_vec()));
    drop(store);
    let store = SledStore::open(&dir.path().join("store")).await.unwrap();
    assert_eq!(store.get(Table::Grants, "o/a").await.unwrap().unwrap().value, b"new");
}

/// sled does not recover from the failed write of a blob, so a large value is refused before it reaches sled.
#[tokio::test]
async fn a_large_value_without_room_is_refused_before_anything_is_written() {
    let (dir, store) = fresh().await;
    let room = dir.path().join("store/room");
    fs::create_dir(&room).unwrap();
    let large = vec![7; 200 * 1024];
    let put = async || store.put(Table::HookEvents, "o/a", &large, Expect::Absent).await;
    let refused = put().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreached { .. }), "{refused}");
    assert!(store.get(Table::HookEvents, "o/a").await.unwrap().is_none());
    store.put(Table::Agents, "o/b", b"x", Expect::Absent).await.unwrap();
    fs::remove_dir(&room).unwrap();
    put().await.unwrap();
}

/// The system reports a disk error once, and the next flush succeeds without the lost data.
#[tokio::test]
async fn after_a_failed_flush_no_later_one_of_the_same_files_succeeds() {
    let (_dir, store) = fresh().await;
    let files = files(&store);
    files.commits.fail();
    for key in ["o/a", "o/b"] {
        let write = Write::put(Table::Agents, key, b"x", Expect::Absent);
        let applied = files.commit(&[write]).unwrap();
        let flushed = files.commits.wait(&files.directory, &store.threads, applied.ticket).await;
        assert!(matches!(flushed, Err(StoreError::Io { .. })), "{key}: {flushed:?}");
    }
}

/// A write that was reported as failed has stored the name or the record.
#[tokio::test]
async fn an_agent_is_added_with_its_name_although_a_flush_failed() {
    let (dir, store) = fresh().await;
    let (store, keyring) = (Arc::new(store), Arc::new(Keyring::ephemeral()));
    let directory = Directory::open(store.clone(), keyring.clone(), Clock::System).await.unwrap();
    let (org, by) = (OrgId::default_org(), ManagedBy::Store);
    let add = async || {
        directory.add::<Agent>(&org, by, AgentSpec::named("ci"), AgentFacts::default()).await
    };
    files(&store).commits.fail();
    add().await.unwrap();
    let again = add().await;
    assert!(matches!(again, Err(DirectoryError::NameTaken { .. })), "{again:?}");
    drop((directory, store));
    let store = SledStore::open(&dir.path().join("store")).await.unwrap();
    let reopened = Directory::open(Arc::new(store), keyring, Clock::System).await.unwrap();
    assert!(reopened.view().find_agent(&org, "ci").is_some());
}

/// The agent may have reached the files with its name. Then it is shown when the disk has room.
#[tokio::test]
async fn the_name_of_an_agent_that_a_full_disk_refused_is_free_or_of_that_agent() {
    let (dir, store) = fresh().await;
    let (store, keyring) = (Arc::new(store), Arc::new(Keyring::ephemeral()));
    let directory = Directory::open(store.clone(), keyring, Clock::System).await.unwrap();
    let (org, by) = (OrgId::default_org(), ManagedBy::Store);
    let add = async |name: &str| {
        directory.add::<Agent>(&org, by, AgentSpec::named(name), AgentFacts::default()).await
    };
    let room = dir.path().join("store/room");
    fs::create_dir(&room).unwrap();
    files(&store).commits.fail();
    assert!(add("ci").await.unwrap_err().is_outcome_unknown());
    assert!(!add("other").await.unwrap_err().is_outcome_unknown());
    fs::remove_dir(&room).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = add("ci").await;
    while matches!(last, Err(DirectoryError::Store(_))) && Instant::now() < deadline {
        tokio::task::yield_now().await;
        last = add("ci").await;
    }
    match last {
        Ok(_) => {}
        Err(DirectoryError::NameTaken { .. }) => {
            assert!(directory.view().find_agent(&org, "ci").is_some(), "no agent has the name");
        }
        Err(error) => panic!("{error}"),
    }
    add("other").await.unwrap();
}

#[tokio::test]
async fn two_hundred_writers_share_their_flushes() {
    let (_dir, store) = fresh().await;
    let before = files(&store).commits.flushes();
    let keys: Vec<_> = (0..200).map(|n| format!("o/{n}")).collect();
    let puts = keys.iter().map(|key| store.put(Table::Agents, key, b"x", Expect::Absent));
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    let flushes = files(&store).commits.flushes() - before;
    assert!((1..=100).contains(&flushes), "{flushes} flushes");
}

#[tokio::test]
async fn a_dropped_writer_blocks_no_other() {
    let (_dir, store) = fresh().await;
    for round in 0..20 {
        let key = format!("o/{round}");
        let mut put = Box::pin(store.put(Table::Agents, &key, b"x", Expect::Any));
        for _ in 0..round {
            if futures_util::poll!(put.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    store.put(Table::Agents, "o/last", b"x", Expect::Absent).await.unwrap();
}
