//! A remote MCP server from its URL alone, with a third-party authorization server: metadata, registration,
//! `resource` and `iss` come from `oidc-provider`. OAuth rules 13.

use serde_json::{Value, json};

use crate::issuer::{Program, World};
use crate::person;
use test_support::HOST;
use test_support::authorization::{AUTH_HOST, query};
use test_support::browser::Browser;
use test_support::oauth::AGENT;

/// Nothing is known beforehand; the provider `svc` has no part in it.
async fn world() -> World {
    settled(json!({})).await
}

/// The same with a server that has these settings.
async fn settled(settings: Value) -> World {
    let world = World::of(Program::OidcProvider, "{ id: token, kind: bearer }").await;
    world.issuer.settle([], settings);
    world
}

/// Connects the server's URL under a name.
async fn added(world: &World, name: &str) -> Value {
    let new = json!({ "provider": "mcp", "name": name, "url": format!("https://{HOST}/mcp") });
    let made = world.api("POST", "/connections", &new).await;
    let bind = json!({ "connection": name });
    world.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    made
}

/// oauth 2.5: it is announced, and every answer has it.
#[tokio::test]
async fn a_callback_without_the_issuer_or_with_another_issuer_connects_nothing() {
    let world = world().await;
    let mut begun = added(&world, "tools").await;
    let iss = format!("&iss=https%3A%2F%2F{AUTH_HOST}");
    for instead in ["", "&iss=https%3A%2F%2Fevil.test"] {
        let mut browser = Browser::new(&world.lab.gateway);
        let url = browser.begin(begun["authorize_url"].as_str().expect("a page")).await;
        let back = person::consents(world.issuer.addr, &url).await;
        assert!(back.contains(&iss), "it tells who it is");
        browser.get(&back.replace(&iss, instead)).await.is(400);
        assert_eq!(world.shown("tools").await["state"], "draft");
        begun = world.api("POST", "/connections/tools/reconnect", &json!({})).await;
    }
    assert!(world.issuer.log("token").is_empty(), "no code was sent");
    world.consented(&begun).await;
    assert_eq!(world.works("tools").await.1["sub"], "alice");
    world.finish().await;
}

/// oauth 13.unregistered
#[tokio::test]
async fn an_mcp_server_behind_oidc_provider_is_connected_from_its_url_alone() {
    let world = world().await;
    let begun = added(&world, "tools").await;
    let registered = world.issuer.log("registered");
    assert_eq!(registered.len(), 1);
    let mut browser = Browser::new(&world.lab.gateway);
    let url = browser.begin(begun["authorize_url"].as_str().expect("a page")).await;
    let (question, resource) = (query(&url), format!("https://{HOST}/mcp"));
    assert_eq!(json!(question["client_id"]), registered[0]["client"]);
    assert_eq!((&question["resource"], &*question["scope"]), (&resource, "tools offline_access"));
    let back = person::consents(world.issuer.addr, &url).await;
    assert_eq!(browser.get(&back).await.head.status(), 303);
    let (first, told) = world.works("tools").await;
    assert_eq!((&told["aud"], &told["scope"]), (&json!(resource), &json!("tools")), "{told}");
    world.issuer.end();
    let (second, told) = world.works("tools").await;
    assert_eq!((&told["aud"], &told["scope"]), (&json!(resource), &json!("tools")), "{told}");
    assert_ne!(first, second);
    let asked = world.issuer.log("token");
    let asked: Vec<_> = asked.iter().map(|it| (&it["grant"], &it["resource"])).collect();
    let (code, refresh) = (json!("authorization_code"), json!("refresh_token"));
    let resource = json!(resource);
    assert_eq!(asked, [(&code, &resource), (&refresh, &resource)]);
    // Another connection of it is the same client's.
    let again = added(&world, "more").await;
    world.consented(&again).await;
    assert_eq!(world.works("more").await.1["client_id"], registered[0]["client"]);
    assert_eq!(world.issuer.log("registered").len(), 1);
    for name in ["tools", "more"] {
        world.ends(name).await;
    }
    // Without a connection, the client stays for the next one, until its app is removed.
    assert!(world.issuer.log("deleted").is_empty());
    let apps = world.api("GET", "/apps", &Value::Null).await;
    let app = apps["items"][0]["id"].as_str().expect("an app").to_owned();
    world.api("DELETE", &format!("/apps/{app}"), &Value::Null).await;
    let deleted = world.issuer.log("deleted");
    assert_eq!((deleted.len(), &deleted[0]["client"]), (1, &registered[0]["client"]));
    world.finish().await;
}

/// oauth 2.pushed: it refuses every other authorization request.
#[tokio::test]
async fn an_oidc_provider_that_requires_pushed_authorization_requests_is_consented_at() {
    let world = settled(json!({ "pushed": true })).await;
    let begun = added(&world, "tools").await;
    let mut browser = Browser::new(&world.lab.gateway);
    let url = browser.begin(begun["authorize_url"].as_str().expect("a page")).await;
    let (shown, pushed) = (query(&url), world.issuer.log("pushed"));
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["client_id", "request_uri"]);
    assert_eq!((pushed.len(), &pushed[0]["client"]), (1, &json!(shown["client_id"])));
    let back = person::consents(world.issuer.addr, &url).await;
    browser.get(&back).await.is(303);
    let (_, told) = world.works("tools").await;
    assert_eq!((&told["sub"], &told["client_id"]), (&json!("alice"), &json!(shown["client_id"])));
    world.ends("tools").await;
    world.finish().await;
}
