//! Leaf certificates: one per host, also for simultaneous requests, in a form that every client's verifier accepts, and
//! only for agents that may have them.

use std::collections::HashSet;

use tokio_rustls::TlsConnector;
use x509_parser::prelude::*;

use test_support::*;

const HOSTS: usize = 50;
const REQUESTS: usize = 200;

/// The chain that a tunnel to `host` presents, in DER.
async fn chain(lab: &Lab, host: &str) -> Vec<Vec<u8>> {
    let (answer, wire) = lab.connect(&format!("{host}:443")).await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    let (io, _, _) = wire.into_parts();
    let connector = TlsConnector::from(pki::trusting(&lab.gateway.ca_pem));
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).expect("a name");
    let tls = connector.connect(name, io).await.expect("the handshake");
    let chain = tls.get_ref().1.peer_certificates().expect("a chain");
    chain.iter().map(|certificate| certificate.to_vec()).collect()
}

async fn many_hosts() -> (Lab, Vec<String>) {
    let hosts: Vec<String> = (0..HOSTS).map(|n| format!("h{n}.leaf.test")).collect();
    let origin = Origin::answering_as(&["*.leaf.test"], |_| ok("fine"));
    let mut plan = Plan::api_key().hosts("\"*.leaf.test\"");
    for host in &hosts {
        plan = plan.resolve(&format!("{host}: \"{}\"", origin.addr));
    }
    (plan.start(origin).await, hosts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_first_requests_to_fifty_hosts_mint_fifty_leaves() {
    let (lab, hosts) = many_hosts().await;
    let asks = (0..REQUESTS).map(|n| {
        let (lab, host) = (&lab, &hosts[n % HOSTS]);
        async move {
            let mut wire = lab.tunnel(host).await;
            wire.ask(request_text("GET /a", host)).await
        }
    });
    let answers = futures_util::future::join_all(asks).await;
    for answer in &answers {
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"));
    }
    assert_eq!(lab.gateway.running().services().leaves.minted(), HOSTS as u64);
    lab.finish_after(REQUESTS).await;
}

#[tokio::test]
async fn no_leaf_is_minted_without_a_token_or_for_a_denied_host() {
    let lab = Lab::simple().await;
    let mut wire = lab.client().await;
    wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: x\r\n\r\n")).await.is(407);
    for n in 0..20 {
        let (answer, _) = lab.connect(&format!("n{n}.nobody.test:443")).await;
        assert_eq!(answer.head.status(), 403);
    }
    assert_eq!(lab.gateway.running().services().leaves.minted(), 0);
    lab.finish().await;
}

#[tokio::test]
async fn a_leaf_has_every_property_that_tls_verifiers_require() {
    let lab = Lab::simple().await;
    let chain = chain(&lab, HOST).await;
    let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("DER");
    let ca_der = pem_der(&lab.gateway.ca_pem);
    let (_, ca) = X509Certificate::from_der(&ca_der).expect("DER");

    assert_eq!(leaf.version(), X509Version::V3);
    let names = leaf.subject_alternative_name().expect("one").expect("a SAN");
    assert_eq!(names.value.general_names, [GeneralName::DNSName(HOST)]);
    let empty = leaf.subject().iter().next().is_none();
    assert_eq!(names.critical, empty, "critical exactly when the subject is empty");
    let usage = leaf.extended_key_usage().expect("one").expect("EKU");
    assert!(usage.value.server_auth && !usage.value.client_auth && !usage.value.any);
    assert!(leaf.key_usage().expect("one").expect("keyUsage").value.digital_signature());
    let constraints = leaf.basic_constraints().expect("one");
    assert!(constraints.is_none_or(|constraints| !constraints.value.ca));
    assert!(has(&leaf, oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER), "SKI");
    assert!(has(&leaf, oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER), "AKI");
    assert_eq!(
        leaf.public_key().algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()),
        Some(oid_registry::OID_EC_P256),
        "Chromium and grpcio refuse Ed25519"
    );

    let validity = leaf.validity();
    let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
    assert!(days < 398, "{days} days");
    let now = ASN1Time::now().timestamp();
    let back = now - validity.not_before.timestamp();
    assert!((172_200..=173_400).contains(&back), "back-dated by {back} s");
    assert!(leaf.raw_serial()[0] < 0x80, "a positive serial");
    assert!((8..=20).contains(&leaf.raw_serial().len()), "{:?}", leaf.raw_serial());
    leaf.verify_signature(Some(ca.public_key())).expect("signed by the CA");
    assert_ne!(leaf.public_key().raw, ca.public_key().raw, "its own key, not the CA's");
    lab.finish().await;
}

#[tokio::test]
async fn the_ca_has_every_property_that_tls_verifiers_require() {
    let lab = Lab::simple().await;
    let der = pem_der(&lab.gateway.ca_pem);
    let (_, ca) = X509Certificate::from_der(&der).expect("DER");
    let constraints = ca.basic_constraints().expect("one").expect("basicConstraints");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(1));
    let usage = ca.key_usage().expect("one").expect("keyUsage");
    assert!(usage.critical && usage.value.key_cert_sign());
    assert!(has(&ca, oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER), "SKI");
    assert!(!lab.gateway.ca_pem.contains("PRIVATE KEY"));
    lab.finish().await;
}

#[tokio::test]
async fn leaves_differ_in_serial_and_share_no_name() {
    let (lab, hosts) = many_hosts().await;
    let mut serials = HashSet::new();
    for host in &hosts[..10] {
        let chain = chain(&lab, host).await;
        let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("DER");
        let names = leaf.subject_alternative_name().expect("one").expect("a SAN");
        assert_eq!(names.value.general_names, [GeneralName::DNSName(host)]);
        serials.insert(leaf.raw_serial().to_vec());
    }
    assert_eq!(serials.len(), 10);
    lab.finish().await;
}

#[tokio::test]
async fn a_name_over_64_bytes_has_a_leaf_too() {
    let long = format!("{}.{}.test", "a".repeat(60), "b".repeat(60));
    let rule = format!("{{ name: open, hosts: [{long}], action: pass }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let chain = chain(&lab, &long).await;
    let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("DER");
    let names = leaf.subject_alternative_name().expect("one").expect("a SAN");
    assert_eq!(names.value.general_names, [GeneralName::DNSName(&long)]);
    lab.finish().await;
}

fn has(certificate: &X509Certificate<'_>, oid: oid_registry::Oid<'_>) -> bool {
    certificate.get_extension_unique(&oid).expect("at most one").is_some()
}

fn pem_der(pem: &str) -> Vec<u8> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).expect("PEM");
    pem.contents
}
