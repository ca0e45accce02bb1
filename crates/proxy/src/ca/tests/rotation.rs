//! Tests of CA rotation: which clients are served during and after the overlap, what the files contain at each
//! step, and what is refused.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};
use x509_parser::extensions::ParsedExtension;

use super::*;
use crate::ca::authority::{Role, RotationMode};
use crate::ca::cache::LeafCache;
use keyward_base::host::Host;
use keyward_net::tls;

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;

/// A CA in files, with a clock that is moved by hand.
struct World {
    place: Place,
    now: Arc<AtomicI64>,
    authority: Arc<Authority>,
}

impl World {
    fn new() -> Self {
        Self::at(Place::new())
    }

    fn at(place: Place) -> Self {
        let now = Arc::new(AtomicI64::new(Timestamp::now().as_millisecond()));
        let authority = Self::open(&place, &now).expect("opened");
        Self { authority: Arc::new(authority), now, place }
    }

    fn open(place: &Place, now: &Arc<AtomicI64>) -> Result<Authority, CaError> {
        Authority::load_or_create(&place.cert, &place.key, &Clock::Fixed(now.clone()))
    }

    fn reopened(&self) -> Authority {
        Self::open(&self.place, &self.now).expect("opened again")
    }

    fn pass(&self, days: i64) {
        self.now.fetch_add(days * DAY_MS, Ordering::SeqCst);
    }

    /// What a server sends for a host now.
    fn sent(&self, authority: &Authority) -> Vec<CertificateDer<'static>> {
        let now = Timestamp::from_millisecond(self.now.load(Ordering::SeqCst)).expect("a time");
        let (signer, host) = (authority.signer(), Host::parse("api.test").expect("a host"));
        let leaf =
            crate::ca::leaf::sign(&signer, std::slice::from_ref(&host), now).expect("signed").cert;
        std::iter::once(leaf).chain(signer.chain(now).cloned()).collect()
    }

    /// Whether a client that trusts `roots` alone is satisfied with what is sent.
    fn serves(&self, authority: &Authority, roots: &str) -> bool {
        let sent = self.sent(authority);
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            store.add(root.expect("PEM")).expect("a root");
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(store.into(), tls::provider());
        let name = ServerName::try_from("api.test").expect("a name");
        let now = u64::try_from(self.now.load(Ordering::SeqCst) / 1_000).expect("after 1970");
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let verifier = verifier.build().expect("a verifier");
        verifier.verify_server_cert(&sent[0], &sent[1..], &name, &[], now).is_ok()
    }
}

fn first(pem: &str) -> String {
    let end = "-----END CERTIFICATE-----\n";
    let (first, _) = pem.split_once(end).expect("a certificate");
    format!("{first}{end}")
}

fn key_id(der: &CertificateDer<'_>, of_issuer: bool) -> Vec<u8> {
    let cert = parse(der).expect("a certificate");
    let found = cert.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) if !of_issuer => Some(id.0.to_vec()),
        ParsedExtension::AuthorityKeyIdentifier(id) if of_issuer => {
            id.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    });
    found.expect("a key identifier")
}

#[test]
fn a_supplied_ca_is_not_rotated_and_its_files_do_not_change() {
    let (cert, key) = self_signed(plain_ca());
    let world = World::at(Place::given(&cert, &key));
    for how in [RotationMode::Overlap(DAY), RotationMode::NoOverlap] {
        let refused = world.authority.rotate(how).expect_err("not ours");
        assert!(matches!(refused, CaError::NotOurs { .. }), "{refused}");
        assert!(refused.hint().is_some_and(|hint| hint.contains("keyward reload")));
    }
    assert_eq!(world.place.names(), ["ca.key", "ca.pem"]);
    assert_eq!(fs::read_to_string(&world.place.cert).expect("read"), cert);
}

#[test]
fn a_ca_with_a_path_length_of_zero_is_rotated_only_without_an_overlap() {
    let mut old = plain_ca();
    old.distinguished_name = rcgen::DistinguishedName::new();
    old.distinguished_name.push(DnType::CommonName, "Keyward local CA 00000001");
    old.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let (cert, key) = self_signed(old);
    let world = World::at(Place::given(&cert, &key));
    let refused = world.authority.rotate(RotationMode::Overlap(DAY)).expect_err("no room");
    assert!(refused.hint().is_some_and(|hint| hint.contains("--no-overlap")), "{refused}");
    world.authority.rotate(RotationMode::NoOverlap).expect("replaced");
    assert!(!world.serves(&world.authority, &cert));
    world.authority.rotate(RotationMode::Overlap(DAY)).expect("its successors overlap");
}

#[test]
fn a_second_overlap_is_refused_while_one_is_in_progress() {
    let world = World::new();
    world.authority.rotate(RotationMode::Overlap(DAY * 30)).expect("rotated");
    let refused = world.authority.rotate(RotationMode::Overlap(DAY)).expect_err("under way");
    assert!(matches!(refused, CaError::Overlapping { .. }), "{refused}");
    world.pass(31);
    world.authority.rotate(RotationMode::Overlap(DAY)).expect("the first is over");
    world.authority.rotate(RotationMode::NoOverlap).expect("the second is cut short");
    assert_eq!(world.authority.overview().certificates.len(), 1);
}

#[test]
fn files_that_were_changed_are_not_overwritten() {
    let world = World::new();
    let (cert, key) = self_signed(plain_ca());
    fs::write(&world.place.cert, &cert).expect("write");
    fs::write(&world.place.key, &key).expect("write");
    let refused = world.authority.rotate(RotationMode::NoOverlap).expect_err("changed");
    assert!(matches!(refused, CaError::Changed), "{refused}");
    assert_eq!(fs::read_to_string(&world.place.key).expect("read"), key);
}

#[test]
fn in_the_overlap_clients_of_either_ca_are_served_and_after_it_those_of_the_new_one() {
    let world = World::new();
    let old = world.authority.cert_pem();
    world.authority.rotate(RotationMode::Overlap(DAY * 30)).expect("rotated");
    let both = world.authority.cert_pem();
    let new = first(&both);
    assert_eq!(both, format!("{new}{old}"));
    for authority in [&*world.authority, &world.reopened()] {
        assert_eq!(authority.cert_pem(), both);
        assert!(world.serves(authority, &old), "who trusts the old one alone");
        assert!(world.serves(authority, &new), "who trusts the new one alone");
        assert_eq!(world.sent(authority).len(), 2);
    }
    world.pass(29);
    assert!(world.serves(&world.authority, &old));
    world.pass(2);
    for authority in [&*world.authority, &world.reopened()] {
        assert!(!world.serves(authority, &old), "the overlap is over");
        assert!(world.serves(authority, &new));
        assert_eq!(world.sent(authority).len(), 1, "a leaf alone");
        assert_eq!(authority.cert_pem(), new);
        assert_eq!(authority.overview().overlap_until, None);
    }
    assert!(world.authority.tidy().expect("tidied"));
    assert!(!world.authority.tidy().expect("nothing to do"));
    assert_eq!(fs::read_to_string(&world.place.cert).expect("read"), new);
    assert!(world.serves(&world.reopened(), &new));
}

#[test]
fn without_an_overlap_the_old_ca_is_gone_at_once() {
    let world = World::new();
    let old = world.authority.cert_pem();
    let leaked = fs::read(&world.place.key).expect("read");
    world.authority.rotate(RotationMode::NoOverlap).expect("rotated");
    let new = world.authority.cert_pem();
    assert_eq!(new, fs::read_to_string(&world.place.cert).expect("read"));
    assert!(!world.serves(&world.authority, &old));
    assert!(world.serves(&world.authority, &new));
    for name in world.place.names() {
        let bytes = fs::read(world.place.dir.path().join(&name)).expect("read");
        assert_ne!(bytes, leaked, "{name}");
    }
    assert_eq!(world.place.names(), ["ca.key", "ca.pem"]);
}

#[test]
fn the_cross_certificate_leads_from_the_new_key_to_the_old_root() {
    let world = World::new();
    let old = world.authority.cert_der();
    world.authority.rotate(RotationMode::Overlap(DAY * 30)).expect("rotated");
    let (new, sent) = (world.authority.cert_der(), world.sent(&world.authority));
    let cross = &sent[1];
    let parsed: Vec<_> =
        [&old, &new, cross].into_iter().map(|der| parse(der).expect("cert")).collect();
    let [old_cert, new_cert, cross_cert] = &parsed[..] else { panic!("three") };
    assert_eq!(cross_cert.subject().as_raw(), new_cert.subject().as_raw());
    assert_eq!(cross_cert.issuer().as_raw(), old_cert.subject().as_raw());
    assert_ne!(new_cert.subject().as_raw(), old_cert.subject().as_raw());
    assert_eq!(key_id(cross, false), key_id(&new, false));
    assert_eq!(key_id(cross, true), key_id(&old, false));
    assert_eq!(key_id(&sent[0], true), key_id(&new, false));
    assert_ne!(cross_cert.raw_serial(), new_cert.raw_serial());
    let constraints = cross_cert.basic_constraints().expect("one").expect("present");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = cross_cert.key_usage().expect("one").expect("present");
    assert!(usage.critical && usage.value.key_cert_sign());
}

#[test]
fn an_overlap_never_outlives_the_old_ca() {
    let world = World::new();
    let end = world.authority.expires();
    world.authority.rotate(RotationMode::Overlap(DAY * 36_500)).expect("rotated");
    assert_eq!(world.authority.overview().overlap_until, Some(end));
    let roles: Vec<_> =
        world.authority.overview().certificates.iter().map(|cert| cert.role).collect();
    assert_eq!(roles, [Role::Current, Role::Former]);
}

#[test]
fn a_crash_leaves_the_old_ca_or_the_new_one_whole() {
    let world = World::new();
    let (old_cert, old_key) =
        (fs::read(&world.place.cert).expect("read"), fs::read(&world.place.key).expect("read"));
    let old = world.authority.fingerprint();
    world.authority.rotate(RotationMode::Overlap(DAY)).expect("rotated");
    let new = world.authority.fingerprint();
    let (new_cert, new_key) =
        (fs::read(&world.place.cert).expect("read"), fs::read(&world.place.key).expect("read"));
    let (cert, key) = (&world.place.cert, &world.place.key);
    let (next_cert, next_key) = (files::staged(cert), files::staged(key));
    let half = &new_cert[..new_cert.len() / 2];
    let private = |path: &PathBuf, bytes: &[u8]| {
        fs::write(path, bytes).expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    };
    // The files as a crash after each step leaves them: what is staged, then the key's place.
    let moments = [
        (vec![(cert, &old_cert[..]), (key, &old_key), (&next_cert, half)], &old),
        (vec![(cert, &old_cert), (key, &old_key), (&next_cert, &new_cert)], &old),
        (
            vec![
                (cert, &old_cert),
                (key, &old_key),
                (&next_cert, &new_cert),
                (&next_key, &new_key),
            ],
            &old,
        ),
        (vec![(cert, &old_cert), (key, &new_key), (&next_cert, &new_cert)], &new),
    ];
    for (moment, (written, whole)) in moments.into_iter().enumerate() {
        for name in world.place.names() {
            fs::remove_file(world.place.dir.path().join(name)).expect("remove");
        }
        written.iter().for_each(|(path, bytes)| private(path, bytes));
        assert_eq!(&world.reopened().fingerprint(), whole, "moment {moment}");
        assert_eq!(world.place.names(), ["ca.key", "ca.pem"], "moment {moment}");
    }
    // A key that belongs to neither CA is not repaired.
    private(key, self_signed(plain_ca()).1.as_bytes());
    private(&next_cert, &new_cert);
    let refused = World::open(&world.place, &world.now).expect_err("a mismatch");
    assert!(matches!(refused, CaError::KeyMismatch { .. }), "{refused}");
}

#[test]
fn a_reload_uses_both_replaced_files_or_neither() {
    let world = World::new();
    let before = world.authority.fingerprint();
    assert!(!world.authority.reload().expect("as they were"));
    let (cert, key) = self_signed(plain_ca());
    fs::write(&world.place.cert, &cert).expect("write");
    for refused in [world.authority.check(), world.authority.reload().map(drop)] {
        assert!(matches!(refused, Err(CaError::KeyMismatch { .. })), "{refused:?}");
    }
    assert_eq!(world.authority.fingerprint(), before);
    fs::write(&world.place.key, &key).expect("write");
    world.authority.check().expect("fit");
    assert_eq!(world.authority.fingerprint(), before, "a look changes nothing");
    assert!(world.authority.reload().expect("taken up"));
    assert_eq!(world.authority.cert_pem(), cert.replace('\r', ""));
    fs::remove_file(&world.place.cert).expect("remove");
    assert!(world.authority.reload().is_err(), "no new one is made");
}

#[test]
fn a_rotation_drops_the_cached_leaves_and_the_key_of_the_former_ca() {
    let world = World::new();
    let clock = Clock::Fixed(world.now.clone());
    let leaves = LeafCache::new(world.authority.clone(), 8, clock);
    let host = Host::parse("api.test").expect("a host");
    let before = leaves.server_config(&host).expect("minted");
    let former = Arc::downgrade(&world.authority.signer());
    world.authority.rotate(RotationMode::Overlap(DAY * 2)).expect("rotated");
    assert!(former.upgrade().is_none(), "a cached leaf keeps no key");
    let after = leaves.server_config(&host).expect("minted");
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&after, &leaves.server_config(&host).expect("kept")));
    world.pass(3);
    let alone = leaves.server_config(&host).expect("minted");
    assert!(!Arc::ptr_eq(&after, &alone), "what it is sent with has changed");
    assert_eq!(leaves.minted(), 3);
}

#[test]
fn the_end_of_a_ca_is_announced_two_months_ahead() {
    let world = World::new();
    assert_eq!(world.authority.notice(), None);
    world.pass(3_580);
    assert_eq!(world.authority.notice(), None);
    world.pass(20);
    let notice = world.authority.notice().expect("it ends soon");
    assert!(notice.contains("keyward ca rotate"), "{notice}");
    world.authority.rotate(RotationMode::Overlap(DAY * 300)).expect("rotated");
    assert_eq!(world.authority.notice(), None);
    let until = world.authority.overview().overlap_until.expect("an overlap");
    assert!(until < world.authority.expires());
}
