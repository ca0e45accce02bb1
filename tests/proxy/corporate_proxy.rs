//! A corporate proxy before the upstreams: what it is asked, what it never receives, and what an agent sees when it
//! refuses.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::corporate::{self, FORWARDED};
use test_support::pki::pki;
use test_support::*;

/// A host that only the proxy can find.
const BEYOND: &str = "api.beyond.test";

fn beyond() -> Origin {
    Origin::answering_as(&[BEYOND], |_| ok("fine"))
}

fn password() -> Canary {
    Canary::new("corp")
}

/// Of the Basic scheme, for `svc`.
fn login(password: &Canary) -> String {
    BASE64_STANDARD.encode(format!("svc:{}", password.text))
}

/// An API key for [`BEYOND`] (and the lab's host), by a proxy that knows the gateway as `svc`.
fn plan(proxy: &Origin, password: &Canary) -> Plan {
    Plan::api_key().hosts(&format!("{BEYOND}, {HOST}")).secret("CORP", password).upstream(&format!(
        "proxy: {{ url: 'http://{}', except: [.direct.invalid], user: svc, password: {{ env: CORP }} }}",
        proxy.addr
    ))
}

/// One request of `ci` to `host`, in a tunnel of its own.
async fn ask(lab: &Lab, host: &str, request: &str) -> Message {
    lab.ask_as("ci", host, request).await
}

/// One request in absolute form.
async fn ask_plainly(lab: &Lab, url: &str, lines: &str) -> Message {
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    wire.ask(format!("GET {url} HTTP/1.1\r\nHost: h\r\n{lines}{authorization}\r\n")).await
}

fn is_refused(answer: &Message, status: u16, code: &str, words: &[&str]) {
    assert_eq!(answer.refusal(), (status, Some(code)));
    let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[tokio::test]
async fn a_proxy_that_fails_to_connect_is_named_in_the_502_without_its_password() {
    let endless = [b"HTTP/1.1 200 OK\r\nX: ", &*vec![b'x'; 64 * 1024]].concat();
    let table: [(&[u8], &str); 8] = [
        (
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
            "refuses to connect to api.beyond",
        ),
        (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=corp\r\n\r\n", "login"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "(502)"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n", "(302)"),
        (b"220 mail.corp.test ESMTP\r\n", "does not answer as a proxy"),
        (b"HTTP/1.1 20", "closed the stream"),
        (b"", "closed the stream"),
        (&endless, "does not answer as a proxy"),
    ];
    for (bytes, words) in table {
        let (proxy, password) = (corporate::answering(bytes.to_vec()), password());
        let lab = plan(&proxy, &password).start(beyond()).await;
        let answer = ask(&lab, BEYOND, "GET /").await;
        is_refused(&answer, 502, "upstream_unreachable", &[&proxy.addr.to_string(), words]);
        assert!(!answer.head.has("proxy-authenticate"), "{answer:?}");
        let records = lab.finish_unreached().await;
        assert_eq!(records.last().expect("a record")["code"], "upstream_unreachable");
    }
}

#[tokio::test]
async fn a_proxy_that_sends_its_answer_too_slowly_is_504() {
    let drip = |mut stream: Stream| async move {
        stream.request().await;
        while stream.try_send("HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
            tokio::task::yield_now().await;
            // The bound of the head would end it; the time has to.
            stream.send("HTTP/1.1 200 OK\r\nX: ").await;
            if stream.some().await.is_empty() {
                return;
            }
        }
    };
    let (proxy, password) = (Origin::with_tls(None, drip), password());
    let plan = plan(&proxy, &password).limit("connect_timeout: 0.2s");
    let lab = plan.start(beyond()).await;
    let answer = ask(&lab, BEYOND, "GET /").await;
    is_refused(&answer, 504, "upstream_timeout", &[&proxy.addr.to_string(), "in time"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_private_address_is_refused_and_not_requested_from_the_proxy() {
    let (origin, password) = (beyond(), password());
    let proxy = corporate::opening(origin.addr);
    let plan = plan(&proxy, &password).top("default: pass");
    let lab = plan.start(origin).await;
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "https://192.168.1.1/",
        "http://127.0.0.1/",
        "http://localhost/",
    ] {
        is_refused(&ask_plainly(&lab, url, "").await, 403, "address_refused", &[]);
    }
    assert_eq!(proxy.streams(), 0);
    lab.finish().await;
}

#[tokio::test]
async fn a_credential_never_passes_the_proxy_in_cleartext() {
    let (origin, password) = (beyond(), password());
    let proxy = corporate::opening(origin.addr);
    let rule = format!(
        "{{ name: plain, agents: [ci], hosts: ['{BEYOND}:80'], use: acme, allow_plaintext: true }}"
    );
    let lab = plan(&proxy, &password).rule(&rule).start(origin).await;
    let answer = ask_plainly(&lab, &format!("http://{BEYOND}/"), "").await;
    is_refused(&answer, 403, "plaintext_refused", &[]);
    lab.canary.assert_absent("what the proxy received", &proxy.bytes());
    assert!(proxy.received().is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn an_intercepted_request_goes_by_connect_and_only_the_target_reads_it() {
    let (origin, password) = (beyond(), password());
    let proxy = corporate::opening(origin.addr);
    let lab = plan(&proxy, &password).start(origin).await;
    let mut wire = lab.tunnel_as("ci", BEYOND).await;
    for _ in 0..2 {
        let answer = wire.ask(request_text("GET /a?b", BEYOND)).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "{answer:?}");
    }
    // The second used the stream again.
    let asked = proxy.only().head;
    assert_eq!(asked.start, format!("CONNECT {BEYOND}:443 HTTP/1.1"));
    assert_eq!(asked.one("host"), Some(&*format!("{BEYOND}:443")));
    let expected = format!("Basic {}", login(&password));
    assert_eq!(asked.all("proxy-authorization"), [expected]);
    for request in lab.origin.received() {
        assert_eq!(request.head.start, "GET /a?b HTTP/1.1");
        assert_eq!(request.head.one("x-api-key"), Some(&*lab.canary.text));
        assert!(!request.head.has("proxy-authorization"), "{request:?}");
    }
    lab.canary.assert_absent("what the proxy received", &proxy.bytes());
    password.assert_absent("what the origin received", &lab.origin.bytes());
    lab.finish().await;
}

#[tokio::test]
async fn a_host_in_except_one_with_a_configured_address_and_loopback_bypass_the_proxy() {
    let origin = Origin::saying("fine");
    let (proxy, password) = (corporate::opening(origin.addr), password());
    let port = origin.addr.port();
    let rule = format!("{{ name: own, hosts: ['127.0.0.1:{port}'], action: pass }}");
    let excepted = "{ name: direct, hosts: [api.direct.invalid], action: pass }";
    let lab = plan(&proxy, &password).rule(&rule).rule(excepted).start(origin).await;
    assert_eq!(lab.ask("GET /").await.text(), "fine");
    // The gateway looks it up itself; the proxy would have found it.
    let answer = ask_plainly(&lab, "https://api.direct.invalid/", "").await;
    is_refused(&answer, 502, "upstream_unreachable", &["api.direct.invalid cannot be resolved"]);
    // Its address is on the private list, and loopback.
    let answer = ask_plainly(&lab, &format!("https://127.0.0.1:{port}/"), "").await;
    assert_eq!(answer.head.one("keyward-error"), Some("upstream_tls"), "{answer:?}");
    assert_eq!(proxy.streams(), 0);
    lab.finish().await;
}

#[tokio::test]
async fn a_tunnel_goes_through_the_proxy_and_the_target_s_first_bytes_arrive() {
    let origin = Origin::with_tls(None, |mut stream: Stream| async move {
        stream.send("220 hello\r\n").await;
        let said = stream.exactly(6).await;
        stream.send(said).await;
    });
    // Greeting and answer in one write: what stands behind the head is the target's.
    let proxy = Origin::with_tls(None, |mut stream: Stream| async move {
        stream.request().await;
        stream.send("HTTP/1.1 200 OK\r\n\r\n220 hello\r\n").await;
        let said = stream.exactly(6).await;
        stream.send(said).await;
    });
    let (password, rule) =
        (password(), "{ name: raw, hosts: ['ssh.beyond.test:22'], action: tunnel }");
    let lab = plan(&proxy, &password).rule(rule).start(origin).await;
    let (answer, mut wire) = lab.connect("ssh.beyond.test:22").await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    assert_eq!(wire.exactly(11).await, b"220 hello\r\n");
    wire.send("quit\r\n").await;
    assert_eq!(wire.exactly(6).await, b"quit\r\n");
    drop(wire);
    assert_eq!(proxy.only().head.start, "CONNECT ssh.beyond.test:22 HTTP/1.1");
    lab.finish().await;
}

#[tokio::test]
async fn a_tunnel_that_the_proxy_refuses_is_refused_before_it_opens() {
    let proxy = corporate::answering(b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec());
    let (password, rule) =
        (password(), "{ name: raw, hosts: ['ssh.beyond.test:22'], action: tunnel }");
    let lab = plan(&proxy, &password).rule(rule).start(beyond()).await;
    let (answer, _wire) = lab.connect("ssh.beyond.test:22").await;
    is_refused(&answer, 502, "upstream_unreachable", &[&proxy.addr.to_string(), "(403)"]);
    lab.finish().await;
}

#[tokio::test]
async fn cleartext_is_forwarded_in_absolute_form_without_the_agent_s_authorization() {
    let (origin, password) = (beyond(), password());
    let proxy = corporate::opening(origin.addr);
    let rule = "{ name: web, hosts: ['web.beyond.test:8080'], action: pass }";
    let lab = plan(&proxy, &password).rule(rule).start(origin).await;
    let answer = ask_plainly(&lab, "http://web.beyond.test:8080/a?b", "X-Own: 1\r\n").await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, FORWARDED), "{answer:?}");
    let head = proxy.only().head;
    assert_eq!(head.start, "GET http://web.beyond.test:8080/a?b HTTP/1.1");
    assert_eq!(head.one("host"), Some("web.beyond.test:8080"));
    assert_eq!(head.all("proxy-authorization"), [format!("Basic {}", login(&password))]);
    assert_eq!(head.one("x-own"), Some("1"));
    lab.finish().await;
}

#[tokio::test]
async fn a_407_of_the_proxy_for_cleartext_is_502_without_a_challenge_to_the_agent() {
    let refusal = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=corp\r\n\
                    Content-Length: 0\r\n\r\n";
    let (proxy, password) = (corporate::answering(refusal.to_vec()), password());
    let lab = plan(&proxy, &password).top("default: pass").start(beyond()).await;
    let answer = ask_plainly(&lab, "http://web.beyond.test/", "").await;
    is_refused(&answer, 502, "upstream_unreachable", &["login"]);
    assert!(!answer.head.has("proxy-authenticate"), "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_websocket_in_cleartext_goes_by_connect() {
    let origin = Origin::with_tls(None, |mut stream: Stream| async move {
        stream.request().await;
        stream
            .send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
            )
            .await;
        stream.some().await;
    });
    let (proxy, password) = (corporate::opening(origin.addr), password());
    let lab = plan(&proxy, &password).top("default: pass").start(origin).await;
    let mut wire = lab.client().await;
    wire.send(format!(
        "GET http://ws.beyond.test/chat HTTP/1.1\r\nHost: ws.beyond.test\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
        lab.authorization("ci")
    ))
    .await;
    assert_eq!(wire.head().await.expect("a head").status(), 101);
    assert_eq!(wire.exactly(5).await, b"hello");
    drop(wire);
    assert_eq!(proxy.only().head.start, "CONNECT ws.beyond.test:80 HTTP/1.1");
    let head = lab.origin.only().head;
    assert_eq!(head.start, "GET /chat HTTP/1.1");
    assert!(!head.has("proxy-authorization"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn an_https_proxy_is_used_over_tls_and_its_certificate_must_match_its_name() {
    for (named, trusted) in [("proxy.corp.test", true), ("other.corp.test", false)] {
        let (origin, password) = (beyond(), password());
        let proxy = corporate::opening_by_tls(pki().server(&[named]), origin.addr);
        let port = proxy.addr.port();
        let lab = Plan::api_key()
            .hosts(BEYOND)
            .resolve(&format!("proxy.corp.test: \"{}\"", proxy.addr))
            .secret("CORP", &password)
            .upstream(&format!(
                "proxy: {{ url: 'https://proxy.corp.test:{port}', user: svc, password: {{ env: CORP }} }}"
            ))
            .start(origin)
            .await;
        let answer = ask(&lab, BEYOND, "GET /").await;
        match trusted {
            true => {
                assert_eq!(answer.text(), "fine", "{answer:?}");
                assert_eq!(proxy.only().head.start, format!("CONNECT {BEYOND}:443 HTTP/1.1"));
            }
            false => {
                let words = ["proxy.corp.test:", "is for another name"];
                is_refused(&answer, 502, "upstream_unreachable", &words);
                password.assert_absent("what the proxy received", &proxy.bytes());
            }
        }
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_reload_with_another_proxy_applies_to_the_next_stream() {
    let (origin, password) = (beyond(), password());
    let before = corporate::opening(origin.addr);
    let after = corporate::opening(origin.addr);
    let lab = plan(&before, &password).start(origin).await;
    assert_eq!(ask(&lab, BEYOND, "GET /").await.text(), "fine");
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = fs::read_to_string(&file).expect("the configuration");
    let (old, new) = (before.addr.to_string(), after.addr.to_string());
    fs::write(&file, yaml.replace(&old, &new)).expect("written");
    let asked = lab.gateway.running().reloads().reload();
    let view = patiently("reloading", asked).await.expect("it runs");
    assert_eq!((view.errors, view.warnings), (vec![], vec![]));
    assert_eq!(ask(&lab, BEYOND, "GET /").await.text(), "fine");
    assert_eq!((before.streams(), after.streams()), (1, 1));
    // A password that cannot be read changes nothing.
    let yaml = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, yaml.replace("env: CORP }", "env: UNSET }")).expect("written");
    let asked = lab.gateway.running().reloads().reload();
    let view = patiently("reloading", asked).await.expect("it runs");
    assert!(view.errors[0].contains("`upstream.proxy.password`: environment"), "{view:?}");
    assert_eq!(ask(&lab, BEYOND, "GET /").await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn explain_and_a_connection_test_name_the_proxy() {
    let (origin, password) = (beyond(), password());
    let proxy = corporate::answering(b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec());
    let me = format!("{{ url: 'https://{BEYOND}/me' }}");
    let lab = plan(&proxy, &password).test(&me).start(origin).await;
    let explain = async |url: &str| -> Value {
        let body = json!({ "agent": "ci", "url": url }).to_string();
        lab.gateway.api("POST", "/rules/explain", &body).await.json()
    };
    let told = explain(&format!("https://{BEYOND}/")).await;
    assert_eq!((&told["allowed"], &told["addresses"]), (&json!(true), &json!([])), "{told}");
    assert_eq!(told["proxy"], format!("http://{}", proxy.addr));
    let told = explain(&format!("https://{HOST}/")).await;
    assert_eq!((&told["allowed"], &told["proxy"]), (&json!(true), &Value::Null), "{told}");
    let tested = lab.gateway.api("POST", "/connections/acme/test", "").await.json();
    let message = tested["message"].as_str().expect("a message");
    assert!(message.contains(&proxy.addr.to_string()) && message.contains("(403)"), "{tested}");
    assert!(tested["hint"].as_str().is_some_and(|hint| hint.contains("except")), "{tested}");
    lab.finish().await;
}
