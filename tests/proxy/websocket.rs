//! Upgrades: a websocket handshake carries the credential, then bytes pass as they are. Other protocols need a
//! permission.

mod ends;

use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;

use test_support::*;

const HANDSHAKE: &str = "GET /chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: chat.v1\r\nSec-WebSocket-Extensions: permessage-deflate";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat.v1\r\n\r\n";

fn echoing() -> Origin {
    Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send(SWITCHING).await;
        loop {
            let bytes = stream.some().await;
            if bytes.is_empty() || stream.try_send(&bytes).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test]
async fn bytes_pass_both_ways_after_an_injected_handshake() {
    let mut lab = Plan::api_key().start(echoing()).await;
    let placeholder = lab.placeholder("api_key");
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(&format!("{HANDSHAKE}\r\nX-Api-Key: {placeholder}"), HOST)).await;
    let answer = wire.answer("GET").await;
    assert_eq!(answer.head.status(), 101, "{answer:?}");
    assert_eq!(answer.head.one("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.head.one("sec-websocket-protocol"), Some("chat.v1"));
    assert_eq!(answer.head.one("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    let head = lab.origin.arrival().await.head;
    assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    for (name, value) in [
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat.v1"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ] {
        assert_eq!(head.one(name), Some(value), "{name}");
    }
    assert_eq!(head.one("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    // Any bytes: frames are the ends' business.
    let mut frame = vec![0x82, 0x7e, 0x01, 0x00];
    frame.extend((0..=255).collect::<Vec<u8>>());
    for _ in 0..3 {
        wire.send(&frame).await;
        assert_eq!(wire.exactly(frame.len()).await, frame);
    }
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(records.len(), 1, "one exchange, however long it talks: {records:?}");
    assert_eq!(records[0]["status"], 101);
}

#[tokio::test]
async fn a_placeholder_among_the_protocols_of_a_handshake_is_removed_and_the_others_are_offered() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send(SWITCHING.replace("chat.v1", "realtime")).await;
        stream.rest().await;
    });
    let mut lab = Plan::api_key().start(origin).await;
    let held = format!("insecure-api-key.{}", lab.placeholder("api_key"));
    let offered = format!("realtime, {held}\r\nSec-WebSocket-Protocol: {held}, beta.v1");
    let mut wire = lab.tunnel(HOST).await;
    let answer = wire.ask(request_text(&HANDSHAKE.replace("chat.v1", &offered), HOST)).await;
    assert_eq!(answer.head.status(), 101, "{answer:?}");
    assert_eq!(answer.head.one("sec-websocket-protocol"), Some("realtime"));
    let head = lab.origin.arrival().await.head;
    assert_eq!(head.all("sec-websocket-protocol"), ["realtime", "beta.v1"]);
    assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn hop_by_hop_and_proxy_fields_of_a_101_are_not_forwarded() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        let said = SWITCHING.replace(
            "Upgrade: websocket\r\n",
            "Upgrade: websocket\r\nKeep-Alive: timeout=5\r\nAlt-Svc: h3=\":443\"\r\n\
             Proxy-Authenticate: Basic\r\nKeyward-Error: denied\r\nX-Own: yes\r\n",
        );
        stream.send(said).await;
        stream.rest().await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent(HANDSHAKE).await;
    let head = wire.answer("GET").await.head;
    assert_eq!((head.status(), head.one("x-own")), (101, Some("yes")));
    for gone in ["keep-alive", "alt-svc", "proxy-authenticate", "keyward-error"] {
        assert!(!head.has(gone), "{gone}: {head:?}");
    }
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn bytes_right_behind_the_101_are_not_lost() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send(format!("{SWITCHING}first words")).await;
        stream.rest().await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent(HANDSHAKE).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    assert_eq!(wire.exactly(11).await, b"first words");
    lab.finish().await;
}

#[tokio::test]
async fn a_websocket_ends_at_both_ends_when_the_agent_closes_its_side() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::sharing(tell, move |mut stream, tell| async move {
        stream.request().await;
        stream.send(SWITCHING).await;
        tell.send(stream.is_closed().await).expect("it is waited for");
        stream.finish().await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent(HANDSHAKE).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    wire.finish().await;
    assert_eq!(patiently("the end at the origin", told.recv()).await, Some(true));
    assert!(wire.is_closed().await);
    lab.finish().await;
}

#[tokio::test]
async fn an_unrequested_101_is_502() {
    for request in ["GET /a", "POST /a\r\nContent-Length: 0", "GET /a\r\nUpgrade: websocket"] {
        let origin = Origin::answering(|_: &Message| format!("{SWITCHING}GET / HTTP/1.1\r\n\r\n"));
        let lab = Plan::api_key().start(origin).await;
        let answer = lab.ask(request).await;
        assert_eq!(answer.refusal(), (502, Some("upstream_protocol")), "{request}: {answer:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_101_to_another_protocol_is_502() {
    let origin = Origin::answering(
        |_: &Message| "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    );
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask(HANDSHAKE).await;
    assert_eq!(answer.head.status(), 502, "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn an_offer_of_newer_http_or_tls_is_dropped_and_its_request_forwarded() {
    for protocol in ["h2c", "TLS/1.2", "HTTP/2.0, tls/1.3"] {
        let mut lab = Lab::simple().await;
        let request = format!("GET /a\r\nConnection: Upgrade\r\nUpgrade: {protocol}");
        let head = lab.delivered(&request).await;
        assert!(!head.has("upgrade") && !head.has("connection"), "{protocol}: {head:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_upgrade_that_nothing_allows_is_refused() {
    let plan = || Plan::api_key().settings("{ upgrades: [tcp] }");
    for request in [
        "GET /a\r\nConnection: Upgrade\r\nUpgrade: foo",
        "POST /a\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1",
        "POST /a\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp, SPDY/3.1",
        "GET /a\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c\r\nUpgrade: foo",
        "POST /a\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: websocket",
    ] {
        let lab = plan().start(Origin::saying("fine")).await;
        let answer = lab.ask(request).await;
        assert_eq!(answer.refusal(), (403, Some("upgrade_refused")), "{request}");
        assert!(lab.origin.received().is_empty(), "{request}");
        let records = lab.finish().await;
        assert_eq!(records[0]["code"], "upgrade_refused");
    }
}

/// Switches to the protocol that is asked for, and answers in capitals.
fn shouting() -> Origin {
    Origin::scripted(|mut stream: Stream| async move {
        let Some(request) = stream.request().await else { return };
        let protocol = request.head.one("upgrade").expect("an upgrade").to_owned();
        let switching =
            format!("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        stream.send(switching).await;
        loop {
            let bytes = stream.some().await.to_ascii_uppercase();
            if bytes.is_empty() || stream.try_send(&bytes).await.is_err() {
                return;
            }
        }
    })
}

const EXEC: &str = "POST /exec\r\nConnection: Upgrade\r\nContent-Length: 2\r\nUpgrade: spdy/3.1";

#[tokio::test]
async fn an_allowed_upgrade_carries_the_credential_and_passes_bytes_both_ways() {
    let plan = Plan::api_key().settings("{ upgrades: [SPDY/3.1, tcp] }");
    let mut lab = plan.start(shouting()).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(EXEC, HOST) + "{}").await;
    let answer = wire.answer("GET").await;
    assert_eq!((answer.head.status(), answer.head.one("upgrade")), (101, Some("spdy/3.1")));
    let arrived = lab.origin.arrival().await;
    assert_eq!(arrived.head.all("x-api-key"), [&*lab.canary.text]);
    assert_eq!((arrived.head.one("upgrade"), arrived.text()), (Some("spdy/3.1"), "{}".to_owned()));
    wire.send(b"no frame").await;
    assert_eq!(wire.exactly(8).await, b"NO FRAME");
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["status"], &records[0]["bytes_out"]), (&101.into(), &8.into()));
}

#[tokio::test]
async fn a_revocation_ends_an_upgraded_stream() {
    let plan = Plan::api_key().settings("{ upgrades: [SPDY/3.1] }");
    let lab = plan.start(shouting()).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(EXEC, HOST) + "{}").await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    revoke(&lab).await;
    assert!(wire.rest().await.is_empty());
    assert_eq!(lab.finish().await[0]["outcome"], "ended");
}

#[tokio::test]
async fn a_websocket_is_chosen_of_several_protocols() {
    let handshake = HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket");
    let mut lab = Plan::api_key().start(echoing()).await;
    let mut wire = lab.sent(&handshake).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    assert_eq!(lab.origin.arrival().await.head.one("upgrade"), Some("websocket"));
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn a_refused_handshake_is_an_ordinary_answer_and_the_tunnel_goes_on() {
    let origin = Origin::answering(|request: &Message| match request.head.has("upgrade") {
        true => "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
        false => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    });
    let rule = format!("{{ name: no-deletes, hosts: [{HOST}], methods: [DELETE], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(origin).await;
    let mut wire = lab.sent(HANDSHAKE).await;
    let answer = wire.answer("GET").await;
    assert_eq!((answer.head.status(), &*answer.text()), (403, "no"));
    // And is still decided request by request.
    wire.send(request_text("DELETE /a", HOST)).await;
    assert_eq!(wire.answer("DELETE").await.head.one("keyward-error"), Some("denied"));
    assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "fine");
    lab.finish().await;
}

/// Takes the agent's binding away.
async fn revoke(lab: &Lab) {
    let services = lab.gateway.running().services();
    let (org, view) = (OrgId::default_org(), services.directory.view());
    let agent = view.find_agent(&org, "ci").expect("the agent").id.clone();
    let connection = view.find_connection(&org, "acme").expect("the connection").id.clone();
    let directory = &services.directory;
    directory.unbind_by(&org, &agent, &connection, ManagedBy::File).await.expect("unbound");
}
