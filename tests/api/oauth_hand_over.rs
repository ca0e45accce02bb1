//! A consent ends with the right of the user who began it: after a hand-over or a pause it connects nothing, and tokens
//! that it has received are revoked.

use serde_json::{Value, json};

use test_support::authorization::Rules;
use test_support::canary::Canary;
use test_support::oauth::World;

const ALICE: &str = "alice@acme.test";

const SAYS: &str = "may not change the connection any more";

/// Connection `work` belongs to ann; and the field of her token.
async fn of_ann() -> (World, String) {
    // Longer than a busy machine takes.
    let patient = "oauth: { revoke_timeout: 25s, account_timeout: 25s }";
    let mut world = World::with(Rules::default(), |plan| plan.top(patient)).await;
    world.connected().await;
    for name in ["ann", "bob"] {
        world.api("POST", "/users", &json!({ "name": name, "role": "member" })).await;
    }
    world.api("PATCH", "/connections/work", &json!({ "owner": "ann" })).await;
    let token = world.api("POST", "/tokens", &json!({ "user": "ann" })).await["token"].clone();
    let token = Canary::of(token.as_str().expect("shown once").to_owned());
    world.lab.guard(token.clone());
    (world, format!("Authorization: Bearer {}\r\n", token.text))
}

/// Ann connects it again: how it was begun.
async fn reconnects(world: &World, ann: &str) -> Value {
    let line = ("POST", "/connections/work/reconnect");
    world.lab.gateway.api_with(ann, line, "{}").await.is(200).json()
}

#[tokio::test]
async fn a_user_who_lost_the_right_to_a_connection_begins_and_finishes_no_consent() {
    for (path, change) in [
        ("/connections/work", json!({ "owner": "bob" })),
        ("/connections/work", json!({ "owner": null })),
        ("/users/ann", json!({ "paused": true })),
    ] {
        let (world, ann) = of_ann().await;
        let (offered, begun) = (reconnects(&world, &ann).await, reconnects(&world, &ann).await);
        let mut browser = world.browser();
        let url = browser.begin(begun["authorize_url"].as_str().expect("a start page")).await;
        let calls = world.server.calls().len();
        world.api("PATCH", path, &change).await;
        let start = offered["authorize_url"].as_str().expect("a start page");
        let page = world.browser().get(start).await;
        let back = browser.get(&world.server.issuer().consent(&url)).await;
        for refused in [page, back] {
            assert_eq!(refused.head.status(), 409, "{path}: {}", refused.text());
            assert!(refused.text().contains(SAYS), "{path}: {}", refused.text());
        }
        assert_eq!(world.server.calls().len(), calls, "{path}: no code was exchanged");
        let flow = world.flow(&begun).await;
        assert_eq!(flow["state"], "failed", "{path}: {flow}");
        let connection = world.connection().await;
        assert_eq!(
            (&connection["state"], &connection["account"]),
            (&json!("active"), &json!(ALICE)),
            "{path}"
        );
        world.finish().await;
    }
}

#[tokio::test]
async fn tokens_that_wait_for_a_decision_are_revoked_after_a_hand_over() {
    let (world, ann) = of_ann().await;
    world.server.issuer().change(|rules| rules.account = "mallory@acme.test".to_owned());
    let begun = reconnects(&world, &ann).await;
    world.consent(&mut world.browser(), &begun).await.is(303);
    assert_eq!(world.flow(&begun).await["state"], "confirm");
    let issued = world.server.calls().into_iter().rev().find_map(|call| call.issued);
    let issued = issued.expect("tokens").access;
    assert!(world.server.issuer().is_live(&issued));
    world.api("PATCH", "/connections/work", &json!({ "owner": "bob" })).await;
    let path = format!("/flows/{}/confirm", begun["flow"].as_str().expect("a flow"));
    world.lab.gateway.api("POST", &path, r#"{"accept":true}"#).await.is(422).says(SAYS);
    assert!(!world.server.issuer().is_live(&issued));
    assert_eq!(world.flow(&begun).await["state"], "failed");
    assert_eq!(world.connection().await["account"], ALICE);
    assert_eq!(world.request().await.text(), "fine", "with the old tokens");
    world.finish().await;
}

/// The right that counts is that of the moment: an admin who is no owner may finish what they began.
#[tokio::test]
async fn an_admin_finishes_a_consent_of_a_connection_that_others_own() {
    let (world, ann) = of_ann().await;
    let begun = reconnects(&world, &ann).await;
    world.api("PATCH", "/connections/work", &json!({ "owner": "bob" })).await;
    world.api("PATCH", "/users/ann", &json!({ "role": "admin" })).await;
    world.consent(&mut world.browser(), &begun).await.is(303);
    assert_eq!(world.flow(&begun).await["state"], "connected");
    world.finish().await;
}
