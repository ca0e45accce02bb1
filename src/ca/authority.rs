//! [`Authority`]: the CA in use, which a rotation or new files replace while streams go on. How one
//! signs is `signer.rs`'s, how its files reach the disk `files.rs`'s.
//!
//! A rotation makes a CA of another name and key. Until the end of the overlap the former vouches for
//! it by a cross certificate, which is sent along with leaves: clients that trust either are served.
//! The former's key is destroyed at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

pub use super::CaError;
use super::files::{self, Presence};
use super::pair::{Pair, parse};
use super::signer::{Signer, fingerprint, to_pem};
use crate::base::time::Clock;
use crate::net::tls;

/// How long clients of the former CA are served, unless said otherwise: most of them are started
/// again within it.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(30 * 86_400);

/// How long before its end a CA is worth a warning: handing out a new one takes people a while.
const NOTICE: SignedDuration = SignedDuration::from_hours(24 * 60);

/// How a CA follows another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Succession {
    /// Clients of the former are served for so long, at most until the former's end.
    Overlap(Duration),
    /// They are not: the former may be in wrong hands.
    AtOnce,
}

/// What a certificate of the CA's is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It signs leaves.
    Current,
    /// The CA before, which clients may still trust.
    Former,
    /// It stands between the current one and a root.
    Chain,
}

/// A certificate as it may be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateInfo {
    /// What it is for.
    pub role: Role,
    /// Its subject.
    pub subject: String,
    /// SHA-256.
    pub fingerprint: String,
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// The CA as it may be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overview {
    /// The current certificate first.
    pub certificates: Vec<CertificateInfo>,
    /// Until when clients of the former are served; none: there is no overlap.
    pub overlap_until: Option<Timestamp>,
    /// Whether Keyward made it, and so can rotate it.
    pub made_here: bool,
    /// What a person should do soon.
    pub notice: Option<String>,
    /// What clients are given to trust.
    pub pem: String,
}

/// The certificate authority in use.
pub struct Authority {
    signer: ArcSwap<Signer>,
    files: Option<Files>,
    clock: Clock,
    /// Whoever replaces the CA or its files.
    turn: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// Loads the CA, or makes it when neither file exists: ECDSA P-256, key file 0600, directories
    /// 0700. A creation or rotation that a crash interrupted is completed, or undone as a whole.
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
            Presence::Both => Signer::of(settle(cert, key)?, cert, now)?,
            Presence::Interrupted => {
                let signer = Signer::of(Pair::load(&files::staged(cert), key)?, cert, now)?;
                files::publish(cert)?;
                signer
            }
            Presence::Neither => {
                let pair = Pair::make(now)?;
                let (pem, key_pem) = (pair.pem(), Zeroizing::new(pair.key.serialize_pem()));
                let signer = Signer::of(pair, cert, now)?;
                files::write_pair((cert, &pem), (key, &key_pem))?;
                signer
            }
            Presence::CertOnly => return incomplete(cert, key),
            Presence::KeyOnly => return incomplete(key, cert),
        };
        let files = Files { cert: cert.to_owned(), key: key.to_owned() };
        Ok(Self::new(signer, Some(files), clock))
    }

    /// A CA in memory only, for tests, demonstrations and probes.
    pub fn ephemeral() -> Self {
        let clock = Clock::System;
        let made = Pair::make(clock.now())
            .and_then(|pair| Signer::of(pair, Path::new("memory"), clock.now()));
        Self::new(made.expect("a CA that was just made is sound"), None, &clock)
    }

    fn new(signer: Signer, files: Option<Files>, clock: &Clock) -> Self {
        let signer = ArcSwap::from_pointee(signer);
        Self { signer, files, clock: clock.clone(), turn: Mutex::default() }
    }

    /// What clients are given to trust, PEM: the certificate first, its chain where one was given,
    /// and in an overlap the former. Never the key, also when the file it came from held both.
    pub fn cert_pem(&self) -> String {
        self.signer.load().trusted_pem(self.clock.now())
    }

    /// The certificate, DER.
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

    /// The CA as it may be told.
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

    /// What a person should do soon: the CA is about to end.
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

    /// Makes a new CA and signs with it from now on. Files and memory change together, and the key of
    /// the former is destroyed. Blocks for the disk.
    ///
    /// # Errors
    /// When the CA was given, its files are not those in use, an overlap is wanted that it cannot
    /// give, or a file cannot be written.
    pub fn rotate(&self, how: Succession) -> Result<(), CaError> {
        let _turn = self.turn.lock();
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
            // One that has ended vouches for nobody.
            Succession::Overlap(_) if former.validity().until <= now => Pair::make(now)?,
            Succession::Overlap(length) => overlapping(&former, length, now)?,
            Succession::AtOnce => Pair::make(now)?,
        };
        let (pem, key_pem) = (pair.pem(), Zeroizing::new(pair.key.serialize_pem()));
        let signer = Signer::of(pair, path, now)?;
        if let Some(files) = &self.files {
            files::replace_pair((&files.cert, &pem), (&files.key, &key_pem))?;
        }
        let fingerprint = fingerprint(signer.cert());
        self.signer.store(Arc::new(signer));
        tracing::info!(%fingerprint, "a new CA signs from now on; the key of the one before is gone");
        Ok(())
    }

    /// Whether the files would be taken up. Blocks for the disk.
    ///
    /// # Errors
    /// As [`Authority::load_or_create`]; also when they have vanished.
    pub fn check(&self) -> Result<(), CaError> {
        let _turn = self.turn.lock();
        self.replaced().map(drop)
    }

    /// Takes up files that others have replaced; answers whether they have. Blocks for the disk.
    ///
    /// # Errors
    /// As [`Authority::check`]: the CA in use stays.
    pub fn reload(&self) -> Result<bool, CaError> {
        let _turn = self.turn.lock();
        let Some(signer) = self.replaced()? else { return Ok(false) };
        let fingerprint = fingerprint(signer.cert());
        self.signer.store(Arc::new(signer));
        tracing::info!(%fingerprint, "the CA's files were replaced: this CA signs from now on");
        Ok(true)
    }

    /// Takes the former out of the certificate file once the overlap is over; answers whether it was
    /// there. Nothing has been sent or served of it since then anyway. Blocks for the disk.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn tidy(&self) -> Result<bool, CaError> {
        let _turn = self.turn.lock();
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
        self.signer.store(Arc::new(Signer::of(alone, &files.cert, now)?));
        tracing::info!("the overlap with the CA before is over: it is out of the certificate file");
        Ok(true)
    }

    /// What the files hold, unless it is what is in use.
    fn replaced(&self) -> Result<Option<Signer>, CaError> {
        let Some(Files { cert, key }) = &self.files else { return Ok(None) };
        let pair = Pair::load(cert, key)?;
        if pair.certs == self.signer.load().certs() {
            return Ok(None);
        }
        Signer::of(pair, cert, self.clock.now()).map(Some)
    }

    pub(super) fn signer(&self) -> Arc<Signer> {
        self.signer.load_full()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish()
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

/// The pair of both files. Where a rotation was interrupted, its key decides: in place already, its
/// certificate follows; otherwise what was staged is nobody's.
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

fn overlapping(former: &Signer, length: Duration, now: Timestamp) -> Result<Pair, CaError> {
    if let Some(overlap) = former.overlap(now) {
        return Err(CaError::Overlapping { until: overlap.until });
    }
    if !former.has_room() {
        return Err(CaError::NoRoom);
    }
    let end = former.validity().until;
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    let until = now.checked_add(length).unwrap_or(Timestamp::MAX).min(end);
    Pair::make_after(former, until, now)
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
