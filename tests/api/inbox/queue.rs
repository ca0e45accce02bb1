//! Events that wait for a reader, and answers that a service asks for.

use super::*;
use test_support::newcomer::Newcomer;

pub(super) async fn queue(scheme: &str, secret: &str) -> Lab {
    queue_of(Plan::api_key(), scheme, secret).await
}

async fn queue_of(plan: Plan, scheme: &str, secret: &str) -> Lab {
    let mut lab = plan.no_agents().start(Origin::saying("fine")).await;
    lab.guard(Canary::of(secret.to_owned()));
    let hook = json!({"name": "q", "scheme": scheme, "secret": secret});
    let made = api(&lab, "POST", "/hooks", hook, 201).await;
    assert_eq!(made["signing_key"], Value::Null, "nothing is posted from a queue");
    lab
}

#[tokio::test]
async fn events_wait_in_order_until_a_reader_removes_them() {
    let mut lab = queue("github", SECRET).await;
    for n in 1..=3 {
        let body = format!("{{\"n\":{n}}}");
        let fields = format!("X-Hub-Signature-256: sha256={}\r\n", signed(SECRET, &body));
        assert_eq!(send(&lab, "/hooks/q", &fields, &body).await.head.status(), 200);
    }
    lab.gateway.restart().await;
    let all = until_some("three events", async || {
        let all = api(&lab, "GET", "/hooks/q/events", Value::Null, 200).await;
        all["items"].as_array().is_some_and(|all| all.len() == 3).then(|| all["items"].clone())
    })
    .await;
    for (at, n) in (1..=3).enumerate() {
        assert_eq!(all[at]["body"], format!("{{\"n\":{n}}}"));
    }
    let id = all[0]["id"].as_str().expect("an id");
    let path = format!("/hooks/q/events/{id}");
    assert_eq!(api(&lab, "GET", &path, Value::Null, 200).await["state"], "waiting");
    api(&lab, "DELETE", &path, Value::Null, 204).await;
    api(&lab, "DELETE", &path, Value::Null, 404).await;
    let left = api(&lab, "GET", "/hooks/q/events?limit=1", Value::Null, 200).await;
    assert_eq!(left["items"][0]["body"], r#"{"n":2}"#);
    api(&lab, "GET", "/hooks/q/events?limit=0", Value::Null, 422).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_queue_has_no_signing_key_to_rotate_until_its_events_are_posted() {
    let mut lab = queue("github", SECRET).await;
    let refused = api(&lab, "POST", "/hooks/q/rotate", json!({}), 422).await;
    assert!(refused.to_string().contains("wait in a queue"), "{refused}");
    let to = json!({"to": "http://127.0.0.1:9/events"});
    api(&lab, "PATCH", "/hooks/q", to, 200).await;
    let rotated = api(&lab, "POST", "/hooks/q/rotate", json!({}), 200).await;
    lab.guard(Canary::of(rotated["signing_key"].as_str().expect("shown once").to_owned()));
    api(&lab, "PATCH", "/hooks/q", json!({"to": null}), 200).await;
    let later = "another-secret-of-the-service";
    lab.guard(Canary::of(later.to_owned()));
    let rotated = api(&lab, "POST", "/hooks/q/rotate", json!({"secret": later}), 200).await;
    assert_eq!(rotated["signing_key"], Value::Null);
    lab.finish().await;
}

#[tokio::test]
async fn a_follower_gets_no_event_after_its_token_has_expired() {
    let mut lab = queue("github", SECRET).await;
    api(&lab, "POST", "/users", json!({"name": "ann", "role": "admin"}), 201).await;
    let own = lab.gateway.admin;
    let (mut follower, fields) = until_some("a follower", async || {
        let token = json!({"user": "ann", "scopes": ["hook-events:read"], "ttl": "2s"});
        let token = api(&lab, "POST", "/tokens", token, 201).await;
        let token = token["token"].as_str().expect("shown once").to_owned();
        let fields = format!("Authorization: Bearer {token}\r\n");
        lab.guard(Canary::of(token));
        let mut wire = Wire::to(own).await;
        let line = "GET /api/v1/hooks/q/events?follow=true HTTP/1.1";
        wire.send(format!("{line}\r\nHost: {own}\r\n{fields}\r\n")).await;
        let status = wire.head().await.expect("an answer").status();
        (status == 200).then_some((wire, fields))
    })
    .await;
    until("the end of the token", async || {
        let read = lab.gateway.api_with(&fields, ("GET", "/hooks/q/events"), "").await;
        read.head.status() == 401
    })
    .await;
    let body = r#"{"n":"after the end"}"#;
    let signature = format!("X-Hub-Signature-256: sha256={}\r\n", signed(SECRET, body));
    send(&lab, "/hooks/q", &signature, body).await.is(200);
    let rest = patiently("the end of the answer", follower.rest()).await;
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("event: end") && !rest.contains("after the end"), "{rest}");
    lab.finish().await;
}

/// A full queue takes no event, so that the service sends it again; and no more refusals than sixty a minute have records.
#[tokio::test]
async fn waiting_events_and_recorded_refusals_are_bounded() {
    let plan = Plan::api_key().top("events: { waiting_max: 2 }");
    let lab = queue_of(plan, "github", SECRET).await;
    let event = async |n: u32| {
        let body = format!("{{\"n\":{n}}}");
        let fields = format!("X-Hub-Signature-256: sha256={}\r\n", signed(SECRET, &body));
        send(&lab, "/hooks/q", &fields, &body).await
    };
    for n in 1..=2 {
        assert_eq!(event(n).await.head.status(), 200);
    }
    let full = event(3).await.is(503);
    assert!(full.head.one("retry-after").is_some(), "{:?}", full.head);
    let all = api(&lab, "GET", "/hooks/q/events", Value::Null, 200).await;
    let id = all["items"][0]["id"].as_str().expect("an id");
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2));
    api(&lab, "DELETE", &format!("/hooks/q/events/{id}"), Value::Null, 204).await;
    assert_eq!(event(3).await.head.status(), 200, "the service sends it again");
    for _ in 0..130 {
        send(&lab, "/hooks/q", "X-Hub-Signature-256: sha256=00\r\n", "{}").await.is(401);
    }
    let metrics = lab.gateway.metrics().await;
    for line in [
        "keyward_hook_refusals_total{code=\"queue_full\"} 1",
        "keyward_hook_requests_total{outcome=\"refused\"} 131",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    let records = lab.finish_with_changes().await;
    let refused = records.iter().filter(|it| it["change"]["action"] == "request refused");
    let (counted, own): (Vec<_>, Vec<_>) = refused.partition(|it| it["count"].is_u64());
    // One minute may end meanwhile.
    assert!((60..=120).contains(&own.len()), "{}", own.len());
    let more: u64 = counted.iter().filter_map(|it| it["count"].as_u64()).sum();
    assert_eq!(own.len() as u64 + more, 131);
}

/// Slack signs the request that proves the URL; one that is not signed gets no answer.
#[tokio::test]
async fn a_challenge_is_answered_only_if_it_is_signed() {
    let lab = queue("slack", SECRET).await;
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    let time = jiff::Timestamp::now().as_second();
    let fields = |secret: &str| {
        let signature = signed(secret, &format!("v0:{time}:{body}"));
        format!("X-Slack-Request-Timestamp: {time}\r\nX-Slack-Signature: v0={signature}\r\n")
    };
    let refused = send(&lab, "/hooks/q", &fields("another"), body).await.is(401);
    assert!(!refused.text().contains("3eZbrw1a"));
    send(&lab, "/hooks/q", &fields(SECRET), body).await.is(200).says("3eZbrw1a");
    let events = api(&lab, "GET", "/hooks/q/events", Value::Null, 200).await;
    assert_eq!(events["items"], json!([]), "it is no event");
    lab.finish().await;
}

/// Asana hands its secret over in the first request, which is echoed; another one is not believed.
#[tokio::test]
async fn the_secret_that_a_service_hands_over_is_accepted_and_cannot_be_replaced() {
    let mut lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    let secret = "handed-over-canary-0123456789abcdef";
    lab.guard(Canary::of("another-secret-that-is-handed-over".to_owned()));
    let hook = json!({"name": "q", "scheme": "asana"});
    let made = api(&lab, "POST", "/hooks", hook, 201).await;
    assert_eq!(made["has_secret"], false);
    // The same secret again: the first answer may have been lost.
    for _ in 0..2 {
        let answer =
            send(&lab, "/hooks/q", &format!("X-Hook-Secret: {secret}\r\n"), "").await.is(200);
        assert_eq!(answer.head.one("x-hook-secret"), Some(secret));
    }
    assert_eq!(api(&lab, "GET", "/hooks/q", Value::Null, 200).await["has_secret"], true);
    let field = "X-Hook-Secret: another-secret-that-is-handed-over\r\n";
    assert_eq!(send(&lab, "/hooks/q", field, "").await.head.status(), 401);
    let body = r#"{"events":[1]}"#;
    let fields = format!("X-Hook-Signature: {}\r\n", signed(secret, body));
    assert_eq!(send(&lab, "/hooks/q", &fields, body).await.head.status(), 200);
    lab.finish().await;
}

#[test]
fn an_operator_makes_a_hook_and_reads_what_is_wrong() {
    let mut person = Newcomer::new();
    person.types("keyward hook list");
    person.types("keyward hook add ci");
    person.types("keyward hook add ci --scheme githup");
    person.types("keyward hook add ci --scheme github");
    person.pastes("keyward hook add ci --scheme github --secret-stdin", "secret-of-the-service");
    person.types("keyward hook list");
    person.types("keyward hook show ci");
    person.types("keyward hook set ci");
    person.types("keyward hook set ci --pause");
    person.types("keyward hook events ci");
    person.types("keyward hook resend ci 0123");
    person.types("keyward hook listen ci");
    person.types("keyward hook remove ci --yes");
    insta::assert_snapshot!("hooks", person.transcript());
}
