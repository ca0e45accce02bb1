//! When Keyward ends a stream, the agent can read it to the end, also while the agent still sends, for a limited time.

use std::sync::{Arc, OnceLock};

use test_support::http2::frames::*;
use test_support::*;

/// Many times what is read ahead of a head or an answer.
const MUCH: usize = 512 * 1024;

/// An HTTP/2 stream that was idle for too long, up to the last GOAWAY.
async fn told_to_go(lab: &Lab) -> Wire {
    let mut wire = lab.frames(HOST).await;
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await;
    let mut told = 0;
    while told < 2 {
        let frame_read = wire.frame().await.expect("a frame");
        match frame_read.kind {
            GOAWAY => {
                told += 1;
                assert_eq!(frame_read.payload[4..], [0; 4], "without an error");
            }
            PING => wire.send(frame(PING, ACK, 0, &frame_read.payload)).await,
            _ => {}
        }
    }
    wire
}

/// The end is read, and yet what is sent is taken: a reset could overtake what was to be read, where
/// the agent's system forgets that with it.
async fn ends_without_a_reset(wire: &mut Wire, more: &[u8]) {
    assert!(wire.ends_cleanly().await);
    for _ in 0..50 {
        wire.try_send(more).await.expect("no reset");
        tokio::task::yield_now().await;
    }
    wire.finish().await;
}

#[tokio::test]
async fn frames_that_an_agent_sends_after_the_last_goaway_cause_no_reset() {
    let plan = Plan::api_key().limit("idle_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut wire = told_to_go(&lab).await;
    ends_without_a_reset(&mut wire, &frame(PING, 0, 0, b"goodbye.")).await;
    assert_eq!(lab.finish().await.len(), 0);
}

#[tokio::test]
async fn an_agent_that_keeps_sending_after_the_end_of_its_stream_is_cut() {
    let plan = Plan::api_key().limit("idle_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut two = told_to_go(&lab).await;
    let mut one = lab.sent("GET /a").await;
    assert_eq!(one.answer("GET").await.text(), "fine");
    for wire in [&mut two, &mut one] {
        assert!(wire.ends_cleanly().await);
        let flood = vec![b'.'; 16 * 1024];
        patiently("the cut", async { while wire.try_send(&flood).await.is_ok() {} }).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_head_far_beyond_the_limit_gets_its_431_before_the_stream_ends() {
    let lab = Lab::simple().await;
    let mut wire = lab.tunnel(HOST).await;
    let long = "a".repeat(MUCH);
    wire.ask(format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\nX-A: {long}\r\n\r\n")).await.is(431);
    ends_without_a_reset(&mut wire, b"X-B: b").await;
    assert_eq!(lab.finish().await[0]["code"], "headers_too_large");
}

#[tokio::test]
async fn bytes_after_the_last_request_do_not_prevent_the_agent_from_reading_its_answer() {
    let lab = Lab::simple().await;
    for mut wire in [lab.tunnel(HOST).await, lab.client().await] {
        let (target, authorization) = ("http://api.acme.test/a", lab.authorization("ci"));
        let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{authorization}");
        wire.send(format!("{request}Connection: close\r\n\r\n{}", "a".repeat(MUCH))).await;
        let answer = wire.answer("GET").await;
        assert!(answer.whole && answer.head.status() >= 200, "{answer:?}");
        ends_without_a_reset(&mut wire, b"a").await;
    }
    assert_eq!(lab.finish().await.len(), 2);
}

#[tokio::test]
async fn an_idle_stream_ends_cleanly() {
    let plan = Plan::api_key().limit("idle_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut wire = lab.sent("GET /a").await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    assert!(wire.ends_cleanly().await);
    lab.finish().await;
}

#[tokio::test]
async fn a_goaway_that_repeats_the_credential_is_not_logged() {
    let secret = Arc::new(OnceLock::new());
    let known = secret.clone();
    let origin = Origin::framed(move |mut stream: Stream| {
        let secret: Arc<OnceLock<String>> = known.clone();
        async move {
            stream.exactly(PREFACE.len()).await;
            stream.send(frame(SETTINGS, 0, 0, &[])).await;
            while let Some(got) = stream.frame().await {
                if got.kind == HEADERS {
                    // Last processed: none. Code: ENHANCE_YOUR_CALM.
                    let mut payload = vec![0, 0, 0, 0, 0, 0, 0, 11];
                    payload.extend(secret.get().expect("the lab has begun").as_bytes());
                    stream.send(frame(GOAWAY, 0, 0, &payload)).await;
                    stream.finish().await;
                    return;
                }
            }
        }
    });
    let lab = Plan::api_key().start(origin).await;
    secret.set(lab.canary.text.clone()).expect("once");
    let answer = lab.h2(HOST).await.post("POST /a", "an order").await;
    assert_eq!(answer.head.one("keyward-error"), Some("upstream_protocol"), "{answer:?}");
    // The log has no secret.
    lab.finish().await;
}
