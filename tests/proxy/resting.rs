//! An idle stream is kept without hyper's buffers. Nothing else changes: received bytes stay, the same events end the
//! stream, and the next request is served as any other.

use std::time::Duration;

use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;

use test_support::*;

/// Says at once what is asked for; `/while` takes longer than a stream is idle before it rests, and
/// `/early` is answered before its body.
fn origin() -> Origin {
    Origin::scripted(|mut stream: Stream| async move {
        while let Some(head) = stream.head().await {
            match head.target() {
                "/while" => a_while(&mut stream).await,
                "/much" => stream.send(ok(&"much ".repeat(MUCH / 5))).await,
                "/early" => {
                    stream.send(ok("early")).await;
                    let length = head.one("content-length").expect("a length");
                    stream.exactly(length.parse().expect("a number")).await;
                }
                "/body" => {
                    let body = stream.exactly(5).await;
                    stream.send(ok(&String::from_utf8_lossy(&body))).await;
                }
                target => stream.send(ok(target)).await,
            }
        }
    })
}

/// More than two sockets and what is between them hold.
const MUCH: usize = 16 << 20;

async fn a_while(stream: &mut Stream) {
    stream.send("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n").await;
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..16 {
        beat.tick().await;
        stream.send(".").await;
    }
}

async fn asked(wire: &mut Wire, path: &str) {
    assert_eq!(wire.ask(request_text(&format!("GET {path}"), HOST)).await.text(), path);
}

/// A stream that has answered and rests.
async fn resting(lab: &Lab) -> Wire {
    let mut wire = lab.tunnel(HOST).await;
    asked(&mut wire, "/first").await;
    assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    wire
}

#[tokio::test]
async fn requests_on_a_stream_that_was_idle_are_answered_as_any_other() {
    let lab = Plan::api_key().start(origin()).await;
    let mut wire = resting(&lab).await;
    let two = [request_text("GET /second", HOST), request_text("GET /third", HOST)].concat();
    wire.send(two).await;
    assert_eq!(wire.answer("GET").await.text(), "/second");
    assert_eq!(wire.answer("GET").await.text(), "/third");
    assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    let long = "l".repeat(20_000);
    let post = format!("POST /body\r\nX-Long: {long}\r\nContent-Length: 5");
    assert_eq!(wire.ask(request_text(&post, HOST) + "hello").await.text(), "hello");
    assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    // By the byte.
    for byte in request_text("GET /last", HOST).as_bytes() {
        wire.send([*byte]).await;
    }
    assert_eq!(wire.answer("GET").await.text(), "/last");
    assert_eq!(lab.finish().await.len(), 8);
}

#[tokio::test]
async fn a_stream_of_absolute_form_requests_remains_usable_after_idle_periods() {
    let lab = Plan::api_key().start(origin()).await;
    let mut wire = lab.client().await;
    for path in ["/a", "/b"] {
        let authorization = lab.authorization("ci");
        let head =
            format!("GET https://{HOST}{path} HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n");
        assert_eq!(wire.ask(head).await.text(), path);
        assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    }
    // And become tunnels.
    let authorization = lab.authorization("ci");
    let target = format!("{HOST}:443");
    wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    let mut wire = lab.secure(wire, HOST).await;
    asked(&mut wire, "/c").await;
    lab.finish().await;
}

#[tokio::test]
async fn a_part_of_the_next_head_that_arrived_before_an_idle_period_is_kept() {
    let lab = Plan::api_key().start(origin()).await;
    let mut wire = lab.tunnel(HOST).await;
    assert_eq!(wire.ask(request_text("GET /a", HOST) + "GET /b HT").await.text(), "/a");
    assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    wire.send(format!("TP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(wire.answer("GET").await.text(), "/b");
    lab.finish().await;
}

#[tokio::test]
async fn a_body_that_arrives_after_its_answer_is_never_read_as_a_request() {
    let lab = Plan::api_key().start(origin()).await;
    let mut wire = lab.tunnel(HOST).await;
    let inner = request_text("GET /smuggled", HOST);
    let head = request_text(&format!("POST /early\r\nContent-Length: {}", inner.len() + 2), HOST);
    wire.send(head + "x").await;
    assert_eq!(wire.answer("POST").await.text(), "early");
    assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    // It may have been given up.
    if wire.try_send(format!("y{inner}")).await.is_ok()
        && wire.try_send(request_text("GET /next", HOST)).await.is_ok()
        && let Some(answer) = wire.try_answer("GET").await
    {
        assert_eq!(answer.text(), "/next");
    }
    let paths: Vec<_> = lab.finish().await.iter().map(|one| one["path"].to_string()).collect();
    assert!(!paths.iter().any(|path| path.contains("smuggled")), "{paths:?}");
}

#[tokio::test]
async fn an_answer_that_the_agent_reads_slowly_arrives_whole() {
    let lab = Plan::api_key().start(origin()).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.stop_recording();
    wire.send(request_text("GET /much", HOST)).await;
    let head = wire.head().await.expect("a head");
    let length = head.one("content-length").expect("a length");
    let left: usize = length.parse().expect("a number");
    let mut read = 0;
    // What is left when hyper has all of it, and not yet written.
    while read < left {
        read += wire.skip((left - read).min(MUCH / 3)).await;
        assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    }
    asked(&mut wire, "/next").await;
    lab.finish().await;
}

#[tokio::test]
async fn an_idle_stream_ends_with_its_agent_at_idle_timeout_and_in_a_drain() {
    let plan = Plan::api_key().agent("other", "acme").limit("idle_timeout: 4s");
    let mut lab = plan.start(origin()).await;
    let mut revoked = resting(&lab).await;
    let (services, org) = (lab.gateway.running().services(), OrgId::default_org());
    let view = services.directory.view();
    let id = view.find_agent(&org, "ci").expect("the agent").id.clone();
    // Its agent leaves a stream that rests: so do we.
    let mut left = lab.tunnel_as("other", HOST).await;
    asked(&mut left, "/first").await;
    let mut idle = lab.tunnel_as("other", HOST).await;
    asked(&mut idle, "/first").await;
    assert_eq!(lab.ask("GET /while").await.text().len(), 16);
    left.finish().await;
    assert!(left.ends_cleanly().await);
    services
        .directory
        .remove::<keyward_model::Agent>(&org, &id, ManagedBy::File)
        .await
        .expect("removed");
    assert!(revoked.is_closed().await);
    assert!(idle.ends_cleanly().await);
    let mut drained = lab.tunnel_as("other", HOST).await;
    asked(&mut drained, "/first").await;
    assert_eq!(lab.ask_as("other", HOST, "GET /while").await.text().len(), 16);
    lab.gateway.stop().await;
    assert!(drained.ends_cleanly().await);
    lab.finish().await;
}
