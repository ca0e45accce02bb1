//! Many exchanges on one HTTP/2 stream: resets, GOAWAY, windows and limits, each on its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::Reason;
use tokio::sync::Barrier;

use test_support::http2::frames::*;
use test_support::http2::{Ask, Offer, Order, Reply};
use test_support::*;

#[tokio::test]
async fn a_hundred_and_fifty_exchanges_run_side_by_side_on_one_stream() {
    const COUNT: usize = 150;
    let all = Arc::new(Barrier::new(COUNT));
    let origin = Origin::multiplexed(move |mut ask: Ask| {
        let all = Arc::clone(&all);
        async move {
            let request = ask.whole().await;
            // Nobody is answered before all have asked.
            patiently("the others", all.wait()).await;
            ask.reply(&Reply::ok(request.head.target())).await;
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let calls = (0..COUNT).map(async |number| {
        let path = format!("/{number}");
        let answer = client.ask(&format!("GET {path}")).await;
        assert_eq!(answer.text(), path);
    });
    futures_util::future::join_all(calls).await;
    for request in lab.origin.received() {
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    // One stream takes a hundred.
    assert_eq!(lab.origin.streams(), 2);
    assert_eq!(lab.finish().await.len(), COUNT);
}

#[tokio::test]
async fn a_request_for_another_authority_on_the_stream_is_421() {
    let lab = Plan::api_key().hosts(&format!("{HOST}, {STRANGER}"));
    let lab = lab.start(Origin::speaking(Offer::Both, |_| Reply::ok("fine"))).await;
    let client = lab.h2(HOST).await;
    for authority in [STRANGER, "api.acme.test:444", "api.acme.test.", "nowhere.test"] {
        let answer = client.open_for(authority, "GET /a", true).await.answer().await;
        let same = authority == "api.acme.test.";
        assert!(answer.head.status() == 421 || same, "{authority}: {answer:?}");
    }
    let received = lab.origin.received();
    assert!(received.iter().all(|one| one.head.one(":authority") == Some(HOST)), "{received:?}");
    assert_eq!(client.ask("GET /b").await.text(), "fine");
    let records = lab.finish().await;
    let refused = records.iter().filter(|record| record["code"] == "host_mismatch").count();
    assert!(refused >= 3, "{records:#?}");
}

#[tokio::test]
async fn an_exchange_that_the_agent_resets_is_reset_upstream_and_no_other_one() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::multiplexed(move |mut ask: Ask| {
        let tell = tell.clone();
        async move {
            ask.whole().await;
            match ask.head.target() {
                "/stuck" => tell.send(ask.given_up().await).expect("it is waited for"),
                _ => ask.reply(&Reply::ok("fine")).await,
            }
        }
    });
    let mut lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let stuck = client.open("GET /stuck", true).await;
    lab.origin.arrival().await;
    stuck.reset(Reason::CANCEL);
    assert_eq!(patiently("the reset", told.recv()).await, Some(Reason::CANCEL));
    assert_eq!(client.ask("GET /other").await.text(), "fine");
    assert_eq!(lab.origin.streams(), 1);
    let mut records = lab.finish().await;
    records.sort_by_key(|record| record["path"].to_string());
    assert_eq!(records[0]["outcome"], "completed");
    assert_eq!(records[1]["outcome"], "client_aborted");
}

#[tokio::test]
async fn an_upload_that_the_agent_gives_up_is_cut_upstream() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let origin = Origin::multiplexed(move |mut ask: Ask| {
        let tell = Arc::clone(&tell);
        async move {
            let request = ask.whole().await;
            let tell = tell.lock().expect("not poisoned").take().expect("one request");
            tell.send(request).expect("it is waited for");
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let mut call = client.open("POST /a", false).await;
    call.send(b"a part").await;
    lab.origin.has_read("a part").await;
    call.reset(Reason::CANCEL);
    let request = patiently("the end", told).await.expect("it was told");
    assert_eq!((request.text().as_str(), request.whole), ("a part", false));
    let records = lab.finish().await;
    assert_eq!(records[0]["outcome"], "client_aborted");
}

#[tokio::test]
async fn an_answer_that_the_upstream_resets_midway_is_reset_towards_the_agent() {
    let origin = Origin::multiplexed(|mut ask: Ask| async move {
        let code: u32 = ask.whole().await.head.target()[1..].parse().expect("a code");
        let mut sending = ask.begin(200, &[], false).expect("asked");
        assert!(sending.send(b"a part").await);
        tokio::task::yield_now().await;
        sending.reset(Reason::from(code));
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    for (sent, seen) in [
        (Reason::CANCEL, Reason::CANCEL),
        (Reason::ENHANCE_YOUR_CALM, Reason::ENHANCE_YOUR_CALM),
        (Reason::INTERNAL_ERROR, Reason::INTERNAL_ERROR),
        (Reason::PROTOCOL_ERROR, Reason::INTERNAL_ERROR),
        (Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR),
    ] {
        let path = format!("GET /{}", u32::from(sent));
        let (answer, reason) = client.open(&path, true).await.outcome().await;
        assert_eq!((answer.whole, reason), (false, Some(seen)), "{sent:?}");
    }
    assert_eq!(lab.origin.streams(), 1);
    for record in lab.finish().await {
        assert_eq!(record["outcome"], "upstream_aborted");
    }
}

#[tokio::test]
async fn a_reset_instead_of_an_answer_is_a_502() {
    let origin = Origin::multiplexed(|mut ask: Ask| async move {
        ask.whole().await;
        ask.reset(Reason::INTERNAL_ERROR);
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.h2(HOST).await.ask("GET /a").await.is(502);
    assert_eq!(answer.head.one("keyward-error"), Some("upstream_protocol"));
    assert_eq!(lab.origin.received().len(), 1, "it may have been processed");
    lab.finish().await;
}

#[tokio::test]
async fn a_request_reset_with_refused_stream_is_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let origin = Origin::multiplexed(move |mut ask: Ask| {
        let seen = Arc::clone(&seen);
        async move {
            let request = ask.whole().await;
            match seen.fetch_add(1, Ordering::SeqCst) {
                0 => ask.reset(Reason::REFUSED_STREAM),
                _ => ask.reply(&Reply::ok(request.body)).await,
            }
        }
    });
    let lab = Plan::api_key().start(origin).await;
    // Not idempotent: it goes again because it was not processed.
    let answer = lab.h2(HOST).await.post("POST /a", "an order").await;
    assert_eq!(answer.text(), "an order");
    assert_eq!(lab.origin.received().len(), 2);
    assert_eq!(lab.finish().await.len(), 1);
}

#[tokio::test]
async fn a_request_that_is_always_reset_with_refused_stream_is_sent_three_times() {
    let origin = Origin::multiplexed(|mut ask: Ask| async move {
        ask.whole().await;
        ask.reset(Reason::REFUSED_STREAM);
    });
    let lab = Plan::api_key().start(origin).await;
    assert_eq!(lab.h2(HOST).await.ask("GET /a").await.head.status(), 502);
    lab.finish_after(3).await;
}

/// Answers the waiting requests after 50 ms without a frame: five of them, and refuses the others unprocessed. Announces
/// the limit of five with the first answers.
async fn allows_five(mut stream: Stream) {
    const MOMENT: Duration = Duration::from_millis(50);
    stream.exactly(PREFACE.len()).await;
    let (mut waiting, mut has_said) = (vec![], false);
    loop {
        match tokio::time::timeout(MOMENT, stream.comes()).await {
            Ok(false) => return,
            Ok(true) => match stream.frame().await {
                Some(got) if got.kind == HEADERS => waiting.push(got.stream),
                Some(_) => {}
                None => return,
            },
            Err(_) if waiting.is_empty() => {}
            Err(_) => {
                let mut answers = vec![];
                if !has_said {
                    // SETTINGS_MAX_CONCURRENT_STREAMS.
                    answers.extend(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 5]));
                    answers.extend(frame(SETTINGS, ACK, 0, &[]));
                    has_said = true;
                }
                for (at, number) in waiting.drain(..).enumerate() {
                    answers.extend(match at {
                        // `:status: 200`, from the static table.
                        0..5 => frame(HEADERS, END_HEADERS | END_STREAM, number, &[0x88]),
                        // REFUSED_STREAM.
                        _ => frame(RST_STREAM, 0, number, &[0, 0, 0, 7]),
                    });
                }
                stream.send(answers).await;
            }
        }
    }
}

#[tokio::test]
async fn requests_beyond_a_stream_limit_announced_late_are_still_answered() {
    let lab = Plan::api_key().start(Origin::framed(allows_five)).await;
    let client = lab.h2(HOST).await;
    let calls = (0..40).map(async |number| {
        let answer = client.ask(&format!("GET /{number}")).await;
        assert_eq!(answer.head.status(), 200, "{number}: {answer:?}");
    });
    futures_util::future::join_all(calls).await;
    lab.finish().await;
}

/// Answers the first request; then goes away and says so, whatever has come since.
async fn leaves_after_the_first(mut stream: Stream) {
    stream.exactly(PREFACE.len()).await;
    stream.send(frame(SETTINGS, 0, 0, &[])).await;
    let (first, number) = (stream.number == 0, stream.number);
    let mut count = 0;
    while let Some(got) = stream.frame().await {
        match got.kind {
            SETTINGS if got.flags & ACK == 0 => stream.send(frame(SETTINGS, ACK, 0, &[])).await,
            HEADERS => {
                count += 1;
                let start = format!("HEADERS {number} {count}");
                stream.note(Message {
                    head: Head { start, ..Head::default() },
                    ..Message::default()
                });
                if first && count == 2 {
                    // Last processed: 1. Code: NO_ERROR.
                    stream.send(frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await;
                    stream.finish().await;
                    return;
                }
                // `:status: 200`, from the static table.
                let answer = frame(HEADERS, END_HEADERS | END_STREAM, got.stream, &[0x88]);
                stream.send(answer).await;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_request_that_a_goaway_left_unprocessed_is_sent_on_another_stream() {
    let lab = Plan::api_key().start(Origin::framed(leaves_after_the_first)).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.ask("GET /first").await.head.status(), 200);
    assert_eq!(client.post("POST /second", "an order").await.head.status(), 200);
    let heads: Vec<_> = lab.origin.received().into_iter().map(|one| one.head.start).collect();
    assert_eq!(heads, ["HEADERS 0 1", "HEADERS 0 2", "HEADERS 1 1"]);
    lab.finish().await;
}

#[tokio::test]
async fn an_answer_in_progress_is_completed_after_a_goaway_of_the_upstream() {
    let origin = Origin::multiplexed(|mut ask: Ask| async move {
        ask.whole().await;
        let mut sending = ask.begin(200, &[], false).expect("asked");
        ask.order(Order::GoAway);
        for _ in 0..20 {
            assert!(sending.send(b"a part ").await);
            tokio::task::yield_now().await;
        }
        sending.end();
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    for _ in 0..3 {
        assert_eq!(client.ask("GET /a").await.text(), "a part ".repeat(20));
    }
    for record in lab.finish().await {
        assert_eq!(record["outcome"], "completed");
    }
}

#[tokio::test]
async fn an_answer_that_the_agent_does_not_read_stops_the_upstream_and_nothing_else() {
    const PIECE: usize = 64 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let origin = Origin::multiplexed(move |mut ask: Ask| {
        let count = Arc::clone(&count);
        async move {
            ask.whole().await;
            if ask.head.target() != "/endless" {
                return ask.reply(&Reply::ok(vec![b'.'; 3 * PIECE])).await;
            }
            let mut sending = ask.begin(200, &[], false).expect("asked");
            while sending.send(&[b'.'; PIECE]).await {
                count.fetch_add(PIECE, Ordering::SeqCst);
            }
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let mut stopped = client.open("GET /endless", true).await;
    let coming = stopped.head().await.expect("a head");
    // The others pass while it stands, and give what is under way the time to arrive.
    for _ in 0..20 {
        assert_eq!(client.ask("GET /other").await.body.len(), 3 * PIECE);
    }
    let held = sent.load(Ordering::SeqCst);
    assert!(held < 2 << 20, "{held} bytes are held for a reader that does not read");
    drop((coming, stopped));
    lab.finish().await;
}

#[tokio::test]
async fn an_upstream_that_stops_reading_stops_the_upload() {
    const PIECE: usize = 64 * 1024;
    let origin = Origin::multiplexed(|mut ask: Ask| async move {
        match ask.head.target() {
            // Never read.
            "/stuck" => {
                let _ = ask.given_up().await;
            }
            _ => {
                let request = ask.whole().await;
                ask.reply(&Reply::ok(request.body.len().to_string())).await;
            }
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let mut stuck = client.open("POST /stuck", false).await;
    let mut sent = 0;
    let upload = async {
        while stuck.try_send(&[b'.'; PIECE]).await {
            sent += PIECE;
        }
    };
    let others = async {
        for _ in 0..20 {
            let body = ".".repeat(3 * PIECE);
            assert_eq!(client.post("POST /other", &body).await.text(), (3 * PIECE).to_string());
        }
    };
    tokio::select! {
        () = upload => panic!("it ended"),
        () = others => {}
    }
    assert!(sent < 2 << 20, "{sent} bytes are held for an upstream that does not read");
    stuck.reset(Reason::CANCEL);
    lab.finish().await;
}

#[tokio::test]
async fn an_early_answer_to_an_unfinished_upload_arrives_whole() {
    for offer in [Offer::Http2, Offer::Http1] {
        let http1 = |mut stream: Stream| async move {
            stream.head().await;
            stream.send("HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\ntoo much").await;
            stream.finish().await;
        };
        let http2 = |mut ask: Ask| async move {
            let mut sending = ask.begin(413, &[], false).expect("asked");
            sending.send(b"too much").await;
            sending.end();
        };
        let lab = Plan::api_key().start(Origin::either(offer, http1, http2)).await;
        let client = lab.h2(HOST).await;
        let mut call = client.open("POST /a", false).await;
        call.send(b"a part").await;
        let coming = call.head().await.expect("an answer");
        assert_eq!(coming.head.status(), 413, "{offer:?}");
        let (answer, reason) = coming.rest().await;
        assert_eq!((answer.text().as_str(), reason), ("too much", None), "{offer:?}");
        // And the next exchange is not disturbed.
        assert_eq!(client.open("POST /b", true).await.answer().await.head.status(), 413);
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_upstream_s_100_continue_reaches_the_agent() {
    let origin = Origin::multiplexed(|mut ask: Ask| async move {
        ask.interim(100, &[]);
        let request = ask.whole().await;
        ask.reply(&Reply::ok(request.body)).await;
    });
    let lab = Plan::api_key().limit("continue_timeout: 1h").start(origin).await;
    let client = lab.h2(HOST).await;
    let mut call = client.open("POST /a\r\nexpect: 100-continue", false).await;
    assert_eq!(call.interim().await, 100);
    call.send(b"now").await;
    call.end();
    assert_eq!(call.answer().await.text(), "now");
    lab.finish().await;
}

#[tokio::test]
async fn early_hints_do_not_disturb_the_answer() {
    let origin = Origin::multiplexed(|mut ask: Ask| async move {
        ask.whole().await;
        ask.interim(103, &[("link", "</a.css>; rel=preload")]);
        ask.reply(&Reply::ok("fine")).await;
    });
    let lab = Plan::api_key().start(origin).await;
    assert_eq!(lab.h2(HOST).await.ask("GET /a").await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn requests_of_two_agents_to_one_upstream_each_have_their_own_credential() {
    let other = canary::Canary::new("othr");
    let plan = Plan::api_key()
        .secret("OTHER", &other)
        .connection("{ name: second, provider: acme, fields: { api_key: { env: OTHER } } }")
        .agent("two", "second");
    let lab = plan.start(Origin::speaking(Offer::Both, |_| Reply::ok("fine"))).await;
    let one = lab.h2(HOST).await;
    let two = lab.h2_with("two", HOST, &h2::client::Builder::new()).await;
    for _ in 0..3 {
        assert_eq!(one.ask("GET /one").await.text(), "fine");
        assert_eq!(two.ask("GET /two").await.text(), "fine");
    }
    assert_eq!(lab.origin.received().len(), 6);
    for request in lab.origin.received() {
        let key = if request.head.target() == "/one" { &lab.canary.text } else { &other.text };
        assert_eq!(request.head.all("x-api-key"), [&**key]);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_get_that_ends_by_an_empty_frame_has_no_body_over_http1() {
    let mut lab = Lab::simple().await;
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/a")];
    for body in ["", "hello"] {
        let mut wire = lab.frames(HOST).await;
        let opened = frame(HEADERS, END_HEADERS, 1, &block(&fields));
        let ended = frame(DATA, END_STREAM, 1, body.as_bytes());
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[]), &opened, &ended].concat()).await;
        assert_eq!(wire.end_of(1).await, End::Answer(200));
        let request = lab.origin.arrival().await;
        assert_eq!(request.text(), body);
        assert!(!body.is_empty() || !request.head.has("transfer-encoding"), "{request:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn cleartext_http2_is_refused() {
    let lab = Lab::simple().await;
    // Prior knowledge, on the proxy port.
    let mut wire = lab.client().await;
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    let answer = wire.try_answer("PRI").await;
    assert!(answer.is_none_or(|answer| answer.head.status() == 400));
    // An upgrade of a request that is proxied.
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    wire.send(format!(
        "GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n{authorization}Connection: Upgrade, \
         HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    ))
    .await;
    let answer = wire.answer("GET").await;
    assert_ne!(answer.head.status(), 101);
    // In a tunnel where HTTP/1.1 was agreed on.
    let mut wire = lab.tunnel(HOST).await;
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    let answer = wire.try_answer("PRI").await;
    assert!(answer.is_none_or(|answer| answer.head.status() == 400));
    // And an upgrade there.
    let mut wire = lab.tunnel(HOST).await;
    let upgrade = "GET /a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAAP__";
    assert_ne!(wire.ask(request_text(upgrade, HOST)).await.head.status(), 101);
    for request in lab.origin.received() {
        assert!(!request.head.has("upgrade") && !request.head.has("http2-settings"));
    }
    lab.finish().await;
}
