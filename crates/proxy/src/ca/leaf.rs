//! [`Leaf`]: a certificate for one host, or for the names of a listener, signed by the CA, and the TLS configuration that uses it. Nothing
//! is copied from the upstream's certificate. `cache.rs` decides when a leaf is made.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::CertificateDer;

use super::CaError;
use super::pair::{BACKDATED, Validity, random_serial, set_validity};
use super::signer::LeafSigner;
use keyward_base::host::Host;
use keyward_net::tls;

/// Far less than the 398 days that clients accept, so a leaked leaf is soon worthless; far more than any client
/// keeps a stream open.
const VALID_FOR: SignedDuration = SignedDuration::from_hours(24 * 30);

/// X.520: a common name has at most 64 characters.
const COMMON_NAME_MAX: usize = 64;

/// A leaf in use.
pub(super) struct Leaf {
    pub(super) config: Arc<ServerConfig>,
    signed: SignedLeaf,
}

/// A certificate and its validity.
pub(super) struct SignedLeaf {
    pub(super) cert: CertificateDer<'static>,
    validity: Validity,
    renewed_at: Timestamp,
}

impl Leaf {
    /// Signs a leaf and makes its configuration.
    pub(super) fn mint(
        signer: &LeafSigner,
        hosts: &[Host],
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let signed = sign(signer, hosts, now)?;
        let config = Arc::new(server_config(signer, signed.cert.clone(), now)?);
        Ok(Self { config, signed })
    }

    /// Whether it may still be handed out. A clock that was set back makes it unfit as well.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        (self.signed.validity.from..self.signed.renewed_at).contains(&now)
    }
}

/// Signs the certificate of `hosts`.
pub(super) fn sign(
    signer: &LeafSigner,
    hosts: &[Host],
    now: Timestamp,
) -> Result<SignedLeaf, CaError> {
    let ca = signer.validity();
    if now > ca.until {
        return Err(CaError::Expired);
    }
    let until = (now + VALID_FOR).min(ca.until);
    let validity = Validity { from: (now - BACKDATED).max(ca.from), until };
    let mut params = params(hosts)?;
    set_validity(&mut params, validity);
    let cert = params.signed_by(&signer.server_keys().public, signer.issuer())?;
    // Two thirds, as renewals commonly go: time enough for a stream opened last to end.
    let renewed_at = now + (until.duration_since(now) * 2) / 3;
    // The chain that is sent changes when the overlap ends.
    let renewed_at = signer.overlap(now).map_or(renewed_at, |o| renewed_at.min(o.until));
    Ok(SignedLeaf { cert: cert.into(), validity, renewed_at })
}

/// The certificate's parameters without its validity. They are the same for every CA.
fn params(hosts: &[Host]) -> Result<CertificateParams, CaError> {
    let san = |host: &Host| match host {
        Host::Name(name) => Ok(SanType::DnsName(name.to_string().try_into()?)),
        Host::V4(v4) => Ok(SanType::IpAddress(IpAddr::V4(*v4))),
        Host::V6(v6) => Ok(SanType::IpAddress(IpAddr::V6(*v6))),
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = hosts.iter().map(san).collect::<Result<_, CaError>>()?;
    params.distinguished_name = hosts.first().map(subject).unwrap_or_default();
    params.serial_number = Some(random_serial()?);
    // This also adds the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// The host as common name, for people and old programs. With a longer host the subject is empty,
/// and then the subject alternative name is critical (RFC 5280 §4.2.1.6); rcgen sets this.
fn subject(host: &Host) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    let name = match host {
        Host::Name(name) => name.to_string(),
        Host::V4(v4) => v4.to_string(),
        Host::V6(v6) => v6.to_string(),
    };
    if name.len() <= COMMON_NAME_MAX {
        subject.push(DnType::CommonName, name);
    }
    subject
}

/// Sends the leaf without the CA. Clients that trust the CA have it, others cannot use it, and each handshake is
/// half a kilobyte shorter (RFC 8446 §4.4.2 allows it). Only certificates between the two are sent: when the CA is
/// an intermediate, or was signed by the former one.
fn server_config(
    signer: &LeafSigner,
    leaf: CertificateDer<'static>,
    now: Timestamp,
) -> Result<ServerConfig, CaError> {
    let keys = signer.server_keys();
    let chain = std::iter::once(leaf).chain(signer.chain(now).cloned()).collect();
    let certified = CertifiedKey::new(chain, Arc::clone(&keys.private));
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // Ours first, whatever the client's order: httpx names HTTP/1.1 first and speaks both.
    config.alpn_protocols = vec![tls::ALPN_HTTP2.to_vec(), tls::ALPN_HTTP1.to_vec()];
    config.ticketer = Arc::clone(&keys.tickets);
    // Clients keep one session per host; a second ticket is work for nothing.
    config.send_tls13_tickets = 1;
    // Our order has the fastest suite first.
    config.ignore_client_order = true;
    // Tickets are sufficient; a session store per leaf would cost memory for thousands of leaves.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::{CertificateError, Error, RootCertStore};
    use rustls_pki_types::{ServerName, UnixTime};
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn signer() -> LeafSigner {
        let made = crate::ca::pair::Pair::make(Timestamp::now()).expect("made");
        LeafSigner::of(made, std::path::Path::new("memory"), Timestamp::now()).expect("sound")
    }

    fn host(text: &str) -> Host {
        Host::parse(text).expect(text)
    }

    /// A name of exactly `len` bytes.
    fn name_of(len: usize) -> String {
        let mut name = "a.".repeat(len / 2);
        name.truncate(len - 1);
        let name = name + "z";
        assert_eq!(name.len(), len);
        name
    }

    fn signed(ca: &LeafSigner, name: &str) -> CertificateDer<'static> {
        sign(ca, &[host(name)], Timestamp::now()).expect(name).cert
    }

    fn verify(
        ca: &LeafSigner,
        leaf: &CertificateDer<'_>,
        name: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.cert().clone()).expect("root");
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), tls::provider());
        let name = ServerName::try_from(name.to_owned()).expect("name");
        let at = Duration::from_secs(u64::try_from(at.as_second()).expect("after 1970"));
        let at = UnixTime::since_unix_epoch(at);
        let verifier = verifier.build().expect("verifier");
        verifier.verify_server_cert(leaf, &[], &name, &[], at).map(drop)
    }

    #[test]
    fn a_leaf_is_not_valid_for_another_host() {
        let ca = signer();
        for (name, other) in [
            ("api.example.com", "example.com"),
            ("api.example.com", "www.example.com"),
            ("example.com", "api.example.com"),
            ("192.0.2.1", "192.0.2.2"),
            ("[2001:db8::1]", "2001:db8::2"),
            ("192.0.2.1", "one.example.com"),
        ] {
            let result = verify(&ca, &signed(&ca, name), other, Timestamp::now());
            let refused = matches!(
                result,
                Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
            );
            assert!(refused, "{name} for {other}: {result:?}");
        }
    }

    #[test]
    fn a_leaf_of_another_ca_is_refused() {
        let (ours, theirs) = (signer(), signer());
        let leaf = signed(&theirs, "api.example.com");
        assert!(verify(&ours, &leaf, "api.example.com", Timestamp::now()).is_err());
    }

    #[test]
    fn rustls_accepts_names_addresses_and_long_names() {
        let ca = signer();
        for (name, asked) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.com.", "api.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("under_score.example.com", "under_score.example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            (&name_of(64), &name_of(64)),
            (&name_of(65), &name_of(65)),
            (&name_of(253), &name_of(253)),
        ] {
            let result = verify(&ca, &signed(&ca, name), asked, Timestamp::now());
            assert_eq!(result, Ok(()), "{name}");
        }
    }

    #[test]
    fn a_leaf_has_every_property_that_clients_ask_for() {
        let ca = signer();
        let now = Timestamp::now();
        let der = sign(&ca, &[host("api.example.com")], now).expect("signed").cert;
        let (_, leaf) = X509Certificate::from_der(&der).expect("parsed");
        let (_, ca) = X509Certificate::from_der(ca.cert()).expect("parsed");
        assert_eq!(leaf.version(), x509_parser::x509::X509Version::V3);
        assert_eq!(leaf.issuer().as_raw(), ca.subject().as_raw());
        let constraints = leaf.basic_constraints().expect("one").expect("present");
        assert!(!constraints.value.ca);
        let usage = leaf.key_usage().expect("one").expect("present");
        assert!(usage.critical && usage.value.digital_signature());
        assert!(!usage.value.key_cert_sign() && !usage.value.crl_sign());
        let extended = leaf.extended_key_usage().expect("one").expect("present").value;
        assert!(extended.server_auth && !extended.client_auth && !extended.any);
        // P-256: an EC key, an uncompressed point of 65 bytes; and not the CA's.
        let key = &leaf.public_key().subject_public_key.data;
        assert_eq!(key.len(), 65);
        assert_ne!(key, &ca.public_key().subject_public_key.data);
        let seconds = |at: x509_parser::time::ASN1Time| at.timestamp() - now.as_second();
        assert_eq!(seconds(leaf.validity().not_before), -48 * 3_600);
        assert!(seconds(leaf.validity().not_after) < 398 * 86_400);
        assert!(seconds(leaf.validity().not_after) > 7 * 86_400);
    }

    #[test]
    fn key_identifiers_lead_from_the_leaf_to_the_ca() {
        let ca = signer();
        let der = signed(&ca, "api.example.com");
        let subject_key = |der: &CertificateDer<'_>| {
            let (_, cert) = X509Certificate::from_der(der).expect("parsed");
            cert.iter_extensions().find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
        };
        let (_, leaf) = X509Certificate::from_der(&der).expect("parsed");
        let authority_key = leaf.iter_extensions().find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                assert!(!e.critical);
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        });
        assert!(authority_key.is_some());
        assert_eq!(authority_key, subject_key(ca.cert()));
        assert!(subject_key(&der).is_some_and(|own| Some(own) != authority_key));
    }

    #[test]
    fn the_host_is_the_only_alternative_name_and_critical_only_without_subject() {
        let ca = signer();
        let (fits, long) = (name_of(64), name_of(65));
        for (name, common_name) in [
            ("api.example.com", Some("api.example.com")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            (fits.as_str(), Some(fits.as_str())),
            (long.as_str(), None),
        ] {
            let der = signed(&ca, name);
            let (_, leaf) = X509Certificate::from_der(&der).expect("parsed");
            let written = leaf.subject().iter_common_name().next();
            assert_eq!(written.and_then(|cn| cn.as_str().ok()), common_name, "{name}");
            let san = leaf.subject_alternative_name().expect("one").expect("present");
            assert_eq!(san.critical, common_name.is_none(), "{name}");
            let expected = match host(name) {
                Host::Name(dns) => vec![dns.as_bytes().to_vec()],
                Host::V4(v4) => vec![v4.octets().to_vec()],
                Host::V6(v6) => vec![v6.octets().to_vec()],
            };
            let found: Vec<_> = san.value.general_names.iter().map(san_bytes).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    fn san_bytes(name: &GeneralName<'_>) -> Vec<u8> {
        match name {
            GeneralName::DNSName(dns) => dns.as_bytes().to_vec(),
            GeneralName::IPAddress(bytes) => bytes.to_vec(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn serials_are_random_positive_and_at_most_20_octets() {
        let ca = signer();
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let der = signed(&ca, "api.example.com");
            let (_, leaf) = X509Certificate::from_der(&der).expect("parsed");
            let serial = leaf.raw_serial().to_vec();
            assert!((17..=20).contains(&serial.len()) && serial[0] & 0x80 == 0, "{serial:?}");
            assert!(seen.insert(serial));
        }
    }

    #[test]
    fn a_leaf_never_outlives_the_ca() {
        let ca = signer();
        let late = ca.validity().until - SignedDuration::from_hours(1);
        let leaf = sign(&ca, &[host("api.example.com")], late).expect("signed");
        assert_eq!(leaf.validity.until, ca.validity().until);
        assert!(leaf.renewed_at < ca.validity().until);
        let after = ca.validity().until + SignedDuration::from_secs(1);
        let refused = sign(&ca, &[host("api.example.com")], after);
        assert!(matches!(refused, Err(CaError::Expired)));
    }

    #[test]
    fn a_leaf_is_refused_after_its_time_and_renewed_well_before() {
        let ca = signer();
        let now = Timestamp::now();
        let leaf = sign(&ca, &[host("api.example.com")], now).expect("signed");
        let days = |n: i64| now + SignedDuration::from_hours(24 * n);
        assert_eq!(verify(&ca, &leaf.cert, "api.example.com", days(29)), Ok(()));
        assert!(verify(&ca, &leaf.cert, "api.example.com", days(31)).is_err());
        assert_eq!(leaf.renewed_at, days(20));
    }
}
