//! Consents that are open: who sees them, how they are cancelled, and what ends with their connection.

use serde_json::{Value, json};

use test_support::authorization::Rules;
use test_support::oauth::World;

async fn open(world: &World, query: &str) -> Vec<Value> {
    let listed = world.api("GET", &format!("/flows{query}"), &Value::Null).await;
    listed["items"].as_array().expect("a list").clone()
}

async fn reconnect(world: &World) -> Value {
    world.api("POST", "/connections/work/reconnect", &json!({})).await
}

async fn bounded() -> World {
    World::with(Rules::default(), |plan| plan.top("oauth: { flows_per_person_max: 3 }")).await
}

/// oauth 5.flows
#[tokio::test]
async fn a_removed_connection_frees_the_consents_that_it_had_open() {
    let world = bounded().await;
    let made = world.draft().await;
    for _ in 0..2 {
        reconnect(&world).await;
    }
    assert_eq!(open(&world, "").await.len(), 3);
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "more", "app": "svc-app" });
    let refused = world.lab.gateway.api("POST", "/connections", &new.to_string()).await.is(422);
    assert!(refused.text().contains("keyward connection consents"), "{}", refused.text());

    world.api("DELETE", "/connections/work", &Value::Null).await;
    world.api("POST", "/connections", &new).await;
    assert_eq!(open(&world, "").await.len(), 1);
    let view = world.settled(&made).await;
    assert_eq!(
        (&view["state"], &view["why"]),
        (&json!("failed"), &json!("the connection was removed"))
    );
    let page = world.browser().get(made["authorize_url"].as_str().expect("a page")).await;
    assert_eq!(page.head.status(), 400, "its start page leads nowhere");
    world.finish().await;
}

/// oauth 5.flows
#[tokio::test]
async fn an_open_consent_is_listed_and_cancelled_and_nothing_finishes_it_then() {
    let world = bounded().await;
    let made = world.draft().await;
    let (mut browser, url) = world.begins(&made).await;
    let listed = open(&world, "").await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&made["flow"], &json!("work")));
    assert_eq!(listed[0]["state"], "open");
    for member in ["person", "created", "expires"] {
        assert!(listed[0][member].is_string(), "{member}: {listed:?}");
    }
    let all = listed[0].to_string();
    assert!(
        !all.contains("/oauth/start/")
            && !all.contains(&test_support::authorization::query(&url)["state"])
    );
    assert_eq!(open(&world, "?connection=work").await.len(), 1);
    world.lab.gateway.api("GET", "/flows?connection=nobody", "").await.is(404);

    let id = made["flow"].as_str().expect("a flow").to_owned();
    let cancelled = world.api("POST", &format!("/flows/{id}/cancel"), &json!({})).await;
    assert_eq!(
        (&cancelled["state"], &cancelled["why"]),
        (&json!("failed"), &json!("it was cancelled"))
    );
    assert!(open(&world, "").await.is_empty());
    assert_eq!(world.connection().await["failure"], "it was cancelled");
    browser.get(&world.server.issuer().consent(&url)).await.is(400);
    assert!(world.server.calls().is_empty(), "no code was sent");
    for gone in [id.as_str(), "flw_0123456789abcdef0123456789abcdef"] {
        let again = world.lab.gateway.api("POST", &format!("/flows/{gone}/cancel"), "{}").await;
        let status = again.head.status();
        assert_eq!(status, if gone == id { 422 } else { 404 }, "{}", again.text());
    }
    world.finish().await;
}

/// oauth 5.flows, 2.account
#[tokio::test]
async fn a_cancelled_decision_declines_the_other_account_and_a_finished_consent_stays() {
    let patient = "oauth: { revoke_timeout: 25s }";
    let world = World::with(Rules::default(), |plan| plan.top(patient)).await;
    let made = world.connected().await;
    let done = format!("/flows/{}/cancel", made["flow"].as_str().expect("a flow"));
    world.lab.gateway.api("POST", &done, "{}").await.is(422);
    world.server.issuer().change(|rules| rules.account = "bob@acme.test".to_owned());
    let again = reconnect(&world).await;
    world.consent(&mut world.browser(), &again).await;
    let bobs = world.server.calls()[1].issued.clone().expect("tokens").access;
    let path = format!("/flows/{}/cancel", again["flow"].as_str().expect("a flow"));
    let cancelled = world.api("POST", &path, &json!({})).await;
    let why = cancelled["why"].as_str().expect("why");
    assert!(why.contains("cancelled") && why.contains("has revoked its access"), "{why}");
    assert!(!world.server.issuer().is_live(&bobs));
    assert_eq!(world.connection().await["state"], "active");
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}
