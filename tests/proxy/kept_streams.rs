//! Upstream streams that are kept for further requests: which requests may use them, and when they are closed.

use std::sync::Arc;

use h2::client::Builder;
use tokio::sync::Semaphore;

use test_support::canary::Canary;
use test_support::http2::frames::*;
use test_support::http2::{Offer, Reply};
use test_support::*;

const TUNNELS: u32 = 50;

/// Answers over HTTP/1.1. `ended` gets a permit for each stream that is closed.
fn over_http1(ended: &Arc<Semaphore>) -> Origin {
    Origin::sharing(ended.clone(), move |mut stream, ended| async move {
        while stream.request().await.is_some() {
            stream.send(ok("fine")).await;
        }
        ended.add_permits(1);
    })
}

/// The same over HTTP/2.
fn over_http2(ended: &Arc<Semaphore>) -> Origin {
    let ended = Arc::clone(ended);
    Origin::framed(move |mut stream: Stream| {
        let ended = Arc::clone(&ended);
        async move {
            stream.exactly(PREFACE.len()).await;
            stream.send(frame(SETTINGS, 0, 0, &[])).await;
            while let Some(got) = stream.frame().await {
                // `:status: 200`, from the static table.
                let answer = match got.kind {
                    SETTINGS if got.flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
                    HEADERS => frame(HEADERS, END_HEADERS | END_STREAM, got.stream, &[0x88]),
                    _ => continue,
                };
                stream.send(answer).await;
            }
            ended.add_permits(1);
        }
    })
}

/// Waits until the origin has seen the end of so many streams.
async fn have_ended(ended: &Semaphore, count: u32) {
    let all = patiently("the ends of streams", ended.acquire_many(count)).await;
    all.expect("it is open").forget();
}

async fn ask(wire: &mut Wire, host: &str) {
    assert_eq!(wire.ask(request_text("GET /a", host)).await.text(), "fine");
}

/// Requests to [`STRANGER`] pass. Streams are not closed because they are idle.
fn passing() -> Plan {
    let rule = format!("{{ name: open, hosts: [{STRANGER}], action: pass }}");
    Plan::api_key().rule(&rule).limit("idle_upstream_timeout: 1h")
}

#[tokio::test]
async fn a_stream_of_pass_requests_is_used_by_one_agent_on_one_client_stream_only() {
    let rule = format!("{{ name: open, hosts: [\"{STRANGER}:80\"], action: pass }}");
    let origin = Origin::serving(None, |_| ok("fine"));
    let plan = Plan::api_key().agent("two", "acme").rule(&rule);
    let lab = plan.start(origin).await;
    let mut wires = [lab.client().await, lab.client().await];
    for (wire, agent, streams) in
        [(0, "ci", 1), (0, "ci", 1), (1, "ci", 2), (0, "two", 3), (0, "two", 3), (0, "ci", 4)]
    {
        let authorization = lab.authorization(agent);
        let head =
            format!("GET http://{STRANGER}/ HTTP/1.1\r\nHost: {STRANGER}\r\n{authorization}");
        wires[wire].send(format!("{head}\r\n")).await;
        assert_eq!(wires[wire].answer("GET").await.text(), "fine");
        assert_eq!(lab.origin.streams(), streams, "{agent} on {wire}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn two_agents_with_credentials_of_their_own_share_an_upstream_stream() {
    let other = Canary::new("othr");
    // The handshake for HTTP/1.1 alone is refused first.
    for (offer, streams) in [(Offer::Http1, 1), (Offer::Http2, 2)] {
        let plan = Plan::api_key()
            .secret("OTHER", &other)
            .connection("{ name: second, provider: acme, fields: { api_key: { env: OTHER } } }")
            .agent("two", "second");
        let lab = plan.start(Origin::speaking(offer, |_| Reply::ok("fine"))).await;
        // On one stream: each core of the gateway has upstream streams of its own.
        let mut wire = lab.client().await;
        for agent in ["ci", "two", "ci", "two"] {
            wire.send(absolute("GET /a", HOST, lab.token(agent))).await;
            assert_eq!(wire.answer("GET").await.text(), "fine", "{offer:?}: {agent}");
        }
        let received = lab.origin.received();
        let keys: Vec<_> = received.iter().map(|request| request.head.all("x-api-key")).collect();
        let (first, second) = (&*lab.canary.text, &*other.text);
        assert_eq!(keys, [[first], [second], [first], [second]], "{offer:?}");
        assert_eq!(lab.origin.streams(), streams, "{offer:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn streams_of_pass_requests_end_with_their_tunnels() {
    let ended = Arc::new(Semaphore::new(0));
    let lab = passing().start(over_http1(&ended)).await;
    for _ in 0..TUNNELS {
        ask(&mut lab.tunnel(STRANGER).await, STRANGER).await;
    }
    have_ended(&ended, TUNNELS).await;
    lab.finish().await;

    let lab = passing().start(over_http2(&ended)).await;
    for _ in 0..TUNNELS {
        let client = lab.h2_with("ci", STRANGER, &Builder::new()).await;
        assert_eq!(client.ask("GET /a").await.head.status(), 200);
        client.abort();
    }
    have_ended(&ended, TUNNELS).await;
    lab.finish().await;
}

#[tokio::test]
async fn idle_streams_are_closed_in_time_without_another_request() {
    let ended = Arc::new(Semaphore::new(0));
    let plan = || Plan::api_key().limit("idle_upstream_timeout: 200ms");
    let lab = plan().start(over_http1(&ended)).await;
    let mut wire = lab.tunnel(HOST).await;
    ask(&mut wire, HOST).await;
    have_ended(&ended, 1).await;
    ask(&mut wire, HOST).await;
    lab.finish().await;

    let lab = plan().start(over_http2(&ended)).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.ask("GET /a").await.head.status(), 200);
    have_ended(&ended, 1).await;
    assert_eq!(client.ask("GET /b").await.head.status(), 200);
    lab.finish().await;
}

#[tokio::test]
async fn idle_http2_streams_count_against_the_limit_of_idle_streams() {
    let ended = Arc::new(Semaphore::new(0));
    let plan = Plan::api_key().limit("idle_upstream_timeout: 1h").limit("idle_upstreams_max: 0");
    let lab = plan.start(over_http2(&ended)).await;
    let client = lab.h2(HOST).await;
    for _ in 0..3 {
        assert_eq!(client.ask("GET /a").await.head.status(), 200);
        have_ended(&ended, 1).await;
    }
    assert_eq!(lab.origin.streams(), 3);
    lab.finish().await;
}
