//! Client certificates and private CAs of connections: what a service sees, whom a connection trusts, and which streams
//! are shared.

use std::collections::BTreeSet;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::pki::pki;
use test_support::*;

const SERVICE: &str = "mutual.acme.test";

/// A service whose certificate is signed by a CA of its own, and which accepts clients with a certificate of the run's
/// authority only. It answers with the number of the stream.
fn service() -> (Origin, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("no names");
    // Else it has the name of the lab's authority, with another key.
    params.distinguished_name.push(DnType::CommonName, "An authority of the service");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![SERVICE.to_owned()]).expect("a name");
    let certificate = params.signed_by(&own, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut clients = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(pki().pem.as_bytes()).expect("PEM");
    clients.add(authority).expect("a certificate");
    let verifier = WebPkiClientVerifier::builder_with_provider(clients.into(), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(own.serialize_der()).expect("a key"),
        )
        .expect("the key is the certificate's");
    let script = |mut stream: Stream| async move {
        let number = stream.number;
        while stream.request().await.is_some() {
            if stream.try_send(ok(&format!("stream {number}"))).await.is_err() {
                return;
            }
        }
    };
    (Origin::with_tls(Some(Arc::new(config)), script), ca)
}

/// A gateway before the service, with a provider for client certificates and one for a key.
async fn lab() -> (Lab, String) {
    let (origin, ca) = service();
    let plan = Plan::api_key()
        .no_agents()
        .provider(&format!(
            "{{ id: mutual, name: Mutual, hosts: [{SERVICE}], auth: [{{ id: certificate, kind: mtls }}, \
             {{ id: both, kind: bearer, fields: [{{ name: token }}, {{ name: pem }}, {{ name: pem_key }}, {{ name: own_ca }}], \
             placement: {{ header: Authorization, value: \"Bearer {{token}}\" }}, \
             tls: {{ certificate: pem, key: pem_key, ca: own_ca }} }}] }}"
        ))
        .resolve(&format!("{SERVICE}: \"{}\"", origin.addr));
    (plan.start(origin).await, ca)
}

async fn connect(lab: &mut Lab, name: &str, auth: &str, fields: Value) -> Message {
    for (_, value) in fields.as_object().expect("fields") {
        let text = value.as_str().expect("text").to_owned();
        if text.contains("PRIVATE KEY") {
            lab.guard(Canary::of(text));
        }
    }
    let new = json!({ "provider": "mutual", "auth": auth, "name": name, "fields": fields });
    let made = lab.gateway.api("POST", "/connections", &new.to_string()).await;
    if made.head.status() == 201 {
        lab.add_agent(name).await;
        let bind = json!({ "connection": name }).to_string();
        let bound = lab.gateway.api("POST", &format!("/agents/{name}/bindings"), &bind).await;
        assert!((200..300).contains(&bound.head.status()), "{}", bound.text());
    }
    made
}

/// A connection with a new certificate.
async fn certified(lab: &mut Lab, name: &str, ca: Option<&str>) {
    let (certificate, key) = pki().pem(&[name]);
    let mut fields = json!({ "client_cert": certificate, "client_key": key });
    if let Some(ca) = ca {
        fields["ca"] = ca.into();
    }
    connect(lab, name, "certificate", fields).await.is(201);
}

async fn ask(lab: &Lab, agent: &str) -> Message {
    lab.ask_as(agent, SERVICE, "GET /version").await
}

#[tokio::test]
async fn a_service_with_a_private_ca_is_trusted_only_by_a_connection_that_has_this_ca() {
    let (mut lab, ca) = lab().await;
    certified(&mut lab, "with-ca", Some(&ca)).await;
    certified(&mut lab, "without-ca", None).await;
    certified(&mut lab, "with-another-ca", Some(&pki().pem)).await;
    assert_eq!(ask(&lab, "with-ca").await.text(), "stream 0");
    for other in ["without-ca", "with-another-ca"] {
        let answer = ask(&lab, other).await;
        assert_eq!(answer.refusal(), (502, Some("upstream_tls")), "{other}: {}", answer.text());
    }
    lab.finish_after(1).await;
}

/// Only the CA of the connection tells whether the gateway would reach the service.
#[tokio::test]
async fn the_upstream_check_uses_the_certificates_and_the_ca_of_each_connection() {
    let (mut lab, ca) = lab().await;
    let checked = async |lab: &Lab| {
        let found = lab.gateway.api("GET", "/upstreams", "").await.json();
        let items = found["items"].as_array().expect("a list").clone();
        items.into_iter().filter(|it| it["host"] == SERVICE).collect::<Vec<_>>()
    };
    certified(&mut lab, "with-ca", Some(&ca)).await;
    let found = checked(&lab).await;
    assert_eq!((found.len(), &found[0]["reached"]), (1, &Value::Bool(true)), "{found:?}");
    certified(&mut lab, "without-ca", None).await;
    let found = checked(&lab).await;
    let failed: Vec<_> = found.iter().filter(|it| it["reached"] == false).collect();
    assert_eq!((found.len(), failed.len()), (2, 1), "{found:?}");
    let hint = failed[0]["hint"].as_str().expect("a remedy");
    let says = "`keyward connection rotate without-ca --secret-file ca=FILE`";
    assert!(hint.contains(says) && !hint.contains("upstream"), "{hint}");
    assert!(lab.origin.received().is_empty(), "no request was sent");
    lab.finish().await;
}

#[tokio::test]
async fn streams_are_shared_by_the_requests_of_one_connection_only() {
    let (mut lab, ca) = lab().await;
    certified(&mut lab, "first", Some(&ca)).await;
    certified(&mut lab, "second", Some(&ca)).await;
    let (mut of_first, mut of_second) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..6 {
        of_first.insert(ask(&lab, "first").await.text());
        of_second.insert(ask(&lab, "second").await.text());
    }
    assert!(of_first.is_disjoint(&of_second), "{of_first:?} {of_second:?}");
    assert!(of_first.len() + of_second.len() < 12, "streams are reused: {of_first:?}");
    // With another certificate, the connection's former streams are not its own any more.
    let (certificate, key) = pki().pem(&["first"]);
    lab.guard(Canary::of(key.clone()));
    let fields = json!({ "client_cert": certificate, "client_key": key, "ca": ca });
    let fields = json!({ "fields": fields, "test": false });
    let path = "/connections/first/rotate";
    let rotated = lab.gateway.api("POST", path, &fields.to_string()).await;
    assert!((200..300).contains(&rotated.head.status()), "{}", rotated.text());
    let after = ask(&lab, "first").await.text();
    assert!(!of_first.contains(&after) && !of_second.contains(&after), "{after}");
    lab.finish().await;
}

#[tokio::test]
async fn a_token_and_a_client_certificate_can_be_used_together() {
    let (mut lab, ca) = lab().await;
    let (certificate, key) = pki().pem(&["both"]);
    let token = lab.canary.text.clone();
    let fields = json!({ "token": token, "pem": certificate, "pem_key": key, "own_ca": ca });
    connect(&mut lab, "both", "both", fields).await.is(201);
    assert_eq!(ask(&lab, "both").await.text(), "stream 0");
    let received = lab.origin.only();
    assert_eq!(received.head.one("authorization"), Some(&*format!("Bearer {token}")));
    lab.finish().await;
}

#[tokio::test]
async fn an_invalid_certificate_ca_or_key_is_refused_when_the_connection_is_created() {
    let (mut lab, ca) = lab().await;
    let (certificate, key) = pki().pem(&["a"]);
    let (_, other) = pki().pem(&["b"]);
    for (certificate, key, ca, field) in [
        (&certificate, &other, &ca, "client_key"),
        (&certificate, &certificate, &ca, "client_key"),
        (&key, &key, &ca, "client_key"),
        (&certificate, &key, &key, "ca"),
    ] {
        let fields = json!({ "client_cert": certificate, "client_key": key, "ca": ca });
        connect(&mut lab, "wrong", "certificate", fields).await.is(422).says(field);
    }
    lab.finish().await;
}
