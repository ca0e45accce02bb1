//! The tests' own means: that the canary is found where it leaks, that a cut body is seen as cut,
//! that a lab's plan is what it says.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use test_support::canary::Canary;
use test_support::*;

/// Straight to the origin, without a gateway.
async fn direct(origin: &Origin) -> Wire {
    let stream = TcpStream::connect(origin.addr).await.expect("it listens");
    let connector = TlsConnector::from(pki::trusting(&pki::pki().pem));
    let name = ServerName::try_from(HOST).expect("a name");
    let tls = connector.connect(name, stream).await.expect("the handshake");
    Wire::over(tls, None, wire::Seen::default())
}

fn leaks(canary: &Canary, text: &str) -> bool {
    std::panic::catch_unwind(|| canary.assert_absent("a test", text.as_bytes())).is_err()
}

#[test]
fn a_leaked_canary_is_found_in_every_form() {
    let canary = Canary::new("cnry");
    let text = &canary.text;
    assert!(leaks(&canary, &format!("key={text}&")));
    for before in ["", "u", "us", "user:"] {
        let encoded = BASE64_STANDARD.encode(format!("{before}{text}"));
        assert!(leaks(&canary, &format!("Basic {encoded}")), "{before}");
    }
    let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
    assert!(leaks(&canary, &hex));
    assert!(!leaks(&canary, "nothing of it"));
    assert!(!leaks(&canary, &Canary::new("cnry").text));
}

#[test]
fn log_lines_of_any_level_are_captured() {
    let log = canary::log();
    let canary = Canary::new("cnry");
    tracing::trace!(target: "hyper", "{}", canary.text);
    assert!(canary.is_in(&log.lock().expect("not poisoned")));
}

#[tokio::test]
async fn an_origin_keeps_what_it_received() {
    let mut origin = Origin::saying("fine");
    let mut wire = direct(&origin).await;
    for body in ["hello", ""] {
        let head = format!("POST /a\r\nContent-Length: {}", body.len());
        assert_eq!(wire.ask(request_text(&head, HOST) + body).await.text(), "fine");
        let request = origin.arrival().await;
        assert_eq!((request.head.target(), &*request.text()), ("/a", body));
        assert!(request.whole && request.head.raw.starts_with(b"POST /a HTTP/1.1\r\n"));
    }
    assert_eq!((origin.received().len(), origin.streams()), (2, 1));
}

#[tokio::test]
async fn a_chunked_answer_is_read_with_its_trailers() {
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"
    });
    let mut wire = direct(&origin).await;
    let answer = wire.ask(request_text("GET /a", HOST)).await;
    assert_eq!((&*answer.text(), answer.whole, answer.interim.len()), ("hello", true, 1));
    assert_eq!(answer.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
}

#[tokio::test]
async fn a_cut_answer_is_seen_as_cut() {
    for beginning in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
        "HTTP/1.1 200 OK\r\n\r\nonly this",
    ] {
        let origin = Origin::scripted(move |mut stream: Stream| async move {
            stream.request().await;
            stream.send(beginning).await;
            // Dropped without close_notify.
        });
        let mut wire = direct(&origin).await;
        assert!(!wire.ask(request_text("GET /a", HOST)).await.whole, "{beginning:?}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_stream_is_whole() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send("HTTP/1.1 200 OK\r\n\r\nall of it").await;
        stream.finish().await;
    });
    let mut wire = direct(&origin).await;
    let answer = wire.ask(request_text("GET /a", HOST)).await;
    assert_eq!((&*answer.text(), answer.whole), ("all of it", true));
}

#[tokio::test]
async fn a_panic_in_a_script_of_an_origin_fails_the_test() {
    let origin = Origin::answering(|_: &Message| -> String { panic!("a script failed") });
    let mut wire = direct(&origin).await;
    wire.send(request_text("GET /a", HOST)).await;
    assert!(wire.is_closed().await);
    let drops = std::panic::AssertUnwindSafe(|| drop(origin));
    let panic = std::panic::catch_unwind(drops).expect_err("it panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a script failed"));
}

#[tokio::test]
async fn a_plan_produces_the_yaml_of_its_agents_rules_and_hosts() {
    let origin = Origin::saying("fine");
    let plan =
        Plan::api_key().agent("other", "").rule("{ name: a, hosts: [b.test], action: deny }");
    let yaml: serde_json::Value = serde_yaml::from_str(&plan.yaml(&origin)).expect("YAML");
    assert_eq!(yaml["agents"][0]["use"][0], "acme");
    assert_eq!(yaml["agents"][1]["name"], "other");
    assert_eq!(yaml["rules"][0]["action"], "deny");
    assert_eq!(yaml["upstream"]["resolve"][HOST], origin.addr.to_string());
}
