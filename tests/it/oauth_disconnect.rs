//! Disconnecting: here at once, at the provider as soon as it can be told, and the truth about both. OAuth
//! rules 13.

use serde_json::{Value, json};

use crate::support::authorization::{Rules, answer};
use crate::support::oauth::World;
use crate::support::patiently;

async fn removed(world: &World, query: &str) -> Value {
    world.api("DELETE", &format!("/connections/work{query}"), &Value::Null).await
}

#[tokio::test]
async fn both_tokens_are_revoked_with_the_client_s_proof() {
    let world = World::start().await;
    world.connected().await;
    let pair = world.server.only_call().issued.expect("tokens");
    assert_eq!(removed(&world, "?revoke=true").await["revoked_upstream"], true);
    let revoked = world.server.issuer().revoked();
    let asked: Vec<_> = revoked
        .iter()
        .map(|asked| (asked.form["token"].as_str(), asked.form["token_type_hint"].as_str()))
        .collect();
    let refresh = pair.refresh.as_deref().expect("a refresh token");
    assert_eq!(asked, [(refresh, "refresh_token"), (&*pair.access, "access_token")]);
    assert!(revoked.iter().all(|asked| asked.head.has("authorization")));
    assert!(!world.server.issuer().is_live(&pair.access));
    world.finish().await;
}

#[tokio::test]
async fn without_the_wish_the_provider_is_not_told() {
    let world = World::start().await;
    world.connected().await;
    assert_eq!(removed(&world, "").await["revoked_upstream"], Value::Null);
    assert!(world.server.issuer().revoked().is_empty());
    assert_eq!(world.request().await.head.status(), 403, "but here it is gone");
    world.finish().await;
}

#[tokio::test]
async fn a_provider_without_a_way_is_said_to_have_none() {
    let world = World::with(Rules::default(), |plan| {
        plan.provider(&crate::support::oauth::provider(
            ", revoke_via: none, access_page: \"https://auth.acme.test/apps\"",
        ))
    })
    .await;
    world.connected().await;
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], Value::Null);
    assert_eq!(told["by_hand"], "https://auth.acme.test/apps");
    world.finish().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_told_later_also_after_a_restart() {
    let mut world = World::start().await;
    world.connected().await;
    let pair = world.server.only_call().issued.expect("tokens");
    world.server.issuer().script("/revoke", answer(503, &json!({ "error": "down" })));
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], false);
    assert!(told["until"].is_string(), "{told}");
    assert_eq!(world.request().await.head.status(), 403, "here it ended at once");
    world.lab.gateway.restart().await;
    assert!(world.server.issuer().is_live(&pair.access));
    world.server.issuer().unscript("/revoke");
    let revoked = async {
        while world.server.issuer().is_live(&pair.access) {
            tokio::task::yield_now().await;
        }
    };
    patiently("the revocation", revoked).await;
    world.finish().await;
}

/// oauth 5.revoke, 5.settings
#[tokio::test]
async fn a_hanging_server_holds_nobody_up() {
    let world =
        World::with(Rules::default(), |plan| plan.top("oauth: { revoke_timeout: 0.2s }")).await;
    world.connected().await;
    // A head that never ends.
    world.server.issuer().script("/revoke", "HTTP/1.1 200 OK\r\n");
    let began = std::time::Instant::now();
    assert_eq!(removed(&world, "?revoke=true").await["revoked_upstream"], false);
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    world.finish().await;
}
