//! How an open WebSocket ends: by a close frame between two frames, with a code that says why.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::{HANDSHAKE, SWITCHING, echoing, revoke};
use test_support::*;

/// The frames that the origin sends after the handshake, and those that it sends when the test signals it.
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
