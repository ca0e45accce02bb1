//! WebSocket over an agent's HTTP/2 stream (RFC 8441): the handshake is one of HTTP/1.1 to the upstream,
//! with the credential, and frames pass as they are.

mod ends;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use serde_json::Value;

use test_support::http2::{Client, Socket};
use test_support::*;

const HANDSHAKE: &str = "/chat?room=1\r\nsec-websocket-version: 13\r\n\
    sec-websocket-protocol: chat.v1\r\nsec-websocket-extensions: permessage-deflate\r\nx-own: kept";

const HELLO: &[u8] = b"\x81\x82abcd\x09\x0b";

/// Agrees to handshakes; then sends back what comes, breaks off at `break`, or sends without end at
/// `/endless`. Other requests are answered, without an end at `/open`.
fn origin() -> Origin {
    Origin::scripted(|mut stream: Stream| async move {
        while let Some(request) = stream.request().await {
            match request.head.target() {
                _ if request.head.has("upgrade") => {
                    stream.send(switching(&request)).await;
                    return echo(stream).await;
                }
                "/open" => {
                    stream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart\n").await
                }
                _ => stream.send(ok("fine")).await,
            }
        }
    })
}

async fn echo(mut stream: Stream) {
    loop {
        let bytes = stream.some().await;
        if bytes == b"\x81\x05break" {
            return stream.into_wire().abort();
        }
        if bytes.is_empty() {
            return stream.finish().await;
        }
        if stream.try_send(&bytes).await.is_err() {
            return;
        }
    }
}

/// Answers handshakes with what `answer` makes of them, others with `fine`; notes what follows.
fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Origin {
    Origin::answering(move |request| match request.head.has("upgrade") {
        true => answer(request),
        false => ok("fine"),
    })
}

/// Refuses handshakes. Each request is answered after its head; only then the content that the head announces is
/// read (RFC 9112 §9.3).
fn answering_early() -> Origin {
    Origin::scripted(|mut stream: Stream| async move {
        while let Some(head) = stream.head().await {
            let said = match head.has("upgrade") {
                true => "HTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nno".to_owned(),
                false => ok("fine"),
            };
            stream.send(said).await;
            let length = head.one("content-length").unwrap_or("0");
            let body = stream.exactly(length.parse().expect("a length")).await;
            stream.note(Message { head, body, whole: true, ..Message::default() });
        }
    })
}

fn code(answer: &Message) -> Option<&str> {
    answer.head.one("keyward-error")
}

/// What an audit event says beside when, which and how long.
fn timeless(mut record: Value) -> Value {
    let fields = record.as_object_mut().expect("an object");
    for name in ["seq", "prev", "time", "exchange", "duration_ms", "token", "rule"] {
        assert!(fields.remove(name).is_some(), "{name}");
    }
    record
}

/// An open WebSocket on which a frame has gone back and forth.
async fn talking(client: &Client) -> Socket {
    let mut socket = client.websocket(HANDSHAKE).await;
    assert_eq!(socket.send_and_read(HELLO, HELLO.len()).await, HELLO);
    socket
}

// === the handshake ===

#[tokio::test]
async fn the_handshake_is_injected_and_audited_as_over_http1() {
    let mut seen = vec![];
    for http2 in [false, true] {
        let mut lab = Plan::api_key().start(origin()).await;
        let lines = format!("{HANDSHAKE}\r\nx-api-key: {}", lab.placeholder("api_key"));
        if http2 {
            let client = lab.h2(HOST).await;
            let mut socket = client.websocket(&lines).await;
            let head = socket.head();
            assert_eq!(head.one("sec-websocket-protocol"), Some("chat.v1"));
            for name in ["sec-websocket-accept", "connection", "upgrade"] {
                assert!(!head.has(name), "{name}: {head:?}");
            }
            assert_eq!(socket.send_and_read(HELLO, HELLO.len()).await, HELLO);
            socket.finish();
            assert_eq!(socket.rest().await, (vec![], None));
        } else {
            let mut wire = lab.tunnel(HOST).await;
            let more = "connection: Upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
            wire.ask(request_text(&format!("GET {lines}\r\n{more}"), HOST)).await.is(101);
            wire.send(HELLO).await;
            assert_eq!(wire.exactly(HELLO.len()).await, HELLO);
            wire.finish().await;
            assert!(wire.is_closed().await);
        }
        let head = lab.origin.arrival().await.head;
        assert_eq!(head.start, "GET /chat?room=1 HTTP/1.1");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
        assert_eq!(head.one("sec-websocket-key").expect("a key").len(), 24);
        // Each lab has another canary, each handshake another key.
        let own = ["sec-websocket-key", "x-api-key"];
        let lower = |(name, value): (String, String)| (name.to_lowercase(), value.to_lowercase());
        let mut fields: Vec<_> = head.fields.into_iter().map(lower).collect();
        fields.retain(|(name, _)| !own.contains(&name.as_str()));
        fields.sort();
        let records: Vec<Value> = lab.finish().await.into_iter().map(timeless).collect();
        assert_eq!((&records[0]["status"], &records[0]["method"]), (&101.into(), &"GET".into()));
        assert_eq!(records[0]["outcome"], "completed");
        seen.push((fields, records));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn each_handshake_has_a_new_random_key_instead_of_the_agent_s() {
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    for _ in 0..3 {
        client.websocket("/a\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==").await;
    }
    let received = lab.origin.received();
    let mut keys: Vec<_> = received
        .iter()
        .map(|request| request.head.one("sec-websocket-key").expect("a key"))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 3);
    assert!(!keys.contains(&"dGhlIHNhbXBsZSBub25jZQ=="));
    lab.finish().await;
}

#[tokio::test]
async fn an_agent_that_sends_a_key_gets_the_matching_accept_field() {
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    // RFC 6455 §1.3.
    let (key, accept) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let one = format!("{HANDSHAKE}\r\nsec-websocket-key: {key}");
    for (text, answered) in [
        (HANDSHAKE, None),
        (&*one, Some(accept)),
        // Of two keys, neither is answered.
        (&*format!("{one}\r\nsec-websocket-key: {key}"), None),
    ] {
        let mut socket = client.websocket(text).await;
        assert_eq!(socket.head().one("sec-websocket-accept"), answered);
        assert_eq!(socket.send_and_read(HELLO, HELLO.len()).await, HELLO);
    }
    // A refusal agrees to nothing.
    let text = format!("/a\r\nsec-websocket-key: {key}\r\nexpect: nonsense");
    let answer = client.extended("websocket", &text).await.answer().await.is(417);
    assert!(!answer.head.has("sec-websocket-accept"));
    lab.finish().await;
}

#[tokio::test]
async fn a_refused_handshake_is_passed_to_the_agent_and_the_tunnel_stays_usable() {
    for (status, body) in [(403, "no"), (302, "a page"), (426, ""), (503, "later")] {
        let said = format!(
            "HTTP/1.1 {status} X\r\nX-Why: because\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let lab = Plan::api_key().start(answering(move |_| said.clone())).await;
        let client = lab.h2(HOST).await;
        let answer = client.extended("websocket", HANDSHAKE).await.answer().await;
        assert_eq!((answer.head.status(), &*answer.text()), (status, body));
        assert_eq!((answer.head.one("x-why"), code(&answer)), (Some("because"), None));
        assert_eq!(client.ask("GET /other").await.text(), "fine");
        let records = lab.finish().await;
        assert_eq!((&records[0]["status"], records.len()), (&status.into(), 2));
        assert_eq!(records[0]["outcome"], "completed");
    }
}

/// The DATA that follows is the WebSocket's, so that the next request would be read as the content, and what
/// follows in its fields as a request.
#[tokio::test]
async fn a_content_length_of_a_handshake_is_not_forwarded() {
    let mut lab = Plan::api_key().start(answering_early()).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.ask("GET /first").await.text(), "fine");
    let streams = lab.origin.streams();
    let text = format!("{HANDSHAKE}\r\ncontent-length: 40");
    let answer = client.extended("websocket", &text).await.answer().await;
    assert_eq!((answer.head.status(), &*answer.text()), (403, "no"));
    assert_eq!(client.ask("GET /after\r\nx-pad: DELETE /repos/o/r HTTP/1.1").await.text(), "fine");
    for line in ["GET /first HTTP/1.1", "GET /chat?room=1 HTTP/1.1", "GET /after HTTP/1.1"] {
        let request = lab.origin.arrival().await;
        assert_eq!((&*request.head.start, &*request.text()), (line, ""));
        assert!(!request.head.has("content-length"), "{request:?}");
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    assert_eq!(lab.origin.streams(), streams, "the stream is used again");
    lab.finish().await;
}

/// RFC 8441 §5: any 2xx opens the WebSocket, and its body would be read as frames.
#[tokio::test]
async fn a_200_answer_to_a_handshake_is_502_and_none_of_its_body_passes() {
    let said = "HTTP/1.1 200 X\r\nContent-Length: 6\r\n\r\na page";
    let lab = Plan::api_key().start(answering(|_| said.to_owned())).await;
    let client = lab.h2(HOST).await;
    let answer = client.extended("websocket", HANDSHAKE).await.answer().await;
    assert_eq!((answer.head.status(), code(&answer)), (502, Some("upstream_protocol")));
    assert!(!answer.text().contains("a page"), "{answer:?}");
    assert_eq!(lab.finish().await[0]["outcome"], "refused");
}

#[tokio::test]
async fn a_101_with_a_wrong_accept_field_or_protocol_is_502_and_no_byte_passes() {
    let answers: [fn(&Message) -> String; 4] = [
        |_| {
            let other = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
            let (name, value) = other.split_once(": ").expect("a field");
            let fields = vec![(name.to_owned(), value.to_owned())];
            let head = Head { fields, ..Head::default() };
            switching(&Message { head, ..Message::default() })
        },
        |request| {
            let said = switching(request);
            said.replace(
                "Sec-WebSocket-Accept: ",
                "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Accept: ",
            )
        },
        |request| switching(request).replace("Upgrade: websocket", "Upgrade: h2c"),
        |request| switching(request).replace("Sec-WebSocket-Accept", "X-Accept"),
    ];
    for (number, said) in answers.into_iter().enumerate() {
        let origin = answering(move |request| format!("{}\x01\x05bytes", said(request)));
        let lab = Plan::api_key().start(origin).await;
        let client = lab.h2(HOST).await;
        let mut call = client.extended("websocket", HANDSHAKE).await;
        call.send(b"\x81\x85early").await;
        let (answer, _) = call.outcome().await;
        assert_eq!(
            (answer.head.status(), code(&answer)),
            (502, Some("upstream_protocol")),
            "{number}"
        );
        assert!(!answer.text().contains("bytes"));
        assert_eq!(client.ask("GET /other").await.text(), "fine");
        let received = lab.origin.bytes();
        assert!(!String::from_utf8_lossy(&received).contains("early"), "{number}");
        let records = lab.finish().await;
        assert_eq!(
            (&records[0]["status"], &records[0]["outcome"]),
            (&502.into(), &"refused".into())
        );
    }
}

#[tokio::test]
async fn a_handshake_that_a_rule_denies_is_403_and_never_dialled() {
    let rule = format!("{{ name: no, hosts: [{HOST}], paths: [\"/chat\"], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(origin()).await;
    let client = lab.h2(HOST).await;
    let answer = client.extended("websocket", HANDSHAKE).await.answer().await;
    assert_eq!((answer.head.status(), code(&answer)), (403, Some("denied")));
    assert_eq!(answer.json()["error"]["code"], "denied");
    let records = lab.finish_unreached().await;
    assert_eq!((&records[0]["method"], &records[0]["code"]), (&"GET".into(), &"denied".into()));
}

#[tokio::test]
async fn a_rule_for_get_counts_for_the_handshake() {
    let rule = format!("{{ name: no, hosts: [{HOST}], methods: [GET], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(origin()).await;
    let client = lab.h2(HOST).await;
    let answer = client.extended("websocket", HANDSHAKE).await.answer().await;
    assert_eq!(code(&answer), Some("denied"));
    lab.finish().await;
}

#[tokio::test]
async fn a_connect_for_a_protocol_other_than_websocket_is_refused() {
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    for protocol in ["connect-udp", "connect-ip", "webtransport", "WebSocket", "websocket2", ""] {
        let (answer, _) = client.extended(protocol, "/chat").await.outcome().await;
        // One without a name is no request.
        let refused = code(&answer) == Some("method_refused") || protocol.is_empty();
        assert!(refused, "{protocol}: {answer:?}");
    }
    // Without a protocol: its target is an authority.
    let (answer, _) = client.open("CONNECT /", false).await.outcome().await;
    assert_eq!(code(&answer), Some("method_refused"), "{answer:?}");
    assert_eq!(lab.origin.streams(), 0);
    assert_eq!(client.ask("GET /other").await.text(), "fine");
    for record in &lab.finish().await[..5] {
        assert_eq!((&record["method"], &record["outcome"]), (&"CONNECT".into(), &"refused".into()));
    }
}

// === frames ===

#[tokio::test]
async fn frames_pass_both_ways_large_ones_too() {
    const LENGTH: usize = 1 << 20;
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    let mut sockets = [talking(&client).await, talking(&client).await];
    let mut large = vec![0x82, 0xff];
    large.extend((LENGTH as u64).to_be_bytes());
    large.extend([0; 4]);
    large.extend((0..LENGTH).map(|at| (at % 251) as u8));
    let [one, two] = &mut sockets;
    let (first, second) = tokio::join!(
        one.send_and_read(&large, large.len()),
        two.send_and_read(&large, large.len()),
    );
    assert!(first == large && second == large, "as they were sent");
    for mut socket in sockets {
        socket.finish();
        assert_eq!(socket.rest().await, (vec![], None));
    }
    for record in lab.finish().await {
        let moved = (large.len() + HELLO.len()) as u64;
        assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&moved.into(), &moved.into()));
        assert_eq!(record["outcome"], "completed");
    }
}

#[tokio::test]
async fn a_side_that_does_not_read_stops_the_other_side_and_no_other_exchange() {
    const PIECE: usize = 64 * 1024;
    const MUCH: usize = 64 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let origin = Origin::sharing(sent.clone(), move |mut stream, count| async move {
        while let Some(request) = stream.request().await {
            match request.head.target() {
                "/endless" => {
                    stream.send(switching(&request)).await;
                    while stream.try_send(vec![b'.'; PIECE]).await.is_ok() {
                        count.fetch_add(PIECE, Ordering::SeqCst);
                    }
                    return;
                }
                "/deaf" => {
                    stream.send(switching(&request)).await;
                    return std::future::pending().await;
                }
                _ => stream.send(ok("fine")).await,
            }
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let unread = client.websocket("/endless").await;
    let mut deaf = client.websocket("/deaf").await;
    let mut uploaded = 0;
    let upload = async {
        while uploaded < MUCH && deaf.try_send(&[b'.'; PIECE]).await {
            uploaded += PIECE;
        }
    };
    let others = async {
        for _ in 0..20 {
            assert_eq!(client.ask("GET /other").await.text(), "fine");
        }
    };
    tokio::select! {
        () = upload => panic!("all of it was taken"),
        () = others => {}
    }
    // Sockets of the system hold some.
    let held = sent.load(Ordering::SeqCst);
    assert!(held < MUCH / 4 && uploaded < MUCH / 4, "{held} and {uploaded} bytes");
    deaf.reset(Reason::CANCEL);
    unread.reset(Reason::CANCEL);
    lab.finish().await;
}

#[tokio::test]
async fn close_codes_pass_both_ways() {
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    for code in [1000_u16, 1001, 1011, 3000, 4999] {
        let mut socket = talking(&client).await;
        let own = [&[0x88, 0x85, 0, 0, 0, 0][..], &code.to_be_bytes(), b"bye"].concat();
        // The origin says the same.
        assert_eq!(socket.send_and_read(&own, own.len()).await, own);
        socket.finish();
        assert_eq!(socket.rest().await, (vec![], None), "{code}");
    }
    for record in lab.finish().await {
        assert_eq!(record["outcome"], "completed");
    }
}
