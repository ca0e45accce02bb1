//! The CA itself: made when absent, else loaded and checked before it is trusted with anything.
//!
//! Leaves are signed in `leaf.rs`; how its files reach the disk is `files.rs`.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use zeroize::Zeroizing;

pub use super::CaError;
use super::files::{self, Presence};
use super::leaf::{self, ServerKeys};
use super::pair::{Pair, Validity, parse};
use crate::base::host::Host;
use crate::base::time::Clock;
use crate::net::tls;

/// The certificate authority, its key, and the keys that all its leaves share.
///
/// The keys live as long as this value, which is as long as the process; they are not wiped.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    pem: String,
    validity: Validity,
    server_keys: ServerKeys,
}

impl Authority {
    /// Loads the CA, or makes it when neither file exists: ECDSA P-256, key file 0600, directories
    /// 0700. A creation that a crash interrupted is completed.
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
        match files::presence(cert, key)? {
            Presence::Both => Self::load(cert, key, clock),
            Presence::Interrupted => {
                let authority = Self::load(&files::staged(cert), key, clock)?;
                files::publish(cert)?;
                Ok(authority)
            }
            Presence::Neither => {
                let pair = Pair::make(clock.now())?;
                let key_pem = Zeroizing::new(pair.key.serialize_pem());
                let authority = Self::from_pair(pair, cert, clock)?;
                files::write_pair((cert, authority.cert_pem()), (key, &key_pem))?;
                Ok(authority)
            }
            Presence::CertOnly => incomplete(cert, key),
            Presence::KeyOnly => incomplete(key, cert),
        }
    }

    /// A CA in memory only, for tests, demonstrations and probes.
    pub fn ephemeral() -> Self {
        let made = Pair::make(Timestamp::now())
            .and_then(|pair| Self::from_pair(pair, Path::new("memory"), &Clock::System));
        made.expect("a CA that was just made is sound")
    }

    /// The certificate (and its chain, where one was given), PEM, for agents. Never the key, also
    /// when the file it came from held both.
    pub fn cert_pem(&self) -> &str {
        &self.pem
    }

    /// The certificate, DER.
    pub fn cert_der(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// SHA-256 fingerprint, hex with colons, as browsers and `openssl` print it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.cert);
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// When the CA stops being valid.
    pub fn expires(&self) -> Timestamp {
        self.validity.until
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    /// What clients need beside a leaf to find their way to the root they trust.
    pub(super) fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    pub(super) fn server_keys(&self) -> &ServerKeys {
        &self.server_keys
    }

    fn load(cert: &Path, key: &Path, clock: &Clock) -> Result<Self, CaError> {
        let pair = Pair::load(cert, key)?;
        Self::from_pair(pair, cert, clock)
    }

    /// `path` only names the certificate in errors.
    fn from_pair(pair: Pair, path: &Path, clock: &Clock) -> Result<Self, CaError> {
        let not_a_certificate = || CaError::NotACertificate { path: path.to_owned(), source: None };
        let cert = pair.certs.first().cloned().ok_or_else(not_a_certificate)?;
        let parsed = parse(&cert).ok_or_else(not_a_certificate)?;
        let validity = check_ca(&parsed, path, clock.now())?;
        let authority = Self {
            issuer: Issuer::from_ca_cert_der(&cert, pair.key)
                .map_err(|_| CaError::Subject { path: path.to_owned() })?,
            intermediates: pair.certs.iter().filter(|der| !is_self_issued(der)).cloned().collect(),
            pem: pair.certs.iter().map(to_pem).collect(),
            validity,
            server_keys: ServerKeys::generate()?,
            cert: cert.clone(),
        };
        authority.check_subject(&parsed, path, clock.now())?;
        Ok(authority)
    }

    /// Signs a leaf for nobody, to see that it names this CA exactly. Some subjects are legal but
    /// cannot be written again as they were.
    fn check_subject(
        &self,
        ca: &X509Certificate<'_>,
        path: &Path,
        now: Timestamp,
    ) -> Result<(), CaError> {
        let probe = leaf::sign(self, &Host::Name("probe.invalid".into()), now)?;
        let named = parse(&probe.cert).map(|leaf| leaf.issuer().as_raw() == ca.subject().as_raw());
        match named {
            Some(true) => Ok(()),
            _ => Err(CaError::Subject { path: path.to_owned() }),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish()
    }
}

/// Platform roots and the CA in one PEM: what `SSL_CERT_FILE` wants, which replaces a client's
/// roots. Reads the platform's store each time.
///
/// # Errors
/// When the platform has no roots.
pub fn bundle_pem(authority: &Authority) -> Result<String, CaError> {
    let roots = tls::platform_roots().map_err(CaError::Roots)?;
    let mut bundle: String = roots.iter().map(to_pem).collect();
    bundle.push_str(authority.cert_pem());
    Ok(bundle)
}

/// Whether the certificate may sign leaves now, and for how long.
fn check_ca(cert: &X509Certificate<'_>, path: &Path, now: Timestamp) -> Result<Validity, CaError> {
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

/// RFC 7468: lines of 64 characters.
fn to_pem(der: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, KeyUsagePurpose};
    use rustls_pki_types::pem::PemObject;

    use super::*;

    /// A directory with the two paths.
    struct Place {
        dir: tempfile::TempDir,
        cert: PathBuf,
        key: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("directory");
            let (cert, key) = (dir.path().join("ca.pem"), dir.path().join("ca.key"));
            Self { dir, cert, key }
        }

        /// With the files of a given CA.
        fn given(cert: &str, key: &str) -> Self {
            let place = Self::new();
            fs::write(&place.cert, cert).expect("write");
            fs::write(&place.key, key).expect("write");
            fs::set_permissions(&place.key, fs::Permissions::from_mode(0o600)).expect("chmod");
            place
        }

        fn open(&self) -> Result<Authority, CaError> {
            Authority::load_or_create(&self.cert, &self.key, &Clock::System)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).expect("list");
            let name = |e: fs::DirEntry| e.file_name().to_string_lossy().into_owned();
            let mut names: Vec<_> = entries.map(|entry| name(entry.expect("entry"))).collect();
            names.sort();
            names
        }
    }

    /// What `openssl req -x509` would make: a CA without key usage.
    fn plain_ca() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn self_signed(params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        (params.self_signed(&key).expect("self-signed").pem(), key.serialize_pem())
    }

    fn refusal(params: CertificateParams) -> CaError {
        let (cert, key) = self_signed(params);
        Place::given(&cert, &key).open().expect_err("refused")
    }

    #[test]
    fn one_file_without_the_other_is_refused_and_nothing_is_made() {
        for missing in ["ca.key", "ca.pem"] {
            let place = Place::new();
            place.open().expect("made");
            fs::remove_file(place.dir.path().join(missing)).expect("remove");
            let before = place.names();
            let error = place.open().expect_err("incomplete");
            assert!(matches!(error, CaError::Incomplete { .. }), "{error}");
            assert!(error.to_string().contains(missing), "{error}");
            assert_eq!(place.names(), before);
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (cert, _) = self_signed(plain_ca());
        let (_, key) = self_signed(plain_ca());
        let error = Place::given(&cert, &key).open().expect_err("mismatch");
        assert!(matches!(error, CaError::KeyMismatch { .. }), "{error}");
    }

    #[test]
    fn a_certificate_that_may_not_sign_is_refused() {
        let mut no_ca = CertificateParams::default();
        assert!(matches!(refusal(no_ca.clone()), CaError::NotACa { .. }));
        no_ca.is_ca = IsCa::ExplicitNoCa;
        assert!(matches!(refusal(no_ca), CaError::NotACa { .. }));
        let mut usage = plain_ca();
        usage.key_usages = vec![KeyUsagePurpose::CrlSign];
        let error = refusal(usage);
        assert!(error.to_string().contains("keyCertSign"), "{error}");
    }

    #[test]
    fn a_ca_out_of_its_time_is_refused() {
        let mut past = plain_ca();
        past.not_after = rcgen::date_time_ymd(2001, 1, 1);
        assert!(matches!(refusal(past), CaError::Expired));
        let mut future = plain_ca();
        future.not_before = rcgen::date_time_ymd(4000, 1, 1);
        assert!(matches!(refusal(future), CaError::NotYetValid));
    }

    #[test]
    fn files_that_are_no_pem_are_refused_and_named() {
        let (cert, key) = self_signed(plain_ca());
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        for bad in ["", "junk", &cert, &encrypted] {
            let error = Place::given(&cert, bad).open().expect_err("no key");
            assert!(matches!(error, CaError::NotAKey { .. }), "{error}");
            assert!(!error.to_string().contains("BEGIN"), "{error}");
        }
        let cut = &cert[..cert.len() - 40];
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bad in ["", "junk", cut, hollow] {
            let error = Place::given(bad, &key).open().expect_err("no certificate");
            assert!(matches!(error, CaError::NotACertificate { .. }), "{error}");
        }
    }

    #[test]
    fn a_loose_key_is_refused() {
        let place = Place::new();
        place.open().expect("made");
        fs::set_permissions(&place.key, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(place.open(), Err(CaError::LooseKey { mode: 0o644, .. })));
    }

    #[test]
    fn a_creation_cut_short_by_a_crash_is_completed() {
        let place = Place::new();
        let made = place.open().expect("made");
        fs::rename(&place.cert, files::staged(&place.cert)).expect("as the crash left it");
        let completed = place.open().expect("completed");
        assert_eq!(completed.fingerprint(), made.fingerprint());
        assert_eq!(place.names(), ["ca.key", "ca.pem"]);
    }

    #[test]
    fn a_ca_that_was_made_is_loaded_again() {
        let place = Place::new();
        let made = place.open().expect("made");
        let loaded = place.open().expect("loaded");
        assert_eq!(made.cert_der(), loaded.cert_der());
        assert_eq!(made.cert_pem(), loaded.cert_pem());
        assert_eq!(made.fingerprint().len(), 32 * 3 - 1);
        let another = Place::new().open().expect("made");
        assert_ne!(made.fingerprint(), another.fingerprint());
    }

    #[test]
    fn the_certificate_has_what_strict_clients_ask_of_a_ca() {
        let now = Timestamp::now();
        let authority = Authority::ephemeral();
        let cert = parse(authority.cert_der()).expect("parsed");
        let constraints = cert.basic_constraints().expect("one").expect("present");
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = cert.key_usage().expect("one").expect("present");
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        let ski = x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;
        assert!(cert.get_extension_unique(&ski).expect("one").is_some());
        assert_eq!(cert.issuer().as_raw(), cert.subject().as_raw());
        let name = cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
        let tag = name.and_then(|name| name.strip_prefix("Keyward local CA ")).expect("name");
        assert!(tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{tag}");
        let seconds =
            cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
        assert!(seconds <= 3_652 * 86_400, "{seconds}");
        assert!(cert.validity().not_before.timestamp() <= now.as_second() - 3_600);
        assert!(cert.validity().is_valid());
    }

    #[test]
    fn a_given_ca_without_key_usage_is_taken() {
        let (cert, key) = self_signed(plain_ca());
        let authority = Place::given(&cert, &key).open().expect("taken");
        assert_eq!(authority.cert_pem(), cert.replace('\r', ""));
    }

    #[test]
    fn a_key_in_the_certificate_file_is_not_shown() {
        let (cert, key) = self_signed(plain_ca());
        let authority = Place::given(&format!("{key}{cert}"), &key).open().expect("taken");
        assert!(!authority.cert_pem().contains("PRIVATE"));
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_subject_that_cannot_be_repeated_is_refused() {
        // Two values of one attribute: rcgen's names keep one of them.
        let mut params = plain_ca();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let unit = DnType::CustomDnType(vec![2, 5, 4, 11]);
        params.distinguished_name.push(unit, DnValue::Utf8String("one".to_owned()));
        let other = DnValue::Utf8String("two".to_owned());
        params.distinguished_name.push(DnType::OrganizationalUnitName, other);
        let error = refusal(params);
        assert!(matches!(error, CaError::Subject { .. }), "{error}");
    }

    #[test]
    fn the_chain_of_an_intermediate_is_kept_without_its_root() {
        let root_key = KeyPair::generate().expect("key");
        let mut root = plain_ca();
        root.distinguished_name.push(DnType::CommonName, "root");
        let root_cert = root.self_signed(&root_key).expect("root");
        let issuer = Issuer::from_params(&root, &root_key);
        let key = KeyPair::generate().expect("key");
        let mut params = plain_ca();
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        let cert = params.signed_by(&key, &issuer).expect("intermediate");
        let file = format!("{}{}", cert.pem(), root_cert.pem());
        let authority = Place::given(&file, &key.serialize_pem()).open().expect("taken");
        assert_eq!(authority.intermediates(), [cert.der().clone()]);
        assert_eq!(authority.cert_pem().matches("BEGIN").count(), 2);
    }

    #[test]
    fn the_bundle_is_the_platforms_roots_and_the_ca() {
        let authority = Authority::ephemeral();
        match bundle_pem(&authority) {
            Ok(bundle) => {
                assert!(bundle.ends_with(authority.cert_pem()));
                let certs = CertificateDer::pem_slice_iter(bundle.as_bytes());
                assert!(certs.collect::<Result<Vec<_>, _>>().expect("PEM").len() > 1);
            }
            // A machine without roots of its own.
            Err(error) => assert!(matches!(error, CaError::Roots(_)), "{error}"),
        }
    }

    #[test]
    fn an_authority_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&Arc::new(Authority::ephemeral()));
    }
}
