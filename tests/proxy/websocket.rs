//! Upgrades: a websocket handshake carries the credential, then bytes pass as they are. Other protocols need a
//! permission.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;
use tokio::time::{MissedTickBehavior, interval};

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

/// What the origin says once the handshake is done, and what it says when it is told to go on.
#[derive(Clone, Copy)]
struct Says {
    first: &'static [u8],
    then: &'static [u8],
}

/// An open WebSocket of `ci`, and what its origin has read.
struct Open {
    lab: Lab,
    wire: Wire,
    at_origin: Arc<Mutex<Vec<u8>>>,
    go_on: Arc<tokio::sync::Notify>,
}

impl Open {
    async fn new(plan: Plan, says: Says) -> Self {
        let (at_origin, go_on) =
            (Arc::<Mutex<Vec<u8>>>::default(), Arc::new(tokio::sync::Notify::new()));
        let shared = (at_origin.clone(), go_on.clone());
        let origin = Origin::sharing(shared, move |mut stream, (read, told)| async move {
            if stream.request().await.is_none() {
                return;
            }
            stream.send([SWITCHING.as_bytes(), says.first].concat()).await;
            told.notified().await;
            // The gateway may have gone.
            drop(stream.try_send(says.then).await);
            loop {
                let bytes = stream.some().await;
                read.lock().expect("not poisoned").extend_from_slice(&bytes);
                if bytes.is_empty() {
                    return;
                }
            }
        });
        let lab = plan.start(origin).await;
        let mut wire = lab.sent(HANDSHAKE).await;
        assert_eq!(wire.answer("GET").await.head.status(), 101);
        assert_eq!(wire.exactly(says.first.len()).await, says.first);
        Self { lab, wire, at_origin, go_on }
    }

    async fn revoke(&self) {
        revoke(&self.lab).await;
    }

    /// All that the origin read, once its stream has ended.
    async fn finish(self) -> (Vec<u8>, Vec<serde_json::Value>) {
        drop(self.wire);
        let records = self.lab.finish().await;
        let read = self.at_origin.lock().expect("not poisoned").clone();
        (read, records)
    }
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

/// An unmasked close frame.
fn close(code: u16, reason: &str) -> Vec<u8> {
    let length = u8::try_from(2 + reason.len()).expect("short");
    [&[0x88, length], &code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// The code in a masked close frame that is all of `bytes`.
fn masked_close(bytes: &[u8]) -> u16 {
    assert!(bytes.len() >= 8 && bytes[0] == 0x88 && bytes[1] & 0x80 != 0, "{bytes:02x?}");
    assert_eq!(bytes.len(), 6 + usize::from(bytes[1] & 0x7f), "{bytes:02x?}");
    u16::from_be_bytes([bytes[6] ^ bytes[2], bytes[7] ^ bytes[3]])
}

const REVOKED: &str = "access was revoked";
const SILENT: Says = Says { first: b"", then: b"" };

#[tokio::test]
async fn a_revoked_websocket_is_closed_with_1008_and_its_origin_gets_1001() {
    let mut open = Open::new(Plan::api_key(), Says { first: b"\x81\x02hi", then: b"" }).await;
    open.wire.send(b"\x81\x82abcd\x09\x0b").await;
    open.go_on.notify_one();
    open.lab.origin.has_read("abcd").await;
    let begun = Instant::now();
    open.revoke().await;
    assert_eq!(open.wire.rest().await, close(1008, REVOKED));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let (at_origin, records) = open.finish().await;
    let (hello, goodbye) = at_origin.split_at(8);
    assert_eq!(hello, b"\x81\x82abcd\x09\x0b");
    assert_eq!(masked_close(goodbye), 1001);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["outcome"], "ended");
}

#[tokio::test]
async fn a_frame_in_progress_is_finished_before_the_close_frame_of_a_revocation() {
    let says = Says { first: b"\x81\x05he", then: b"llo" };
    let mut open = Open::new(Plan::api_key(), says).await;
    open.revoke().await;
    open.go_on.notify_one();
    assert_eq!(open.wire.rest().await, [b"llo", &*close(1008, REVOKED)].concat());
    open.finish().await;
}

#[tokio::test]
async fn a_frame_header_in_progress_is_finished_after_a_revocation() {
    let says = Says { first: b"\x82\x7e\x00", then: b"\x80" };
    let mut open = Open::new(Plan::api_key(), says).await;
    open.revoke().await;
    open.go_on.notify_one();
    // The payload that it announces does not come.
    assert_eq!(open.wire.rest().await, b"\x80");
    open.finish().await;
}

#[tokio::test]
async fn an_incomplete_frame_without_further_bytes_is_cut_after_a_revocation() {
    let mut open = Open::new(Plan::api_key(), Says { first: b"\x81\x05he", then: b"" }).await;
    let begun = Instant::now();
    open.revoke().await;
    assert!(open.wire.is_closed().await, "a close frame in a payload is text");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    open.go_on.notify_one();
    open.finish().await;
}

#[tokio::test]
async fn a_frame_that_misses_many_bytes_is_cut_after_a_revocation() {
    let first = b"\x82\x7f\x00\x00\x00\x00\x40\x00\x00\x00beginning";
    let mut open = Open::new(Plan::api_key(), Says { first, then: b"more" }).await;
    open.revoke().await;
    assert!(open.wire.is_closed().await);
    open.go_on.notify_one();
    open.finish().await;
}

#[tokio::test]
async fn frames_that_an_agent_sends_after_a_revocation_are_not_forwarded() {
    let mut open = Open::new(Plan::api_key(), SILENT).await;
    open.revoke().await;
    let why = close(1008, REVOKED);
    assert_eq!(open.wire.exactly(why.len()).await, why);
    // The stream may have ended already.
    drop(open.wire.try_send(b"\x81\x84\x00\x00\x00\x00late").await);
    open.go_on.notify_one();
    assert!(open.wire.is_closed().await);
    let (at_origin, _) = open.finish().await;
    assert_eq!(masked_close(&at_origin), 1001);
}

#[tokio::test]
async fn an_origin_that_has_read_a_part_of_a_frame_gets_no_close_frame() {
    let mut open = Open::new(Plan::api_key(), SILENT).await;
    open.wire.send(b"\x81\x84abcdha").await;
    open.go_on.notify_one();
    open.lab.origin.has_read("abcdha").await;
    open.revoke().await;
    assert_eq!(open.wire.rest().await, close(1008, REVOKED));
    assert_eq!(open.finish().await.0, b"\x81\x84abcdha");
}

#[tokio::test]
async fn the_agent_gets_no_second_close_frame_after_that_of_the_origin() {
    let first = b"\x88\x02\x0f\xa0";
    let mut open = Open::new(Plan::api_key(), Says { first, then: b"" }).await;
    open.revoke().await;
    assert!(open.wire.is_closed().await);
    open.go_on.notify_one();
    open.finish().await;
}

#[tokio::test]
async fn close_codes_pass_both_ways() {
    for code in [1000_u16, 1001, 1011, 3000, 4999] {
        let mut open = Open::new(Plan::api_key(), SILENT).await;
        let own = [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat();
        open.wire.send(&own).await;
        open.go_on.notify_one();
        open.wire.finish().await;
        assert!(open.wire.is_closed().await);
        let (at_origin, records) = open.finish().await;
        assert_eq!(at_origin, own);
        assert_eq!(records[0]["outcome"], "completed", "{code}");
        let theirs: &[u8] = close(code, "x").leak();
        let mut open = Open::new(Plan::api_key(), Says { first: b"", then: theirs }).await;
        open.go_on.notify_one();
        assert_eq!(open.wire.exactly(theirs.len()).await, theirs);
        open.finish().await;
    }
}

#[tokio::test]
async fn a_websocket_idle_for_tunnel_idle_timeout_is_closed_with_1001() {
    let plan = Plan::api_key().limit("tunnel_idle_timeout: 300ms");
    let mut open = Open::new(plan, SILENT).await;
    assert_eq!(open.wire.rest().await, close(1001, "idle for too long"));
    open.go_on.notify_one();
    let (at_origin, records) = open.finish().await;
    assert_eq!(masked_close(&at_origin), 1001);
    assert_eq!(records[0]["outcome"], "ended");
}

#[tokio::test]
async fn pings_keep_a_websocket_open() {
    let plan = Plan::api_key().limit("tunnel_idle_timeout: 300ms").limit("idle_timeout: 300ms");
    let plan = plan.limit("body_idle_timeout: 300ms").limit("head_timeout: 300ms");
    let lab = plan.start(echoing()).await;
    let mut wire = lab.sent(HANDSHAKE).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    let mut time = interval(Duration::from_millis(100));
    time.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..15 {
        time.tick().await;
        wire.send(b"\x89\x80abcd").await;
        assert_eq!(wire.exactly(6).await, b"\x89\x80abcd");
    }
    drop(wire);
    lab.finish().await;
}

/// Each frame of the upstream kept the end back for two seconds more.
#[tokio::test]
async fn a_half_close_of_the_agent_reaches_an_upstream_that_keeps_sending() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::sharing(tell, move |mut stream, tell| async move {
        stream.request().await;
        stream.send(SWITCHING).await;
        let mut beat = interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                more = stream.comes() => match more {
                    true => drop(stream.some().await),
                    false => break,
                },
                _ = beat.tick() => stream.send(b"\x81\x01.").await,
            }
        }
        tell.send(()).expect("it is waited for");
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent(HANDSHAKE).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    wire.send(b"\x81\x82abcdhi").await;
    lab.origin.has_read("abcd").await;
    wire.finish().await;
    patiently("the end", told.recv()).await.expect("told");
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn a_drain_waits_for_a_websocket_and_then_closes_it_with_1001() {
    let mut lab = Plan::api_key().start(echoing()).await;
    let mut wire = lab.sent(HANDSHAKE).await;
    assert_eq!(wire.answer("GET").await.head.status(), 101);
    let (records, last) = tokio::join!(lab.gateway.stop(), async {
        wire.send(b"\x81\x82abcdhi").await;
        assert_eq!(wire.exactly(8).await, b"\x81\x82abcdhi");
        wire.rest().await
    });
    assert_eq!(last, close(1001, "the gateway stops"));
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["outcome"], "ended");
    lab.finish().await;
}
