//! Rotations of the master key over rows in memory.

use super::*;
use keyward_state::crypto::envelope::EnvelopeError;
use keyward_state::crypto::source::KeySource;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Expect, Version};

/// A store with rows, under the keys of a file.
struct World {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
}

const SECRETS: usize = 250;

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        KeySource::create_file(&dir.path().join("master.key")).unwrap();
        let keyring = Arc::new(read(&dir.path().join("master.key")));
        let world = Self { dir, store: Arc::new(MemoryStore::new()), keyring };
        for number in 0..SECRETS {
            let table = if number % 2 == 0 { Table::Grants } else { Table::Agents };
            world.write(table, &format!("org_default/con_{number}"), "secret").await;
        }
        world.write(Table::Meta, "org_0/sentinel", "sentinel").await;
        world
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("master.key")
    }

    fn keys(&self, location: KeyLocation) -> Arc<MasterKeys> {
        MasterKeys::new(self.store.clone(), self.keyring.clone(), location).unwrap()
    }

    async fn write(&self, table: Table, key: &str, text: &str) {
        let org = OrgId::parse(key.split_once('/').unwrap().0).unwrap();
        let place = Place { org: &org, table: table.name(), key };
        let sealing = self.keyring.sealing().await;
        let sealed = sealing.seal(&place, text.as_bytes()).unwrap();
        self.store.put(table, key, &sealed, Expect::Any).await.unwrap();
    }

    async fn opens(&self, keyring: &Keyring, table: Table, key: &str) -> Result<(), EnvelopeError> {
        let row = self.store.get(table, key).await.unwrap().unwrap();
        let org = OrgId::parse(key.split_once('/').unwrap().0).unwrap();
        keyring.open(&Place { org: &org, table: table.name(), key }, &row.value).map(drop)
    }
}

fn read(file: &std::path::Path) -> Keyring {
    KeySource::load(&[KeySource::File(file.into())], |_| None, &[]).unwrap()
}

#[tokio::test]
async fn a_single_configured_key_is_not_rotated_and_the_hint_has_the_needed_lines() {
    let world = World::new().await;
    let refused = world.keys(KeyLocation::External).rotate().await.unwrap_err();
    assert!(matches!(refused, KeysError::NothingOlder(_)), "{refused}");
    let hint = refused.hint().unwrap();
    let present = format!("{{ file: {} }}]`", world.file().display());
    assert!(hint.contains("`master_key: [{ file: ") && hint.contains(&present), "{hint}");
    assert_eq!(world.keyring.keys().len(), 1);
}

#[tokio::test]
async fn a_row_that_does_not_open_keeps_the_old_key() {
    let world = World::new().await;
    let old = read(&world.file());
    let row = world.store.get(Table::Grants, "org_default/con_100").await.unwrap().unwrap();
    let elsewhere = "org_default/con_moved";
    world.store.put(Table::Grants, elsewhere, &row.value, Expect::Any).await.unwrap();
    let keys = world.keys(KeyLocation::KeyFile(world.file()));
    for _ in 0..2 {
        let refused = keys.rotate().await.unwrap_err();
        assert!(refused.to_string().contains(elsewhere), "{refused}");
    }
    let after = read(&world.file());
    assert_eq!(after.keys().len(), 2, "one new key for two tries");
    assert_eq!(after.keys()[1].id, old.current());
    world.opens(&after, Table::Grants, "org_default/con_100").await.unwrap();
    world.store.delete(Table::Grants, elsewhere, Expect::Any).await.unwrap();
    let rotated = keys.rotate().await.unwrap();
    assert!(!rotated.made, "the one that began is finished");
    assert_eq!(read(&world.file()).keys().len(), 1);
}

#[tokio::test]
async fn rows_of_a_missing_key_are_reported_and_stop_the_rotation() {
    let world = World::new().await;
    let stranger = World::new().await;
    let row = stranger.store.get(Table::Grants, "org_default/con_0").await.unwrap().unwrap();
    world.store.put(Table::Grants, "org_default/con_0", &row.value, Expect::Any).await.unwrap();
    let keys = world.keys(KeyLocation::KeyFile(world.file()));
    let uses = keys.uses().await.unwrap();
    assert_eq!(uses[1].id, stranger.keyring.current());
    assert_eq!((uses[1].origin.clone(), uses[1].rows, uses.len()), (None, 1, 2));
    let refused = keys.rotate().await.unwrap_err();
    assert!(refused.hint().unwrap().contains("key list"), "{refused}");
}

#[tokio::test]
async fn every_row_is_rewrapped_keeps_its_version_and_does_not_open_by_the_old_key() {
    let world = World::new().await;
    let old = read(&world.file());
    let keys = world.keys(KeyLocation::KeyFile(world.file()));
    let rotated = keys.rotate().await.unwrap();
    assert!(rotated.made && rotated.unneeded.is_empty());
    assert_eq!((rotated.rewrapped, rotated.rows), (SECRETS as u64 + 1, SECRETS as u64 + 1));
    assert_eq!(rotated.retired, [old.current()]);
    let after = read(&world.file());
    assert_eq!(after.current(), rotated.current.id);
    for number in 0..SECRETS {
        let table = if number % 2 == 0 { Table::Grants } else { Table::Agents };
        let key = format!("org_default/con_{number}");
        world.opens(&after, table, &key).await.unwrap();
        assert!(world.opens(&old, table, &key).await.is_err());
        assert_eq!(world.store.get(table, &key).await.unwrap().unwrap().version, Version(1));
    }
    let uses = keys.uses().await.unwrap();
    assert_eq!((uses.len(), uses[0].rows, uses[0].current), (1, SECRETS as u64 + 1, true));
}

#[tokio::test]
async fn an_interrupted_rotation_is_finished_at_the_next_start() {
    let world = World::new().await;
    // The rotation stopped after the key file and half of the rows were written.
    let next = world.keyring.next(Some(&world.file())).unwrap();
    world.keyring.make_current(next).await;
    world.write(Table::Grants, "org_default/con_0", "secret").await;
    let restarted = World { keyring: Arc::new(read(&world.file())), ..world };
    let keys = restarted.keys(KeyLocation::KeyFile(restarted.file()));
    let finished = keys.finish().await.unwrap().unwrap();
    assert_eq!((finished.made, finished.rewrapped), (false, SECRETS as u64));
    assert_eq!(keys.finish().await.unwrap(), None);
    assert_eq!(read(&restarted.file()).keys().len(), 1);
}

#[tokio::test]
async fn a_list_of_configured_keys_rotates_to_the_first_and_names_the_unneeded_ones() {
    let world = World::new().await;
    let new = world.dir.path().join("new.key");
    KeySource::create_file(&new).unwrap();
    let sources = [KeySource::File(new.clone()), KeySource::File(world.file())];
    let keyring = KeySource::load(&sources, |_| None, &[]).unwrap();
    let before = std::fs::read(world.file()).unwrap();
    let listed = World { keyring: keyring.into(), ..world };
    let keys = listed.keys(KeyLocation::External);
    for moved in [SECRETS as u64 + 1, 0] {
        let rotated = keys.rotate().await.unwrap();
        assert_eq!((rotated.made, rotated.rewrapped), (false, moved));
        let unneeded: Vec<_> = rotated.unneeded.into_iter().map(|key| key.origin).collect();
        assert_eq!(unneeded, [KeyOrigin::File(listed.file())]);
    }
    assert_eq!(std::fs::read(listed.file()).unwrap(), before, "given files are not touched");
    listed.opens(&read(&new), Table::Meta, "org_0/sentinel").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_written_during_a_rotation_open_with_the_new_key() {
    let world = Arc::new(World::new().await);
    let keys = world.keys(KeyLocation::KeyFile(world.file()));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let world = world.clone();
            tokio::spawn(async move {
                for round in 0..400 {
                    let key = format!("org_default/con_{}", (round * 7 + writer) % SECRETS * 2);
                    world.write(Table::Grants, &key, "changed").await;
                }
            })
        })
        .collect();
    let mut rotations = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) || rotations == 0 {
        keys.rotate().await.unwrap();
        rotations += 1;
    }
    let after = read(&world.file());
    let mut rows = world.store.list(Table::Grants, RowRange::first(10_000)).await.unwrap();
    assert!(rows.len() > SECRETS / 2, "{rotations} rotations");
    for row in rows.drain(..) {
        world.opens(&after, Table::Grants, &row.key).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_rotations_at_once_one_is_refused() {
    let world = World::new().await;
    let keys = world.keys(KeyLocation::Memory);
    let turn = keys.turn.clone().try_lock_owned().unwrap();
    assert!(matches!(keys.rotate().await, Err(KeysError::Busy)));
    drop(turn);
    assert!(keys.rotate().await.unwrap().made);
}
