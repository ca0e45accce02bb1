//! [`Pair`]: the certificates and the key of a CA before they are checked. They are made here or read from files.
//! `signer.rs` checks whether they may sign.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{CaError, files};

/// Ten years without leap days: installing a CA is work, and its key never leaves the machine.
const VALID_FOR: SignedDuration = SignedDuration::from_hours(24 * 3_650);

/// The prefix of the names of CAs made by Keyward.
pub(super) const NAME: &str = "Keyward local CA ";

/// How far in the past a certificate's validity begins: the clocks of virtual machines are days behind after a sleep.
pub(super) const BACKDATED: SignedDuration = SignedDuration::from_hours(48);

/// When a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

/// A CA's certificates and key as they are in its files.
pub(super) struct Pair {
    /// The CA's own first, then those above it.
    pub(super) certs: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
}

impl Pair {
    /// A new CA, in memory.
    pub(super) fn make(now: Timestamp) -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let cert = root(&new_name()?, &key, now)?;
        Ok(Self { certs: vec![cert], key })
    }

    /// Its certificates as they are in a file.
    pub(super) fn pem(&self) -> String {
        self.certs.iter().map(to_pem).collect()
    }

    /// Reads both files and checks that the key fits the certificate.
    pub(super) fn load(cert: &Path, key: &Path) -> Result<Self, CaError> {
        let certs = CertificateDer::pem_slice_iter(&files::read_cert(cert)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| CaError::NotACertificate {
                path: cert.to_owned(),
                source: Some(source),
            })?;
        let pair = Self { certs, key: load_key(key)? };
        match pair.certs.first().and_then(|der| parse(der)) {
            // `from_pair` reports a malformed certificate.
            None => Ok(pair),
            Some(parsed)
                if *parsed.public_key().subject_public_key.data == *pair.key.der_bytes() =>
            {
                Ok(pair)
            }
            Some(_) => Err(CaError::KeyMismatch { cert: cert.to_owned(), key: key.to_owned() }),
        }
    }
}

/// Adds a random tag, because some clients distinguish CAs by name only.
pub(super) fn new_name() -> Result<String, CaError> {
    let mut tag = [0; 4];
    getrandom::fill(&mut tag)?;
    Ok(format!("{NAME}{:08x}", u32::from_be_bytes(tag)))
}

/// A path length of 1 leaves room for the cross certificate of a successor (RFC 5280 §4.2.1.9).
pub(super) fn root(
    name: &str,
    key: &KeyPair,
    now: Timestamp,
) -> Result<CertificateDer<'static>, CaError> {
    let mut params = params(name, 1)?;
    let from = now - BACKDATED;
    set_validity(&mut params, Validity { from, until: from + VALID_FOR });
    Ok(params.self_signed(key)?.der().clone())
}

/// The parameters of a CA's certificate without its validity.
pub(super) fn params(name: &str, room: u8) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(room));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

/// RFC 5280 §4.1.2.2: positive, at most 20 octets. The second bit keeps it from being short.
pub(super) fn random_serial() -> Result<SerialNumber, CaError> {
    let mut serial = [0; 20];
    getrandom::fill(&mut serial)?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

/// Sets the validity in whole seconds, never before 1970.
pub(super) fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let since_epoch =
        |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(validity.from);
    params.not_after = epoch + since_epoch(validity.until);
}

/// A certificate and nothing after it.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok(([], cert)) => Some(cert),
        _ => None,
    }
}

fn load_key(path: &Path) -> Result<KeyPair, CaError> {
    let text = files::read_key(path)?;
    let not_a_key = || CaError::NotAKey { path: path.to_owned() };
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| not_a_key())?;
    KeyPair::try_from(&der).map_err(|_| not_a_key())
}

/// RFC 7468: lines of 64 characters.
pub(super) fn to_pem(der: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
