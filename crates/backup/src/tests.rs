//! Backups of a real directory: what comes back, and what a changed, cut or foreign file says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::Arc;

use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{RowRange, Store, Table};
use zeroize::Zeroizing;

use super::frame::{FrameKind, Hashed, part_head};
use super::*;

const CANARY: &str = "canary-of-a-backup-0123456789";

struct World {
    store: Arc<MemoryStore>,
    directory: Directory,
}

async fn world() -> World {
    let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
    let directory = Directory::open(store.clone(), keyring, Clock::System).await.unwrap();
    for number in 0..40 {
        let org = keyward_base::id::OrgId::named(&format!("org-{number}")).unwrap();
        directory.add_org(&org, keyward_state::directory::ManagedBy::Store).await.unwrap();
    }
    World { store, directory }
}

async fn content(directory: &Directory) -> BackupContent {
    let part = BackupPart {
        name: "ca.key".to_owned(),
        // More than one chunk of the encryption.
        content: Zeroizing::new(CANARY.repeat(4_000).into_bytes()),
    };
    let state = directory.snapshot().await.unwrap();
    BackupContent { state, parts: vec![part], created: Clock::System.now() }
}

fn keys() -> (Encryption, BackupKey) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string().parse().unwrap();
    let text = Secret::new(age::secrecy::ExposeSecret::expose_secret(&identity.to_string()));
    let identities = AgeIdentity::all_of(&text).unwrap();
    (Encryption::Recipients(vec![recipient]), BackupKey::Identities(identities))
}

async fn backup(encryption: &Encryption) -> Vec<u8> {
    write(&content(&world().await.directory).await, encryption, Vec::new()).unwrap()
}

/// Rows as they are inside their seals.
fn opened(content: &BackupContent) -> Vec<(Table, String, u64, Vec<u8>)> {
    let rows = content.state.opened().map(Result::unwrap);
    rows.map(|row| (row.table, row.key, row.version.0, row.content.to_vec())).collect()
}

#[tokio::test]
async fn a_backup_restores_every_row_and_part_under_another_master_key() {
    let world = world().await;
    let (encryption, opening) = keys();
    let content = content(&world.directory).await;
    let file = write(&content, &encryption, Vec::new()).unwrap();
    assert!(!file.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()));
    let mut reader = BackupReader::open(&*file, &opening).unwrap();
    assert_eq!(reader.header().rows["orgs"], 40);
    let (other, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
    let (mut rows, mut parts) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next_entry().unwrap() {
        match entry {
            BackupEntry::Part(part) => parts.push(part),
            BackupEntry::Row(row) => rows.push(row.seal(&keyring.sealing().await).unwrap()),
        }
    }
    assert_eq!(parts, content.parts);
    other.load(rows).await.unwrap();
    let restored = Directory::open(other.clone(), keyring, Clock::System).await.unwrap();
    let again = BackupContent {
        state: restored.snapshot().await.unwrap(),
        parts: vec![],
        created: content.created,
    };
    assert_eq!(opened(&again), opened(&content), "restore(backup(x)) == x");
    assert_ne!(again.state.rows(), content.state.rows(), "sealed by another key");
    assert_eq!(world.store.snapshot().await.unwrap(), *content.state.rows(), "x is as it was");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_refused() {
    let (encryption, opening) = keys();
    let file = backup(&encryption).await;
    verify(&*file, &opening).unwrap();
    // Every byte of the head, and then some of each region.
    let places = (0..400).chain((400..file.len()).step_by(997)).chain(file.len() - 40..file.len());
    for at in places.filter(|at| *at < file.len()) {
        let mut changed = file.clone();
        changed[at] ^= 1 << (at % 8);
        let refused = verify(&*changed, &opening).expect_err(&format!("byte {at}"));
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }
}

#[tokio::test]
async fn a_file_that_is_cut_or_longer_is_refused() {
    let (encryption, opening) = keys();
    let file = backup(&encryption).await;
    let lengths = (0..400).chain((400..file.len()).step_by(997)).chain([file.len() - 1]);
    for length in lengths {
        verify(&file[..length], &opening).expect_err(&format!("{length} bytes"));
    }
    let cut = verify(&file[..file.len() / 2], &opening).unwrap_err();
    assert!(matches!(cut, BackupError::Damaged), "{cut}");
    let longer = [&*file, b"x"].concat();
    assert!(verify(&*longer, &opening).is_err());
}

#[tokio::test]
async fn a_wrong_passphrase_or_identity_is_distinguished_from_damage() {
    let passphrase = |text: &str| Secret::new(text);
    let by_text = backup(&Encryption::Passphrase(passphrase(CANARY))).await;
    let open = |text| verify(&*by_text, &BackupKey::Passphrase(passphrase(text)));
    open(CANARY).unwrap();
    let wrong = open("another passphrase").unwrap_err();
    assert!(matches!(wrong, BackupError::WrongPassphrase), "{wrong}");
    let (encryption, opening) = keys();
    assert!(matches!(verify(&*by_text, &opening), Err(BackupError::NeedsPassphrase)));
    let by_recipient = backup(&encryption).await;
    let other = verify(&*by_recipient, &keys().1).unwrap_err();
    assert!(matches!(other, BackupError::WrongIdentity), "{other}");
    let none = verify(&*by_recipient, &BackupKey::Passphrase(passphrase(CANARY))).unwrap_err();
    assert!(matches!(none, BackupError::NeedsIdentity), "{none}");
    for foreign in [b"".as_slice(), b"age", b"PK\x03\x04", b"age-encryption.org/v2\n"] {
        assert!(matches!(verify(foreign, &opening), Err(BackupError::NotAge)), "{foreign:?}");
    }
}

/// What another program, or another version, encrypted for us.
fn made(encryption: &Encryption, write: impl FnOnce(&mut Hashed<&mut dyn Write>)) -> Vec<u8> {
    let mut encrypted = encryption.wrap(Vec::new()).unwrap();
    write(&mut Hashed::new(&mut encrypted as &mut dyn Write));
    encrypted.finish().unwrap()
}

fn head(frames: &mut Hashed<&mut dyn Write>, header: &str) {
    frames.magic().unwrap();
    frames.frame(FrameKind::Header, &[header.as_bytes()]).unwrap();
}

fn end(frames: &mut Hashed<&mut dyn Write>) {
    let trailer = frames.trailer().payload();
    frames.frame(FrameKind::Trailer, &[&trailer]).unwrap();
}

const HEADER: &str = r#"{"format":1,"keyward":"9.9.9","created":"2026-01-02T03:04:05Z","rows":{}}"#;

#[test]
fn the_error_for_a_file_of_another_program_or_version_says_what_it_is() {
    let (encryption, opening) = keys();
    let told = |file: Vec<u8>| verify(&*file, &opening).unwrap_err().to_string();
    let foreign = made(&encryption, |frames| frames.inner.write_all(b"a letter").unwrap());
    assert_eq!(told(foreign), "it is an age file, but not a backup of Keyward");
    for format in [0, 2] {
        let header = HEADER.replace(":1,", &format!(":{format},"));
        let other = told(made(&encryption, |frames| {
            head(frames, &header);
            end(frames);
        }));
        let expected = format!(
            "it has format {format}, written by keyward 9.9.9; this version reads format 1: use that version"
        );
        assert_eq!(other, expected);
    }
    let table = made(&encryption, |frames| {
        head(frames, HEADER);
        frames
            .frame(FrameKind::Row, &[&part_head("dreams"), b"\0\x01a\0\0\0\0\0\0\0\x01x"])
            .unwrap();
        end(frames);
    });
    let expected =
        "it has rows of table `dreams`, written by keyward 9.9.9: use that version or a later one";
    assert_eq!(told(table), expected);
}

/// Writes the frames of a backup.
type WriteFrames<'a> = &'a dyn Fn(&mut Hashed<&mut dyn Write>);

#[test]
fn a_backup_with_a_missing_or_mismatched_trailer_is_damaged() {
    let (encryption, opening) = keys();
    let header = HEADER.replace("\"rows\":{}", "\"rows\":{\"agents\":1}");
    let cases: [(&str, WriteFrames<'_>); 5] = [
        ("no end", &|frames| head(frames, HEADER)),
        ("a missing row", &|frames| {
            head(frames, &header);
            end(frames);
        }),
        ("another hash", &|frames| {
            head(frames, HEADER);
            let mut trailer = frames.trailer().payload();
            trailer[20] ^= 1;
            frames.frame(FrameKind::Trailer, &[&trailer]).unwrap();
        }),
        ("something after the end", &|frames| {
            head(frames, HEADER);
            end(frames);
            frames.inner.write_all(b"x").unwrap();
        }),
        ("a frame of four gigabytes", &|frames| {
            head(frames, HEADER);
            frames.inner.write_all(b"R\xff\xff\xff\xff").unwrap();
        }),
    ];
    for (what, write) in cases {
        let refused = verify(&*made(&encryption, write), &opening);
        assert!(matches!(refused, Err(BackupError::Damaged)), "{what}");
    }
    verify(
        &*made(&encryption, |frames| {
            head(frames, HEADER);
            end(frames);
        }),
        &opening,
    )
    .unwrap();
}

#[tokio::test]
async fn a_row_that_does_not_open_is_named_before_anything_is_written() {
    let world = world().await;
    let row = world.store.list(Table::Orgs, RowRange::first(1)).await.unwrap().remove(0);
    let mut value = row.value.clone();
    value[100] ^= 1;
    world.store.reseal(Table::Orgs, &row, &value).await.unwrap();
    let content = content(&world.directory).await;
    let refused = content.check().unwrap_err().to_string();
    assert!(refused.contains(&row.key), "{refused}");
}

#[test]
fn the_time_is_read_from_names_of_backup_files_and_from_no_other_name() {
    let time = "2026-01-02T03:04:05Z".parse().unwrap();
    assert_eq!(file_name(time), "keyward-20260102T030405Z.age");
    assert_eq!(time_of("keyward-20260102T030405Z.age"), Some(time));
    for other in [
        "keyward.age",
        "keyward-20260102T030405Z.age.part",
        "keyward-20260132T030405Z.age",
        "keyward-2026012T0304050Z.age",
        "prefix-keyward-20260102T030405Z.age",
        "keyward-.age",
    ] {
        assert_eq!(time_of(other), None, "{other}");
    }
}

#[test]
fn two_writers_of_one_file_at_the_same_moment_each_publish_their_own_content_whole() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join(file_name("2026-01-02T03:04:05Z".parse().unwrap()));
    let mut first = StagedFile::create(&place).unwrap();
    first.write_all(b"half of the first, ").unwrap();
    let mut second = StagedFile::create(&place).unwrap();
    second.write_all(b"half of the second, ").unwrap();
    first.write_all(b"and its end").unwrap();
    first.publish().unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"half of the first, and its end");
    second.write_all(b"and its end").unwrap();
    second.publish().unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"half of the second, and its end");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside it");
}

#[test]
fn invalid_recipients_and_identities_have_distinct_errors() {
    let refused: BTreeMap<&str, RecipientError> =
        ["age1", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1QQ"]
            .into_iter()
            .map(|text| (text, text.parse::<Recipient>().unwrap_err()))
            .collect();
    assert_eq!(refused["age1"], RecipientError::Malformed);
    assert_eq!(refused["ssh-ed25519 AAAA"], RecipientError::Ssh);
    assert_eq!(refused["AGE-SECRET-KEY-1QQ"], RecipientError::Identity);
    let identities = |text: &str| AgeIdentity::all_of(&Secret::new(text)).unwrap_err();
    assert_eq!(identities("# a comment\n\n"), IdentityError::None);
    assert_eq!(identities("# a comment\nage1qq\n"), IdentityError::Line(2));
}
