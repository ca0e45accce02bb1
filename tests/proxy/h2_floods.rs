//! HTTP/2 floods are bounded: the stream that floods is closed, and others go on. That of an agent leaves an audit event.

use std::sync::Arc;

use test_support::http2::frames::*;
use test_support::http2::{Offer, Reply};
use test_support::*;
use tokio::sync::Notify;

/// Frames that are sent before a flood counts as not noticed.
const FRAMES_MAX: u32 = 100_000;

/// How many go in one write.
const BATCH: u32 = 100;

async fn lab() -> Lab {
    Plan::api_key().start(Origin::speaking(Offer::Both, |_| Reply::ok("fine"))).await
}

fn get() -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/flood")])
}

/// Floods a tunnel of its own with `more`, which is given a number that counts up.
async fn flood(lab: &Lab, first: &[u8], more: impl Fn(u32) -> Vec<u8>) -> End {
    let mut wire = lab.frames(HOST).await;
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    wire.send(first).await;
    for batch in 0..FRAMES_MAX / BATCH {
        let frames: Vec<u8> = (0..BATCH).flat_map(|at| more(batch * BATCH + at)).collect();
        if wire.try_send(frames).await.is_err() {
            return End::Closed;
        }
    }
    wire.end_of(u32::MAX).await
}

#[tokio::test]
async fn every_flood_closes_its_stream_and_no_other() {
    let opening = frame(HEADERS, END_HEADERS, 1, &get());
    let unfinished = frame(HEADERS, 0, 1, &get());
    type More = fn(u32) -> Vec<u8>;
    let table: [(&str, &[u8], More); 9] = [
        ("resets", b"", |number| {
            let stream = 2 * number + 1;
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
            [request, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        }),
        ("pings", b"", |_| frame(PING, 0, 0, &[0; 8])),
        ("answers to no ping", b"", |_| frame(PING, ACK, 0, &[0; 8])),
        ("settings", b"", |_| frame(SETTINGS, 0, 0, &[])),
        ("priorities", b"", |_| frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 16])),
        ("window updates", b"", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("empty data", &opening, |_| frame(DATA, 0, 1, &[])),
        ("continuations", &unfinished, |_| frame(CONTINUATION, 0, 1, &[])),
        ("frames of no type", b"", |_| frame(0xbe, 0, 0, &[0; 8])),
    ];
    let count = table.len();
    let lab = lab().await;
    let mut other = lab.tunnel(HOST).await;
    let another = lab.h2(HOST).await;
    for (name, first, more) in table {
        let end = flood(&lab, first, more).await;
        assert!(matches!(end, End::GoAway(_) | End::Closed), "{name}: {end:?}");
        other.send(request_text("GET /other", HOST)).await;
        assert_eq!(other.answer("GET").await.text(), "fine", "after {name}");
        assert_eq!(another.ask("GET /another").await.text(), "fine", "after {name}");
    }
    let records = lab.finish().await;
    let refused = |record: &&serde_json::Value| record["code"] == "bad_request";
    let of_floods: Vec<_> = records.iter().filter(refused).collect();
    assert_eq!(of_floods.len(), count, "{of_floods:#?}");
    for record in of_floods {
        assert_eq!(record["agent"], "ci");
        assert_eq!(record["status"], 400);
    }
}

#[tokio::test]
async fn a_rapid_reset_reaches_the_upstream_a_bounded_number_of_times() {
    let lab = lab().await;
    flood(&lab, b"", |number| {
        let stream = 2 * number + 1;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
        [request, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await;
    let reached = lab.origin.received().len();
    assert!(reached <= 2_000, "{reached}");
    lab.finish().await;
}

#[tokio::test]
async fn an_endless_http2_head_is_refused_and_not_forwarded() {
    let lab = lab().await;
    let field = block(&[("x-large", "v".repeat(15 * 1024))]);
    for end in [0, END_HEADERS] {
        let mut wire = lab.frames(HOST).await;
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        wire.send(frame(HEADERS, END_STREAM, 1, &get())).await;
        for _ in 0..100 {
            if wire.try_send(frame(CONTINUATION, 0, 1, &field)).await.is_err() {
                break;
            }
        }
        drop(wire.try_send(frame(CONTINUATION, end, 1, &field)).await);
        let ended = wire.end_of(1).await;
        // ENHANCE_YOUR_CALM. A reset may overtake it.
        assert!(matches!(ended, End::GoAway(11) | End::Closed), "{end}: {ended:?}");
    }
    assert!(lab.origin.received().is_empty());
    let codes: Vec<_> = lab.finish().await.iter().map(|record| record["code"].clone()).collect();
    assert_eq!(codes, ["bad_request", "bad_request"]);
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_a_431_and_the_stream_goes_on() {
    let lab = lab().await;
    let client = lab.h2(HOST).await;
    let (large, many) = ("v".repeat(70 * 1024), "\r\nx-many: 1".repeat(250));
    for text in [format!("GET /a\r\nx-large: {large}"), format!("GET /a{many}")] {
        let answer = client.ask(&text).await;
        assert_eq!(answer.refusal(), (431, Some("headers_too_large")), "{answer:?}");
    }
    assert_eq!(client.ask("GET /b").await.text(), "fine");
    let records = lab.finish().await;
    assert_eq!(records.len(), 3);
}

#[tokio::test]
async fn a_compressed_head_that_exceeds_the_limit_when_decoded_is_refused() {
    let lab = lab().await;
    let mut wire = lab.frames(HOST).await;
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    // One field of 4,000 bytes goes into the table (RFC 7541 §6.2.1); each byte after it names it.
    let mut head = get();
    head.extend([0x40, 1, b'x', 127]);
    head.extend([0xa1, 0x1e]);
    head.extend([b'v'; 4_000]);
    head.extend([0xbe; 10_000]);
    wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
    let end = wire.end_of(1).await;
    assert_ne!(end, End::Answer(200), "40 MB of fields");
    assert!(lab.origin.received().is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn an_exchange_beyond_exchanges_per_stream_max_is_reset_with_refused_stream() {
    let lab = Plan::api_key()
        .limit("exchanges_per_stream_max: 3")
        .start(Origin::speaking(Offer::Both, |_| Reply::ok("fine")))
        .await;
    let mut wire = lab.frames(HOST).await;
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    // Uploads that do not end keep their places.
    let open = |stream| {
        let fields =
            [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/")];
        frame(HEADERS, END_HEADERS, stream, &block(&fields))
    };
    for stream in [1, 3, 5, 7] {
        wire.send(open(stream)).await;
    }
    // REFUSED_STREAM, RFC 9113 §5.1.2.
    assert_eq!(wire.end_of(7).await, End::Reset(7));
    for stream in [1, 3, 5] {
        wire.send(frame(DATA, END_STREAM, stream, &[])).await;
        assert_eq!(wire.end_of(stream).await, End::Answer(200), "{stream}");
    }
    lab.finish_after(3).await;
}

/// Answers a request with `first`, and then floods with `more` until its stream breaks.
fn flooding(first: Vec<u8>, more: &[u8], ended: &Arc<Notify>) -> Origin {
    let (batch, ended) = (more.repeat(BATCH as usize), ended.clone());
    Origin::framed(move |mut stream: Stream| {
        let (first, batch, ended) = (first.clone(), batch.clone(), ended.clone());
        async move {
            stream.exactly(PREFACE.len()).await;
            stream.send(frame(SETTINGS, 0, 0, &[])).await;
            while stream.frame().await.expect("a request").kind != HEADERS {}
            stream.send(&first).await;
            for _ in 0..FRAMES_MAX / BATCH {
                if stream.try_send(&batch).await.is_err() {
                    break;
                }
            }
            // What was sent may be in buffers of the system.
            stream.rest().await;
            ended.notify_one();
        }
    })
}

#[tokio::test]
async fn every_flood_of_an_upstream_closes_its_stream() {
    let head =
        |status, flags| frame(HEADERS, END_HEADERS | flags, 1, &block(&[(":status", status)]));
    let (begun, ended, interim) = (head("200", 0), head("200", END_STREAM), head("103", 0));
    for (first, more, status) in [
        (vec![], frame(PING, 0, 0, &[0; 8]), 502),
        (begun.clone(), frame(PING, 0, 0, &[0; 8]), 200),
        (begun, frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]), 200),
        (ended.clone(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 200),
        (ended.clone(), frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 16]), 200),
        (ended.clone(), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), 200),
        (ended.clone(), frame(0xbe, 0, 0, &[0; 8]), 200),
        (ended, interim.clone(), 200),
        (vec![], interim, 502),
    ] {
        let closed = Arc::new(Notify::new());
        let lab = Plan::api_key().start(flooding(first, &more, &closed)).await;
        let client = lab.h2(HOST).await;
        let answer = client.open("POST /flood", true).await.head().await.expect("an answer");
        assert_eq!(answer.head.status(), status, "{more:?}");
        patiently("the end of the flood", closed.notified()).await;
        drop((answer, client));
        lab.finish().await;
    }
}
