//! What is known of an app is said where a connection of it is looked at; one that its provider refuses is
//! tried again when it changes. `oauth_rejected` has the other ways out.

use std::fs;

use serde_json::{Value, json};

use test_support::authorization::{Authorization, CLIENT, CLIENT_SECRET, Rules};
use test_support::oauth::World;
use test_support::tokens::*;
use test_support::*;

fn refused(answer: &Message) -> (u16, String) {
    let code = answer.head.one("keyward-error").unwrap_or_default().to_owned();
    (answer.head.status(), code)
}

/// A connection whose provider refuses its app.
async fn rejected() -> World {
    let patient = |plan: Plan| plan.top("oauth: { rejected_backoff_first: 1h }");
    let world = World::with(Rules::default(), patient).await;
    world.connected().await;
    world.server.issuer().change_secret("rotated-by-the-provider");
    world.server.issuer().expire_all();
    let answer = world.request().await;
    assert_eq!(refused(&answer), (424, "connection_broken".to_owned()), "{}", answer.text());
    let shown = world.connection().await;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("broken"), &json!("client_rejected")));
    world
}

async fn set(world: &World, patch: &Value) {
    world.api("PATCH", "/apps/svc-app", patch).await;
}

/// oauth 9.2, 9.quiet: no token requests within the pause, whatever comes and restarts
#[tokio::test]
async fn no_request_retries_a_rejected_app_within_its_pause() {
    let mut world = rejected().await;
    let asked = world.server.calls().len();
    for _ in 0..2 {
        for _ in 0..3 {
            assert_eq!(refused(&world.request().await), (424, "connection_broken".to_owned()));
        }
        landed(&world.lab).await;
        world.lab.gateway.restart().await;
    }
    assert_eq!(world.connection().await["state"], "broken");
    assert_eq!(world.server.calls().len(), asked);
    world.finish().await;
}

/// oauth 9.2, 9.changed: retried when the configuration changes
#[tokio::test]
async fn a_refused_app_that_gets_another_secret_is_tried_by_the_next_request() {
    let world = rejected().await;
    let asked = world.server.calls().len();
    set(&world, &json!({ "secrets": { "client_secret": "another-wrong-one" } })).await;
    assert_eq!(world.connection().await["state"], "testing", "nobody was asked yet");
    assert_eq!(world.server.calls().len(), asked);
    assert_eq!(world.request().await.head.status(), 424);
    assert_eq!(world.connection().await["state"], "broken", "refused again");
    assert_eq!(world.request().await.head.status(), 424);
    assert_eq!(world.server.calls().len(), asked + 1);

    set(&world, &json!({ "secrets": { "client_secret": "rotated-by-the-provider" } })).await;
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(world.connection().await["state"], "active");
    assert_eq!(world.server.calls().len(), asked + 2);
    world.finish().await;
}

/// oauth 2.client
#[tokio::test]
async fn a_client_id_that_changes_during_a_consent_is_named_and_the_code_is_not_sent() {
    let world = World::start().await;
    let (mut browser, url) = world.begun().await;
    let change = async |id: &str| {
        let secrets = json!({ "client_secret": CLIENT_SECRET });
        set(&world, &json!({ "client_id": id, "secrets": secrets })).await;
    };
    change("another").await;
    let told = browser.get(&world.server.issuer().consent(&url)).await.is(409).text();
    let changed = "client id of app <code>svc-app</code> was changed during this consent";
    assert!(told.contains(changed) && told.contains("egin again"), "{told}");
    assert!(world.server.calls().is_empty(), "{:?}", world.server.calls());
    let shown = world.connection().await;
    assert_eq!(shown["state"], "draft");
    let why = shown["failure"].as_str().expect("a reason");
    assert!(why.contains("client id of app `svc-app` was changed"), "{why}");

    change(CLIENT).await;
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    world.consent(&mut browser, &again).await.is(303);
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// oauth 9.2, 9.changed: a provider's file that changes
#[tokio::test]
async fn a_refused_client_of_a_provider_s_file_is_tried_again_when_the_file_changes() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let lab = plan(&authorization, &pair).start(origin).await;
    authorization.issuer().forget_client(CLIENT);
    assert_eq!(refused(&lab.ask("GET /a").await), (424, "connection_broken".to_owned()));
    let file = lab.gateway.folder().join("keyward.yaml");
    let reload = async |change: &dyn Fn(&str) -> String| {
        let yaml = fs::read_to_string(&file).expect("the configuration");
        fs::write(&file, change(&yaml)).expect("written");
        let asked = lab.gateway.running().reloads().reload();
        let view = patiently("reloading", asked).await.expect("it runs");
        assert_eq!(view.errors, [""; 0]);
    };
    reload(&|yaml| yaml.replace("name: acme", "name:  acme")).await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 424);
    assert_eq!(authorization.calls().len(), 1, "what a client is refused for is the same");
    authorization.issuer().know_client("moved-client");
    reload(&|yaml| yaml.replace(CLIENT, "moved-client")).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["state"], "active");
    lab.finish().await;
}

/// oauth 9.changed: a refusal that was asked for with the old secret and comes after the new one
#[tokio::test]
async fn a_late_refusal_of_the_old_secret_breaks_no_connection_of_an_app_with_a_new_one() {
    let world = World::with_connection().await;
    world.server.issuer().change_secret("rotated-by-the-provider");
    world.server.issuer().expire_all();
    let gate = world.server.hold_next();
    let mut agent = world.lab.tunnel_as("bot", HOST).await;
    agent.send(request_text("GET /thing", HOST)).await;
    world.server.asked(2).await;
    assert_eq!(world.server.calls()[1].error.as_deref(), Some("invalid_client"));
    set(&world, &json!({ "secrets": { "client_secret": "rotated-by-the-provider" } })).await;
    gate.add_permits(1);
    assert_eq!(agent.answer("GET").await.text(), "fine");
    landed(&world.lab).await;
    assert_eq!(world.connection().await["state"], "active");
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(world.server.calls().len(), 3, "the code, the late refusal, the new secret");
    world.finish().await;
}

/// What stands behind a connection is told by `explain`.
#[tokio::test]
async fn explain_names_the_app_of_a_connection_its_redirect_uri_and_token_expiry() {
    let world = World::with_connection().await;
    let explain = async || {
        let ask = json!({ "agent": "bot", "url": format!("https://{HOST}/thing") });
        world.api("POST", "/rules/explain", &ask).await["connection"].clone()
    };
    let told = explain().await;
    assert_eq!(told["app"]["name"], "svc-app");
    let redirect = told["app"]["redirect_uri"].as_str().expect("a URI").to_owned();
    assert!(redirect.ends_with(&format!("/oauth/callback/{}", world.app)), "{redirect}");
    assert_eq!(told["app"].get("problem"), None);
    assert!(told["token"]["expires"].is_string(), "{told:#}");

    let listed = world.api("GET", "/apps", &Value::Null).await;
    assert_eq!(listed["items"][0].get("problem"), None);
    world.finish().await;
}
