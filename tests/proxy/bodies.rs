//! Bodies pass as they come, whatever their size, and a body that was cut stays visibly cut.

use std::sync::Arc;

use tokio::sync::Notify;

use test_support::install::TOKEN_CI;
use test_support::process::{Served, soak};
use test_support::*;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn an_answer_arrives_chunk_by_chunk() {
    let seen = Arc::new(Notify::new());
    let origin = Origin::sharing(seen.clone(), move |mut stream, told| async move {
        stream.request().await;
        stream.send(CHUNKED).await;
        for number in 0..5 {
            stream.send(format!("8\r\nevent {number}\n\r\n")).await;
            // The next one only when the client has this one: no part may be held back.
            patiently("the client", told.notified()).await;
        }
        stream.send("0\r\n\r\n").await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("GET /a\r\nAccept: text/event-stream").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    for number in 0..5 {
        assert_eq!(wire.chunk().await, Some(format!("event {number}\n").into_bytes()));
        seen.notify_one();
    }
    assert_eq!(wire.chunk().await, Some(vec![]));
    lab.finish().await;
}

#[tokio::test]
async fn an_upload_arrives_chunk_by_chunk() {
    let seen = Arc::new(Notify::new());
    let origin = Origin::sharing(seen.clone(), move |mut stream, tell| async move {
        let head = stream.head().await.expect("a head");
        assert_eq!(head.one("transfer-encoding"), Some("chunked"));
        while stream.chunk().await.is_some_and(|chunk| !chunk.is_empty()) {
            tell.notify_one();
        }
        stream.exactly(2).await;
        stream.send(ok("got it")).await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("POST /a\r\nTransfer-Encoding: chunked").await;
    for _ in 0..5 {
        wire.send("5\r\nhello\r\n").await;
        patiently("the origin has the chunk", seen.notified()).await;
    }
    wire.send("0\r\n\r\n").await;
    assert_eq!(wire.answer("POST").await.text(), "got it");
    lab.finish().await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways_in_constant_memory() {
    /// What a gateway may need more for a body than for none.
    const MEMORY_MORE_MAX: usize = 32 << 20;
    let size: usize = if soak() { 1 << 30 } else { 128 << 20 };
    let origin = Origin::scripted(move |mut stream: Stream| async move {
        stream.stop_recording();
        let head = stream.head().await.expect("a head");
        if head.method() == "HEAD" {
            stream.send("HTTP/1.1 200 OK\r\n\r\n").await;
        } else if head.method() == "POST" {
            let got = stream.skip(size).await;
            stream.send(ok(&got.to_string())).await;
        } else {
            stream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await;
            write_zeros(&mut stream, size).await;
        }
        stream.finish().await;
    });
    let plan = Plan::api_key();
    let served = Served::start(&plan, &origin, &[]);

    // What the first request costs is not the body's.
    let mut up = served.tunnel(HOST, TOKEN_CI).await;
    up.ask(request_text("HEAD /a", HOST)).await.is(200);
    let before = served.memory();

    let mut up = served.tunnel(HOST, TOKEN_CI).await;
    up.send(format!("POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n")).await;
    write_zeros(&mut up, size).await;
    assert_eq!(up.answer("POST").await.text(), size.to_string());

    let mut down = served.tunnel(HOST, TOKEN_CI).await;
    down.stop_recording();
    down.send(request_text("GET /a", HOST)).await;
    assert_eq!(down.head().await.expect("a head").status(), 200);
    assert_eq!(down.skip(size).await, size);

    let (peak, before) = (served.memory_peak() >> 20, before >> 20);
    assert!(peak < before + (MEMORY_MORE_MAX >> 20), "{before} MiB, then up to {peak} MiB");
}

async fn write_zeros(wire: &mut Wire, mut left: usize) {
    let piece = vec![0; 256 * 1024];
    while left > 0 {
        let now = left.min(piece.len());
        wire.send(&piece[..now]).await;
        left -= now;
    }
}

#[tokio::test]
async fn answers_to_head_and_answers_204_and_304_have_no_body_despite_content_length() {
    let origin = Origin::answering(|request: &Message| match request.head.target() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
        "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    for (method, target, status) in
        [("HEAD", "/a", 200), ("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/b", 200)]
    {
        wire.send(request_text(&format!("{method} {target}"), HOST)).await;
        let answer = wire.answer(method).await;
        assert_eq!(answer.head.status(), status, "{target}");
        if method == "HEAD" {
            assert_eq!(answer.head.one("content-length"), Some("5"), "as GET would have it");
        }
    }
    assert_eq!(lab.origin.received().len(), 4, "the stream stayed in step");
    lab.finish().await;
}

#[tokio::test]
async fn trailers_reach_a_client_that_sends_te_trailers() {
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n"
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask("GET /a\r\nTE: trailers\r\nConnection: TE").await;
    assert_eq!(answer.text(), "hi");
    assert!(answer.whole);
    assert_eq!(answer.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
    let answer = lab.ask("GET /a").await;
    assert_eq!(answer.text(), "hi");
    assert!(answer.whole);
    lab.finish().await;
}

#[tokio::test]
async fn request_trailers_cannot_carry_credential_host_or_framing_fields() {
    let mut lab = Lab::simple().await;
    let mut wire = lab.sent("POST /a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum").await;
    wire.send(
        "2\r\nhi\r\n0\r\nX-Sum: 42\r\nX-Api-Key: mine\r\nAuthorization: Bearer x\r\n\
         Host: evil.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    assert_eq!(wire.answer("POST").await.head.status(), 200);
    let request = lab.origin.arrival().await;
    assert_eq!(request.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
    lab.finish().await;
}

#[tokio::test]
async fn request_trailers_without_a_trailer_field_are_not_forwarded() {
    let mut lab = Lab::simple().await;
    let mut wire = lab.sent("POST /a\r\nTransfer-Encoding: chunked").await;
    wire.send("2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n").await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let request = lab.origin.arrival().await;
    assert!(request.whole && request.trailers.is_empty(), "{request:?}");
    lab.finish().await;
}

#[tokio::test]
async fn trailers_with_placeholders_or_fields_of_the_settings_are_not_forwarded() {
    let plan = Plan::api_key().settings("{ user_agent: ours/1, headers: { X-Env: prod } }");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let (mut wire, placeholder) = (lab.tunnel(HOST).await, lab.placeholder("api_key"));
    let names = "X-Env, X_Env, User-Agent, X-Held, X-Sum";
    let head = format!("POST /a\r\nTransfer-Encoding: chunked\r\nTrailer: {names}");
    wire.send(request_text(&head, HOST)).await;
    wire.send(format!(
        "2\r\nhi\r\n0\r\nX-Env: dev\r\nX_Env: dev\r\nUser-Agent: mine\r\nX-Held: a {placeholder}\r\n\
         X-Sum: 42\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let request = lab.origin.arrival().await;
    assert_eq!(request.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
    assert_eq!(request.head.all("x-env"), ["prod"]);
    lab.finish().await;
}

#[tokio::test]
async fn request_trailers_sent_by_base_url_are_not_forwarded() {
    let mut lab = Lab::simple().await;
    let (mut wire, token) = (lab.client().await, lab.token("ci").to_owned());
    wire.send(format!(
        "POST /to/acme/a HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nKeyward-Token: {token}\r\n\
         Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: {token}\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let request = lab.origin.arrival().await;
    assert!(request.whole && request.trailers.is_empty(), "{request:?}");
    lab.finish().await;
}

/// RFC 9110 §8.6. Servers of HTTP/1.1 answer 411 without it; HTTP/2 has no need of it.
#[tokio::test]
async fn an_empty_post_over_http2_has_a_length_over_http1() {
    let mut lab = Lab::simple().await;
    let client = lab.h2(HOST).await;
    for (method, length) in
        [("POST", Some("0")), ("PUT", Some("0")), ("PATCH", Some("0")), ("DELETE", None)]
    {
        for ends_with_head in [true, false] {
            let mut call = client.open(&format!("{method} /a"), ends_with_head).await;
            if !ends_with_head {
                call.end();
            }
            assert_eq!(call.answer().await.head.status(), 200);
            let head = lab.origin.arrival().await.head;
            assert_eq!(head.one("content-length"), length, "{method} {ends_with_head}");
            assert!(!head.has("transfer-encoding"), "{method} {ends_with_head}");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_and_then_the_answer() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        let head = stream.head().await.expect("a head");
        if head.has("expect") {
            stream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        assert_eq!(stream.exactly(5).await, b"hello");
        stream.send(ok("thanks")).await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("PUT /a\r\nContent-Length: 5\r\nExpect: 100-continue").await;
    let interim = wire.head().await.expect("an interim answer");
    assert_eq!(interim.status(), 100);
    wire.send("hello").await;
    assert_eq!(wire.answer("PUT").await.text(), "thanks");
    lab.finish().await;
}

#[tokio::test]
async fn an_origin_that_knows_no_100_gets_the_body_all_the_same() {
    let mut lab =
        Plan::api_key().limit("continue_timeout: 200ms").start(Origin::saying("ok")).await;
    let mut wire = lab.sent("PUT /a\r\nContent-Length: 5\r\nExpect: 100-continue").await;
    wire.send("hello").await;
    assert_eq!(wire.answer("PUT").await.text(), "ok");
    assert_eq!(lab.origin.arrival().await.text(), "hello");
    lab.finish().await;
}

#[tokio::test]
async fn a_final_answer_instead_of_100_reaches_the_client_without_an_interim_answer() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.head().await;
        stream.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
        stream.finish().await;
    });
    let lab = Plan::api_key().limit("continue_timeout: 20s").start(origin).await;
    let mut wire = lab.sent("PUT /a\r\nContent-Length: 5\r\nExpect: 100-continue").await;
    let answer = wire.answer("PUT").await;
    assert_eq!((answer.head.status(), &*answer.text()), (403, "no"));
    assert!(answer.interim.is_empty(), "nobody asked for the body: {answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn an_unknown_expectation_is_417() {
    let lab = Lab::simple().await;
    for expectation in ["200-ok", "100-continue, other", "x"] {
        let request = format!("POST /a\r\nContent-Length: 0\r\nExpect: {expectation}");
        let answer = lab.ask(&request).await;
        assert_eq!(answer.refusal(), (417, Some("expectation_failed")), "{expectation}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn an_answer_to_an_unfinished_upload_arrives() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.head().await;
        stream
            .send("HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            .await;
        // Reading on: a close with unread bytes would be a reset, and take the answer with it.
        stream.skip(usize::MAX).await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("POST /a\r\nContent-Length: 1000000").await;
    wire.send("only the beginning").await;
    let answer = wire.answer("POST").await;
    assert_eq!((answer.head.status(), &*answer.text()), (413, "big"));
    lab.finish().await;
}

#[tokio::test]
async fn an_upload_that_goes_on_after_its_answer_is_cut_at_the_origin() {
    let ended = Arc::new(Notify::new());
    let plan = Plan::api_key().limit("discarded_body_timeout: 50ms").limit("head_timeout: 1h");
    let lab = plan.start(Origin::answering_early(&ended)).await;
    let mut wire = lab.sent("POST /a\r\nContent-Length: 1000000000000").await;
    let answer = wire.answer("POST").await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "early"));
    let upload = async {
        while wire.try_send(&[b'.'; 16 * 1024]).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = upload => {}
        () = patiently("its end at the origin", ended.notified()) => {}
    }
    let records = lab.finish().await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["outcome"], "completed");
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_is_not_whole_at_the_origin() {
    for head in ["POST /a\r\nContent-Length: 1000", "POST /a\r\nTransfer-Encoding: chunked"] {
        let mut lab = Lab::simple().await;
        let mut wire = lab.sent(head).await;
        wire.send("5\r\nhello\r\n").await;
        lab.origin.has_read("hello").await;
        wire.abort();
        let request = lab.origin.arrival().await;
        assert!(!request.whole, "{head}: {request:?}");
        let records = lab.finish().await;
        assert_eq!(records.len(), 1, "{records:?}");
    }
}

#[tokio::test]
async fn an_answer_that_its_client_breaks_off_ends_at_the_origin() {
    let gone = Arc::new(Notify::new());
    let origin = Origin::sharing(gone.clone(), move |mut stream, tell| async move {
        stream.request().await;
        stream.send(CHUNKED).await;
        let chunk = format!("{:x}\r\n{}\r\n", 65536, "x".repeat(65536));
        while stream.try_send(&chunk).await.is_ok() {}
        tell.notify_one();
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("GET /a").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    wire.abort();
    patiently("the origin notices", gone.notified()).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_idle_stream_to_the_origin_is_used_again() {
    let lab = Lab::simple().await;
    let mut wire = lab.tunnel(HOST).await;
    for _ in 0..10 {
        assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "fine");
    }
    assert_eq!(lab.origin.streams(), 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_broken_answer_is_broken_for_an_agent_of_http_1_0_too() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        let whole = stream.request().await.is_some_and(|it| it.head.target() == "/whole");
        stream
            .send(format!("{CHUNKED}4\r\nonly\r\n{}", if whole { "0\r\n\r\n" } else { "" }))
            .await;
        stream.finish().await;
    });
    let lab = Plan::api_key().start(origin).await;
    for (path, is_whole) in [("whole", true), ("cut", false)] {
        let mut wire = lab.client().await;
        let token = lab.token("ci").to_owned();
        let head = format!("GET /to/acme/{path} HTTP/1.0\r\nHost: 127.0.0.1:8080");
        wire.send(format!("{head}\r\nKeyward-Token: {token}\r\n\r\n")).await;
        let head = wire.head().await.expect("a head");
        assert!(head.status() == 200 && !head.has("content-length"), "{head:?}");
        let body = wire.rest().await;
        // A reset may overtake what was sent before it.
        assert!(body == b"only" || !is_whole && body.is_empty(), "{path}: {body:?}");
        assert_eq!(wire.ends_cleanly().await, is_whole, "{path}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_stream_that_the_origin_has_closed_is_not_used_again() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        if stream.request().await.is_some() {
            stream.send(ok("fine")).await;
            stream.finish().await;
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    for _ in 0..5 {
        assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "fine");
    }
    assert_eq!(lab.origin.received().len(), 5, "each request was sent once");
    lab.finish().await;
}

#[tokio::test]
async fn bytes_after_an_answer_are_not_passed_as_another_answer() {
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
    let origin = Origin::answering(move |_| format!("{}{stray}", ok("mine")));
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    for _ in 0..3 {
        assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "mine");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_get_with_a_body_is_framed_as_any_other() {
    let mut lab = Lab::simple().await;
    let mut wire = lab.tunnel(HOST).await;
    for method in ["GET", "DELETE", "OPTIONS"] {
        wire.send(request_text(&format!("{method} /a\r\nContent-Length: 5"), HOST)).await;
        wire.send("hello").await;
        assert_eq!(wire.answer(method).await.text(), "fine");
        let request = lab.origin.arrival().await;
        assert_eq!((request.head.method(), &*request.text()), (method, "hello"));
        let chunked = format!("{method} /a\r\nTransfer-Encoding: chunked");
        wire.send(request_text(&chunked, HOST)).await;
        wire.send("5\r\nhello\r\n0\r\n\r\n").await;
        assert_eq!(wire.answer(method).await.text(), "fine");
        let request = lab.origin.arrival().await;
        assert_eq!((request.head.method(), &*request.text()), (method, "hello"));
    }
    lab.finish().await;
}
