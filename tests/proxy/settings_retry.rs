//! Further attempts: what must not be sent twice is not, what is down is not flooded, and what was
//! revoked meanwhile goes nowhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use test_support::*;

/// Soon, and up to three times.
const SOON: &str = "{ retry: { wait_max: 20ms } }";

fn answer(status: u16, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Says `first` so often, and `fine` then.
fn failing(times: usize, first: String) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::answering(move |_| match count.fetch_add(1, Ordering::SeqCst) < times {
        true => first.clone(),
        false => ok("fine"),
    })
}

async fn lab(settings: &str, times: usize, first: String) -> Lab {
    Plan::api_key().settings(settings).start(failing(times, first)).await
}

fn attempts(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["attempts"].as_u64().expect("a count")).collect()
}

#[tokio::test]
async fn a_request_that_is_not_idempotent_is_sent_once() {
    let lab = lab(SOON, 9, answer(503, "", "down")).await;
    for request in ["POST /a\r\nContent-Length: 0", "PATCH /a\r\nContent-Length: 0"] {
        let passed_on = lab.ask(request).await;
        assert_eq!((passed_on.head.status(), passed_on.text()), (503, "down".to_owned()));
        assert!(!passed_on.head.has("keyward-error"), "the upstream's own answer");
    }
    assert_eq!(lab.origin.received().len(), 2);
    assert_eq!(attempts(&lab.finish().await), [1, 1]);
}

#[tokio::test]
async fn a_request_is_sent_once_if_its_method_or_its_override_is_not_idempotent() {
    let lab = lab(SOON, 9, answer(503, "", "down")).await;
    for request in [
        "PUT /a\r\nX-HTTP-Method-Override: POST\r\nContent-Length: 0",
        "PUT /a\r\nx_http_method: patch\r\nContent-Length: 0",
        "PUT /a?_method=POST\r\nContent-Length: 0",
        "GET /a?_method=post",
        "POST /a\r\nX-HTTP-Method-Override: PUT\r\nContent-Length: 0",
    ] {
        assert_eq!(lab.ask(request).await.head.status(), 503, "{request}");
    }
    assert_eq!(lab.origin.received().len(), 5);
    // Where both are, it is.
    let both = "PUT /a\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: 0";
    assert_eq!(lab.ask(both).await.head.status(), 503);
    assert_eq!(attempts(&lab.finish().await), [1, 1, 1, 1, 1, 3]);
}

#[tokio::test]
async fn answers_with_other_status_codes_are_passed_on_without_a_retry() {
    for status in [200, 401, 404, 500] {
        let lab = lab(SOON, 1, answer(status, "", "so")).await;
        assert_eq!(lab.ask("GET /a").await.head.status(), status);
        assert_eq!(lab.origin.received().len(), 1, "{status}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_answer_with_retry_after_beyond_wait_max_or_the_timeout_is_passed_on() {
    for settings in [
        "{ retry: { wait_max: 20ms } }",
        // Longer than is left of the timeout.
        "{ retry: {}, timeout: 1s }",
    ] {
        let lab = lab(settings, 9, answer(429, "Retry-After: 2\r\n", "later")).await;
        let passed_on = lab.ask("GET /a").await;
        assert_eq!((passed_on.head.status(), passed_on.head.one("retry-after")), (429, Some("2")));
        assert!(!passed_on.head.has("keyward-error"));
        assert_eq!(lab.origin.received().len(), 1, "{settings}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_retry_waits_as_the_rate_limit_fields_of_the_provider_state() {
    let spent = "X-Left: 0\r\nX-Reset: 1h\r\n";
    let later = "X-Left: 0\r\nX-Reset: 0\r\n";
    for (more, status, sent) in [
        (spent, 429, 1),
        (later, 200, 2),
        // The limit is not the reason.
        ("X-Left: 5\r\nX-Reset: 1h\r\n", 200, 2),
        ("X-Left: 0\r\nX-Reset: 1h\r\nRetry-After: 0\r\n", 200, 2),
        ("X-Wait: 3600\r\n", 429, 1),
    ] {
        let mut plan = Plan::api_key().settings("{ retry: {} }");
        plan.provider_more += ", retry_headers: { after: [x-wait], reset_after: [x-reset], \
                               remaining: [x-left] }";
        let lab = plan.start(failing(1, answer(429, more, "later"))).await;
        assert_eq!(lab.ask("GET /a").await.head.status(), status, "{more}");
        assert_eq!(lab.origin.received().len(), sent, "{more}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_is_sent_once() {
    let lab = lab(SOON, 1, answer(503, "", "down")).await;
    let mut wire = lab.tunnel(HOST).await;
    let body = "x".repeat(70 * 1024);
    wire.send(request_text(&format!("PUT /a\r\nContent-Length: {}", body.len()), HOST)).await;
    wire.send(&body).await;
    assert_eq!(wire.answer("PUT").await.head.status(), 503);
    lab.finish_after(1).await;
}

#[tokio::test]
async fn a_retry_counts_toward_the_rate_limit() {
    let lab =
        lab("{ retry: { wait_max: 20ms }, rate_limit: 2/h }", 9, answer(503, "", "down")).await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 503);
    assert_eq!(lab.origin.received().len(), 2, "the third would have been one too many");
    assert_eq!(lab.ask("GET /a").await.head.one("keyward-error"), Some("rate_limited"));
    lab.finish().await;
}

#[tokio::test]
async fn retries_to_a_failing_upstream_are_limited_by_a_budget() {
    let lab =
        lab("{ retry: { wait_max: 10ms, attempts: 10 } }", 999, answer(503, "", "down")).await;
    let mut wire = lab.tunnel(HOST).await;
    for _ in 0..40 {
        wire.ask(request_text("GET /a", HOST)).await.is(503);
    }
    // A fifth of them and ten; one more for each ten seconds that this takes.
    let received = lab.origin.received().len();
    assert!((50..=40 + 8 + 10 + 3).contains(&received), "{received}");
    let sent: u64 = attempts(&lab.finish().await).iter().sum();
    assert_eq!(sent, received as u64, "the records tell of every one");
}

#[tokio::test]
async fn a_503_is_retried_with_the_same_request() {
    let lab = lab(SOON, 2, answer(503, "Retry-After: soon\r\n", "down")).await;
    let answer = lab.ask("GET /a?b=c\r\nX-Mine: 1").await;
    assert_eq!((answer.head.status(), answer.text()), (200, "fine".to_owned()));
    let received = lab.origin.received();
    assert_eq!(received.len(), 3);
    for request in &received {
        assert_eq!(request.head.start, "GET /a?b=c HTTP/1.1");
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
        assert_eq!(request.head.one("x-mine"), Some("1"));
    }
    assert_eq!(lab.origin.streams(), 1, "a short answer is read, and its stream used again");
    let records = lab.finish().await;
    assert_eq!((attempts(&records), &records[0]["status"]), (vec![3], &json!(200)));
    assert_eq!(records.len(), 1, "one exchange, one record");
}

#[tokio::test]
async fn the_answer_to_the_last_attempt_is_passed_on() {
    let lab = lab(SOON, 9, answer(502, "X-From: upstream\r\n", "still down")).await;
    let passed_on = lab.ask("GET /a").await;
    assert_eq!((passed_on.head.status(), passed_on.text()), (502, "still down".to_owned()));
    assert_eq!(passed_on.head.one("x-from"), Some("upstream"));
    assert_eq!(lab.origin.received().len(), 3);
    assert_eq!(attempts(&lab.finish().await), [3]);
}

#[tokio::test]
async fn a_short_body_is_sent_whole_in_each_attempt() {
    let lab = lab(SOON, 2, answer(503, "", "down")).await;
    for request in ["PUT /a\r\nContent-Length: 9", "PUT /a\r\nTransfer-Encoding: chunked"] {
        let mut wire = lab.sent(request).await;
        let chunked = request.contains("chunked");
        wire.send(if chunked { "9\r\nonce more\r\n0\r\n\r\n" } else { "once more" }).await;
        assert_eq!(wire.answer("PUT").await.text(), "fine");
    }
    let received = lab.origin.received();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|request| request.whole && request.text() == "once more"));
    let records = lab.finish().await;
    assert_eq!(attempts(&records), [3, 1]);
    assert_eq!(records[0]["bytes_in"], 9, "what came from the agent came once");
}

#[tokio::test]
async fn an_idempotent_request_is_retried_if_the_upstream_closes_before_it_answers() {
    let origin = || {
        Origin::scripted(|mut stream: Stream| async move {
            while let Some(_request) = stream.request().await {
                if stream.number == 0 {
                    return;
                }
                stream.send(ok("fine")).await;
            }
        })
    };
    let lab = Plan::api_key().settings(SOON).start(origin()).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(attempts(&lab.finish().await), [2]);
    let lab = Plan::api_key().settings(SOON).start(origin()).await;
    let refused = lab.ask("POST /a\r\nContent-Length: 0").await;
    assert_eq!(refused.head.one("keyward-error"), Some("upstream_protocol"));
    assert_eq!(lab.origin.received().len(), 1);
    assert_eq!(attempts(&lab.finish().await), [1]);
}

#[tokio::test]
async fn an_unreachable_upstream_is_tried_again_even_for_a_post() {
    let address = test_support::process::reserved_address().to_string();
    let plan = Plan::api_key()
        .hosts("api.acme.test, gone.acme.test")
        .resolve(&format!("gone.acme.test: \"{address}\""))
        .allow(&address)
        .settings(SOON);
    let lab = plan.start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel("gone.acme.test").await;
    wire.send(request_text("POST /a\r\nContent-Length: 5", "gone.acme.test")).await;
    wire.send("hello").await;
    let refused = wire.answer("POST").await;
    assert_eq!(refused.head.one("keyward-error"), Some("upstream_unreachable"));
    assert_eq!(attempts(&lab.finish().await), [3]);
}

#[tokio::test]
async fn an_unreachable_upstream_is_not_tried_again_once_the_binding_is_removed() {
    let closed = tokio::net::TcpSocket::new_v4().expect("a socket");
    closed.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = closed.local_addr().expect("an address").to_string();
    let plan = Plan::api_key()
        .no_agents()
        .hosts("gone.acme.test")
        .resolve(&format!("gone.acme.test: \"{address}\""))
        .allow(&address)
        .settings("{ retry: { attempts: 10, wait_max: 1h } }");
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.add_agent("ci").await;
    let bindings = "/agents/ci/bindings";
    lab.gateway.api("POST", bindings, r#"{"connection":"acme"}"#).await.is(201);
    let mut wire = lab.tunnel("gone.acme.test").await;
    wire.send(request_text("GET /a", "gone.acme.test")).await;
    // The first attempts have failed, and more would follow for minutes.
    until("two further attempts", async || {
        lab.gateway.running().services().metrics.retried.get() >= 2
    })
    .await;
    let gone = lab.gateway.api("DELETE", &format!("{bindings}/acme"), "").await;
    assert!(gone.head.status() < 300, "{}", gone.text());
    wire.rest().await;
    // Whoever would try again would get through now.
    let listening = closed.listen(1).expect("it listens");
    let records = lab.finish().await;
    assert!((1..10).contains(&attempts(&records)[0]), "{records:#?}");
    let came = tokio::time::timeout(std::time::Duration::ZERO, listening.accept()).await;
    assert!(came.is_err(), "an attempt after the binding had gone");
}

#[tokio::test]
async fn a_request_is_not_retried_after_its_connection_is_paused() {
    let first = answer(503, "Retry-After: 1\r\n", "down");
    let more = json!({ "settings": { "retry": {} } });
    let mut lab = Lab::with_mine(Plan::api_key(), failing(9, first), more).await;
    let mut wire = lab.sent("GET /a").await;
    lab.origin.arrival().await;
    lab.gateway.api("POST", "/connections/mine/pause", "").await.is(200);
    // It waits for its second attempt, which never comes: the stream ends with what it rests on.
    wire.rest().await;
    assert_eq!(lab.ask("GET /b").await.head.status(), 424);
    lab.finish_after(1).await;
}

#[tokio::test]
async fn a_test_of_a_connection_is_one_attempt() {
    let plan = Plan::api_key().settings(SOON).test("{ url: 'https://api.acme.test/me' }");
    let lab = plan.start(failing(9, answer(503, "", "down"))).await;
    let tested = lab.gateway.api("POST", "/connections/acme/test", "").await;
    assert_eq!(tested.json()["outcome"], "provider_down", "{}", tested.text());
    lab.finish_after(1).await;
}

#[tokio::test]
async fn agents_of_one_connection_share_its_retry_budget() {
    let first = answer(503, "", "down");
    let plan = Plan::api_key().settings("{ retry: { wait_max: 10ms, attempts: 10 } }");
    let lab = plan.agent("other", "acme").start(failing(999, first)).await;
    for agent in ["ci", "other"] {
        let mut wire = lab.tunnel_as(agent, HOST).await;
        for _ in 0..5 {
            wire.ask(request_text("GET /a", HOST)).await.is(503);
        }
    }
    let received = lab.origin.received().len();
    assert!((20..=10 + 2 + 10 + 2).contains(&received), "{received}");
    lab.finish().await;
}
