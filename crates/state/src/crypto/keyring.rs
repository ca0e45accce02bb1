//! [`Keyring`]: the master keys by id. The current key seals values; older ones only open them. `source.rs`
//! loads keys; the crate `keyward-envelope` defines the bytes of a sealed value.
//!
//! The ring may change while values are written. A writer holds a [`Sealing`] guard from sealing until the
//! value is on disk, and a new key waits for all guards. So when a new key becomes current, every value sealed
//! with the previous one is in the store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use zeroize::Zeroizing;

use super::key_file;
use super::key_file::KeyError;
use keyward_envelope::{self as envelope, EnvelopeError, KEY_LEN, Place, WrappingKey};

pub use keyward_envelope::KeyId;

/// Maximum number of data keys that one process wraps with one master key.
///
/// NIST SP 800-38D §8.3 allows 2^32 random nonces per key. The count is per process, because a shared count
/// would require a write per write; therefore the limit is lower: sixteen processes in succession would each
/// have to make 2^28 durable writes (a month at 100 per second) to reach 2^32.
const WRAPS_MAX: u64 = 1 << 28;

/// The source of a master key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyOrigin {
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A command, by program only: arguments may contain secrets.
    Command(String),
    /// Not stored: the key exists only in this process.
    Memory,
}

/// The public properties of a master key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyInfo {
    pub id: KeyId,
    /// The source of the key.
    pub origin: KeyOrigin,
}

/// The master keys: a current one, and older ones for reading. Wiped when they leave the ring.
pub struct Keyring {
    ring: ArcSwap<Ring>,
    turns: Arc<RwLock<()>>,
}

/// A guard for writing: hold it until the sealed value is on disk.
#[must_use = "a turn ends when it is dropped"]
pub struct Sealing {
    ring: Arc<Ring>,
    _turn: OwnedRwLockReadGuard<()>,
}

/// Master keys at one point in time: they open values that were sealed until then, also after a rotation retired the
/// keys.
pub struct OpeningKeys(Arc<Ring>);

/// A new key that is on disk and not in use yet.
pub struct NextKey(MasterKey);

struct Ring {
    current: Arc<MasterKey>,
    older: Vec<Arc<MasterKey>>,
}

pub(super) struct MasterKey {
    id: KeyId,
    pub(super) bytes: Zeroizing<[u8; KEY_LEN]>,
    origin: KeyOrigin,
    wraps: AtomicU64,
}

impl KeyOrigin {
    /// The source as written in `master_key` of the configuration.
    pub fn yaml(&self) -> String {
        match self {
            Self::File(path) => format!("{{ file: {} }}", path.display()),
            Self::Env(name) => format!("{{ env: {name} }}"),
            Self::Command(program) => format!("{{ command: [{program}, …] }}"),
            Self::Memory => "{}".to_owned(),
        }
    }

    /// An example of another key of this kind, as written in the configuration.
    pub fn like(&self) -> &'static str {
        match self {
            Self::File(_) | Self::Memory => "{ file: NEW_FILE }",
            Self::Env(_) => "{ env: NEW_VARIABLE }",
            Self::Command(_) => "{ command: [NEW_PROGRAM, …] }",
        }
    }
}

impl Keyring {
    /// A ring of these keys; duplicates are ignored.
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

    /// A ring with a random key, for tests and `memory` stores.
    pub fn ephemeral() -> Self {
        Self::new(MasterKey::new(envelope::random(), KeyOrigin::Memory), [])
    }

    pub fn current(&self) -> KeyId {
        self.ring.load().current.id
    }

    /// Properties of all keys, the current one first.
    pub fn keys(&self) -> Vec<KeyInfo> {
        let info = |key: &Arc<MasterKey>| KeyInfo { id: key.id, origin: key.origin.clone() };
        self.ring.load().all().map(info).collect()
    }

    /// Acquires a guard for writing. It waits only while a key change waits for running writes. A second guard
    /// in the same task may deadlock.
    pub async fn sealing(&self) -> Sealing {
        let turn = Arc::clone(&self.turns).read_owned().await;
        // The guard is taken before the ring is read, because the old ring may be dropped while no guard is held.
        Sealing { ring: self.ring.load_full(), _turn: turn }
    }

    /// Seals bytes that no rotation re-wraps, with the current key. Takes no guard, because its caller may hold one.
    ///
    /// # Errors
    /// As [`Sealing::seal`].
    pub(crate) fn seal_unguarded(
        &self,
        place: &Place<'_>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, EnvelopeError> {
        self.ring.load().seal(place, plaintext)
    }

    /// Opens a value with the key that sealed it.
    ///
    /// # Errors
    /// When that key is not in the ring, or the value was changed or belongs to another row.
    pub fn open(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        envelope::open(&self.ring.load().of(sealed)?.bytes, place, sealed)
    }

    /// Re-wraps a value with the current key; `None` if it already is. The value is not opened.
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
        envelope::rewrap(&from.bytes, ring.current.wrapping(), place, sealed).map(Some)
    }

    /// Makes a new key and writes it durably to `file`, before the keys of the ring. From then on the file
    /// opens values of both keys. Blocks for the disk.
    ///
    /// # Errors
    /// When the file is not a regular key file, or cannot be written. The old file is kept then.
    pub fn next(&self, file: Option<&Path>) -> Result<NextKey, KeyError> {
        let ring = self.ring.load();
        let next = MasterKey::new(envelope::random(), ring.current.origin.clone());
        if let Some(file) = file {
            let all = std::iter::once(&next).chain(ring.all().map(|key| &**key));
            key_file::replace(file, all.map(|key| &key.bytes))?;
        }
        Ok(NextKey(next))
    }

    /// Makes the new key current. When this returns, no write with another key is in progress.
    pub async fn make_current(&self, NextKey(next): NextKey) {
        let _all_turns = self.turns.write().await;
        let ring = self.ring.load();
        let older = ring.all().cloned().collect();
        self.ring.store(Arc::new(Ring { current: next.into(), older }));
    }

    /// Replaces all keys; the new ring must contain all keys that rows need.
    pub async fn replace(&self, other: Keyring) {
        let _all_turns = self.turns.write().await;
        self.ring.store(other.ring.into_inner());
    }

    /// Removes the older keys, from `file` first, durably; returns their ids. Blocks for the disk.
    ///
    /// # Errors
    /// When the file cannot be written; then no key is removed.
    pub fn retire(&self, file: Option<&Path>) -> Result<Vec<KeyId>, KeyError> {
        let ring = self.ring.load();
        if let Some(file) = file {
            key_file::replace(file, std::iter::once(&ring.current.bytes))?;
        }
        let current = Arc::clone(&ring.current);
        self.ring.store(Arc::new(Ring { current, older: Vec::new() }));
        Ok(ring.older.iter().map(|key| key.id).collect())
    }
}

impl Sealing {
    /// Seals with the current key.
    ///
    /// # Errors
    /// [`EnvelopeError::KeyUsageLimit`] when this process has wrapped too many data keys under the key.
    pub fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.ring.seal(place, plaintext)
    }

    /// The keys of the ring. No other key seals values until the guard is dropped.
    pub fn opening(&self) -> OpeningKeys {
        OpeningKeys(Arc::clone(&self.ring))
    }
}

impl OpeningKeys {
    /// Opens a value with the key that sealed it.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn open(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        envelope::open(&self.0.of(sealed)?.bytes, place, sealed)
    }
}

impl Ring {
    fn all(&self) -> impl Iterator<Item = &Arc<MasterKey>> {
        std::iter::once(&self.current).chain(&self.older)
    }

    /// The master key of a value.
    fn of(&self, sealed: &[u8]) -> Result<&MasterKey, EnvelopeError> {
        let id = envelope::key_id(sealed)?;
        let found = self.all().find(|key| key.id == id);
        found.map(|key| &**key).ok_or(EnvelopeError::UnknownKey(id))
    }

    fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.current.count_wrap()?;
        envelope::seal(self.current.wrapping(), place, plaintext)
    }
}

impl fmt::Debug for Keyring {
    /// Prints the ids only.
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

impl fmt::Debug for OpeningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpeningKeys").field(&self.0.current.id).finish()
    }
}

impl fmt::Debug for NextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NextKey").field(&self.0.id).finish()
    }
}

impl MasterKey {
    pub(super) fn new(bytes: Zeroizing<[u8; KEY_LEN]>, origin: KeyOrigin) -> Self {
        Self { id: KeyId::of(&bytes), bytes, origin, wraps: AtomicU64::new(0) }
    }

    fn wrapping(&self) -> WrappingKey<'_> {
        WrappingKey { id: self.id, bytes: &self.bytes }
    }

    fn count_wrap(&self) -> Result<(), EnvelopeError> {
        match self.wraps.fetch_add(1, Ordering::Relaxed) >= WRAPS_MAX {
            true => Err(EnvelopeError::KeyUsageLimit(self.id)),
            false => Ok(()),
        }
    }
}

/// The id of a value's master key, whether or not it is in a ring.
///
/// # Errors
/// When the value is not an envelope.
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
        MasterKey::new(Zeroizing::new([byte; 32]), KeyOrigin::Memory)
    }

    fn place(org: &OrgId) -> Place<'_> {
        Place { org, table: "meta", key: "k" }
    }

    fn sealed(ring: &Keyring, org: &OrgId) -> Result<Vec<u8>, EnvelopeError> {
        ring.ring.load().seal(&place(org), b"x")
    }

    #[test]
    fn the_error_for_a_value_of_a_missing_key_names_that_key() {
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
    fn a_key_at_its_usage_limit_opens_values_and_seals_no_more() {
        let org = OrgId::default_org();
        let ring = Keyring::new(key(1), []);
        let before = sealed(&ring, &org).unwrap();
        ring.ring.load().current.wraps.store(WRAPS_MAX, Ordering::Relaxed);
        let refused = sealed(&ring, &org).unwrap_err();
        assert_eq!(refused, EnvelopeError::KeyUsageLimit(ring.current()));
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
    fn a_value_is_rewrapped_only_in_its_row_and_then_opens_only_with_the_new_key() {
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
    async fn a_new_key_waits_for_values_that_are_being_written() {
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
