//! Slow and idle peers are disconnected after their deadlines, and block no other peer meanwhile.

use std::time::Duration;

use test_support::http2::{Ask, Reply};
use test_support::*;

#[tokio::test]
async fn a_stream_with_an_incomplete_head_is_closed_after_head_timeout() {
    let plan = Plan::api_key().limit("head_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut half = lab.client().await;
    half.send("CONNECT api.acme.test:443 HTTP/1.1\r\nHost: api").await;
    let mut inner = lab.tunnel(HOST).await;
    inner.send("GET /a HTTP/1.1\r\nHost: api").await;
    for mut wire in [half, inner] {
        let rest = wire.rest().await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_tunnel_without_a_tls_handshake_is_closed_after_handshake_timeout() {
    let plan = Plan::api_key().limit("handshake_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let (answer, mut silent) = lab.connect(&format!("{HOST}:443")).await;
    assert_eq!(answer.head.status(), 200);
    let (_, mut slow) = lab.connect(&format!("{HOST}:443")).await;
    slow.send(b"\x16\x03\x01").await;
    silent.rest().await;
    slow.rest().await;
    lab.finish().await;
}

#[tokio::test]
async fn head_timeout_does_not_apply_to_a_tunnel_without_a_request() {
    let plan = Plan::api_key().limit("head_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut spare = lab.tunnel(HOST).await;
    // As long as another tunnel needs until its head is overdue.
    let mut slow = lab.tunnel(HOST).await;
    slow.send("GET /a HTTP/1.1\r\nHost: api").await;
    slow.rest().await;
    assert_eq!(spare.ask(request_text("GET /a", HOST)).await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn an_idle_http2_stream_gets_goaway_and_a_busy_one_does_not() {
    let script = |mut ask: Ask| async move {
        ask.whole().await;
        let mut sending = ask.begin(200, &[], false).expect("asked");
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..6 {
            beat.tick().await;
            assert!(sending.send(b".").await);
        }
        sending.end();
    };
    let plan = Plan::api_key().limit("idle_timeout: 300ms");
    let lab = plan.start(Origin::multiplexed(script)).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.ask("GET /a").await.text(), "......");
    client.ended().await.expect("it is told, and not cut");
    assert_eq!(lab.finish().await[0]["outcome"], "completed");
}

#[tokio::test]
async fn an_http2_exchange_has_the_whole_body_idle_timeout_at_any_offset_between_checks() {
    let script = |mut ask: Ask| async move {
        ask.whole().await;
        let mut beat = tokio::time::interval(Duration::from_millis(2_400));
        beat.tick().await;
        beat.tick().await;
        ask.begin(200, &[], false).expect("asked").end();
    };
    let plan = Plan::api_key().limit("body_idle_timeout: 4s");
    let lab = plan.start(Origin::multiplexed(script)).await;
    let client = lab.h2(HOST).await;
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    let mut asked = Vec::new();
    for _ in 0..10 {
        beat.tick().await;
        asked.push(client.open("GET /a", true).await);
    }
    for call in asked {
        assert_eq!(call.answer().await.head.status(), 200);
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_upstream_that_never_completes_the_tls_handshake_is_502_or_504() {
    // Each limit alone. The second one holds for the agent's handshake too.
    for limits in [
        ["connect_timeout: 300ms", "handshake_timeout: 1h"],
        ["connect_timeout: 1h", "handshake_timeout: 2s"],
    ] {
        let origin = Origin::with_tls(None, |mut stream: Stream| async move {
            stream.hold().await;
        });
        let plan = limits.into_iter().fold(Plan::api_key(), Plan::limit);
        let lab = plan.start(origin).await;
        let answer = lab.ask("GET /a").await;
        assert!(matches!(answer.head.status(), 502 | 504), "{limits:?}: {answer:?}");
        assert!(answer.head.has("keyward-error"), "{answer:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_answer_that_stops_flowing_is_cut() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello\n").await;
        stream.rest().await;
    });
    let plan = Plan::api_key().limit("body_idle_timeout: 300ms");
    let lab = plan.start(origin).await;
    let mut wire = lab.sent("GET /a").await;
    let answer = wire.answer("GET").await;
    assert!(!answer.whole && answer.text() == "hello\n", "{answer:?}");
    lab.finish().await;
}

/// `limits.body_idle_timeout` cut the stream, and the agent got no answer.
#[tokio::test]
async fn a_connection_s_timeout_applies_even_if_body_idle_timeout_is_shorter() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.rest().await;
    });
    let plan = Plan::api_key().settings("{ timeout: 1s }").limit("body_idle_timeout: 200ms");
    let lab = plan.start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text("POST /a\r\nContent-Length: 4", HOST) + "body").await;
    let client = lab.h2(HOST).await;
    for answer in [wire.answer("POST").await, client.post("POST /a", "body").await] {
        assert_eq!(answer.refusal(), (504, Some("upstream_timeout")), "{answer:?}");
    }
    lab.finish().await;
}

/// The whole body was taken for sent when its upload began.
#[tokio::test]
async fn a_connection_s_timeout_counts_from_the_end_of_a_slow_upload_of_an_injected_body() {
    let script = |mut ask: Ask| async move {
        let (mut beat, mut read) = (tokio::time::interval(Duration::from_millis(60)), 0);
        // Its window is 64 KiB: the upload is as slow as the reader.
        while let Some(chunk) = ask.chunk().await {
            read += chunk.expect("the upload goes on").len();
            beat.tick().await;
        }
        ask.reply(&Reply::ok(read.to_string())).await;
    };
    let auth = "{ id: key, kind: api_key, placement: { body: key } }";
    let plan = Plan::new(auth, "{ api_key: { env: CANARY } }").settings("{ timeout: 2s }");
    let lab = plan.start(Origin::multiplexed(script)).await;
    let body = format!("{{\"text\":\"{}\"}}", ".".repeat(1 << 20));
    let client = lab.h2(HOST).await;
    let answer = client.post("POST /a\r\ncontent-type: application/json", &body).await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    assert!(answer.text().parse::<usize>().expect("a length") > body.len(), "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn hundreds_of_idle_streams_do_not_block_a_request() {
    let lab = Lab::simple().await;
    let mut idle = vec![];
    for _ in 0..300 {
        idle.push(lab.client().await);
    }
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    for wire in &mut idle {
        wire.finish().await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_shutdown_finishes_the_exchange_in_progress() {
    let origin = Origin::saying("fine");
    let mut lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("POST /a\r\nContent-Length: 5").await;
    wire.send("he").await;
    lab.origin.has_read("POST /a").await;
    let (records, answer) = tokio::join!(lab.gateway.stop(), async {
        wire.send("llo").await;
        wire.answer("POST").await
    });
    assert_eq!(answer.text(), "fine");
    assert_eq!(records.len(), 1, "{records:?}");
    lab.finish().await;
}
