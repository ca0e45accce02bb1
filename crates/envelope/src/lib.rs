//! The envelope of a stored value: AES-256-GCM with a data key per value, which is wrapped by a master key, whose [`KeyId`]
//! identifies it without revealing it. The key ring of `keyward-state` chooses the master key. A crate of its own, because
//! it is small and optimised in every profile: tests seal and open many thousands of values.
//!
//! `version (1) ‖ key id (8) ‖ wrap nonce (12) ‖ wrapped data key (32 + 16) ‖ nonce (12) ‖ ciphertext ‖ tag
//! (16)`, 97 bytes more than the plaintext.

use std::fmt;

use aes_gcm::aead::{Aead, AeadInOut, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use keyward_base::id::OrgId;

/// The only format version: the first byte of every sealed value, and part of the associated data.
const FORMAT: u8 = 1;
/// Length of random nonces: 96 bits, NIST SP 800-38D §8.2.2.
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const WRAPPED_LEN: usize = KEY_LEN + TAG_LEN;
const ID_AT: usize = 1;
const WRAP_NONCE_AT: usize = ID_AT + KeyId::LEN;
const WRAPPED_AT: usize = WRAP_NONCE_AT + NONCE_LEN;
const NONCE_AT: usize = WRAPPED_AT + WRAPPED_LEN;
const CIPHERTEXT_AT: usize = NONCE_AT + NONCE_LEN;

/// Bytes that sealing adds to a plaintext.
pub const OVERHEAD: usize = CIPHERTEXT_AT + TAG_LEN;
/// Length of keys: AES-256.
pub const KEY_LEN: usize = 32;

/// The row that a sealed value belongs to. It is the AEAD's associated data, so that a value that was copied to
/// another row does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The row's organisation.
    pub org: &'a OrgId,
    /// The stable name of the table.
    pub table: &'a str,
    /// The key of the row.
    pub key: &'a str,
}

/// A master key that wraps data keys.
pub struct WrappingKey<'a> {
    pub id: KeyId,
    pub bytes: &'a Zeroizing<[u8; KEY_LEN]>,
}

/// Why a value cannot be sealed or opened. Messages quote no content.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// The format version is unknown.
    #[error("the sealed value has unknown format {0}: a newer keyward wrote it, or it is damaged")]
    UnknownFormat(u8),
    /// The value is shorter than an envelope of an empty plaintext.
    #[error("the sealed value is cut short: restore it from a backup")]
    Truncated,
    /// The master key of the value is not in the key ring.
    #[error("sealed with another master key, {0}: give that key in `master_key` as well")]
    UnknownKey(KeyId),
    /// Authentication failed: the value was changed, or copied from another row.
    #[error("the sealed value was changed or belongs elsewhere: restore it from a backup")]
    Corrupt,
    /// The master key has wrapped as many data keys as is safe.
    #[error(
        "master key {0} has reached its limit of use: `keyward key rotate` explains how to continue with a new one"
    )]
    KeyUsageLimit(KeyId),
    /// The plaintext exceeds the limit of AES-GCM, 64 GiB (NIST SP 800-38D §5.2.1.1).
    #[error("the value is too large to seal")]
    TooLarge,
}

/// The purpose of a ciphertext. It is part of the associated data, so that a wrapped key cannot be used as a
/// value, or a value as a key.
#[derive(Clone, Copy)]
enum SealPurpose {
    /// A data key under a master key.
    Wrap,
    /// A value under its data key.
    Value,
}

impl Place<'_> {
    /// `"keyward" ‖ format ‖ purpose ‖ (length ‖ bytes) of org, table, key`. The lengths (u32, big endian)
    /// distinguish `a/bc` from `ab/c`.
    fn associated_data(&self, purpose: SealPurpose) -> Vec<u8> {
        let mut data = b"keyward".to_vec();
        data.push(FORMAT);
        data.push(match purpose {
            SealPurpose::Wrap => b'w',
            SealPurpose::Value => b'v',
        });
        for part in [self.org.as_str(), self.table, self.key] {
            // Saturation is safe: no key of a store is near 4 GiB.
            data.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            data.extend(part.as_bytes());
        }
        data
    }
}

/// Random bytes from the operating system, wiped on drop.
///
/// # Panics
/// When the operating system has no randomness.
pub fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system has randomness");
    bytes
}

/// The id of the envelope's master key.
///
/// # Errors
/// When the format is unknown, or the value is shorter than an envelope.
pub fn key_id(sealed: &[u8]) -> Result<KeyId, EnvelopeError> {
    match sealed.first() {
        Some(&FORMAT) => {}
        Some(&other) => return Err(EnvelopeError::UnknownFormat(other)),
        None => return Err(EnvelopeError::Truncated),
    }
    if sealed.len() < OVERHEAD {
        return Err(EnvelopeError::Truncated);
    }
    Ok(KeyId(array(sealed, ID_AT)))
}

/// Seals with a new data key, which is used only once.
///
/// # Errors
/// When the plaintext is longer than 64 GiB.
pub fn seal(
    master: WrappingKey<'_>,
    place: &Place<'_>,
    plaintext: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    let data_key: Zeroizing<[u8; KEY_LEN]> = random();
    let (wrap_nonce, nonce) = (random::<NONCE_LEN>(), random::<NONCE_LEN>());
    let wrapped =
        encrypt(master.bytes, &wrap_nonce, place, SealPurpose::Wrap, data_key.as_slice())?;
    let ciphertext = encrypt(&data_key, &nonce, place, SealPurpose::Value, plaintext)?;
    let mut sealed = Vec::with_capacity(OVERHEAD + plaintext.len());
    sealed.push(FORMAT);
    sealed.extend(master.id.0);
    sealed.extend(*wrap_nonce);
    sealed.extend(wrapped);
    sealed.extend(*nonce);
    sealed.extend(ciphertext);
    Ok(sealed)
}

/// Opens an envelope whose [`key_id`] is that of `master`.
///
/// # Errors
/// When the value is cut short, was changed, or was sealed for another place or with another key.
pub fn open(
    master: &Zeroizing<[u8; KEY_LEN]>,
    place: &Place<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    if sealed.len() < OVERHEAD {
        return Err(EnvelopeError::Truncated);
    }
    let wrapped = &sealed[WRAPPED_AT..NONCE_AT];
    let opened = decrypt(master, &array(sealed, WRAP_NONCE_AT), place, SealPurpose::Wrap, wrapped)?;
    let data_key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(array(&opened, 0));
    let ciphertext = &sealed[CIPHERTEXT_AT..];
    decrypt(&data_key, &array(sealed, NONCE_AT), place, SealPurpose::Value, ciphertext)
}

/// Wraps the data key of a value with `to`. The value itself stays sealed, because the master key's id is not
/// part of its associated data.
///
/// # Errors
/// As [`open`].
pub fn rewrap(
    from: &Zeroizing<[u8; KEY_LEN]>,
    to: WrappingKey<'_>,
    place: &Place<'_>,
    sealed: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    if sealed.len() < OVERHEAD {
        return Err(EnvelopeError::Truncated);
    }
    let wrapped = &sealed[WRAPPED_AT..NONCE_AT];
    let data_key = decrypt(from, &array(sealed, WRAP_NONCE_AT), place, SealPurpose::Wrap, wrapped)?;
    let wrap_nonce = random::<NONCE_LEN>();
    let wrapped = encrypt(to.bytes, &wrap_nonce, place, SealPurpose::Wrap, &data_key)?;
    let mut moved = sealed.to_vec();
    moved[ID_AT..WRAP_NONCE_AT].copy_from_slice(&to.id.0);
    moved[WRAP_NONCE_AT..WRAPPED_AT].copy_from_slice(&*wrap_nonce);
    moved[WRAPPED_AT..NONCE_AT].copy_from_slice(&wrapped);
    Ok(moved)
}

/// Whether two values come from one call of [`seal`], also if [`rewrap`] has changed one since: the data key's ciphertext and
/// its random nonce stay.
pub fn is_same_sealing(one: &[u8], other: &[u8]) -> bool {
    one.get(NONCE_AT..).is_some_and(|value| other.get(NONCE_AT..) == Some(value))
}

/// Copies `N` bytes from `at`; the caller has checked the length.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

fn encrypt(
    key: &Zeroizing<[u8; KEY_LEN]>,
    nonce: &[u8; NONCE_LEN],
    place: &Place<'_>,
    purpose: SealPurpose,
    msg: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    // `encrypt` reserves capacity for the tag, so that no copy of the plaintext remains.
    Aes256Gcm::new((&**key).into())
        .encrypt(&Nonce::from(*nonce), Payload { msg, aad: &place.associated_data(purpose) })
        .map_err(|_| EnvelopeError::TooLarge)
}

fn decrypt(
    key: &Zeroizing<[u8; KEY_LEN]>,
    nonce: &[u8; NONCE_LEN],
    place: &Place<'_>,
    purpose: SealPurpose,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    // Decrypts in place in a buffer that is wiped, even if the tag is wrong.
    let mut buffer = Zeroizing::new(sealed.to_vec());
    Aes256Gcm::new((&**key).into())
        .decrypt_in_place(&Nonce::from(*nonce), &place.associated_data(purpose), &mut *buffer)
        .map_err(|_| EnvelopeError::Corrupt)?;
    Ok(buffer)
}

/// Identifies a master key without revealing it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Length of an id in bytes.
    pub const LEN: usize = 8;

    /// The first 8 bytes of SHA-256 of a domain label and the key. They reveal nothing about 256 random bits.
    pub fn of(key: &Zeroizing<[u8; KEY_LEN]>) -> Self {
        let digest = Sha256::new()
            .chain_update(b"keyward master key id v1\0")
            .chain_update(**key)
            .finalize();
        Self(std::array::from_fn(|at| digest[at]))
    }
}

impl fmt::Display for KeyId {
    /// Formats as 16 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: KeyId = KeyId([7; 8]);

    fn sealed_at(place: &Place<'_>, master: &Zeroizing<[u8; KEY_LEN]>) -> Vec<u8> {
        seal(WrappingKey { id: ID, bytes: master }, place, b"hunter2").unwrap()
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (org, master) = (OrgId::default_org(), random());
        let place = Place { org: &org, table: "agents", key: "org_default/agt_1" };
        let sealed = sealed_at(&place, &master);
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                let named = key_id(&changed);
                let intact = named.as_ref().is_ok_and(|id| *id == ID);
                assert!(!intact || open(&master, &place, &changed).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let (org, master) = (OrgId::default_org(), random());
        let place = Place { org: &org, table: "agents", key: "k" };
        let sealed = sealed_at(&place, &master);
        for len in 0..sealed.len() {
            assert!(open(&master, &place, &sealed[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn a_rewrapped_value_is_the_same_sealing_and_a_second_seal_is_another() {
        let (org, master, next) = (OrgId::default_org(), random(), random());
        let place = Place { org: &org, table: "agents", key: "k" };
        let sealed = sealed_at(&place, &master);
        assert!(!is_same_sealing(&sealed, &sealed_at(&place, &master)));
        assert!(!is_same_sealing(&[], &[]));
        let to = WrappingKey { id: KeyId([8; 8]), bytes: &next };
        let moved = rewrap(&master, to, &place, &sealed).unwrap();
        assert_ne!(moved, sealed);
        assert!(is_same_sealing(&sealed, &moved));
    }

    #[test]
    fn a_value_opens_only_in_its_organisation_table_and_row() {
        let (org, other_org, master) = (OrgId::default_org(), OrgId::random(), random());
        let place = Place { org: &org, table: "agents", key: "k" };
        let sealed = sealed_at(&place, &master);
        for elsewhere in [
            Place { org: &other_org, ..place },
            Place { table: "grants", ..place },
            Place { key: "k2", ..place },
            Place { table: "agent", key: "sk", ..place },
            Place { table: "", key: "agentsk", ..place },
        ] {
            assert_eq!(open(&master, &elsewhere, &sealed).unwrap_err(), EnvelopeError::Corrupt);
        }
    }

    #[test]
    fn a_wrapped_key_of_another_row_is_refused() {
        let (org, master) = (OrgId::default_org(), random());
        let (a, b) = (
            Place { org: &org, table: "agents", key: "a" },
            Place { org: &org, table: "agents", key: "b" },
        );
        let mut spliced = sealed_at(&a, &master);
        let donor = sealed_at(&b, &master);
        spliced[WRAP_NONCE_AT..NONCE_AT].copy_from_slice(&donor[WRAP_NONCE_AT..NONCE_AT]);
        assert_eq!(open(&master, &a, &spliced).unwrap_err(), EnvelopeError::Corrupt);
    }

    #[test]
    fn two_sealings_of_one_value_differ_in_nonce_key_and_ciphertext() {
        let (org, master) = (OrgId::default_org(), random());
        let place = Place { org: &org, table: "agents", key: "k" };
        let (one, two) = (sealed_at(&place, &master), sealed_at(&place, &master));
        assert_ne!(one[WRAP_NONCE_AT..WRAPPED_AT], two[WRAP_NONCE_AT..WRAPPED_AT]);
        assert_ne!(one[WRAPPED_AT..NONCE_AT], two[WRAPPED_AT..NONCE_AT]);
        assert_ne!(one[CIPHERTEXT_AT..], two[CIPHERTEXT_AT..]);
        assert_eq!(one.len(), OVERHEAD + 7);
    }

    #[test]
    fn an_unknown_format_and_a_truncated_value_have_distinct_errors() {
        assert_eq!(key_id(&[2; 200]), Err(EnvelopeError::UnknownFormat(2)));
        assert_eq!(key_id(&[]), Err(EnvelopeError::Truncated));
        assert_eq!(key_id(&[FORMAT; OVERHEAD - 1]), Err(EnvelopeError::Truncated));
    }

    proptest! {
        #[test]
        fn a_sealed_value_opens_with_its_key_and_place(plain in proptest::collection::vec(any::<u8>(), 0..300), key in ".{0,40}") {
            let (org, master) = (OrgId::random(), random());
            let place = Place { org: &org, table: "grants", key: &key };
            let sealed = seal(WrappingKey { id: ID, bytes: &master }, &place, &plain).unwrap();
            prop_assert_eq!(key_id(&sealed), Ok(ID));
            prop_assert_eq!(&*open(&master, &place, &sealed).unwrap(), &plain);
        }

        #[test]
        fn opening_arbitrary_bytes_fails_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (org, master) = (OrgId::default_org(), random());
            let place = Place { org: &org, table: "grants", key: "k" };
            prop_assert!(open(&master, &place, &bytes).is_err());
            let _either = key_id(&bytes);
        }
    }
}
