//! Streams of any shape: framed as they were, each piece at once, for as long as they last; and who
//! breaks one off is heard at the other end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{MissedTickBehavior, interval};

use test_support::*;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Ticks while something goes on.
fn every(period: Duration) -> tokio::time::Interval {
    let mut every = interval(period);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

#[tokio::test]
async fn messages_keep_their_framing_by_length_or_by_chunks() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        while let Some(request) = stream.request().await {
            let answer = match request.head.target() {
                "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                "/chunked" => &format!("{CHUNKED}2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
                _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
            };
            stream.send(answer).await;
            if request.head.target() == "/closed" {
                return stream.finish().await;
            }
        }
    });
    let mut lab = Plan::api_key().start(origin).await;
    for (target, framing) in [
        ("/length", ("content-length", "5")),
        ("/chunked", ("transfer-encoding", "chunked")),
        // Of unknown length: chunks tell its end better than a close does.
        ("/closed", ("transfer-encoding", "chunked")),
    ] {
        for (request, body, sent) in [
            ("Content-Length: 5", "howdy", ("content-length", "5")),
            (
                "Transfer-Encoding: chunked",
                "5\r\nhowdy\r\n0\r\n\r\n",
                ("transfer-encoding", "chunked"),
            ),
        ] {
            let mut wire = lab.tunnel(HOST).await;
            wire.send(request_text(&format!("POST {target}\r\n{request}"), HOST)).await;
            wire.send(body).await;
            let answer = wire.answer("POST").await;
            assert_eq!((&*answer.text(), answer.whole), ("hello", true), "{target}");
            assert_eq!(answer.head.one(framing.0), Some(framing.1), "{target}");
            let arrived = lab.origin.arrival().await;
            assert_eq!((&*arrived.text(), arrived.whole), ("howdy", true), "{target}");
            assert_eq!(arrived.head.one(sent.0), Some(sent.1), "{target}");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_early_answer_to_an_upload_arrives_and_its_client_stream_stays_usable() {
    const SIZE: usize = 8 << 20;
    let answered = Arc::new(Notify::new());
    let origin = Origin::sharing(answered.clone(), move |mut stream, told| async move {
        while let Some(head) = stream.head().await {
            if head.method() == "POST" {
                stream.send("HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\nbig").await;
                // A reset may overtake what was sent before it.
                told.notified().await;
                return stream.into_wire().abort();
            }
            stream.send(ok("fine")).await;
        }
    });
    let rule = format!("{{ name: shut, hosts: [{HOST}], paths: [/shut], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(origin).await;
    for (path, status) in [("/shut", 403), ("/a", 413), ("/shut", 403)] {
        let mut wire = lab.tunnel(HOST).await;
        wire.send(request_text(&format!("POST {path}\r\nContent-Length: {SIZE}"), HOST)).await;
        assert_eq!(wire.answer("POST").await.head.status(), status, "{path}");
        if status == 413 {
            answered.notify_one();
        }
        // More than all buffers on the way hold: somebody reads it.
        for _ in 0..SIZE >> 20 {
            wire.send(vec![b'x'; 1 << 20]).await;
        }
        assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "fine", "{path}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn one_direction_of_a_tunnel_may_end_before_the_other() {
    // The server's first words tell which side ends first.
    let origin = Origin::with_tls(None, |mut stream: Stream| async move {
        if stream.exactly(6).await == b"you...".to_vec() {
            assert_eq!(stream.rest().await, b"first");
            stream.send("then me").await;
            stream.finish().await;
        } else {
            stream.send("I end").await;
            stream.finish().await;
            assert_eq!(stream.rest().await, b"and I go on");
        }
    });
    let rule = format!("{{ name: blind, hosts: [{STRANGER}], action: tunnel }}");
    let lab = Plan::api_key().rule(&rule).start(origin).await;
    let (_, mut wire) = lab.connect(&format!("{STRANGER}:443")).await;
    wire.send("you...first").await;
    wire.finish().await;
    assert_eq!(wire.rest().await, b"then me");
    let (_, mut wire) = lab.connect(&format!("{STRANGER}:443")).await;
    wire.send("me....").await;
    assert_eq!(wire.rest().await, b"I end");
    wire.send("and I go on").await;
    wire.finish().await;
    lab.origin.has_read("and I go on").await;
    drop(wire);
    // The first tunnel may end after the second one.
    let records = lab.finish().await;
    let of = |record: &Value| (record["bytes_in"].as_u64(), record["bytes_out"].as_u64());
    let mut counts: Vec<_> = records.iter().map(of).collect();
    counts.sort_unstable();
    assert_eq!(counts, [(Some(11), Some(7)), (Some(17), Some(5))]);
    assert!(records.iter().all(|record| record["outcome"] == "completed"), "{records:?}");
}

/// A FIN would be the end of a file, in protocols without lengths.
#[tokio::test]
async fn a_tunnel_whose_upstream_breaks_off_ends_by_a_reset() {
    let origin = Origin::with_tls(None, |mut stream: Stream| async move {
        stream.send("part").await;
        assert_eq!(stream.exactly(2).await, b"go");
        stream.into_wire().abort();
    });
    let rule = format!("{{ name: blind, hosts: [{STRANGER}], action: tunnel }}");
    let lab = Plan::api_key().rule(&rule).start(origin).await;
    let (_, mut wire) = lab.connect(&format!("{STRANGER}:443")).await;
    assert_eq!(wire.exactly(4).await, b"part");
    wire.send("go").await;
    assert!(!wire.ends_cleanly().await);
    assert_eq!(lab.finish().await[0]["outcome"], "upstream_aborted");
}

/// How an exchange stands when its client goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Upload,
    Waiting,
    Head,
    Events,
}

#[tokio::test]
async fn a_client_that_disconnects_is_noticed_at_the_origin_in_every_phase() {
    for at in [At::Upload, At::Waiting, At::Head, At::Events] {
        for reset in [true, false] {
            let gone = Arc::new(Notify::new());
            let origin = Origin::sharing(gone.clone(), move |mut stream, tell| async move {
                stream.head().await;
                match at {
                    At::Upload | At::Waiting => {}
                    At::Head => stream.send(CHUNKED).await,
                    At::Events => stream.send(format!("{CHUNKED}9\r\ndata: 1\n\n\r\n")).await,
                }
                stream.rest().await;
                tell.notify_one();
            });
            let lab = Plan::api_key().start(origin).await;
            let mut wire = lab.tunnel(HOST).await;
            match at {
                At::Upload => {
                    wire.send(request_text("POST /a\r\nContent-Length: 9", HOST)).await;
                    wire.send("hello").await;
                    lab.origin.has_read("hello").await;
                }
                _ => {
                    wire.send(request_text("GET /a", HOST)).await;
                    lab.origin.has_read("GET /a").await;
                }
            }
            if matches!(at, At::Head | At::Events) {
                assert_eq!(wire.head().await.expect("a head").status(), 200);
            }
            if at == At::Events {
                assert_eq!(wire.chunk().await.as_deref(), Some(&b"data: 1\n\n"[..]));
            }
            let began = Instant::now();
            match reset {
                true => wire.abort(),
                false => drop(wire),
            }
            patiently(&format!("{at:?}: the origin notices"), gone.notified()).await;
            assert!(began.elapsed() < Duration::from_secs(10), "{at:?}: {:?}", began.elapsed());
            let records = lab.finish().await;
            assert_eq!(records.len(), 1, "{at:?}: {records:?}");
            assert_eq!(records[0]["outcome"], "client_aborted", "{at:?}");
        }
    }
}

/// An origin that answers `/slow` only when it is told to.
fn told_when_to_answer(may_answer: &Arc<Notify>, gone: &Arc<Notify>) -> Origin {
    Origin::sharing(
        (may_answer.clone(), gone.clone()),
        move |mut stream, (told, tell)| async move {
            while let Some(request) = stream.request().await {
                if request.head.target() == "/slow" {
                    tokio::select! {
                        () = told.notified() => {}
                        _ = stream.comes() => return tell.notify_one(),
                    }
                }
                stream.send(ok("fine")).await;
            }
        },
    )
}

/// A stream of an agent that has sent a request for `/slow`, in a tunnel or in absolute form.
async fn slow_request(lab: &Lab, in_tunnel: bool) -> Wire {
    let text = request_text("GET /slow", HOST);
    let mut wire = if in_tunnel { lab.tunnel(HOST).await } else { lab.client().await };
    match in_tunnel {
        true => wire.send(text).await,
        false => {
            let line = format!("GET https://{HOST}/slow HTTP/1.1\r\n{}", lab.authorization("ci"));
            wire.send(text.replacen("GET /slow HTTP/1.1\r\n", &line, 1)).await;
        }
    }
    lab.origin.has_read("GET /slow").await;
    wire
}

#[tokio::test]
async fn an_agent_that_half_closes_its_stream_after_its_request_gets_the_answer() {
    for in_tunnel in [true, false] {
        let (may_answer, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let lab = Plan::api_key().start(told_when_to_answer(&may_answer, &gone)).await;
        let mut wire = slow_request(&lab, in_tunnel).await;
        wire.finish().await;
        // Long enough for the gateway to read the end.
        let mut others = lab.tunnel(HOST).await;
        for _ in 0..20 {
            assert_eq!(others.ask(request_text("GET /a", HOST)).await.text(), "fine");
        }
        may_answer.notify_one();
        let answer = wire.answer("GET").await;
        assert_eq!((&*answer.text(), answer.whole), ("fine", true), "{in_tunnel}");
        assert!(wire.is_closed().await);
        let records = lab.finish().await;
        let slow = records.iter().find(|record| record["path"] == "/slow").expect("a record");
        assert_eq!(slow["outcome"], "completed", "{in_tunnel}");
    }
}

#[tokio::test]
async fn an_agent_that_half_closes_its_stream_with_the_body_of_its_request_gets_the_answer() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel(HOST).await;
    let head = request_text("POST /a\r\nContent-Length: 4", HOST);
    wire.send(format!("{head}body")).await;
    wire.finish().await;
    let answer = wire.answer("POST").await;
    assert_eq!((&*answer.text(), answer.whole), ("fine", true));
    let records = lab.finish().await;
    assert_eq!(records[0]["outcome"], "completed");
}

#[tokio::test]
async fn an_agent_that_half_closes_its_stream_within_the_body_of_its_request_is_refused() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel(HOST).await;
    let head = request_text("POST /a\r\nContent-Length: 4", HOST);
    wire.send(format!("{head}bo")).await;
    wire.finish().await;
    let answer = wire.answer("POST").await;
    assert_eq!(answer.head.status(), 400);
    assert!(answer.text().contains("the request ended before its body did"), "{}", answer.text());
    lab.finish().await;
}

#[tokio::test]
async fn an_agent_that_half_closes_and_then_disconnects_is_noticed_at_the_origin() {
    for in_tunnel in [true, false] {
        let (never, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let lab = Plan::api_key().start(told_when_to_answer(&never, &gone)).await;
        let mut wire = slow_request(&lab, in_tunnel).await;
        wire.finish().await;
        drop(wire);
        patiently("the origin notices", gone.notified()).await;
        let records = lab.finish().await;
        assert_eq!(records[0]["outcome"], "client_aborted", "{in_tunnel}");
    }
}

/// How an origin goes.
#[derive(Clone, Copy, Debug)]
enum Goes {
    /// By a reset.
    Reset,
    /// By FIN, without close_notify.
    Torn,
    /// As a well-behaved server closes: no end of a body that says its own.
    Closed,
}

#[tokio::test]
async fn an_answer_that_the_origin_cuts_is_visibly_cut_for_the_agent() {
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n";
    const TRAILER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                           4\r\nonly\r\n0\r\nX-Half: trai";
    const UNTIL_CLOSED: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonly this";
    let mut cases = vec![];
    for beginning in [LENGTH, CHUNKS, TRAILER] {
        cases.extend([Goes::Reset, Goes::Torn, Goes::Closed].map(|goes| (beginning, goes)));
    }
    // Its clean close is its end.
    cases.extend([(UNTIL_CLOSED, Goes::Reset), (UNTIL_CLOSED, Goes::Torn)]);
    for (beginning, goes) in cases {
        let seen = Arc::new(Notify::new());
        let origin = Origin::sharing(seen.clone(), move |mut stream, told| async move {
            stream.request().await;
            stream.send(beginning).await;
            // Not before the client has the head, which a reset may overtake.
            told.notified().await;
            match goes {
                Goes::Reset => stream.into_wire().abort(),
                Goes::Torn => drop(stream),
                Goes::Closed => stream.finish().await,
            }
        });
        let lab = Plan::api_key().start(origin).await;
        let mut wire = lab.sent("GET /a").await;
        let head = wire.head().await.expect("a head");
        assert_eq!(head.status(), 200, "{beginning:?} {goes:?}");
        seen.notify_one();
        let end = match head.has("content-length") {
            true => (wire.exactly(100).await.len() == 100).then_some(vec![]),
            false => {
                let mut chunk = wire.chunk().await;
                while chunk.as_ref().is_some_and(|chunk| !chunk.is_empty()) {
                    chunk = wire.chunk().await;
                }
                chunk
            }
        };
        assert!(end.is_none() || !wire.rest().await.ends_with(b"\r\n"), "{beginning:?} {goes:?}");
        let records = lab.finish().await;
        assert_eq!(records[0]["outcome"], "upstream_aborted", "{beginning:?} {goes:?}");
    }
}

#[tokio::test]
async fn each_event_is_passed_on_before_the_next_one_exists() {
    const EVENTS: usize = 20;
    for kind in ["text/event-stream", "application/x-ndjson"] {
        // The service makes an event only when the client has the one before.
        let received = Arc::new(Semaphore::new(1));
        let origin = Origin::sharing(received.clone(), move |mut stream, may_send| async move {
            stream.request().await;
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type:";
            stream.send(format!("{head} {kind}\r\n\r\n")).await;
            for event in 0..EVENTS {
                may_send.acquire().await.expect("it is open").forget();
                let line = format!("data: {event}\n\n");
                stream.send(format!("{:x}\r\n{line}\r\n", line.len())).await;
            }
            stream.send("0\r\n\r\n").await;
        });
        let lab = Plan::api_key().start(origin).await;
        let mut wire = lab.sent("GET /a").await;
        assert_eq!(wire.head().await.expect("a head").status(), 200);
        for event in 0..EVENTS {
            let chunk = wire.chunk().await.expect("an event that is not held back");
            assert_eq!(String::from_utf8(chunk).expect("text"), format!("data: {event}\n\n"));
            received.add_permits(1);
        }
        assert!(wire.chunk().await.expect("the end").is_empty());
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_slow_answer_is_not_cut_by_head_idle_handshake_or_connect_timeouts() {
    const SHORT: Duration = Duration::from_millis(100);
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        let mut every = every(SHORT);
        // Long polling: nothing for longer than a stream may be idle.
        for _ in 0..10 {
            every.tick().await;
        }
        stream.send(CHUNKED).await;
        for _ in 0..20 {
            every.tick().await;
            stream.send("2\r\nx\n\r\n").await;
        }
        stream.send("0\r\n\r\n").await;
    });
    let mut plan = Plan::api_key();
    for name in ["head_timeout", "idle_timeout", "handshake_timeout", "connect_timeout"] {
        plan = plan.limit(&format!("{name}: 600ms"));
    }
    // The wait for the head counts as an exchange on which nothing moves.
    let lab = plan.limit("body_idle_timeout: 1500ms").start(origin).await;
    let mut wire = lab.sent("GET /a").await;
    let answer = wire.answer("GET").await;
    assert_eq!((&*answer.text(), answer.whole), ("x\n".repeat(20).as_str(), true), "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_head_sent_too_slowly_is_cut_while_other_streams_are_served() {
    let plan = Plan::api_key().limit("head_timeout: 500ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let (mut plain, mut inner) = (lab.client().await, lab.tunnel(HOST).await);
    let mut others = lab.tunnel(HOST).await;
    let began = Instant::now();
    let head = format!("GET https://{HOST}/slow HTTP/1.1\r\nX-Slow: {}", "x".repeat(200));
    let mut every = every(Duration::from_millis(25));
    let mut dripped = 0;
    for byte in head.bytes() {
        every.tick().await;
        // Until both have been cut.
        let (one, two) = (plain.try_send([byte]).await, inner.try_send([byte]).await);
        if one.is_err() && two.is_err() {
            break;
        }
        dripped += 1;
        assert_eq!(others.ask(request_text("GET /a", HOST)).await.text(), "fine");
    }
    assert!((10..head.len()).contains(&dripped), "{dripped} bytes in {:?}", began.elapsed());
    lab.finish().await;
}
