//! [`LeafSigner`]: a checked CA that signs leaves. It never changes; a rotation makes another one. `authority.rs` holds
//! the one in use.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;

use super::CaError;
use super::pair::{
    BACKDATED, NAME, Pair, Validity, new_name, params, parse, random_serial, root, set_validity,
    to_pem,
};
use keyward_net::tls;

/// A certificate authority, its key, and the keys that all its leaves share.
///
/// The keys live as long as this value, which is until a successor has taken over and no leaf is
/// being signed any more.
pub(super) struct LeafSigner {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
    /// All certificates in the file, in order.
    certs: Vec<CertificateDer<'static>>,
    overlap: Option<Overlap>,
    validity: Validity,
    /// The path length: how many certificates may be between this one and a leaf; `None`: any number.
    room: Option<u32>,
    server_keys: ServerKeys,
}

/// The time after a rotation in which clients that trust only the CA before can be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Overlap {
    /// This CA's name and key, signed by the former.
    pub(super) cross: CertificateDer<'static>,
    /// The former CA. Its key was destroyed.
    pub(super) former: CertificateDer<'static>,
    /// The end of the cross certificate.
    pub(super) until: Timestamp,
}

impl LeafSigner {
    /// Checks a pair and makes a signer. The CA may be an intermediate: the certificates after it are sent to
    /// clients as its chain, except self-issued ones. `path` is for errors only.
    pub(super) fn of(pair: Pair, path: &Path, now: Timestamp) -> Result<Self, CaError> {
        let not_a_certificate = || CaError::NotACertificate { path: path.to_owned(), source: None };
        let cert = pair.certs.first().cloned().ok_or_else(not_a_certificate)?;
        let parsed = parse(&cert).ok_or_else(not_a_certificate)?;
        let validity = validity_of_ca(&parsed, path, now)?;
        let constraints = parsed.basic_constraints().ok().flatten();
        let signer = Self {
            issuer: Issuer::from_ca_cert_der(&cert, pair.key)
                .map_err(|_| CaError::Subject { path: path.to_owned() })?,
            overlap: overlap(&parsed, &pair.certs),
            certs: pair.certs,
            validity,
            room: constraints.and_then(|constraints| constraints.value.path_len_constraint),
            server_keys: ServerKeys::generate()?,
            cert: cert.clone(),
        };
        signer.check_subject(&parsed, path)?;
        Ok(signer)
    }

    /// A new CA for which this one vouches until `until`: its own certificate, the cross certificate, and the certificate
    /// of this one.
    pub(super) fn successor(&self, until: Timestamp, now: Timestamp) -> Result<Pair, CaError> {
        let key = KeyPair::generate()?;
        let name = new_name()?;
        let cert = root(&name, &key, now)?;
        // Only leaves below it: nothing else is ever signed with this key.
        let mut params = params(&name, 0)?;
        // This CA's key identifier, so that clients need not go by names alone.
        params.use_authority_key_identifier_extension = true;
        let from = (now - BACKDATED).max(self.validity.from);
        set_validity(&mut params, Validity { from, until });
        let cross = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Pair { certs: vec![cert, cross, self.cert.clone()], key })
    }

    pub(super) fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// All certificates of its file, in order.
    pub(super) fn certs(&self) -> &[CertificateDer<'static>] {
        &self.certs
    }

    /// The certificates that clients must trust, PEM: the CA's certificate, its chain if there is one, and during
    /// an overlap the former CA's. Never the key, even if the file contained both.
    pub(super) fn trusted_pem(&self, now: Timestamp) -> String {
        let overlap = self.overlap.as_ref();
        let is_cross = |der: &CertificateDer<'_>| overlap.is_some_and(|o| o.cross == *der);
        let has_expired =
            |der: &CertificateDer<'_>| overlap.is_some_and(|o| o.former == *der && now >= o.until);
        self.certs.iter().filter(|der| !is_cross(der) && !has_expired(der)).map(to_pem).collect()
    }

    /// The certificates that a server sends with a leaf so that clients can build the chain.
    pub(super) fn chain(&self, now: Timestamp) -> impl Iterator<Item = &CertificateDer<'static>> {
        let overlap = self.overlap.as_ref();
        let has_expired = move |der: &CertificateDer<'_>| {
            overlap.is_some_and(|o| o.cross == *der && now >= o.until)
        };
        self.certs.iter().filter(move |der| !is_self_issued(der) && !has_expired(der))
    }

    /// The overlap with the former CA, unless it has ended.
    pub(super) fn overlap(&self, now: Timestamp) -> Option<&Overlap> {
        self.overlap.as_ref().filter(|overlap| now < overlap.until)
    }

    /// Whether its file still contains certificates of an ended overlap.
    pub(super) fn has_leftovers(&self, now: Timestamp) -> bool {
        self.overlap.is_some() && self.overlap(now).is_none()
    }

    /// Whether Keyward made it and may replace it.
    pub(super) fn is_made_here(&self) -> bool {
        let Some(cert) = parse(&self.cert) else { return false };
        let mut names = cert.subject().iter_common_name();
        let name = names.next().and_then(|name| name.as_str().ok());
        is_self_issued(&self.cert) && name.is_some_and(|name| name.starts_with(NAME))
    }

    /// Whether its path length allows a CA certificate below it.
    pub(super) fn has_room(&self) -> bool {
        self.room.is_none_or(|room| room > 0)
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn server_keys(&self) -> &ServerKeys {
        &self.server_keys
    }

    /// Signs a certificate that is not used, to check that it names this CA exactly. Some subjects are legal but cannot be
    /// encoded again in the same way.
    fn check_subject(&self, ca: &X509Certificate<'_>, path: &Path) -> Result<(), CaError> {
        let mut probe = CertificateParams::default();
        probe.serial_number = Some(random_serial()?);
        let probe = probe.signed_by(&self.server_keys.public, &self.issuer)?;
        let named = parse(probe.der()).map(|leaf| leaf.issuer().as_raw() == ca.subject().as_raw());
        match named {
            Some(true) => Ok(()),
            _ => Err(CaError::Subject { path: path.to_owned() }),
        }
    }
}

impl fmt::Debug for LeafSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("fingerprint", &fingerprint(&self.cert)).finish()
    }
}

/// SHA-256 fingerprint, hex with colons, as browsers and `openssl` print it.
pub(super) fn fingerprint(der: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(der);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// A certificate of `ca`'s name and key that a self-issued one of the file has signed.
fn overlap(ca: &X509Certificate<'_>, certs: &[CertificateDer<'static>]) -> Option<Overlap> {
    let is_cross = |cert: &X509Certificate<'_>| {
        cert.subject().as_raw() == ca.subject().as_raw()
            && cert.public_key().raw == ca.public_key().raw
            && cert.issuer().as_raw() != ca.issuer().as_raw()
    };
    let cross = certs.iter().skip(1).find(|der| parse(der).is_some_and(|cert| is_cross(&cert)))?;
    let parsed = parse(cross)?;
    let signed_it = |der: &CertificateDer<'_>| {
        is_self_issued(der)
            && parse(der).is_some_and(|cert| cert.subject().as_raw() == parsed.issuer().as_raw())
    };
    let former = certs.iter().find(|der| signed_it(der))?;
    let until = Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?;
    Some(Overlap { cross: cross.clone(), former: former.clone(), until })
}

/// Whether the certificate may sign leaves now, and for how long.
fn validity_of_ca(
    cert: &X509Certificate<'_>,
    path: &Path,
    now: Timestamp,
) -> Result<Validity, CaError> {
    let lacks = |lacks| CaError::NotACa { path: path.to_owned(), lacks };
    if !matches!(cert.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca) {
        return Err(lacks("basicConstraints CA:TRUE"));
    }
    // Absent means unrestricted (RFC 5280 §4.2.1.3), and so `openssl req -x509` leaves it.
    if !cert.key_usage().is_ok_and(|usage| usage.is_none_or(|u| u.value.key_cert_sign())) {
        return Err(lacks("keyUsage keyCertSign"));
    }
    let not_a_certificate = |_| CaError::NotACertificate { path: path.to_owned(), source: None };
    let at = |seconds| Timestamp::from_second(seconds).map_err(not_a_certificate);
    let validity = Validity {
        from: at(cert.validity().not_before.timestamp())?,
        until: at(cert.validity().not_after.timestamp())?,
    };
    match () {
        () if now < validity.from => Err(CaError::NotYetValid),
        () if now > validity.until => Err(CaError::Expired),
        () => Ok(validity),
    }
}

fn is_self_issued(der: &CertificateDer<'_>) -> bool {
    parse(der).is_some_and(|cert| cert.issuer().as_raw() == cert.subject().as_raw())
}

/// Keys that all leaves of a process share: one ECDSA P-256 key, which is not the CA's, and the keys of session
/// tickets, so that a ticket outlives the renewal of a leaf.
pub(super) struct ServerKeys {
    pub(super) public: SubjectPublicKeyInfo,
    pub(super) private: Arc<dyn SigningKey>,
    pub(super) tickets: Arc<dyn ProducesTickets>,
}

impl ServerKeys {
    /// New keys, in memory only.
    pub(super) fn generate() -> Result<Self, CaError> {
        let pair = KeyPair::generate()?;
        let public = SubjectPublicKeyInfo::from_der(&pair.subject_public_key_info())?;
        let private = tls::provider().key_provider.load_private_key(PrivateKeyDer::from(pair))?;
        Ok(Self { public, private, tickets: Ticketer::new()? })
    }
}
