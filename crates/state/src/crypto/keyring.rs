//! Master keys by id: one current, under which values are sealed, and older ones kept for reading.
//! Where the keys come from is `source.rs`'s; the bytes of a sealed value are `envelope.rs`'s.
//!
//! The ring changes while values are written: whoever seals holds a turn from the seal until the
//! value is on the disk, and a new key waits for all turns. So when it is current, every value that
//! was sealed under the one before can be found in the store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use zeroize::Zeroizing;

use super::envelope::{self, EnvelopeError, KEY_LEN, Place};
use super::own;
use super::source::KeyError;

/// Data keys that one process wraps under one master key, at most.
///
/// NIST SP 800-38D §8.3 allows 2^32 random nonces per key. The count is the process's own, because
/// a shared one would be a row written at each write; so it stops far earlier: sixteen processes
/// in a row would each have to do 2^28 durable writes (a month of 100 per second) to get there.
const WRAPS_MAX: u64 = 1 << 28;

/// Names a master key without telling anything about it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId(pub(super) [u8; 8]);

/// Where a master key was read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A command, by its program: arguments may tell too much.
    Command(String),
    /// Nowhere: it ends with the process.
    Memory,
}

/// A key of the ring, as it may be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyInfo {
    /// Its name.
    pub id: KeyId,
    /// Where it was read from.
    pub origin: Origin,
}

/// Master keys: one current, older ones kept for reading. Wiped when they leave the ring.
pub struct Keyring {
    ring: ArcSwap<Ring>,
    turns: Arc<RwLock<()>>,
}

/// A turn to write: hold it until what was sealed is on the disk.
#[must_use = "a turn ends when it is dropped"]
pub struct Sealing {
    ring: Arc<Ring>,
    _turn: OwnedRwLockReadGuard<()>,
}

/// A new key that is on the disk and not yet in use.
pub struct NextKey(MasterKey);

struct Ring {
    current: Arc<MasterKey>,
    older: Vec<Arc<MasterKey>>,
}

pub(super) struct MasterKey {
    id: KeyId,
    pub(super) bytes: Zeroizing<[u8; KEY_LEN]>,
    origin: Origin,
    wraps: AtomicU64,
}

impl Origin {
    /// As it stands in `master_key` of the configuration.
    pub fn yaml(&self) -> String {
        match self {
            Self::File(path) => format!("{{ file: {} }}", path.display()),
            Self::Env(name) => format!("{{ env: {name} }}"),
            Self::Command(program) => format!("{{ command: [{program}, …] }}"),
            Self::Memory => "{}".to_owned(),
        }
    }

    /// How another key of this kind would stand there.
    pub fn like(&self) -> &'static str {
        match self {
            Self::File(_) | Self::Memory => "{ file: NEW_FILE }",
            Self::Env(_) => "{ env: NEW_VARIABLE }",
            Self::Command(_) => "{ command: [NEW_PROGRAM, …] }",
        }
    }
}

impl KeyId {
    /// Bytes of an id.
    pub const LEN: usize = 8;

    /// The first 8 bytes of SHA-256 of a domain label and the key: 256 random bits do not show
    /// through them.
    fn of(key: &Zeroizing<[u8; KEY_LEN]>) -> Self {
        let digest = Sha256::new()
            .chain_update(b"keyward master key id v1\0")
            .chain_update(**key)
            .finalize();
        Self(std::array::from_fn(|at| digest[at]))
    }
}

impl fmt::Display for KeyId {
    /// 16 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Keyring {
    /// A ring of these keys. One that is given twice counts once.
    pub(super) fn new(current: MasterKey, older: impl IntoIterator<Item = MasterKey>) -> Self {
        let mut kept: Vec<Arc<MasterKey>> = Vec::new();
        for key in older {
            if key.id != current.id && kept.iter().all(|other| other.id != key.id) {
                kept.push(key.into());
            }
        }
        let ring = Ring { current: current.into(), older: kept };
        Self { ring: ArcSwap::from_pointee(ring), turns: Arc::default() }
    }

    /// A ring with a fresh random key, for tests and `memory` stores.
    pub fn ephemeral() -> Self {
        Self::new(MasterKey::new(envelope::random(), Origin::Memory), [])
    }

    /// The id of the key that seals.
    pub fn current(&self) -> KeyId {
        self.ring.load().current.id
    }

    /// All keys, the current one first.
    pub fn keys(&self) -> Vec<KeyInfo> {
        let info = |key: &Arc<MasterKey>| KeyInfo { id: key.id, origin: key.origin.clone() };
        self.ring.load().all().map(info).collect()
    }

    /// Waits for a turn to write. Short: only a change of the ring makes anyone wait, for the
    /// writes that are under way. Taking a second turn while holding one may wait for ever.
    pub async fn sealing(&self) -> Sealing {
        let turn = Arc::clone(&self.turns).read_owned().await;
        // In this order: the ring of before may leave as soon as there is no turn.
        Sealing { ring: self.ring.load_full(), _turn: turn }
    }

    /// Opens under whichever key sealed it.
    ///
    /// # Errors
    /// When that key is not on the ring, or the value was changed or belongs elsewhere.
    pub fn open(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        envelope::open(&self.ring.load().of(sealed)?.bytes, place, sealed)
    }

    /// The value under the current key; `None` when it is already. What is sealed is not opened.
    ///
    /// # Errors
    /// As [`Keyring::open`] and [`Sealing::seal`].
    pub fn rewrap(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, EnvelopeError> {
        let ring = self.ring.load();
        let from = ring.of(sealed)?;
        if from.id == ring.current.id {
            return Ok(None);
        }
        ring.current.count_wrap()?;
        let to = (ring.current.id, &ring.current.bytes);
        envelope::rewrap(&from.bytes, to, place, sealed).map(Some)
    }

    /// Makes a key that is to be the current one, and writes it into `file` before those of the
    /// ring, durably: from then on the file opens what either seals. Blocks for the disk.
    ///
    /// # Errors
    /// When the file is not a plain file of ours, or cannot be written. The old file stays then.
    pub fn next(&self, file: Option<&Path>) -> Result<NextKey, KeyError> {
        let ring = self.ring.load();
        let next = MasterKey::new(envelope::random(), ring.current.origin.clone());
        if let Some(file) = file {
            let all = std::iter::once(&next).chain(ring.all().map(|key| &**key));
            own::replace(file, all.map(|key| &key.bytes))?;
        }
        Ok(NextKey(next))
    }

    /// Seals under the new key from now on. When this returns, nothing that was sealed under
    /// another key is still on its way into the store.
    pub async fn make_current(&self, NextKey(next): NextKey) {
        let _all_turns = self.turns.write().await;
        let ring = self.ring.load();
        let older = ring.all().cloned().collect();
        self.ring.store(Arc::new(Ring { current: next.into(), older }));
    }

    /// Changes to other keys, among which must be all that rows need.
    pub async fn replace(&self, other: Keyring) {
        let _all_turns = self.turns.write().await;
        self.ring.store(other.ring.into_inner());
    }

    /// Forgets the older keys, in `file` first, durably; answers which. Blocks for the disk.
    ///
    /// # Errors
    /// When the file cannot be written: then nothing is forgotten.
    pub fn retire(&self, file: Option<&Path>) -> Result<Vec<KeyId>, KeyError> {
        let ring = self.ring.load();
        if let Some(file) = file {
            own::replace(file, std::iter::once(&ring.current.bytes))?;
        }
        let current = Arc::clone(&ring.current);
        self.ring.store(Arc::new(Ring { current, older: Vec::new() }));
        Ok(ring.older.iter().map(|key| key.id).collect())
    }
}

impl Sealing {
    /// Seals under the current key.
    ///
    /// # Errors
    /// [`EnvelopeError::WornOut`] when this process has wrapped too many data keys under the key.
    pub fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.ring.seal(place, plaintext)
    }
}

impl Ring {
    fn all(&self) -> impl Iterator<Item = &Arc<MasterKey>> {
        std::iter::once(&self.current).chain(&self.older)
    }

    /// The key that wrapped a value's data key.
    fn of(&self, sealed: &[u8]) -> Result<&MasterKey, EnvelopeError> {
        let id = envelope::key_id(sealed)?;
        let found = self.all().find(|key| key.id == id);
        found.map(|key| &**key).ok_or(EnvelopeError::UnknownKey(id))
    }

    fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.current.count_wrap()?;
        envelope::seal((self.current.id, &self.current.bytes), place, plaintext)
    }
}

impl fmt::Debug for Keyring {
    /// The ids, never the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.ring.load().all().map(|key| key.id).collect();
        f.debug_tuple("Keyring").field(&ids).finish()
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealing").field(&self.ring.current.id).finish()
    }
}

impl fmt::Debug for NextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NextKey").field(&self.0.id).finish()
    }
}

impl MasterKey {
    pub(super) fn new(bytes: Zeroizing<[u8; KEY_LEN]>, origin: Origin) -> Self {
        Self { id: KeyId::of(&bytes), bytes, origin, wraps: AtomicU64::new(0) }
    }

    fn count_wrap(&self) -> Result<(), EnvelopeError> {
        match self.wraps.fetch_add(1, Ordering::Relaxed) >= WRAPS_MAX {
            true => Err(EnvelopeError::WornOut(self.id)),
            false => Ok(()),
        }
    }
}

/// The key that wrapped a value's data key, whether or not it is on a ring.
///
/// # Errors
/// When the value is no envelope of ours.
pub fn wrapped_by(sealed: &[u8]) -> Result<KeyId, EnvelopeError> {
    envelope::key_id(sealed)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use keyward_base::id::OrgId;

    fn key(byte: u8) -> MasterKey {
        MasterKey::new(Zeroizing::new([byte; 32]), Origin::Memory)
    }

    fn place(org: &OrgId) -> Place<'_> {
        Place { org, table: "meta", key: "k" }
    }

    fn sealed(ring: &Keyring, org: &OrgId) -> Result<Vec<u8>, EnvelopeError> {
        ring.ring.load().seal(&place(org), b"x")
    }

    #[test]
    fn a_value_of_a_missing_key_names_that_key() {
        let org = OrgId::default_org();
        let (ours, theirs) = (Keyring::new(key(1), []), Keyring::new(key(2), []));
        let sealed = sealed(&theirs, &org).unwrap();
        for refused in [
            ours.open(&place(&org), &sealed).map(drop).unwrap_err(),
            ours.rewrap(&place(&org), &sealed).map(drop).unwrap_err(),
        ] {
            assert_eq!(refused, EnvelopeError::UnknownKey(theirs.current()));
            assert!(refused.to_string().contains(&theirs.current().to_string()));
        }
    }

    #[test]
    fn a_worn_out_key_seals_no_more_and_still_opens() {
        let org = OrgId::default_org();
        let ring = Keyring::new(key(1), []);
        let before = sealed(&ring, &org).unwrap();
        ring.ring.load().current.wraps.store(WRAPS_MAX, Ordering::Relaxed);
        let refused = sealed(&ring, &org).unwrap_err();
        assert_eq!(refused, EnvelopeError::WornOut(ring.current()));
        assert_eq!(&**ring.open(&place(&org), &before).unwrap(), b"x");
    }

    #[test]
    fn an_older_key_reads_and_the_current_one_writes() {
        let org = OrgId::default_org();
        let before = Keyring::new(key(1), []);
        let old = sealed(&before, &org).unwrap();
        let after = Keyring::new(key(2), [key(1), key(2), key(1)]);
        assert_eq!(&**after.open(&place(&org), &old).unwrap(), b"x");
        let ids: Vec<_> = after.keys().into_iter().map(|key| key.id).collect();
        assert_eq!(ids, [after.current(), before.current()]);
        let renewed = sealed(&after, &org).unwrap();
        assert!(before.open(&place(&org), &renewed).is_err());
    }

    #[test]
    fn a_value_that_was_wrapped_anew_opens_by_the_new_key_alone_and_in_its_place() {
        let org = OrgId::default_org();
        let before = Keyring::new(key(1), []);
        let old = sealed(&before, &org).unwrap();
        let ring = Keyring::new(key(2), [key(1)]);
        let elsewhere = Place { key: "k2", ..place(&org) };
        assert_eq!(ring.rewrap(&elsewhere, &old), Err(EnvelopeError::Corrupt));
        let moved = ring.rewrap(&place(&org), &old).unwrap().unwrap();
        assert_eq!(ring.rewrap(&place(&org), &moved), Ok(None));
        ring.retire(None).unwrap();
        assert_eq!(&**ring.open(&place(&org), &moved).unwrap(), b"x");
        assert!(ring.open(&place(&org), &old).is_err());
        assert!(before.open(&place(&org), &moved).is_err());
    }

    #[tokio::test]
    async fn a_new_key_waits_for_values_on_their_way_and_they_for_no_one() {
        let ring = Keyring::ephemeral();
        let old = ring.current();
        let (one, two) = (ring.sealing().await, ring.sealing().await);
        let mut change = pin!(ring.make_current(ring.next(None).unwrap()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(change.as_mut().poll(&mut context).is_pending());
        drop(one);
        assert!(change.as_mut().poll(&mut context).is_pending());
        let org = OrgId::default_org();
        assert_eq!(wrapped_by(&two.seal(&place(&org), b"x").unwrap()), Ok(old));
        drop(two);
        change.await;
        let after = ring.sealing().await.seal(&place(&org), b"x").unwrap();
        assert_eq!(wrapped_by(&after), Ok(ring.current()));
        assert_ne!(ring.current(), old);
    }

    #[test]
    fn debug_shows_ids_only() {
        let shown = format!("{:?}", Keyring::new(key(0xab), []));
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
        assert_eq!(shown.len(), "Keyring([0123456789abcdef])".len());
    }
}
