//! What a program gets: the body byte by byte, signed with its own key, in order, at least once.

use super::*;
use test_support::hooks::status;

/// Retries at once.
const AT_ONCE: &str = "events: { retries: [1ms, 1ms], timeout: 1s }";

#[tokio::test]
async fn a_program_gets_the_body_signed_with_its_own_key() {
    let mut world = World::start(Plan::api_key()).await;
    let body = "{ \"a\":1,\n \"b\": \"\u{e9}\" }";
    let answer = world.push(body).await;
    let message = world.program.message(&world.key).await;
    assert_eq!(message.text(), body);
    let field = |name: &str| message.head.one(name);
    assert_eq!(field("webhook-id"), answer.json()["id"].as_str());
    assert_eq!(field("x-github-event"), Some("push"));
    assert_eq!(field("content-type"), Some("application/json"));
    for absent in ["x-hub-signature-256", "cookie", "authorization"] {
        assert_eq!(field(absent), None, "{absent}");
    }
    world.standing("it is settled", |hook| hook["waiting"] == 0).await;
    world.lab.finish().await;
}

#[tokio::test]
async fn an_event_waits_for_the_one_before_it() {
    let mut world = World::start(Plan::api_key().top(AT_ONCE)).await;
    world.program.answers([status(500), status(500)]);
    for n in 1..=3 {
        world.push(&format!("{{\"n\":{n}}}")).await;
    }
    let mut bodies = Vec::new();
    for _ in 0..5 {
        bodies.push(world.program.message(&world.key).await.text());
    }
    assert_eq!(bodies, [1, 1, 1, 2, 3].map(|n| format!("{{\"n\":{n}}}")));
    world.standing("all are delivered", |hook| hook["waiting"] == 0).await;
    world.lab.finish().await;
}

#[tokio::test]
async fn accepted_events_of_a_paused_hook_are_delivered_after_a_restart() {
    let mut world = World::start(Plan::api_key()).await;
    api(&world.lab, "PATCH", "/hooks/ci", json!({"paused": true}), 200).await;
    for n in 1..=3 {
        assert_eq!(world.push(&format!("{{\"n\":{n}}}")).await.head.status(), 200);
    }
    assert_eq!(world.hook().await["waiting"], 3);
    world.lab.gateway.restart().await;
    world.standing("they still wait", |hook| hook["waiting"] == 3).await;
    assert_eq!(world.program.origin.received().len(), 0, "deliveries rest");
    api(&world.lab, "PATCH", "/hooks/ci", json!({"paused": false}), 200).await;
    for n in 1..=3 {
        let message = world.program.message(&world.key).await;
        assert_eq!(message.text(), format!("{{\"n\":{n}}}"));
    }
    world.lab.finish().await;
}

#[tokio::test]
async fn an_event_whose_deliveries_all_failed_is_kept_and_can_be_sent_again() {
    let mut world = World::start(Plan::api_key().top(AT_ONCE)).await;
    world.program.answers([status(500), status(503), status(404)]);
    let id = world.push(r#"{"n":1}"#).await.json()["id"].as_str().expect("an id").to_owned();
    world.push(r#"{"n":2}"#).await;
    for _ in 0..4 {
        world.program.message(&world.key).await;
    }
    let hook = world.standing("one is dead", |it| it["dead"] == 1 && it["waiting"] == 0).await;
    assert_eq!(hook["last"]["taken"], true, "the next one was delivered");
    let metrics = world.lab.gateway.metrics().await;
    let counted = "keyward_hook_deliveries_total{outcome=\"given_up\"} 1";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    world.lab.gateway.restart().await;
    world.standing("it is kept", |it| it["dead"] == 1).await;
    let dead = api(&world.lab, "GET", "/hooks/ci/events?dead=true", Value::Null, 200).await;
    let event = &dead["items"][0];
    assert_eq!((&event["id"], &event["why"]), (&json!(id), &json!("answered 404")));
    assert_eq!(event["body"], r#"{"n":1}"#);
    let resend = format!("/hooks/ci/events/{id}/resend");
    api(&world.lab, "POST", &resend, json!({}), 200).await;
    let message = world.program.message(&world.key).await;
    assert_eq!(message.head.one("webhook-id"), Some(&*id));
    world.standing("none is dead", |it| it["dead"] == 0 && it["waiting"] == 0).await;
    api(&world.lab, "POST", &resend, json!({}), 200).await;
    let message = world.program.message(&world.key).await;
    assert_eq!(message.head.one("webhook-id"), Some(&*id), "it is kept");
    world.lab.finish().await;
}

/// Events that the program refuses at once do not fill the store.
#[tokio::test]
async fn the_oldest_dead_event_beyond_dead_max_is_removed_and_the_others_can_be_sent_again() {
    let plan = Plan::api_key().top("events: { dead_max: 2 }");
    let mut world = World::of(plan, "meta").await;
    world.program.answers([status(410), status(410), status(410)]);
    let mut ids = Vec::new();
    for n in 1..=3 {
        let accepted = world.push(&format!("{{\"n\":{n}}}")).await.is(200);
        ids.push(accepted.json()["id"].as_str().expect("an id").to_owned());
        world.program.message(&world.key).await;
    }
    let is_bounded = |hook: &Value| hook["dead"] == 2 && hook["waiting"] == 0;
    world.standing("two are kept", is_bounded).await;
    let counted = "keyward_hook_events_dropped_total 1";
    until("the removal is counted", async || {
        world.lab.gateway.metrics().await.lines().any(|line| line == counted)
    })
    .await;
    let dead = async |world: &World| {
        let dead = api(&world.lab, "GET", "/hooks/ci/events?dead=true", Value::Null, 200).await;
        let items = dead["items"].as_array().expect("a list").clone();
        items.into_iter().map(|event| event["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(dead(&world).await, ids[1..]);
    api(&world.lab, "GET", &format!("/hooks/ci/events/{}", ids[0]), Value::Null, 404).await;
    world.lab.gateway.restart().await;
    world.standing("they are kept", is_bounded).await;
    assert_eq!(dead(&world).await, ids[1..]);
    assert_eq!(world.push(r#"{"n":1}"#).await.json()["repeated"], true, "it is still known");
    for id in &ids[1..] {
        api(&world.lab, "POST", &format!("/hooks/ci/events/{id}/resend"), json!({}), 200).await;
        let message = world.program.message(&world.key).await;
        assert_eq!(message.head.one("webhook-id"), Some(&**id));
    }
    world.standing("none is dead", |it| it["dead"] == 0 && it["waiting"] == 0).await;
    world.lab.finish().await;
}

/// The last delivery times out after the event was sent again.
#[tokio::test]
async fn an_event_that_is_sent_again_during_its_last_delivery_is_delivered() {
    let mut world = World::start(Plan::api_key().top(AT_ONCE)).await;
    let silence = String::new();
    world.program.answers([status(500), status(500), silence]);
    let id = world.push(r#"{"n":1}"#).await.json()["id"].as_str().expect("an id").to_owned();
    for _ in 0..3 {
        world.program.message(&world.key).await;
    }
    api(&world.lab, "POST", &format!("/hooks/ci/events/{id}/resend"), json!({}), 200).await;
    let message = world.program.message(&world.key).await;
    assert_eq!(message.head.one("webhook-id"), Some(&*id));
    world.standing("it is delivered", |it| it["dead"] == 0 && it["waiting"] == 0).await;
    world.lab.finish().await;
}

#[tokio::test]
async fn old_and_new_keys_are_both_valid_right_after_a_rotation() {
    let mut world = World::start(Plan::api_key()).await;
    let later = "another-secret-of-the-service";
    world.lab.guard(Canary::of(later.to_owned()));
    api(&world.lab, "POST", "/hooks/ci/rotate", json!({"secret": later}), 200).await;
    let rotated = api(&world.lab, "POST", "/hooks/ci/rotate", json!({}), 200).await;
    let key = Canary::of(rotated["signing_key"].as_str().expect("shown once").to_owned());
    world.lab.guard(key.clone());
    assert_eq!(world.push(r#"{"n":1}"#).await.head.status(), 200, "by the secret before");
    world.program.message(&world.key).await;
    let body = r#"{"n":2}"#;
    let fields = format!("X-Hub-Signature-256: sha256={}\r\n", signed(later, body));
    assert_eq!(send(&world.lab, "/hooks/ci", &fields, body).await.head.status(), 200);
    world.program.message(&key).await;
    world.lab.finish().await;
}

#[tokio::test]
async fn a_removed_hook_answers_404_and_leaves_no_events() {
    let world = World::start(Plan::api_key()).await;
    api(&world.lab, "PATCH", "/hooks/ci", json!({"paused": true}), 200).await;
    world.push(r#"{"n":1}"#).await;
    api(&world.lab, "DELETE", "/hooks/ci", Value::Null, 204).await;
    assert_eq!(world.push(r#"{"n":2}"#).await.head.status(), 404);
    let again =
        json!({"name": "ci", "scheme": "github", "to": world.program.url(), "secret": SECRET});
    let made = api(&world.lab, "POST", "/hooks", again, 201).await;
    assert_eq!(made["waiting"], 0);
    assert_eq!(world.push(r#"{"n":1}"#).await.json()["repeated"], false);
    world.lab.finish().await;
}
