//! Delivered events: they are recorded, kept, listed in pages, and delivered again for a person or for their service.

use super::*;

/// The ids of the delivered events, in pages of this length.
async fn delivered(world: &World, most: usize) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/hooks/ci/events?delivered=true&limit={most}{after}");
        let page = api(&world.lab, "GET", &path, Value::Null, 200).await;
        let items = page["items"].as_array().expect("a list");
        assert!(items.iter().all(|event| event["state"] == "delivered"), "{page}");
        pages.push(items.iter().map(|it| it["id"].as_str().expect("an id").to_owned()).collect());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return pages,
        }
    }
}

/// Delivers an event with this body. Returns its id.
async fn deliver(world: &mut World, body: &str) -> String {
    let id = world.push(body).await.is(200).json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(world.program.message(&world.key).await.head.one("webhook-id"), Some(&*id));
    world.standing("it is delivered", |hook| hook["waiting"] == 0).await;
    id
}

#[tokio::test]
async fn delivered_events_are_listed_in_pages_and_can_be_sent_again_also_after_a_restart() {
    let mut world = World::start(Plan::api_key()).await;
    let mut ids = Vec::new();
    for n in 1..=3 {
        ids.insert(0, deliver(&mut world, &format!("{{\"n\":{n}}}")).await);
    }
    assert_eq!(delivered(&world, 2).await, [&ids[..2], &ids[2..]], "the newest first");
    world.lab.gateway.restart().await;
    world.standing("they are read", |hook| hook["delivered"] == 3).await;
    let event = format!("/hooks/ci/events/{}", ids[1]);
    let shown = api(&world.lab, "GET", &event, Value::Null, 200).await;
    assert_eq!((&shown["body"], &shown["state"]), (&json!(r#"{"n":2}"#), &json!("delivered")));
    api(&world.lab, "POST", &format!("{event}/resend"), json!({}), 200).await;
    let message = world.program.message(&world.key).await;
    assert_eq!((message.head.one("webhook-id"), &*message.text()), (Some(&*ids[1]), r#"{"n":2}"#));
    assert_eq!(message.head.one("x-github-event"), Some("push"));
    world.standing("it is kept again", |it| it["delivered"] == 3 && it["waiting"] == 0).await;
    // A reader that comes late removes nothing.
    api(&world.lab, "DELETE", &event, Value::Null, 404).await;
    for (query, field) in [
        ("delivered=true&dead=true", "delivered"),
        ("delivered=true&follow=true", "follow"),
        ("delivered=true&limit=101", "limit"),
    ] {
        let path = format!("/hooks/ci/events?{query}");
        let refused = api(&world.lab, "GET", &path, Value::Null, 422).await;
        assert_eq!(refused["error"]["field"], field, "{refused}");
    }
    api(&world.lab, "GET", "/hooks/ci/events?delivered=true&after=0", Value::Null, 404).await;
    world.lab.finish().await;
}

#[tokio::test]
async fn a_hook_keeps_as_many_delivered_events_as_it_says() {
    let mut world = World::start(Plan::api_key()).await;
    api(&world.lab, "PATCH", "/hooks/ci", json!({"keep_events": 1}), 200).await;
    let first = deliver(&mut world, r#"{"n":1}"#).await;
    let second = deliver(&mut world, r#"{"n":2}"#).await;
    assert_eq!(delivered(&world, 9).await, [[second]]);
    api(&world.lab, "POST", &format!("/hooks/ci/events/{first}/resend"), json!({}), 404).await;
    api(&world.lab, "PATCH", "/hooks/ci", json!({"keep_events": 0}), 200).await;
    deliver(&mut world, r#"{"n":3}"#).await;
    world.standing("none is kept", |hook| hook["delivered"] == 0).await;
    api(&world.lab, "PATCH", "/hooks/ci", json!({"keep_events": 10_001}), 422).await;
    world.lab.finish().await;
}

/// GitHub's *Redeliver* sends the same bytes and the same delivery id.
#[tokio::test]
async fn an_event_that_its_service_sends_again_for_a_person_is_delivered_again() {
    let mut world = World::start(Plan::api_key()).await;
    let body = r#"{"n":1}"#;
    let id = deliver(&mut world, body).await;
    for _ in 0..2 {
        let again = world.push(body).await.is(200);
        assert_eq!((&again.json()["id"], &again.json()["repeated"]), (&json!(id), &json!(false)));
        let message = world.program.message(&world.key).await;
        assert_eq!((message.head.one("webhook-id"), &*message.text()), (Some(&*id), body));
        world.standing("it is delivered", |hook| hook["waiting"] == 0).await;
    }
    // One that waits is delivered once.
    api(&world.lab, "PATCH", "/hooks/ci", json!({"paused": true}), 200).await;
    assert_eq!(world.push(body).await.json()["repeated"], false);
    assert_eq!(world.push(body).await.json()["repeated"], true);
    assert_eq!(world.hook().await["waiting"], 1);
    let records = world.lab.finish_with_changes().await;
    let of = |action: &str| records.iter().filter(|it| it["change"]["action"] == action).count();
    assert_eq!(
        [of("event accepted"), of("event accepted again"), of("request repeated")],
        [1, 3, 1]
    );
}

#[tokio::test]
async fn an_accepted_event_leaves_a_record_with_its_id() {
    let mut world = World::start(Plan::api_key()).await;
    let id = deliver(&mut world, r#"{"n":1}"#).await;
    let records = world.lab.finish_with_changes().await;
    let accepted: Vec<_> =
        records.iter().filter(|it| it["change"]["action"] == "event accepted").collect();
    assert_eq!(accepted.len(), 1, "{records:?}");
    let change = &accepted[0]["change"];
    assert_eq!((&change["what"], &change["name"]), (&json!("hook"), &json!("ci")));
    assert_eq!(change["why"], format!("event {id}"));
    assert_eq!(accepted[0]["outcome"], "completed");
}

/// The secret that others may have ends at once, and so does one that was replaced before it.
#[tokio::test]
async fn a_rotation_without_overlap_ends_the_keys_before_at_once() {
    let mut world = World::start(Plan::api_key()).await;
    let [second, third] = ["second-secret-of-the-service", "third-secret-of-the-service"];
    for secret in [second, third] {
        world.lab.guard(Canary::of(secret.to_owned()));
    }
    let rotate = async |body: Value| api(&world.lab, "POST", "/hooks/ci/rotate", body, 200).await;
    rotate(json!({"secret": second})).await;
    world.push_signed_by(SECRET, r#"{"n":1}"#).await.is(200);
    rotate(json!({"secret": third, "no_overlap": true})).await;
    for secret in [SECRET, second] {
        world.push_signed_by(secret, r#"{"n":2}"#).await.is(401);
    }
    world.push_signed_by(third, r#"{"n":2}"#).await.is(200);
    for _ in 0..2 {
        world.program.message(&world.key).await;
    }
    let rotated = rotate(json!({"no_overlap": true})).await;
    let key = Canary::of(rotated["signing_key"].as_str().expect("shown once").to_owned());
    world.lab.guard(key.clone());
    world.push_signed_by(third, r#"{"n":3}"#).await.is(200);
    let message = world.program.message(&key).await;
    let signatures = message.head.one("webhook-signature").expect("signed");
    assert!(!signatures.contains(' '), "one key alone signs: {signatures}");
    world.lab.finish().await;
}

/// GitHub documents 25 MiB; other services have 2 MiB.
#[tokio::test]
async fn a_service_with_large_events_can_send_them_without_a_setting() {
    const MIB: usize = 1024 * 1024;
    let mut world = World::start(Plan::api_key()).await;
    let body = format!("\"{}\"", "x".repeat(5 * MIB));
    let id = world.push(&body).await.is(200).json()["id"].clone();
    let message = world.program.message(&world.key).await;
    assert_eq!(message.head.one("webhook-id"), id.as_str());
    assert!(message.text() == body, "byte by byte");
    let other = json!({"name": "other", "scheme": "stripe", "secret": SECRET});
    api(&world.lab, "POST", "/hooks", other, 201).await;
    let admin = world.lab.gateway.admin;
    for (hook, bytes, status) in
        [("ci", 25 * MIB + 1, 413), ("other", 2 * MIB + 1, 413), ("other", 2, 401)]
    {
        let mut wire = Wire::to(admin).await;
        let head = format!("POST /hooks/{hook} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: ");
        wire.send(format!("{head}{bytes}\r\n\r\n{{}}")).await;
        assert_eq!(wire.answer("POST").await.head.status(), status, "{hook}, {bytes}");
    }
    world.lab.finish().await;
}
