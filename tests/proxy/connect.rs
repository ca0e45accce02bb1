//! CONNECT as real clients write it, what refusals look like, and what may follow it.

use test_support::*;

async fn raw(lab: &Lab, head: &str) -> (Message, Wire) {
    let mut wire = lab.client().await;
    (wire.ask(head).await, wire)
}

#[tokio::test]
async fn a_host_without_rule_or_binding_is_refused_with_its_name_in_the_reason_phrase() {
    let lab = Lab::simple().await;
    let (answer, _) = lab.connect(&format!("{STRANGER}:443")).await;
    assert_eq!(answer.head.status(), 403);
    assert_eq!(answer.head.reason(), format!("default_deny {STRANGER}"));
    assert_eq!(answer.head.one("keyward-error"), Some("default_deny"));
    let status = answer.head.one("proxy-status").expect("RFC 9209");
    assert!(status.starts_with("keyward; error="), "{status}");
    assert!(status.contains("details=\"default_deny\""), "{status}");
    assert_eq!(answer.head.one("content-type"), Some("application/json"));
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "default_deny");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    assert!(error["exchange"].as_str().is_some_and(|id| id.starts_with("exc_")), "{error}");
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_host_that_a_rule_denies_is_refused_inside_tls() {
    let rule = format!("{{ name: no-one, hosts: [{STRANGER}], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel(STRANGER).await;
    let answer = wire.ask(request_text("GET /a", STRANGER)).await;
    assert_eq!(answer.refusal(), (403, Some("denied")), "{answer:?}");
    assert!(answer.text().contains("no-one"), "names the rule: {}", answer.text());
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_host_of_another_agent_s_binding_is_refused_inside_tls() {
    let lab = Plan::api_key().agent("poor", "").start(Origin::saying("fine")).await;
    let answer = lab.ask_as("poor", HOST, "GET /a").await;
    assert_eq!(answer.refusal(), (403, Some("default_deny")), "{answer:?}");
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_refused_connect_leaves_the_client_stream_usable() {
    let lab = Lab::simple().await;
    let authorization = lab.authorization("ci");
    let mut wire = lab.client().await;
    for _ in 0..2 {
        wire.send(format!("CONNECT {STRANGER}:443 HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"))
            .await;
        let answer = wire.answer("CONNECT").await.is(403);
        assert!(answer.whole);
    }
    lab.finish().await;
}

#[tokio::test]
async fn connect_is_accepted_in_every_shape_that_clients_give_it() {
    let lab = Lab::simple().await;
    let line = lab.authorization("ci");
    for head in [
        // http.client of Python: no Host.
        format!("CONNECT {HOST}:443 HTTP/1.0\r\n{line}\r\n"),
        // undici, axios: Host without the port, and closing.
        format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{line}\r\n"),
        // gRPC: no port at all.
        format!("CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\n{line}\r\n"),
        // Node 24: both in one head.
        format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\nconnection: close\r\n\
             proxy-connection: keep-alive\r\n{line}\r\n"
        ),
        // Another host's name in Host: only the target counts.
        format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {STRANGER}\r\n{line}\r\n"),
        format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nUser-Agent: x\r\nAccept: */*\r\n\
             Accept-Encoding: gzip\r\nContent-Length: 0\r\n{line}\r\n"
        ),
        format!("CONNECT API.Acme.Test.:443 HTTP/1.1\r\nHost: x\r\n{line}\r\n"),
    ] {
        let (answer, wire) = raw(&lab, &head).await;
        assert_eq!(answer.head.status(), 200, "{head}: {answer:?}");
        assert!(!answer.head.has("content-length"), "RFC 9110 §9.3.6: {answer:?}");
        assert!(!answer.head.has("transfer-encoding"), "RFC 9110 §9.3.6: {answer:?}");
        let mut wire = lab.secure(wire, HOST).await;
        // The tunnel lasts, whatever the CONNECT said.
        for _ in 0..2 {
            assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "fine", "{head}");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn nothing_of_the_connect_head_reaches_the_origin() {
    let mut lab = Lab::simple().await;
    let line = lab.authorization("ci");
    let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nX-Outer: yes\r\n{line}\r\n");
    let (_, wire) = raw(&lab, &head).await;
    let mut wire = lab.secure(wire, HOST).await;
    wire.ask(request_text("GET /a", HOST)).await;
    let head = lab.origin.arrival().await.head;
    assert!(!head.has("x-outer"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_connect_with_a_body_is_refused() {
    let lab = Lab::simple().await;
    let line = lab.authorization("ci");
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{line}{framing}\r\n");
        let (answer, _) = raw(&lab, &head).await;
        assert_eq!(answer.refusal(), (400, Some("bad_request")), "{framing}: {answer:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn bytes_other_than_tls_in_a_tunnel_are_refused_and_not_read_as_a_request() {
    let lab = Lab::simple().await;
    for first in ["GET /a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n", "SSH-2.0-x\r\n", "\0\0\0\0\0"] {
        let (answer, mut wire) = lab.connect(&format!("{HOST}:443")).await;
        assert_eq!(answer.head.status(), 200);
        wire.send(first).await;
        let rest = wire.rest().await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{first:?}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn bytes_sent_with_the_connect_head_are_the_first_bytes_of_the_tunnel() {
    let lab = Lab::simple().await;
    let mut wire = lab.client().await;
    let line = lab.authorization("ci");
    // A ClientHello would come here; the head and its first byte in one write.
    let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{line}\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend(client_hello(HOST));
    wire.send(bytes).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    let hello = wire.exactly(6).await;
    assert_eq!((hello[0], hello[5]), (22, 2), "a ServerHello: {hello:?}");
    lab.finish().await;
}

fn client_hello(host: &str) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).expect("a name");
    let config = support_config();
    let mut client = rustls::ClientConnection::new(config, name).expect("a client");
    let mut bytes = vec![];
    client.write_tls(&mut bytes).expect("a buffer");
    bytes
}

fn support_config() -> std::sync::Arc<rustls::ClientConfig> {
    test_support::pki::trusting(&test_support::pki::pki().pem)
}

#[tokio::test]
async fn connect_inside_a_tunnel_is_405() {
    let lab = Lab::simple().await;
    for method in ["CONNECT", "TRACE", "TRACK"] {
        let target = if method == "CONNECT" { "api.acme.test:443" } else { "/" };
        let mut wire = lab.tunnel(HOST).await;
        wire.send(format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        let answer = wire.answer("GET").await;
        assert_eq!(answer.refusal(), (405, Some("method_refused")), "{method}: {answer:?}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_port_that_no_rule_or_binding_names_is_refused() {
    let rule = format!("{{ name: look, hosts: [{STRANGER}], action: pass }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    for port in [22, 25, 6379, 8443] {
        let (answer, _) = lab.connect(&format!("{HOST}:{port}")).await;
        assert_eq!(answer.head.status(), 403, "{port}: {answer:?}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_tunnel_rule_forwards_the_stream_without_terminating_tls() {
    let rule = format!("{{ name: blind, hosts: [{STRANGER}], action: tunnel }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let (answer, wire) = lab.connect(&format!("{STRANGER}:443")).await;
    assert_eq!(answer.head.status(), 200);
    // The certificate is the origin's own, not Keyward's.
    let (io, socket, seen) = wire.into_parts();
    let connector = tokio_rustls::TlsConnector::from(support_config());
    let name = rustls::pki_types::ServerName::try_from(STRANGER).expect("a name");
    let tls = connector.connect(name, io).await.expect("the origin's own certificate");
    let mut wire = Wire::over(tls, socket, seen);
    assert_eq!(wire.ask(request_text("GET /a\r\nX-Api-Key: mine", STRANGER)).await.text(), "fine");
    assert_eq!(lab.origin.only().head.all("x-api-key"), ["mine"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_tunnel_to_port_80_carries_no_cleartext_to_a_host_that_a_rule_denies() {
    let (part, free) = ("third.acme.test", "free.test");
    let origin = Origin::serving(None, |_| ok("clear"));
    let plan = Plan::api_key()
        .resolve(&format!("{free}: \"{}\"", origin.addr))
        .rule(&format!("{{ name: no-one, hosts: [{STRANGER}], action: deny }}"))
        .rule(&format!("{{ name: no-x, hosts: [{part}], paths: [/x], action: deny }}"))
        .top("default: tunnel");
    let lab = plan.start(origin).await;
    let (answer, _) = lab.connect(&format!("{STRANGER}:80")).await;
    assert_eq!(answer.refusal(), (403, Some("denied")), "{answer:?}");
    assert!(answer.text().contains("no-one"), "names the rule: {}", answer.text());
    // Requests to the other one are inspected, and so they must come in TLS.
    let (answer, mut wire) = lab.connect(&format!("{part}:80")).await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    wire.send(request_text("GET /x", part)).await;
    let rest = wire.rest().await;
    assert!(!rest.starts_with(b"HTTP/1.1"), "{rest:?}");
    assert_eq!(lab.origin.streams(), 0);
    let (answer, mut wire) = lab.connect(&format!("{free}:80")).await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    assert_eq!(wire.ask(request_text("GET /a", free)).await.text(), "clear");
    assert_eq!(lab.origin.only().head.start, "GET /a HTTP/1.1");
    lab.finish().await;
}
