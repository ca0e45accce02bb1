//! Idle streams that an upstream has ended: a request of which not one byte was written goes to another stream, whatever
//! its method; one of which bytes were written is sent once more if it is idempotent, and else not. Streams whose packets are lost are not used again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use test_support::http2::frames::*;
use test_support::http2::{Ask, Offer, Order, Reply};
use test_support::*;

/// How often it is tried: what is claimed depends on no luck.
const ROUNDS: usize = 20;

/// How an upstream ends an idle stream.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Closes,
    Resets,
}

/// Answers one request on each stream and ends it, without saying that it will; `ended` has a permit for each.
fn forgetful(ends: Ends, ended: Arc<Semaphore>) -> Origin {
    Origin::sharing(ended, move |mut stream, ended| async move {
        let Some(request) = stream.request().await else { return };
        stream.send(ok(&request.text())).await;
        match ends {
            Ends::Closes => stream.finish().await,
            Ends::Resets => stream.into_wire().abort(),
        }
        ended.add_permits(1);
    })
}

async fn has_ended(ended: &Semaphore) {
    patiently("the end of a stream", ended.acquire()).await.expect("it is open").forget();
}

#[tokio::test]
async fn a_post_goes_to_another_stream_where_the_upstream_has_ended_the_idle_one() {
    for ends in [Ends::Closes, Ends::Resets] {
        let ended = Arc::new(Semaphore::new(0));
        let lab = Plan::api_key().start(forgetful(ends, Arc::clone(&ended))).await;
        let (mut http1, http2) = (lab.tunnel(HOST).await, lab.h2(HOST).await);
        for round in 0..ROUNDS {
            let body = format!("order {round}");
            let length = body.len();
            http1
                .send(request_text(&format!("POST /a\r\nContent-Length: {length}"), HOST) + &body)
                .await;
            let answer = http1.answer("POST").await;
            assert_eq!((answer.head.status(), answer.text()), (200, body.clone()), "{ends:?}");
            has_ended(&ended).await;
            assert_eq!(http2.post("POST /b", &body).await.text(), body, "{ends:?}");
            has_ended(&ended).await;
        }
        assert_eq!(lab.origin.received().len(), 2 * ROUNDS, "each once");
        assert_eq!(lab.finish().await.len(), 2 * ROUNDS);
    }
}

#[tokio::test]
async fn a_post_that_the_upstream_has_read_is_never_sent_twice() {
    for offer in [Offer::Http1, Offer::Http2] {
        let http1 = |mut stream: Stream| async move {
            while let Some(request) = stream.request().await {
                if request.head.method() == "POST" {
                    return stream.into_wire().abort();
                }
                stream.send(ok("fine")).await;
            }
        };
        let http2 = |mut ask: Ask| async move {
            match ask.whole().await.head.method() {
                "POST" => ask.order(Order::Break),
                _ => ask.reply(&Reply::ok("fine")).await,
            }
        };
        let lab = Plan::api_key().start(Origin::either(offer, http1, http2)).await;
        let client = lab.h2(HOST).await;
        assert_eq!(client.ask("GET /a").await.text(), "fine");
        let answer = client.post("POST /order", "an order").await;
        assert_eq!(answer.refusal(), (502, Some("upstream_protocol")), "{offer:?}");
        let posts = lab.origin.received().into_iter().filter(|one| one.head.method() == "POST");
        assert_eq!(posts.count(), 1, "{offer:?}");
        lab.finish().await;
    }
}

/// Ends the stream of each request to `/ends` without an answer, until it has read `ends` of them.
fn ending(offer: Offer, ends: usize) -> Origin {
    let came = Arc::new(AtomicUsize::new(0));
    let came_too = came.clone();
    let http1 = move |mut stream: Stream| {
        let came = came.clone();
        async move {
            while let Some(request) = stream.request().await {
                if request.head.target() == "/ends" && came.fetch_add(1, SeqCst) < ends {
                    return stream.into_wire().abort();
                }
                stream.send(ok(&request.text())).await;
            }
        }
    };
    let http2 = move |mut ask: Ask| {
        let came = came_too.clone();
        async move {
            let request = ask.whole().await;
            if request.head.target() == "/ends" && came.fetch_add(1, SeqCst) < ends {
                ask.order(Order::Break);
                // Dropped before, it would be reset.
                ask.given_up().await;
                return;
            }
            ask.reply(&Reply::ok("fine")).await;
        }
    };
    Origin::either(offer, http1, http2)
}

/// How often `/ends` was received.
fn sent(lab: &Lab) -> usize {
    lab.origin.received().iter().filter(|one| one.head.target() == "/ends").count()
}

/// RFC 9110 §9.2.2, RFC 9112 §9.3.1.
#[tokio::test]
async fn an_idempotent_request_whose_reused_stream_ends_without_an_answer_is_sent_once_more() {
    for (ends, status) in [(1, 200), (usize::MAX, 502)] {
        for (method, body) in [("GET", ""), ("PUT", "a body"), ("DELETE", "")] {
            let lab = Plan::api_key().start(ending(Offer::Http1, ends)).await;
            let mut wire = lab.tunnel(HOST).await;
            assert_eq!(wire.ask(request_text("GET /a", HOST)).await.head.status(), 200);
            let request = format!("{method} /ends\r\nContent-Length: {}", body.len());
            wire.send(request_text(&request, HOST) + body).await;
            let answer = wire.answer(method).await;
            assert_eq!((answer.head.status(), sent(&lab)), (status, 2), "{method}");
            if status == 200 {
                assert_eq!(answer.text(), body, "{method}: the whole body");
            }
            lab.finish().await;
        }
        let lab = Plan::api_key().start(ending(Offer::Http2, ends)).await;
        let client = lab.h2(HOST).await;
        assert_eq!(client.ask("GET /a").await.text(), "fine");
        let answer = client.ask("GET /ends").await;
        assert_eq!((answer.head.status(), sent(&lab)), (status, 2), "{}", answer.text());
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_post_whose_reused_stream_ends_or_a_request_on_a_new_stream_is_not_repeated() {
    for (before, request) in [(true, "POST /ends\r\nContent-Length: 0"), (false, "GET /ends")] {
        let lab = Plan::api_key().start(ending(Offer::Http1, 1)).await;
        let mut wire = lab.tunnel(HOST).await;
        if before {
            wire.ask(request_text("GET /a", HOST)).await;
        }
        let answer = wire.ask(request_text(request, HOST)).await;
        assert_eq!((answer.head.status(), sent(&lab)), (502, 1), "{request}");
        lab.finish().await;
    }
}

/// Programs that upload by `Expect` do so by PUT.
#[tokio::test]
async fn an_upload_that_waits_for_100_is_sent_once_more_too() {
    let lab = Plan::api_key().start(ending(Offer::Http1, 1)).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.ask(request_text("GET /a", HOST)).await;
    let request = "PUT /ends\r\nContent-Length: 6\r\nExpect: 100-continue";
    wire.send(request_text(request, HOST)).await;
    assert_eq!(wire.head().await.expect("an interim answer").status(), 100);
    wire.send("a body").await;
    assert_eq!(wire.answer("PUT").await.text(), "a body");
    lab.finish().await;
}

#[tokio::test]
async fn a_stream_is_not_used_longer_than_its_upstream_says() {
    for (said, streams) in [("timeout=0", 3), ("timeout=3600", 1)] {
        let origin = Origin::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\nKeep-Alive: {said}\r\nContent-Length: 4\r\n\r\nfine")
        });
        let lab = Plan::api_key().start(origin).await;
        let mut wire = lab.tunnel(HOST).await;
        for _ in 0..3 {
            let answer = wire.ask(request_text("GET /a", HOST)).await;
            assert_eq!(answer.text(), "fine");
            assert!(!answer.head.has("keep-alive"), "it is about the upstream's stream");
        }
        assert_eq!(lab.origin.streams(), streams, "{said}");
        lab.finish().await;
    }
}

/// The address of a relay to `origin`. When `loses` notifies its waiters, the streams of that moment stay open, but nothing
/// passes any more.
async fn relay(origin: SocketAddr, loses: &Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let (addr, loses) = (listener.local_addr().expect("an address"), Arc::clone(loses));
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(origin).await.expect("it listens");
            let loses = Arc::clone(&loses);
            tokio::spawn(async move {
                let lost = tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => false,
                    () = loses.notified() => true,
                };
                if lost {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn an_http2_stream_whose_packets_are_lost_is_not_used_again() {
    let mut origin = Origin::speaking(Offer::Http2, |_| Reply::ok("fine"));
    let loses = Arc::new(Notify::new());
    origin.addr = relay(origin.addr, &loses).await;
    let lab = Plan::api_key().settings("{ timeout: 1s }").start(origin).await;
    let client = lab.h2(HOST).await;
    for _ in 0..2 {
        assert_eq!(client.ask("GET /a").await.text(), "fine");
    }
    loses.notify_waiters();
    let lost = client.ask("GET /b").await;
    assert_eq!(lost.head.status(), 504, "{lost:?}");
    assert_eq!(client.ask("GET /c").await.text(), "fine");
    assert_eq!(lab.origin.streams(), 2);
    lab.finish().await;
}

/// Says on its first stream, while an answer is in progress there, that it accepts no more requests. Accepts whole ones on
/// others.
async fn leaves_during_an_answer(mut stream: Stream) {
    stream.exactly(PREFACE.len()).await;
    // SETTINGS_INITIAL_WINDOW_SIZE and the window of the connection: 1 GiB.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0x40, 0, 0, 0]);
    stream.send([settings, frame(WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0])].concat()).await;
    let mut body = vec![];
    while let Some(got) = stream.frame().await {
        let data = |text: &[u8]| frame(DATA, 0, got.stream, text);
        // `:status: 200`, from the static table.
        let head = |flags| frame(HEADERS, END_HEADERS | flags, got.stream, &[0x88]);
        match got.kind {
            SETTINGS if got.flags & ACK == 0 => stream.send(frame(SETTINGS, ACK, 0, &[])).await,
            HEADERS if stream.number == 0 => {
                // Last processed: 1. Code: NO_ERROR.
                let leaves = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
                stream.send([head(0), data(b"one\n"), leaves, data(b"two\n")].concat()).await;
            }
            DATA => {
                let answer = head(END_STREAM);
                body.extend(got.payload);
                if got.flags & END_STREAM != 0 {
                    let body = std::mem::take(&mut body);
                    stream.note(Message { body, whole: true, ..Message::default() });
                    stream.send(answer).await;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_long_body_of_which_nothing_was_sent_goes_to_another_stream_after_a_goaway() {
    let lab = Plan::api_key().start(Origin::framed(leaves_during_an_answer)).await;
    let client = lab.h2(HOST).await;
    let mut call = client.open("GET /events", true).await;
    let mut events = call.head().await.expect("an answer");
    let mut seen = vec![];
    while seen.len() < b"one\ntwo\n".len() {
        seen.extend(events.chunk().await.expect("it goes on").expect("no reset"));
    }
    assert_eq!(seen, b"one\ntwo\n");
    // More than is kept of a body that was sent.
    let body = ".".repeat(300_000);
    let answer = client.post("POST /orders\r\ncontent-length: 300000", &body).await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    assert_eq!(lab.origin.only().text(), body);
    assert_eq!(lab.origin.streams(), 2);
    client.abort();
    assert_eq!(lab.finish().await.len(), 2);
}
