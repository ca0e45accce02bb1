//! Master keys by id: one current, under which values are sealed, and older ones kept for reading.
//! Where the keys come from is `source.rs`'s; the bytes of a sealed value are `envelope.rs`'s.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::envelope::{self, EnvelopeError, KEY_LEN, Place};

/// Data keys that one process wraps under one master key, at most.
///
/// NIST SP 800-38D §8.3 allows 2^32 random nonces per key. The count is the process's own, because
/// a shared one would be a row written at each write; so it stops far earlier: sixteen processes
/// in a row would each have to do 2^28 durable writes (a month of 100 per second) to get there.
const WRAPS_MAX: u64 = 1 << 28;

/// Names a master key without telling anything about it.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct KeyId(pub(super) [u8; 8]);

/// Master keys: one current, older ones kept for reading. Wiped on drop.
pub struct Keyring {
    current: MasterKey,
    older: Vec<MasterKey>,
}

struct MasterKey {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_LEN]>,
    wraps: AtomicU64,
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
    pub(super) fn new(
        current: Zeroizing<[u8; KEY_LEN]>,
        older: impl IntoIterator<Item = Zeroizing<[u8; KEY_LEN]>>,
    ) -> Self {
        let current = MasterKey::new(current);
        let mut kept: Vec<MasterKey> = Vec::new();
        for key in older.into_iter().map(MasterKey::new) {
            if key.id != current.id && kept.iter().all(|other| other.id != key.id) {
                kept.push(key);
            }
        }
        Self { current, older: kept }
    }

    /// A ring with a fresh random key, for tests and `memory` stores.
    pub fn ephemeral() -> Self {
        Self::new(envelope::random(), [])
    }

    /// The id of the key that seals.
    pub fn current(&self) -> KeyId {
        self.current.id
    }

    /// The ids of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        std::iter::once(&self.current).chain(&self.older).map(|key| key.id)
    }

    /// Seals under the current key.
    ///
    /// # Errors
    /// [`EnvelopeError::WornOut`] when this process has wrapped too many data keys under the key.
    pub fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let key = &self.current;
        if key.wraps.fetch_add(1, Ordering::Relaxed) >= WRAPS_MAX {
            return Err(EnvelopeError::WornOut(key.id));
        }
        envelope::seal((key.id, &key.bytes), place, plaintext)
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
        let id = envelope::key_id(sealed)?;
        let key = std::iter::once(&self.current)
            .chain(&self.older)
            .find(|key| key.id == id)
            .ok_or(EnvelopeError::UnknownKey(id))?;
        envelope::open(&key.bytes, place, sealed)
    }
}

impl fmt::Debug for Keyring {
    /// The ids, never the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.ids().collect::<Vec<_>>()).finish()
    }
}

impl MasterKey {
    fn new(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self { id: KeyId::of(&bytes), bytes, wraps: AtomicU64::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::OrgId;

    fn key(byte: u8) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new([byte; 32])
    }

    fn place(org: &OrgId) -> Place<'_> {
        Place { org, table: "meta", key: "k" }
    }

    #[test]
    fn a_value_of_a_missing_key_names_that_key() {
        let org = OrgId::default_org();
        let (ours, theirs) = (Keyring::new(key(1), []), Keyring::new(key(2), []));
        let sealed = theirs.seal(&place(&org), b"x").unwrap();
        let refused = ours.open(&place(&org), &sealed).unwrap_err();
        assert_eq!(refused, EnvelopeError::UnknownKey(theirs.current()));
        assert!(refused.to_string().contains(&theirs.current().to_string()));
    }

    #[test]
    fn a_worn_out_key_seals_no_more_and_still_opens() {
        let org = OrgId::default_org();
        let ring = Keyring::new(key(1), []);
        let sealed = ring.seal(&place(&org), b"x").unwrap();
        ring.current.wraps.store(WRAPS_MAX, Ordering::Relaxed);
        let refused = ring.seal(&place(&org), b"x").unwrap_err();
        assert_eq!(refused, EnvelopeError::WornOut(ring.current()));
        assert_eq!(&**ring.open(&place(&org), &sealed).unwrap(), b"x");
    }

    #[test]
    fn an_older_key_reads_and_the_current_one_writes() {
        let org = OrgId::default_org();
        let before = Keyring::new(key(1), []);
        let sealed = before.seal(&place(&org), b"x").unwrap();
        let after = Keyring::new(key(2), [key(1), key(2), key(1)]);
        assert_eq!(&**after.open(&place(&org), &sealed).unwrap(), b"x");
        assert_eq!(after.ids().collect::<Vec<_>>(), [after.current(), before.current()]);
        let renewed = after.seal(&place(&org), b"x").unwrap();
        assert!(before.open(&place(&org), &renewed).is_err());
    }

    #[test]
    fn debug_shows_ids_only() {
        let shown = format!("{:?}", Keyring::new(key(0xab), []));
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
        assert_eq!(shown.len(), "Keyring([0123456789abcdef])".len());
    }
}
