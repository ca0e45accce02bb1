//! Rate and count limits of a connection: requests above them are refused at once and reach no upstream, on all cores
//! together and across changes of the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::sync::Notify;

use test_support::*;

fn is_rate_limited(answer: &Message) -> bool {
    let refused = answer.head.status() == 429;
    assert_eq!(refused, answer.head.one("keyward-error") == Some("rate_limited"), "{answer:?}");
    refused
}

#[tokio::test]
async fn a_request_beyond_the_rate_limit_is_429_and_does_not_reach_the_upstream() {
    let plan = Plan::api_key().settings("{ rate_limit: 2/h }");
    let lab = plan.start(Origin::saying("fine")).await;
    for _ in 0..2 {
        assert_eq!(lab.ask("GET /a").await.text(), "fine");
    }
    let refused = lab.ask("GET /b").await;
    assert!(is_rate_limited(&refused), "{refused:?}");
    let wait: u64 =
        refused.head.one("retry-after").expect("it says when").parse().expect("seconds");
    assert!((1..=1800).contains(&wait) && wait > 1700, "{wait}");
    let error = &refused.json()["error"];
    assert_eq!((&error["code"], &error["connection"]), (&json!("rate_limited"), &json!("acme")));
    assert!(error["message"].as_str().is_some_and(|it| it.contains("2/h")), "{error}");
    assert!(error["hint"].as_str().is_some_and(|it| it.contains("`rate_limit`")), "{error}");
    let records = lab.finish_after(2).await;
    let record = records.iter().find(|it| it["path"] == "/b").expect("its record");
    assert_eq!((&record["outcome"], &record["code"]), (&json!("refused"), &json!("rate_limited")));
    assert_eq!((&record["attempts"], &record["connection"]), (&json!(0), &json!("acme")));
}

#[tokio::test]
async fn a_request_that_a_rule_denies_does_not_count_toward_the_rate_limit() {
    let plan = Plan::api_key()
        .settings("{ rate_limit: 1/h }")
        .rule("{ name: no, hosts: [api.acme.test], methods: [DELETE], action: deny }");
    let lab = plan.start(Origin::saying("fine")).await;
    for _ in 0..3 {
        assert_eq!(lab.ask("DELETE /a").await.head.status(), 403);
    }
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert!(is_rate_limited(&lab.ask("GET /a").await));
    lab.finish().await;
}

#[tokio::test]
async fn a_reload_does_not_reset_the_rate_limit() {
    let plan = Plan::api_key().settings("{ rate_limit: 1/h }");
    let lab = plan.start(Origin::saying("fine")).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    let rule = "rules:\n  - { hosts: [other.acme.test], action: deny }\n";
    std::fs::write(&file, format!("{yaml}{rule}")).expect("a file");
    let view = patiently("reloading", lab.gateway.running().reloads().reload()).await;
    assert_eq!(view.expect("it runs").errors, [""; 0]);
    assert!(is_rate_limited(&lab.ask("GET /a").await));
    // A raised limit is as full as the one before was.
    std::fs::write(&file, yaml.replace("1/h", "2/h")).expect("a file");
    let view = patiently("reloading", lab.gateway.running().reloads().reload()).await;
    assert_eq!(view.expect("it runs").errors, [""; 0]);
    let refused = lab.ask("GET /a").await;
    assert!(is_rate_limited(&refused), "{refused:?}");
    let wait = refused.head.one("retry-after").and_then(|wait| wait.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| (1700..=1800).contains(&wait)), "{refused:?}");
    lab.finish_after(1).await;
}

#[tokio::test]
async fn each_connection_has_its_own_rate_limit_shared_by_its_agents() {
    let third = "{ id: third, name: Third, hosts: [third.acme.test], auth: [{ id: key, kind: api_key, \
                 placement: { header: X-Api-Key } }] }";
    let plan = Plan::api_key()
        .settings("{ rate_limit: 1/h }")
        .provider(third)
        .connection("{ name: third, provider: third, fields: { api_key: { env: CANARY } } }")
        .agent("other", "third, acme");
    let lab = plan.start(Origin::saying("fine")).await;
    let ask = async |agent: &str, host: &str| lab.ask_as(agent, host, "GET /a").await;
    assert_eq!(ask("ci", HOST).await.text(), "fine");
    assert!(is_rate_limited(&ask("other", HOST).await), "it is the connection's, not the agent's");
    for _ in 0..3 {
        assert_eq!(ask("other", "third.acme.test").await.text(), "fine");
    }
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_concurrent_requests_get_no_more_than_the_limit_across_all_cores() {
    const TUNNELS: usize = 50;
    let plan = Plan::api_key().settings("{ rate_limit: 100/h }");
    let lab = Arc::new(plan.start(Origin::saying("fine")).await);
    let (fine, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut wires = vec![];
    for _ in 0..TUNNELS {
        wires.push(lab.tunnel(HOST).await);
    }
    let tasks = wires.into_iter().map(|mut wire| {
        let (fine, refused) = (fine.clone(), refused.clone());
        tokio::spawn(async move {
            for _ in 0..500 / TUNNELS {
                wire.send(request_text("GET /a", HOST)).await;
                let count =
                    if is_rate_limited(&wire.answer("GET").await) { &refused } else { &fine };
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no request failed");
    }
    // One becomes free every 36 s.
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    assert!((100..=102).contains(&count(&fine)), "{}", count(&fine));
    assert_eq!(count(&fine) + count(&refused), 500);
    assert_eq!(lab.origin.received().len(), count(&fine));
    Arc::into_inner(lab).expect("the tasks have ended").finish().await;
}

/// Sends half of each answer, and the rest when it is told.
fn halting(go: Arc<Notify>) -> Origin {
    Origin::sharing(go, move |mut stream, go| async move {
        while let Some(_request) = stream.request().await {
            stream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1").await;
            go.notified().await;
            stream.send("2").await;
        }
    })
}

#[tokio::test]
async fn concurrency_limits_exchanges_until_their_answer_bodies_have_ended() {
    let go = Arc::new(Notify::new());
    let lab = Plan::api_key().settings("{ concurrency: 2 }").start(halting(go.clone())).await;
    let mut under_way = vec![];
    for _ in 0..2 {
        let mut wire = lab.sent("GET /a").await;
        assert_eq!(wire.head().await.expect("a head").status(), 200);
        under_way.push(wire);
    }
    for _ in 0..3 {
        let refused = lab.ask("GET /b").await;
        assert!(is_rate_limited(&refused));
        assert_eq!(refused.head.one("retry-after"), Some("1"));
        let hint = refused.json()["error"]["hint"].to_string();
        assert!(hint.contains("`concurrency`"), "{hint}");
    }
    // One that is hung up on is over, and so is one that ended.
    under_way.remove(0).abort();
    let mut third = lab.tunnel(HOST).await;
    let third = loop {
        third.send(request_text("GET /c", HOST)).await;
        let head = third.head().await.expect("a head");
        match head.status() {
            200 => break third,
            _ => third = lab.tunnel(HOST).await,
        }
    };
    assert!(is_rate_limited(&lab.ask("GET /b").await));
    for mut wire in [under_way.remove(0), third] {
        go.notify_waiters();
        go.notify_one();
        assert_eq!(wire.exactly(2).await, b"12");
    }
    lab.finish().await;
}
