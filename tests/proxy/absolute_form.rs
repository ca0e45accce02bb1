//! Requests with a whole URI on the plain port: `http://`, and `https://` as axios sends it.

use test_support::*;

async fn ask(lab: &Lab, target: &str, lines: &str) -> Message {
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    wire.ask(format!("GET {target} HTTP/1.1\r\n{lines}{authorization}\r\n")).await
}

#[tokio::test]
async fn https_is_sent_by_tls_with_the_credential() {
    let lab = Lab::simple().await;
    let lines = format!("Host: {HOST}\r\nX-Api-Key: mine\r\n");
    let answer = ask(&lab, &format!("https://{HOST}/a?b=c%20d"), &lines).await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"));
    let head = lab.origin.only().head;
    assert_eq!(head.start, "GET /a?b=c%20d HTTP/1.1");
    assert_eq!(head.one("host"), Some(HOST));
    assert_eq!(head.one("x-api-key"), Some(&*lab.canary.text));
    assert!(!head.has("proxy-authorization"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_uri_without_a_path_is_sent_with_a_slash() {
    for (rest, target) in [("", "/"), ("#b", "/"), ("#@b/c", "/"), ("?b", "/?b"), ("?#b", "/?")] {
        let lab = Lab::simple().await;
        let lines = format!("Host: {HOST}\r\n");
        let answer = ask(&lab, &format!("https://{HOST}{rest}"), &lines).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "{rest}");
        let head = lab.origin.only().head;
        assert_eq!(head.start, format!("GET {target} HTTP/1.1"), "{rest}");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{rest}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn the_host_field_never_overrides_the_host_of_an_absolute_uri() {
    let lab = Lab::simple().await;
    let answer = ask(&lab, &format!("https://{HOST}/a"), &format!("Host: {STRANGER}\r\n")).await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"));
    let head = lab.origin.only().head;
    assert_eq!(head.all("host"), [HOST]);
    assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    lab.finish().await;
}

#[tokio::test]
async fn a_denied_host_is_refused_without_a_dial() {
    let lab = Lab::simple().await;
    for scheme in ["http", "https"] {
        let lines = format!("Host: {STRANGER}\r\n");
        let answer = ask(&lab, &format!("{scheme}://{STRANGER}/a"), &lines).await;
        assert_eq!(answer.refusal(), (403, Some("default_deny")), "{scheme}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_host_that_a_rule_denies_is_refused_at_the_port_of_the_other_scheme() {
    let rule = format!("{{ name: no-one, hosts: [{STRANGER}], action: deny }}");
    let plan = Plan::api_key().rule(&rule).top("default: pass");
    let lab = plan.start(Origin::serving(None, |_| ok("clear"))).await;
    for target in [format!("http://{STRANGER}:443/a"), format!("https://{STRANGER}:80/a")] {
        let answer = ask(&lab, &target, &format!("Host: {STRANGER}\r\n")).await;
        assert_eq!(answer.refusal(), (403, Some("denied")), "{target}: {answer:?}");
        assert!(answer.text().contains("no-one"), "names the rule: {}", answer.text());
    }
    assert_eq!(lab.origin.streams(), 0);
    let other = "third.acme.test";
    let answer = ask(&lab, &format!("http://{other}:443/a"), &format!("Host: {other}\r\n")).await;
    assert_eq!(answer.text(), "clear", "{answer:?}");
    assert_eq!(lab.origin.only().head.start, "GET /a HTTP/1.1");
    lab.finish().await;
}

#[tokio::test]
async fn cleartext_never_carries_a_credential() {
    let lab = Lab::simple().await;
    let answer = ask(&lab, &format!("http://{HOST}/a"), &format!("Host: {HOST}\r\n")).await;
    assert_eq!(answer.refusal(), (403, Some("plaintext_refused")), "{answer:?}");
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_credential_is_sent_in_cleartext_to_a_private_address_if_a_rule_allows_it() {
    let rule = format!(
        "{{ name: lan, agents: [ci], hosts: [\"{HOST}:80\"], use: acme, allow_plaintext: true }}"
    );
    let origin = Origin::serving(None, |_| ok("clear"));
    let lab = Plan::api_key()
        .hosts("api.acme.test, \"api.acme.test:80\"")
        .rule(&rule)
        .start(origin)
        .await;
    let answer = ask(&lab, &format!("http://{HOST}/a"), &format!("Host: {HOST}\r\n")).await;
    assert_eq!(answer.text(), "clear", "{answer:?}");
    assert_eq!(lab.origin.only().head.one("x-api-key"), Some(&*lab.canary.text));
    lab.finish().await;
}

#[tokio::test]
async fn passed_cleartext_goes_out_without_proxy_fields() {
    let rule = format!("{{ name: open, hosts: [\"{STRANGER}:80\"], action: pass }}");
    let origin = Origin::serving(None, |_| ok("clear"));
    let lab = Plan::api_key().rule(&rule).start(origin).await;
    let lines = format!("Host: {STRANGER}\r\nProxy-Connection: keep-alive\r\nX-Mine: 1\r\n");
    let answer = ask(&lab, &format!("http://{STRANGER}/a"), &lines).await;
    assert_eq!(answer.text(), "clear", "{answer:?}");
    let head = lab.origin.only().head;
    assert_eq!(head.start, "GET /a HTTP/1.1");
    assert!(!head.has("proxy-connection") && !head.has("proxy-authorization"), "{head:?}");
    assert_eq!(head.one("x-mine"), Some("1"));
    lab.finish().await;
}

#[tokio::test]
async fn origin_form_on_the_plain_port_is_an_error_never_a_forward() {
    let lab = Lab::simple().await;
    for target in ["/", "/a", "*", "//api.acme.test/a"] {
        let answer = ask(&lab, target, &format!("Host: {HOST}\r\n")).await;
        assert_eq!(answer.head.status(), 400, "{target}: {answer:?}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn other_schemes_and_strange_authorities_are_refused() {
    let lab = Lab::simple().await;
    for target in [
        "ftp://api.acme.test/a",
        "ws://api.acme.test/a",
        "file:///a",
        "https://user:pass@api.acme.test/a",
        "https://api.acme.test@evil.test/a",
        "https:///a",
        "https://api.acme.test:0/a",
        "https://api.acme.test:99999/a",
        "https:/api.acme.test/a",
    ] {
        let answer = ask(&lab, target, &format!("Host: {HOST}\r\n")).await;
        let status = answer.head.status();
        assert!(matches!(status, 400 | 403), "{target}: {answer:?}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn one_client_stream_serves_requests_to_different_hosts() {
    let rule = format!("{{ name: open, hosts: [{STRANGER}], action: pass }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    for host in [HOST, STRANGER, HOST] {
        wire.send(format!("GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"))
            .await;
        assert_eq!(wire.answer("GET").await.text(), "fine");
    }
    let received = lab.origin.received();
    let keyed: Vec<bool> = received.iter().map(|r| r.head.has("x-api-key")).collect();
    assert_eq!(keyed, [true, false, true], "the credential goes to its own host only");
    lab.finish().await;
}
