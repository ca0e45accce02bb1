//! [`Authority`]: the CA in use. A rotation or new files replace it while streams stay open. `signer.rs` signs,
//! `files.rs` writes the files.
//!
//! A rotation makes a CA with another name and key. Until the overlap ends, the former CA vouches for the new one
//! by a cross certificate that is sent with each leaf, so clients that trust either CA are served. The former key
//! is destroyed at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use super::CaError;
use super::files::{self, CaFilePresence};
use super::pair::{Pair, parse, to_pem};
use super::signer::{LeafSigner, fingerprint};
use keyward_base::time::Clock;
use keyward_net::tls;

/// The default overlap of a rotation: most clients are restarted within it.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(30 * 86_400);

/// How long before its end a CA causes a warning: distributing a new one takes time.
const NOTICE: SignedDuration = SignedDuration::from_hours(24 * 60);

/// The names of the files of a CA that was replaced, in the folder where they are kept. The configured ones may be the
/// same in two folders.
const KEPT_CERT: &str = "ca.pem";
const KEPT_KEY: &str = "ca.key";

/// How a new CA replaces the former one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RotationMode {
    /// Clients of the former CA are served for this long, at most until its end.
    Overlap(Duration),
    /// Clients of the former CA are not served: its key may be compromised.
    NoOverlap,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CertificateRole")]
pub enum Role {
    /// It signs leaves.
    Current,
    /// Clients may still trust it.
    Former,
    /// It is between the current certificate and a root.
    Chain,
}

/// A certificate of the CA.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "CertificateView")]
pub struct CertificateInfo {
    /// `current`, `former` (of the CA before) or `chain`.
    pub role: Role,
    /// Its subject.
    pub subject: String,
    /// SHA-256.
    pub fingerprint: String,
    /// The start of its validity.
    pub from: Timestamp,
    /// The end of its validity.
    pub until: Timestamp,
}

/// The public state of the CA.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overview {
    /// The current certificate first.
    pub certificates: Vec<CertificateInfo>,
    /// The end of the overlap; `None`: there is no overlap.
    pub overlap_until: Option<Timestamp>,
    /// Whether Keyward made it, and so can rotate it.
    pub made_here: bool,
    /// What the operator should do soon.
    pub notice: Option<String>,
    /// The certificates that clients must trust, PEM.
    pub pem: String,
}

/// The certificate authority in use.
pub struct Authority {
    signer: ArcSwap<LeafSigner>,
    files: Option<CaFiles>,
    clock: Clock,
    /// Held while the CA or its files are replaced.
    replacing: Mutex<()>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaFiles {
    /// Its certificate, with those above it.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The content of a CA's files. The key is wiped when dropped.
pub struct CaPems {
    /// Its certificate, with those above it.
    pub cert: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

impl Authority {
    /// Loads the CA, or makes one if neither file exists: ECDSA P-256, key file 0600, directories 0700. A creation
    /// or rotation that a crash interrupted is completed or undone.
    ///
    /// A given CA may be an intermediate: the certificates after it in the file are sent to clients
    /// as its chain, as far as they are not self-issued.
    ///
    /// # Errors
    /// When one file is missing, the key is open to others, the two do not belong together, or the
    /// certificate is not that of a CA or not valid now.
    pub fn load_or_create(cert: &Path, key: &Path, clock: &Clock) -> Result<Self, CaError> {
        let incomplete = |present: &Path, missing: &Path| {
            Err(CaError::Incomplete { present: present.to_owned(), missing: missing.to_owned() })
        };
        let now = clock.now();
        let signer = match files::presence(cert, key)? {
            CaFilePresence::Both => LeafSigner::of(settle(cert, key)?, cert, now)?,
            CaFilePresence::Interrupted => {
                let signer = LeafSigner::of(Pair::load(&files::staged(cert), key)?, cert, now)?;
                files::publish(cert)?;
                signer
            }
            CaFilePresence::Neither => {
                let pair = Pair::make(now)?;
                let (pem, key_pem) = (pair.pem(), Zeroizing::new(pair.key.serialize_pem()));
                let signer = LeafSigner::of(pair, cert, now)?;
                files::write_pair(cert, &pem, key, &key_pem)?;
                signer
            }
            CaFilePresence::CertOnly => return incomplete(cert, key),
            CaFilePresence::KeyOnly => return incomplete(key, cert),
        };
        let files = CaFiles { cert: cert.to_owned(), key: key.to_owned() };
        Ok(Self::new(signer, Some(files), clock))
    }

    /// Whether any of the CA's files exists, so that [`Authority::load_or_create`] makes none.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn is_made(cert: &Path, key: &Path) -> Result<bool, CaError> {
        Ok(files::presence(cert, key)? != CaFilePresence::Neither)
    }

    /// Loads the CA for signing only: nothing is made, completed or replaced, so it can run next to a gateway.
    ///
    /// # Errors
    /// When a file cannot be read, the two do not belong together, or the CA is not valid now.
    pub fn read(cert: &Path, key: &Path, clock: &Clock) -> Result<Self, CaError> {
        let signer = LeafSigner::of(Pair::load(cert, key)?, cert, clock.now())?;
        Ok(Self::new(signer, None, clock))
    }

    /// A CA in memory only, for tests and demonstrations.
    pub fn ephemeral() -> Self {
        let clock = Clock::System;
        let made = Pair::make(clock.now())
            .and_then(|pair| LeafSigner::of(pair, Path::new("memory"), clock.now()));
        Self::new(made.expect("a CA that was just made is sound"), None, &clock)
    }

    fn new(signer: LeafSigner, files: Option<CaFiles>, clock: &Clock) -> Self {
        let signer = ArcSwap::from_pointee(signer);
        Self { signer, files, clock: clock.clone(), replacing: Mutex::default() }
    }

    /// The certificates that clients must trust, PEM: the CA's certificate, its chain if there is one, and during
    /// an overlap the former CA's. Never the key, even if the file contained both.
    pub fn cert_pem(&self) -> String {
        self.signer.load().trusted_pem(self.clock.now())
    }

    pub fn cert_der(&self) -> CertificateDer<'static> {
        self.signer.load().cert().clone()
    }

    /// SHA-256 fingerprint, hex with colons, as browsers and `openssl` print it.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.signer.load().cert())
    }

    /// When the CA stops being valid.
    pub fn expires(&self) -> Timestamp {
        self.signer.load().validity().until
    }

    /// What the files contain, the key included, for a backup; `None` if the CA is in memory only. Blocks for the
    /// disk.
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not belong together.
    pub fn export(&self) -> Result<Option<CaPems>, CaError> {
        let _replacing = self.replacing.lock();
        let Some(CaFiles { cert, key }) = &self.files else { return Ok(None) };
        Pair::load(cert, key)?;
        let cert = files::read_cert(cert)?;
        Ok(Some(CaPems { cert, key: files::read_key(key)? }))
    }

    /// Replaces the CA in `to` by that in `from`. What `to` contained is copied to the folder `kept`. Returns false if
    /// it is the same CA; repeating it with the same folder after a crash completes it. Blocks for the disk.
    ///
    /// # Errors
    /// When the two files of `from` do not belong together, or a file cannot be read or written.
    pub fn install(from: &CaFiles, to: &CaFiles, kept: &Path) -> Result<bool, CaError> {
        let pair = Pair::load(&from.cert, &from.key)?;
        if Self::is_made(&to.cert, &to.key)? {
            if Pair::load(&to.cert, &to.key).is_ok_and(|now| now.certs == pair.certs) {
                return Ok(false);
            }
            files::keep(&to.cert, &kept.join(KEPT_CERT))?;
            files::keep(&to.key, &kept.join(KEPT_KEY))?;
        }
        let key_pem = Zeroizing::new(pair.key.serialize_pem());
        files::write_pair(&to.cert, &pair.pem(), &to.key, &key_pem)?;
        Ok(true)
    }

    /// The public state of the CA.
    pub fn overview(&self) -> Overview {
        let (signer, now) = (self.signer.load(), self.clock.now());
        let overlap = signer.overlap(now);
        let mut certificates: Vec<_> = info(signer.cert(), Role::Current).into_iter().collect();
        let above = signer.chain(now).filter(|der| {
            *der != signer.cert() && overlap.is_none_or(|overlap| overlap.cross != **der)
        });
        certificates.extend(above.filter_map(|der| info(der, Role::Chain)));
        certificates.extend(overlap.and_then(|overlap| info(&overlap.former, Role::Former)));
        Overview {
            certificates,
            overlap_until: overlap.map(|overlap| overlap.until),
            made_here: signer.is_made_here(),
            notice: self.notice(),
            pem: signer.trusted_pem(now),
        }
    }

    /// What the operator should do soon: the CA expires.
    pub fn notice(&self) -> Option<String> {
        let signer = self.signer.load();
        let (now, until) = (self.clock.now(), signer.validity().until);
        if until.duration_since(now) > NOTICE {
            return None;
        }
        let remedy = match signer.is_made_here() {
            true => "`keyward ca rotate` makes its successor",
            false => "put its successor in the place of its two files",
        };
        Some(format!("the CA certificate ends on {until:.0}: {remedy}"))
    }

    /// Makes a new CA and signs with it from now on. Files and memory change together, and the former key is
    /// destroyed. Blocks for the disk.
    ///
    /// # Errors
    /// When the CA was given, its files are not those in use, an overlap is wanted that it cannot
    /// give, or a file cannot be written.
    pub fn rotate(&self, how: RotationMode) -> Result<(), CaError> {
        let _replacing = self.replacing.lock();
        let (former, now) = (self.signer.load_full(), self.clock.now());
        let path = self.files.as_ref().map_or(Path::new("memory"), |files| &files.cert);
        if !former.is_made_here() {
            return Err(CaError::NotOurs { path: path.to_owned() });
        }
        if let Some(files) = &self.files
            && Pair::load(&files.cert, &files.key)?.certs != former.certs()
        {
            return Err(CaError::Changed);
        }
        let pair = match how {
            // An expired CA cannot sign its successor.
            RotationMode::Overlap(_) if former.validity().until <= now => Pair::make(now)?,
            RotationMode::Overlap(length) => overlapping(&former, length, now)?,
            RotationMode::NoOverlap => Pair::make(now)?,
        };
        let (pem, key_pem) = (pair.pem(), Zeroizing::new(pair.key.serialize_pem()));
        let signer = LeafSigner::of(pair, path, now)?;
        if let Some(files) = &self.files {
            files::replace_pair(&files.cert, &pem, &files.key, &key_pem)?;
        }
        let fingerprint = fingerprint(signer.cert());
        self.signer.store(Arc::new(signer));
        tracing::info!(id = "ca_changed", %fingerprint, "a new CA signs from now on; the key of the one before is gone");
        Ok(())
    }

    /// Checks whether the files could be loaded. Blocks for the disk.
    ///
    /// # Errors
    /// As [`Authority::load_or_create`]; also when they were removed.
    pub fn check(&self) -> Result<(), CaError> {
        let _replacing = self.replacing.lock();
        self.replaced().map(drop)
    }

    /// Loads the files if they were replaced. Returns whether they were. Blocks for the disk.
    ///
    /// # Errors
    /// As [`Authority::check`]: the CA in use stays.
    pub fn reload(&self) -> Result<bool, CaError> {
        let _replacing = self.replacing.lock();
        let Some(signer) = self.replaced()? else { return Ok(false) };
        let fingerprint = fingerprint(signer.cert());
        self.signer.store(Arc::new(signer));
        tracing::info!(id = "ca_changed", %fingerprint, "the CA's files were replaced: this CA signs from now on");
        Ok(true)
    }

    /// Removes the former CA from the certificate file once the overlap has ended. Returns whether it was there. It
    /// has not been used since then. Blocks for the disk.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn tidy(&self) -> Result<bool, CaError> {
        let _replacing = self.replacing.lock();
        let (signer, now) = (self.signer.load(), self.clock.now());
        let Some(files) = self.files.as_ref().filter(|_| signer.has_leftovers(now)) else {
            return Ok(false);
        };
        let pair = Pair::load(&files.cert, &files.key)?;
        if !signer.is_made_here() || pair.certs != signer.certs() {
            return Ok(false);
        }
        files::replace_cert(&files.cert, &to_pem(signer.cert()))?;
        let alone = Pair { certs: vec![signer.cert().clone()], key: pair.key };
        self.signer.store(Arc::new(LeafSigner::of(alone, &files.cert, now)?));
        tracing::info!(
            "the overlap with the former CA has ended: it was removed from the certificate file"
        );
        Ok(true)
    }

    /// The CA in the files, unless it is the one in use.
    fn replaced(&self) -> Result<Option<LeafSigner>, CaError> {
        let Some(CaFiles { cert, key }) = &self.files else { return Ok(None) };
        let pair = Pair::load(cert, key)?;
        if pair.certs == self.signer.load().certs() {
            return Ok(None);
        }
        LeafSigner::of(pair, cert, self.clock.now()).map(Some)
    }

    pub(super) fn signer(&self) -> Arc<LeafSigner> {
        self.signer.load_full()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish()
    }
}

impl fmt::Debug for CaPems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaPems(…)")
    }
}

/// The platform's roots, PEM. Reads the platform's store each time.
///
/// # Errors
/// When the platform has no roots.
pub fn platform_pem() -> Result<String, CaError> {
    let roots = tls::platform_roots().map_err(CaError::Roots)?;
    Ok(roots.iter().map(to_pem).collect())
}

/// The pair in both files. After an interrupted rotation the key decides: if the new key is in place, its
/// certificate is published; otherwise the staged files are discarded.
fn settle(cert: &Path, key: &Path) -> Result<Pair, CaError> {
    match Pair::load(cert, key) {
        Ok(pair) => {
            files::discard_staged(cert, key)?;
            Ok(pair)
        }
        Err(mismatch @ CaError::KeyMismatch { .. }) => {
            match Pair::load(&files::staged(cert), key) {
                Ok(pair) => {
                    files::publish(cert)?;
                    Ok(pair)
                }
                Err(_) => Err(mismatch),
            }
        }
        Err(error) => Err(error),
    }
}

fn overlapping(former: &LeafSigner, length: Duration, now: Timestamp) -> Result<Pair, CaError> {
    if let Some(overlap) = former.overlap(now) {
        return Err(CaError::Overlapping { until: overlap.until });
    }
    if !former.has_room() {
        return Err(CaError::NoRoom);
    }
    let end = former.validity().until;
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    let until = now.checked_add(length).unwrap_or(Timestamp::MAX).min(end);
    former.successor(until, now)
}

/// When a certificate expires; `None` if it cannot be parsed.
pub fn expires(der: &CertificateDer<'_>) -> Option<Timestamp> {
    info(der, Role::Current).map(|info| info.until)
}

fn info(der: &CertificateDer<'_>, role: Role) -> Option<CertificateInfo> {
    let cert = parse(der)?;
    let at = |seconds| Timestamp::from_second(seconds).ok();
    Some(CertificateInfo {
        role,
        subject: cert.subject().to_string(),
        fingerprint: fingerprint(der),
        from: at(cert.validity().not_before.timestamp())?,
        until: at(cert.validity().not_after.timestamp())?,
    })
}
