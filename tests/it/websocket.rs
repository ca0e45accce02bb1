//! Upgrades: a websocket handshake carries the credential, then bytes pass as they are. Nothing
//! else changes the protocol.

use crate::support::*;

const HANDSHAKE: &str = "GET /chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: chat.v1\r\nSec-WebSocket-Extensions: permessage-deflate";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat.v1\r\n\r\n";

async fn echoing() -> Origin {
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
    .await
}

#[tokio::test]
async fn bytes_pass_both_ways_after_an_injected_handshake() {
    let mut lab = Plan::api_key().start(echoing().await).await;
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
async fn bytes_right_behind_the_101_are_not_lost() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send(format!("{SWITCHING}first words")).await;
        stream.rest().await;
    });
    let lab = Plan::api_key().start(origin.await).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(HANDSHAKE, HOST)).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    assert_eq!(wire.exactly(11).await, b"first words");
    lab.finish().await;
}

#[tokio::test]
async fn when_one_end_goes_so_does_the_other() {
    let lab = Plan::api_key().start(echoing().await).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(HANDSHAKE, HOST)).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    wire.finish().await;
    assert!(wire.is_closed().await);
    lab.finish().await;
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    for request in ["GET /a", "POST /a\r\nContent-Length: 0", "GET /a\r\nUpgrade: websocket"] {
        let origin = Origin::answering(|_: &Message| format!("{SWITCHING}GET / HTTP/1.1\r\n\r\n"));
        let lab = Plan::api_key().start(origin.await).await;
        let answer = lab.ask(request).await;
        assert_eq!(answer.head.status(), 502, "{request}: {answer:?}");
        assert_eq!(answer.head.one("keyward-error"), Some("upstream_protocol"));
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_101_to_another_protocol_is_502() {
    let origin = Origin::answering(
        |_: &Message| "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    );
    let lab = Plan::api_key().start(origin.await).await;
    let answer = lab.ask(HANDSHAKE).await;
    assert_eq!(answer.head.status(), 502, "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn only_websocket_is_upgraded_to() {
    for protocol in ["h2c", "TLS/1.2", "foo", "websocket, h2c"] {
        let mut lab = Lab::simple().await;
        let request = format!("GET /a\r\nConnection: Upgrade\r\nUpgrade: {protocol}");
        let answer = lab.ask(&request).await;
        if answer.head.status() == 200 {
            let head = lab.origin.arrival().await.head;
            let upgrade = head.one("upgrade").unwrap_or("websocket").to_lowercase();
            assert_eq!(upgrade, "websocket", "{protocol}");
        } else {
            assert_eq!(answer.head.status(), 400, "{protocol}: {answer:?}");
        }
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_refused_handshake_is_an_ordinary_answer_and_the_tunnel_goes_on() {
    let origin = Origin::answering(|request: &Message| match request.head.has("upgrade") {
        true => "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
        false => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    });
    let rule = format!("{{ name: no-deletes, hosts: [{HOST}], methods: [DELETE], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(origin.await).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(HANDSHAKE, HOST)).await;
    let answer = wire.answer("GET").await;
    assert_eq!((answer.head.status(), &*answer.text()), (403, "no"));
    // And is still decided request by request.
    wire.send(request_text("DELETE /a", HOST)).await;
    assert_eq!(wire.answer("DELETE").await.head.one("keyward-error"), Some("denied"));
    wire.send(request_text("GET /a", HOST)).await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    lab.finish().await;
}
