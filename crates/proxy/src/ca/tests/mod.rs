//! Tests of CAs that are made, supplied, damaged and rotated, by their files and certificates.

mod rotation;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::authority::{Authority, CaFiles, platform_pem};
use super::pair::parse;
use super::{CaError, files};
use keyward_base::time::Clock;

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
fn a_ca_with_one_of_its_two_files_is_refused_and_no_file_is_created() {
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
fn a_ca_outside_of_its_validity_period_is_refused() {
    let mut past = plain_ca();
    past.not_after = rcgen::date_time_ymd(2001, 1, 1);
    assert!(matches!(refusal(past), CaError::Expired));
    let mut future = plain_ca();
    future.not_before = rcgen::date_time_ymd(4000, 1, 1);
    assert!(matches!(refusal(future), CaError::NotYetValid));
}

#[test]
fn files_without_a_usable_key_or_certificate_in_pem_are_refused_and_named() {
    let names = |error: &CaError, path: &Path| error.to_string().contains(&*path.to_string_lossy());
    let (cert, key) = self_signed(plain_ca());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for bad in ["", "junk", &cert, &encrypted] {
        let place = Place::given(&cert, bad);
        let error = place.open().expect_err("no key");
        assert!(matches!(error, CaError::NotAKey { .. }), "{error}");
        assert!(names(&error, &place.key), "{error}");
        assert!(!error.to_string().contains("BEGIN"), "{error}");
    }
    let cut = &cert[..cert.len() - 40];
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for bad in ["", "junk", cut, hollow] {
        let place = Place::given(bad, &key);
        let error = place.open().expect_err("no certificate");
        assert!(matches!(error, CaError::NotACertificate { .. }), "{error}");
        assert!(names(&error, &place.cert), "{error}");
    }
}

#[test]
fn a_key_with_loose_permissions_is_refused() {
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

/// The restore of a backup is repeated after a crash, when the key is the new one already.
#[test]
fn a_replacement_cut_short_by_a_crash_is_completed_and_the_former_key_stays_kept() {
    let (place, new) = (Place::new(), Place::new());
    place.open().expect("made");
    let authority = new.open().expect("made");
    let read = |folder: &Path| ["ca.pem", "ca.key"].map(|name| fs::read(folder.join(name)).ok());
    let (former, kept) = (read(place.dir.path()), place.dir.path().join("kept"));
    files::keep(&place.cert, &kept.join("ca.pem")).expect("kept");
    files::keep(&place.key, &kept.join("ca.key")).expect("kept");
    fs::copy(&new.key, &place.key).expect("as the crash left it");
    fs::copy(&new.cert, files::staged(&place.cert)).expect("as the crash left it");
    let files_of = |it: &Place| CaFiles { cert: it.cert.clone(), key: it.key.clone() };
    let installed = Authority::install(&files_of(&new), &files_of(&place), &kept);
    assert!(installed.expect("completed"), "it was not there as a whole");
    assert_eq!(place.open().expect("loaded").fingerprint(), authority.fingerprint());
    assert_eq!(read(&kept), former);
    assert_eq!(place.names(), ["ca.key", "ca.pem", "kept"]);
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
    let der = authority.cert_der();
    let cert = parse(&der).expect("parsed");
    let constraints = cert.basic_constraints().expect("one").expect("present");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(1), "room for a successor");
    let usage = cert.key_usage().expect("one").expect("present");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    let ski = x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;
    assert!(cert.get_extension_unique(&ski).expect("one").is_some());
    assert_eq!(cert.issuer().as_raw(), cert.subject().as_raw());
    let name = cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
    let tag = name.and_then(|name| name.strip_prefix("Keyward local CA ")).expect("name");
    assert!(tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{tag}");
    let seconds = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
    assert!(seconds <= 3_652 * 86_400, "{seconds}");
    assert!(cert.validity().not_before.timestamp() <= now.as_second() - 48 * 3_600);
    assert!(cert.validity().is_valid());
}

#[test]
fn a_supplied_ca_without_key_usage_is_accepted() {
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
fn a_ca_subject_that_rcgen_cannot_reproduce_is_refused() {
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
fn the_sent_chain_has_the_intermediate_ca_but_not_its_root() {
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
    let signer = authority.signer();
    let sent: Vec<_> = signer.chain(Timestamp::now()).collect();
    assert_eq!(sent, [cert.der()]);
    assert_eq!(authority.cert_pem().matches("BEGIN").count(), 2);
}

#[test]
fn the_platform_s_roots_are_certificates() {
    match platform_pem() {
        Ok(roots) => {
            let certs = CertificateDer::pem_slice_iter(roots.as_bytes());
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
