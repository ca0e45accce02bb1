//! Failed deliveries to webhooks: retried with pauses, also after restarts, and given up in the end.

use serde_json::{Value, json};

use crate::webhooks::{hook, lab, post, standing};
use test_support::hooks::{Hooks, status};
use test_support::*;

/// Two tries more, at once.
const AT_ONCE: &str = "events: { retries: [1ms, 1ms], timeout: 1s }";

#[tokio::test]
async fn an_event_that_is_not_accepted_is_retried_with_the_same_id_until_it_is() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key().top(AT_ONCE)).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused"]).await;
    // Neither a redirect nor an answer that goes wrong takes it.
    let elsewhere =
        "HTTP/1.1 307 x\r\nLocation: https://other.acme.test/\r\nContent-Length: 0\r\n\r\n";
    hooks.answers([elsewhere.to_owned(), "nonsense\r\n\r\n".to_owned(), status(200)]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    let first = hooks.event(&key).await;
    let (second, third) = (hooks.event(&key).await, hooks.event(&key).await);
    assert!(first.id.starts_with("evt_"), "{}", first.id);
    assert_eq!([&second.id, &third.id], [&first.id; 2]);
    assert_eq!(second.message.body, first.message.body, "the same bytes");
    let hook = standing(&lab, "it is taken", |hook| hook["told"] == 1).await;
    assert_eq!((&hook["waiting"], &hook["state"]), (&json!(0), &json!("active")));
    assert_eq!(lab.origin.received().len(), 0, "nobody followed the redirect");
    lab.finish().await;
}

/// A webhook that asks for an hour is not told for an hour, whatever the next pause is. Others go on.
#[tokio::test]
async fn a_retry_after_that_is_longer_than_the_next_pause_is_respected() {
    let mut hooks = Hooks::start().await;
    let plan = Plan::api_key().top("events: { retries: [1ms, 1ms, 1ms], at_once: 1 }");
    let mut lab = lab(&hooks, plan).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused", "connection.resumed"]).await;
    let later = "HTTP/1.1 503 x\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
    hooks.answers([later.to_owned()]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused");
    let waits = |hook: &Value| hook["waiting"] == 1 && hook["last"]["what"] == "answered 503";
    standing(&lab, "it waits", waits).await;
    // What is due first is told first: the one that waits would come before.
    post(&lab, "/connections/mine/resume", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.resumed");
    standing(&lab, "one is taken", |hook| hook["told"] == 1 && hook["waiting"] == 1).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_waiting_event_is_kept_over_a_restart_and_delays_no_other_event() {
    let mut hooks = Hooks::start().await;
    let plan = Plan::api_key().top("events: { retries: [1ms, 1h] }");
    let mut lab = lab(&hooks, plan).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused", "connection.resumed"]).await;
    hooks.answers([status(500), status(503)]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    let id = hooks.event(&key).await.id;
    assert_eq!(hooks.event(&key).await.id, id);
    let waits = |hook: &Value| hook["waiting"] == 1 && hook["last"]["what"] == "answered 503";
    standing(&lab, "it waits for its hour", waits).await;
    lab.gateway.restart().await;
    let hook = standing(&lab, "it still waits", |hook| hook["waiting"] == 1).await;
    assert_eq!(hook["told"], 0);
    // What a person wants now is told at once, and what waits with it after a test of theirs.
    post(&lab, "/connections/mine/resume", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.resumed");
    standing(&lab, "the other one is taken", |hook| hook["told"] == 1 && hook["waiting"] == 1)
        .await;
    lab.finish().await;
}

#[tokio::test]
async fn a_webhook_that_answers_410_gets_no_events_until_a_person_resumes_it() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key().top(AT_ONCE)).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused"]).await;
    hooks.answers([status(410)]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    hooks.event(&key).await;
    standing(&lab, "it is gone", |hook| hook["state"] == "gone" && hook["waiting"] == 0).await;
    post(&lab, "/connections/mine/resume", &json!({})).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hook(&lab).await["waiting"], 0);
    let back = lab.gateway.api("PATCH", "/webhooks/ops", r#"{"paused":false}"#).await;
    assert_eq!(back.json()["state"], "active");
    post(&lab, "/connections/mine/resume", &json!({})).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused");
    assert_eq!(hooks.origin.received().len(), 2, "what happened meanwhile is not told later");
    lab.finish().await;
}

#[tokio::test]
async fn a_webhook_that_accepts_no_event_has_failed_after_its_retries() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key().top(AT_ONCE)).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused"]).await;
    hooks.answers([String::new(), status(500), status(404)]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    for _ in 0..3 {
        hooks.event(&key).await;
    }
    let ended = |hook: &Value| hook["state"] == "failed" && hook["last"]["what"] == "answered 404";
    let hook = standing(&lab, "it has failed", ended).await;
    assert_eq!((&hook["waiting"], &hook["dropped"]), (&json!(0), &json!(1)));
    let tried = post(&lab, "/webhooks/ops/test", &json!({})).await;
    assert_eq!(tried["taken"], true, "a person may try it");
    assert_eq!(hooks.event(&key).await.kind, "webhook.test");
    lab.finish().await;
}

#[tokio::test]
async fn waiting_and_in_flight_events_of_a_removed_webhook_are_discarded() {
    let mut hooks = Hooks::start().await;
    let plan = Plan::api_key().top("events: { retries: [1h], timeout: 1s, at_once: 1 }");
    let mut lab = lab(&hooks, plan).await;
    let events = ["connection.paused", "connection.resumed"];
    let key = hooks.subscribed(&mut lab, &events).await;
    hooks.answers([status(503), String::new()]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused");
    let waits = |hook: &Value| hook["waiting"] == 1 && hook["last"]["what"] == "answered 503";
    standing(&lab, "one waits for its hour", waits).await;
    post(&lab, "/connections/mine/resume", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.resumed");
    lab.gateway.api("DELETE", "/webhooks/ops", "").await.is(204);
    let two = "keyward_webhook_tries_total{outcome=\"failed\"} 2";
    until("what is on its way fails", async || lab.gateway.metrics().await.contains(two)).await;
    // Another one of its name is told what happens from now on, also after a restart.
    let key = hooks.subscribed(&mut lab, &events).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused");
    standing(&lab, "that alone is taken", |hook| hook["told"] == 1 && hook["waiting"] == 0).await;
    let metrics = lab.gateway.metrics().await;
    assert!(metrics.contains("keyward_webhook_events_waiting 0\n"), "{metrics}");
    lab.gateway.restart().await;
    post(&lab, "/connections/mine/resume", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.resumed");
    standing(&lab, "that alone is taken", |hook| hook["told"] == 1 && hook["waiting"] == 0).await;
    assert_eq!(hooks.origin.received().len(), 4);
    lab.finish().await;
}

/// It may be one event alone that it cannot take.
#[tokio::test]
async fn a_webhook_that_accepts_other_events_is_not_marked_failed() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key().top(AT_ONCE)).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused", "connection.resumed"]).await;
    let later = "HTTP/1.1 500 x\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n";
    hooks.answers([later.to_owned(), status(200), status(500), status(500)]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused");
    post(&lab, "/connections/mine/resume", &json!({})).await;
    let kinds = hooks.kinds(&key, 3).await;
    assert_eq!(kinds, ["connection.paused", "connection.paused", "connection.resumed"]);
    let given_up = |hook: &Value| hook["dropped"] == 1 && hook["waiting"] == 0;
    let hook = standing(&lab, "it is given up", given_up).await;
    assert_eq!((&hook["told"], &hook["state"]), (&json!(1), &json!("active")));
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused", "it is told on");
    let told = standing(&lab, "it takes that", |hook| hook["told"] == 2).await;
    assert_eq!(told["state"], "active");
    lab.finish().await;
}

#[tokio::test]
async fn waiting_and_in_flight_events_of_a_webhook_are_limited() {
    let mut hooks = Hooks::start().await;
    let events = "events: { retries: [1h], timeout: 3s, at_once: 1, waiting_max: 1 }";
    let mut lab = lab(&hooks, Plan::api_key().top(events)).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused", "connection.resumed"]).await;
    hooks.answers([String::new()]);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused");
    // One is on its way for three seconds, one waits, and the third is over.
    post(&lab, "/connections/mine/resume", &json!({})).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    let full = standing(&lab, "one is over", |hook| hook["dropped"] == 1).await;
    assert_eq!((&full["waiting"], &full["told"]), (&json!(2), &json!(0)));
    assert_eq!(hooks.event(&key).await.kind, "connection.resumed");
    let metrics = lab.gateway.metrics().await;
    let failed = "keyward_webhook_tries_total{outcome=\"failed\"} 1";
    assert!(metrics.contains(failed), "the one before is over first: {metrics}");
    lab.finish().await;
}
