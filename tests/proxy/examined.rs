//! Programs that are only examined (`POST /runs` with `examine`): what they do is reported, and none of their requests
//! is sent.

use serde_json::{Value, json};
use tokio::net::UnixStream;

use test_support::*;

/// A run: what this process opens is examined until it ends.
struct Examined {
    wire: Wire,
    /// The id of its token.
    id: String,
    token: String,
}

impl Examined {
    async fn begin(lab: &Lab) -> Self {
        let socket = UnixStream::connect(lab.gateway.data().join("admin.sock")).await;
        let mut wire = Wire::over(socket.expect("it listens"), None, wire::Seen::default());
        let body = json!({"agent": "ci", "label": "doctor 1", "examine": true}).to_string();
        let head =
            "POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
        wire.send(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        assert_eq!(wire.head().await.expect("an answer").status(), 201);
        let issued: Value =
            serde_json::from_slice(&wire.chunk().await.expect("a line")).expect("JSON");
        let text = |name: &str| issued[name].as_str().expect("text").to_owned();
        let (id, token) = (text("id"), text("token"));
        Self { wire, id, token }
    }

    async fn event(&mut self) -> Value {
        let line = self.wire.chunk().await.expect("an event");
        serde_json::from_slice(&line).expect("JSON")
    }

    /// Ends it. Its answer ends when its streams have ended.
    async fn end(mut self, lab: &Lab) {
        let path = format!("/agents/ci/tokens/{}", self.id);
        lab.gateway.api("DELETE", &path, "").await.is(204);
        assert_eq!(self.wire.chunk().await.as_deref(), Some(&b""[..]), "the last chunk");
    }
}

const EXAMINED: &str = "{\"keyward\":\"doctor\"}\n";

#[tokio::test]
async fn a_request_of_an_examined_program_is_reported_and_not_sent() {
    let lab = Lab::simple().await;
    let mut run = Examined::begin(&lab).await;
    for (token, is_own) in [(run.token.clone(), true), (lab.token("ci").to_owned(), false)] {
        let mut wire = lab.client().await;
        assert_eq!(wire.ask(absolute("GET /a?b=c", HOST, &token)).await.text(), EXAMINED);
        let event = run.event().await;
        let request = json!({
            "method": "GET", "base_url": false, "own_token": is_own, "credential": "nothing",
            "refused": null,
        });
        assert_eq!((&event["host"], &event["seen"]["request"]), (&json!(HOST), &request));
        assert_eq!(event["listener"], lab.gateway.proxy.to_string());
    }
    let records = lab.finish_unreached().await;
    assert!(records.is_empty(), "{records:?}");
}

#[tokio::test]
async fn the_refusal_of_policy_is_reported() {
    let lab = Lab::simple().await;
    let mut run = Examined::begin(&lab).await;
    let mut wire = lab.client().await;
    assert_eq!(wire.ask(absolute("GET /", "other.test", &run.token)).await.text(), EXAMINED);
    let event = run.event().await;
    assert_eq!(event["seen"]["request"]["refused"]["code"], "default_deny", "{event}");
    lab.finish_unreached().await;
}

#[tokio::test]
async fn what_stops_an_examined_program_before_its_request_is_reported() {
    let lab = Lab::simple().await;
    let mut run = Examined::begin(&lab).await;
    let mut wire = lab.client().await;
    wire.send([5_u8, 1, 0]).await;
    assert_eq!(run.event().await["seen"], json!({"no_http": 5}));
    let mut wire = lab.client().await;
    wire.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.is(400);
    assert_eq!(run.event().await["seen"], "origin_form");
    let connect = |line: &str| format!("CONNECT any.test:443 HTTP/1.1\r\nHost: x\r\n{line}\r\n");
    let mut wire = lab.client().await;
    wire.ask(connect("")).await.is(407);
    let event = run.event().await;
    assert_eq!(event["host"], "any.test");
    assert_eq!(event["seen"]["refused"]["code"], "agent_unauthenticated");
    // Also a host that policy denies is looked into.
    let mut wire = lab.client().await;
    let fields = format!("User-Agent: x/1\r\nProxy-Authorization: Bearer {}\r\n", run.token);
    wire.ask(connect(&fields)).await.is(200);
    let event = run.event().await;
    assert_eq!((&event["seen"], &event["user_agent"]), (&json!("tunnel"), &json!("x/1")));
    wire.send("SSH-2.0-x\r\n").await;
    assert_eq!(run.event().await["seen"], json!({"no_handshake": "not_tls"}));
    drop(wire);
    let records = lab.finish_unreached().await;
    assert!(records.is_empty(), "{records:?}");
}

#[tokio::test]
async fn a_refused_target_is_reported_with_its_host() {
    let lab = Lab::simple().await;
    let mut run = Examined::begin(&lab).await;
    let mut wire = lab.client().await;
    let authorization = format!("Proxy-Authorization: Bearer {}", run.token);
    let head = "CONNECT any.test:0 HTTP/1.1\r\nHost: x";
    wire.ask(format!("{head}\r\n{authorization}\r\n\r\n")).await.is(400);
    let event = run.event().await;
    assert_eq!(event["host"], "any.test");
    assert_eq!(event["seen"]["refused"]["code"], "bad_target", "{event}");
    lab.finish_unreached().await;
}

/// Both are refused with the same code.
#[tokio::test]
async fn a_base_url_without_a_token_is_told_from_a_proxy_without_credentials() {
    let lab = Lab::simple().await;
    let mut run = Examined::begin(&lab).await;
    let own = lab.gateway.proxy.to_string();
    for (host, status, connection, code) in [
        (&*own, 401, "work", "agent_unauthenticated"),
        ("a.test", 421, "a base URL", "host_mismatch"),
    ] {
        let mut wire = lab.client().await;
        wire.ask(format!("GET /to/work/v1 HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.is(status);
        let event = run.event().await;
        assert_eq!(event["seen"]["refused_base_url"]["code"], code, "{event}");
        assert_eq!(event["host"], connection, "{event}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn the_body_of_an_examined_request_is_read_before_its_answer() {
    let lab = Lab::simple().await;
    let run = Examined::begin(&lab).await;
    // More than is read of a stream that closes.
    let body = vec![b'a'; 4 * 1024 * 1024];
    let mut wire = lab.client().await;
    let head = format!("POST /a\r\nContent-Length: {}", body.len());
    wire.send(absolute(&head, HOST, &run.token)).await;
    wire.send(&body).await;
    assert_eq!(wire.answer("POST").await.text(), EXAMINED);
    assert_eq!(wire.ask(absolute("GET /", HOST, &run.token)).await.text(), EXAMINED);
    lab.finish_unreached().await;
}

#[tokio::test]
async fn programs_are_served_again_when_the_run_has_ended_and_its_token_is_worth_nothing() {
    let lab = Lab::simple().await;
    let run = Examined::begin(&lab).await;
    let token = run.token.clone();
    run.end(&lab).await;
    let mut wire = lab.client().await;
    wire.ask(absolute("GET /", HOST, &token)).await.is(407);
    let mut wire = lab.client().await;
    assert_eq!(wire.ask(absolute("GET /", HOST, lab.token("ci"))).await.text(), "fine");
    lab.finish_after(1).await;
}
