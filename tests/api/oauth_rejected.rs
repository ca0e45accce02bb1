//! A server that refuses the client by mistake, or that knows its new secret late: the connection heals when a
//! person tries it again, and by itself after a while.

use std::time::Duration;

use serde_json::json;

use test_support::authorization::{CLIENT_SECRET, Fault, ISSUER, Rules};
use test_support::oauth::{AGENT, World};
use test_support::tokens::set;
use test_support::{HOST, until};

/// A connection that works but for one `invalid_client`.
async fn rejected_once() -> World {
    let world = World::start().await;
    set(&world.lab, |it| it.rejected_backoff_first = Duration::from_secs(3_600));
    world.connected().await;
    world.server.issuer().expire_all();
    world.server.fail_next(Fault::error(401, "invalid_client"));
    assert_eq!(world.request().await.head.one("keyward-error"), Some("connection_broken"));
    assert_eq!(world.connection().await["reason"], "client_rejected");
    assert_eq!(world.request().await.head.status(), 424, "and quiet");
    assert_eq!(world.server.calls().len(), 2);
    world
}

async fn is_well(world: &World, what: &str) {
    let told = world.request().await;
    assert_eq!(told.text(), "fine", "{what}");
    assert_eq!(world.connection().await["state"], "active", "{what}");
    assert_eq!(world.server.calls().len(), 3, "{what}");
}

/// oauth 9.again: `connection refresh`
#[tokio::test]
async fn a_refresh_by_a_person_heals_what_one_mistaken_invalid_client_broke() {
    let world = rejected_once().await;
    world.lab.gateway.api("POST", "/connections/work/refresh", "{}").await.is(200);
    assert_eq!(world.connection().await["state"], "active");
    is_well(&world, "refreshed").await;
    world.finish().await;
}

/// oauth 9.again: `connection test`
#[tokio::test]
async fn a_test_by_a_person_heals_what_one_mistaken_invalid_client_broke() {
    let world = rejected_once().await;
    let told = world.api("POST", "/connections/work/test", &json!({})).await;
    assert_eq!(told["ok"], true, "{told:#}");
    is_well(&world, "tested").await;
    world.finish().await;
}

/// oauth 9.again: `connection resume`, with and without a pause before
#[tokio::test]
async fn a_resume_by_a_person_has_a_refused_client_tried_again() {
    for paused in [false, true] {
        let world = rejected_once().await;
        if paused {
            world.api("POST", "/connections/work/pause", &json!({})).await;
        }
        world.api("POST", "/connections/work/resume", &json!({})).await;
        assert_eq!(world.server.calls().len(), 2, "nobody was asked yet");
        is_well(&world, "resumed").await;
        world.finish().await;
    }
}

/// oauth 9.again: the same secret, given once more by a person
#[tokio::test]
async fn a_patch_with_the_same_secret_retries_it_and_reports_no_change() {
    let world = rejected_once().await;
    let same = json!({ "secrets": { "client_secret": CLIENT_SECRET } });
    let told = world.api("PATCH", "/apps/svc-app", &same).await;
    assert_eq!(told["changed"], false, "{told:#}");
    assert_eq!(told["retried"], json!(["work"]), "{told:#}");
    is_well(&world, "given again").await;
    let other = json!({ "scopes": ["read", "write"] });
    let told = world.api("PATCH", "/apps/svc-app", &other).await;
    assert_eq!((&told["changed"], &told["retried"]), (&json!(true), &json!([])), "{told:#}");
    world.finish().await;
}

/// oauth 9.again: by itself, after a pause; also where nobody can consent again.
#[tokio::test]
async fn requests_heal_a_refused_client_after_its_pause() {
    let provider = format!(
        "{{ id: svc, name: Service, hosts: [{HOST}], auth: [{{ id: oauth, kind: oauth2, \
         grant: client_credentials, token: \"{ISSUER}/token\", client_auth: basic }}] }}"
    );
    let world = World::with(Rules::default(), |plan| plan.provider(&provider)).await;
    set(&world.lab, |it| it.rejected_backoff_first = Duration::from_millis(50));
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app" });
    world.api("POST", "/connections", &new).await;
    let bind = json!({ "connection": "work" });
    world.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    world.server.fail_next(Fault::error(401, "invalid_client"));
    let told = world.request().await;
    assert_eq!(told.head.one("keyward-error"), Some("connection_broken"));
    assert!(told.text().contains("keyward connection refresh work"), "{}", told.text());
    until("the healing", async || world.request().await.head.status() == 200).await;
    assert_eq!(world.connection().await["state"], "active");
    assert_eq!(world.server.calls().len(), 2, "tried again once");
    world.finish().await;
}

/// oauth 9.again: a server that still refuses is asked once for each time that a person asks.
#[tokio::test]
async fn a_refresh_by_hand_with_a_still_rejected_client_fails_and_it_stays_broken() {
    let world = rejected_once().await;
    world.server.fail_always(Fault::error(401, "invalid_client"));
    for round in 1..=2 {
        let told = world.lab.gateway.api("POST", "/connections/work/refresh", "{}").await;
        assert!(told.head.status() >= 400, "{}", told.text());
        assert!(told.text().contains("invalid_client"), "{}", told.text());
        assert_eq!(world.connection().await["state"], "broken");
        assert_eq!(world.request().await.head.status(), 424);
        assert_eq!(world.server.calls().len(), 2 + round);
    }
    world.finish().await;
}
