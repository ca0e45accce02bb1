//! TLS listeners for agents, as with `HTTPS_PROXY=https://…`: a client in cleartext gets an explanation; a client with
//! TLS is served as on any other listener.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use test_support::pki::trusting;
use test_support::*;

/// By leaves of our CA.
const OWN: &str = "[{ at: \"127.0.0.1:0\", tls: { names: [keyward.test] } }]";

/// By files beside the configuration.
const GIVEN: &str = "[{ at: \"127.0.0.1:0\", tls: { cert: proxy.pem, key: proxy.key } }]";

async fn own() -> Lab {
    Plan::api_key().proxy(OWN).start(Origin::saying("fine")).await
}

/// A self-signed certificate for loopback, and its key.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// TLS with the proxy at the address, without a name.
async fn entered(lab: &Lab) -> Wire {
    let wire = lab.client().await;
    lab.secure(wire, "127.0.0.1").await
}

fn connect(lab: &Lab) -> String {
    let authorization = lab.authorization("ci");
    format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n")
}

#[tokio::test]
async fn cleartext_http_to_a_tls_listener_is_400_with_an_explanation() {
    let lab = own().await;
    for request in [connect(&lab), format!("GET https://{HOST}/ HTTP/1.1\r\n\r\n")] {
        let mut wire = lab.client().await;
        wire.send(request).await;
        let said = String::from_utf8_lossy(&wire.rest().await).into_owned();
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("https:"), "{said}");
    }
    assert_eq!(lab.origin.streams(), 0);
    assert!(lab.finish().await.is_empty(), "nobody was served");
}

#[tokio::test]
async fn an_unfinished_tls_handshake_is_closed_in_time_and_blocks_no_other_client() {
    let plan = Plan::api_key().proxy(OWN).limit("handshake_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut silent = lab.client().await;
    let mut slow = lab.client().await;
    slow.send(b"\x16\x03\x01").await;
    let mut wire = entered(&lab).await;
    wire.send(connect(&lab)).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    silent.rest().await;
    slow.rest().await;
    lab.finish().await;
}

#[tokio::test]
async fn the_certificate_is_valid_only_for_the_names_of_the_listener() {
    let lab = own().await;
    for (name, ours) in [
        ("other.test", false),
        (HOST, false),
        ("127.0.0.2", false),
        ("127.0.0.1", true),
        ("localhost", true),
        ("keyward.test", true),
    ] {
        let wire = lab.client().await;
        let entered = lab.try_secure(wire, name).await;
        assert_eq!(entered.is_ok(), ours, "{name}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_request_inside_tls_without_a_token_is_407() {
    let lab = own().await;
    let mut wire = entered(&lab).await;
    wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n")).await.is(407);
    lab.finish_unreached().await;
}

#[tokio::test]
async fn requests_over_tls_are_served_like_those_on_a_plain_listener() {
    let both = "[\"127.0.0.1:0\", { at: \"127.0.0.1:0\", tls: {} }]";
    let mut lab = Plan::api_key().proxy(both).start(Origin::saying("fine")).await;
    assert_eq!(lab.ask("GET /plain").await.text(), "fine");
    let addrs = lab.gateway.running().proxy_addrs().to_vec();
    let wire = lab.client_at(addrs[1]).await;
    let mut wire = lab.secure(wire, "localhost").await;
    wire.send(connect(&lab)).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    let mut inner = lab.secure(wire, HOST).await;
    assert_eq!(inner.ask(request_text("GET /inside", HOST)).await.text(), "fine");
    let wire = lab.client_at(addrs[1]).await;
    let mut wire = lab.secure(wire, "127.0.0.1").await;
    let authorization = lab.authorization("ci");
    wire.send(format!("GET https://{HOST}/whole HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n"))
        .await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    for path in ["/plain", "/inside", "/whole"] {
        let head = lab.origin.arrival().await.head;
        assert_eq!((head.target(), head.one("x-api-key")), (path, Some(&*lab.canary.text)));
    }
    assert_eq!(lab.finish().await.len(), 3);
}

#[tokio::test]
async fn a_base_url_over_tls_accepts_its_https_origin_and_refuses_its_http_origin() {
    let mut lab = own().await;
    let at = lab.gateway.proxy.to_string();
    let token = lab.token("ci").to_owned();
    for (scheme, status) in [("http", 403), ("https", 200)] {
        let mut wire = entered(&lab).await;
        wire.send(format!(
            "GET /to/acme/{scheme} HTTP/1.1\r\nHost: {at}\r\nKeyward-Token: {token}\r\n\
             Origin: {scheme}://{at}\r\nReferer: {scheme}://{at}/to/acme/page\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer("GET").await.head.status(), status, "{scheme}");
    }
    let head = lab.origin.arrival().await.head;
    assert_eq!(head.target(), "/https");
    assert!(!head.has("origin") && !head.has("referer"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn only_http_1_1_is_spoken_with_the_proxy() {
    let lab = own().await;
    let (io, ..) = lab.client().await.into_parts();
    let mut config = (*trusting(&lab.gateway.ca_pem)).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = TlsConnector::from(Arc::new(config)).connect(name, io);
    let tls = patiently("the handshake", tls).await.expect("a common protocol");
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    drop(tls);
    lab.finish().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start_and_is_named() {
    let origin = Origin::saying("fine");
    let (cert, key) = certificate();
    let (_, other) = certificate();
    let table: [(&str, &str, u32, &str); 4] = [
        ("", &key, 0o600, "proxy.pem"),
        (&cert, &key, 0o644, "chmod 600"),
        (&cert, "nothing", 0o600, "no private key"),
        (&cert, &other, 0o600, "proxy.key"),
    ];
    for (cert, key, mode, expected) in table {
        let folder = tempfile::tempdir().expect("a directory");
        let (cert_at, key_at) = (folder.path().join("proxy.pem"), folder.path().join("proxy.key"));
        fs::write(&cert_at, cert).expect("written");
        fs::write(&key_at, key).expect("written");
        fs::set_permissions(&key_at, fs::Permissions::from_mode(mode)).expect("ours");
        let at = folder.path().display();
        let listen = GIVEN.replace("proxy.pem", &format!("{at}/proxy.pem"));
        let plan = Plan::api_key().proxy(&listen.replace("proxy.key", &format!("{at}/proxy.key")));
        let refused = plan.refused(&origin).await;
        assert!(refused.contains("listen.proxy") && refused.contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn a_reload_uses_a_replaced_certificate_and_keeps_the_old_one_if_it_is_invalid() {
    let folder = tempfile::tempdir().expect("a directory");
    let (cert_at, key_at) = (folder.path().join("proxy.pem"), folder.path().join("proxy.key"));
    let place = |(cert, key): &(String, String)| {
        fs::write(&cert_at, cert).expect("written");
        fs::write(&key_at, key).expect("written");
        fs::set_permissions(&key_at, fs::Permissions::from_mode(0o600)).expect("ours");
    };
    let (first, second) = (certificate(), certificate());
    place(&first);
    let at = folder.path().display().to_string();
    let listen = GIVEN.replace("proxy.", &format!("{at}/proxy."));
    let lab = Plan::api_key().proxy(&listen).start(Origin::saying("fine")).await;
    let proves = async |pem: &str| {
        let wire = lab.client().await;
        lab.secure_trusting(pem, wire, "127.0.0.1").await.is_ok()
    };
    let reload = async || {
        let asked = lab.gateway.running().reloads().reload();
        patiently("reloading", asked).await.expect("it runs").errors
    };
    assert!(proves(&first.0).await && !proves(&second.0).await);
    place(&(second.0.clone(), first.1.clone()));
    assert!(reload().await.join("\n").contains("proxy.key"));
    assert!(proves(&first.0).await, "the old one stays");
    place(&second);
    assert_eq!(reload().await, [""; 0]);
    assert!(proves(&second.0).await && !proves(&first.0).await);
    lab.finish().await;
}
