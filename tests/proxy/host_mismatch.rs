//! Target, server name and `Host` are one host, or nothing is sent.

use test_support::*;

async fn tunnel() -> (Lab, Wire) {
    let rule = format!("{{ name: open, hosts: [{STRANGER}], action: pass }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let wire = lab.tunnel(HOST).await;
    (lab, wire)
}

#[tokio::test]
async fn another_host_inside_the_tunnel_is_421() {
    for host in [
        STRANGER,
        "evil.test",
        "api.acme.test:8443",
        "api.acme.test:80",
        "api.acme.test.evil.test",
        "127.0.0.1",
    ] {
        let (lab, mut wire) = tunnel().await;
        let answer = wire.ask(request_text("GET /a", host)).await;
        assert_eq!(answer.refusal(), (421, Some("host_mismatch")), "{host}: {answer:?}");
        assert_eq!(lab.origin.received().len(), 0, "{host}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_absolute_uri_of_another_host_inside_the_tunnel_is_421() {
    for target in [
        format!("https://{STRANGER}/a"),
        format!("https://{HOST}:8443/a"),
        format!("http://{HOST}/a"),
        format!("ws://{HOST}/a"),
        "https://evil.test/".to_owned(),
    ] {
        let (lab, mut wire) = tunnel().await;
        let head = wire.ask(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.head;
        let code = head.one("keyward-error");
        assert_eq!((head.status(), code), (421, Some("host_mismatch")), "{target}");
        assert_eq!(lab.origin.received().len(), 0, "{target}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_tls_server_name_of_another_host_is_421_or_a_failed_handshake() {
    let (lab, _) = tunnel().await;
    let (answer, wire) = lab.connect(&format!("{HOST}:443")).await;
    assert_eq!(answer.head.status(), 200);
    // With the target's leaf the handshake fails at the client, which asked for another name.
    if let Ok(mut wire) = lab.try_secure(wire, STRANGER).await {
        wire.send(request_text("GET /a", STRANGER)).await;
        if let Some(answer) = wire.try_answer("GET").await {
            assert_eq!(answer.head.status(), 421, "{answer:?}");
        }
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn the_same_host_in_other_spellings_is_no_mismatch() {
    for host in ["api.acme.test", "API.acme.TEST", "api.acme.test:443", "api.acme.test."] {
        let (lab, mut wire) = tunnel().await;
        let answer = wire.ask(request_text("GET /a", host)).await;
        assert_eq!(answer.head.status(), 200, "{host}: {answer:?}");
        assert_eq!(lab.origin.only().head.one("host"), Some(HOST), "{host}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_absolute_uri_of_the_target_is_sent_in_origin_form() {
    // niquests names the scheme of WebSocket.
    for scheme in ["https", "wss"] {
        let (lab, mut wire) = tunnel().await;
        let request = format!("GET {scheme}://{HOST}/a?b HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        wire.ask(request).await.is(200);
        let head = lab.origin.only().head;
        assert_eq!(head.target(), "/a?b", "{scheme}");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{scheme}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_missing_or_repeated_host_field_is_400_and_an_invalid_one_is_421() {
    for (hosts, status, code) in [
        ("", 400, "bad_request"),
        ("Host: api.acme.test\r\nHost: api.acme.test\r\n", 400, "bad_request"),
        ("Host:\r\n", 421, "host_mismatch"),
        ("Host: a b\r\n", 421, "host_mismatch"),
    ] {
        let (lab, mut wire) = tunnel().await;
        let head = wire.ask(format!("GET /a HTTP/1.1\r\n{hosts}\r\n")).await.head;
        assert_eq!((head.status(), head.one("keyward-error")), (status, Some(code)), "{hosts:?}");
        assert_eq!(lab.origin.received().len(), 0, "{hosts:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn forwarding_fields_that_name_another_host_do_not_change_the_target_host() {
    let (lab, mut wire) = tunnel().await;
    wire.send(request_text(
        &format!(
            "GET /a\r\nX-Forwarded-Host: {STRANGER}\r\nForwarded: host={STRANGER}\r\n\
             X-Original-URL: /admin\r\nX-Rewrite-URL: /admin"
        ),
        HOST,
    ))
    .await;
    assert_eq!(wire.answer("GET").await.head.status(), 200);
    assert_eq!(lab.origin.only().head.one("host"), Some(HOST));
    lab.finish().await;
}

#[tokio::test]
async fn the_server_name_towards_the_origin_is_the_target() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        let sni = stream.sni.clone().unwrap_or_default();
        while stream.request().await.is_some() {
            stream.send(ok(&sni)).await;
        }
    });
    let lab = Plan::api_key().start(origin).await;
    assert_eq!(lab.ask("GET /a").await.text(), HOST);
    lab.finish().await;
}

#[tokio::test]
async fn an_origin_whose_certificate_is_not_the_target_s_gets_nothing() {
    for origin in [
        Origin::answering_as(&["wrong.acme.test"], |_| ok("fine")),
        Origin::serving(Some(test_support::pki::pki().expired(HOST)), |_| ok("fine")),
    ] {
        let lab = Plan::api_key().start(origin).await;
        let answer = lab.ask("GET /a").await;
        assert_eq!(answer.refusal(), (502, Some("upstream_tls")), "{answer:?}");
        assert!(lab.origin.bytes().is_empty(), "not one byte before the identity is proven");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_origin_with_a_certificate_of_an_unknown_ca_gets_nothing() {
    let lab = Plan::api_key().untrusted().start(Origin::saying("fine")).await;
    let answer = lab.ask("GET /a").await;
    assert_eq!(answer.refusal(), (502, Some("upstream_tls")), "{answer:?}");
    assert!(lab.origin.bytes().is_empty());
    lab.finish().await;
}
