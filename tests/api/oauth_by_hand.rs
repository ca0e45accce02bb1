//! Refreshes that a person asks for, and apps that are refreshed by nothing else.

use serde_json::{Value, json};

use test_support::authorization::{Authorization, Fault, Rules};
use test_support::oauth::{AGENT, World};
use test_support::process::Served;
use test_support::tokens::{api, method, plan, refresh_only, rules, until_dead};
use test_support::*;

/// What a command did: its code, and all that it said.
fn ran(served: &Served, arguments: &[&str]) -> (Option<i32>, String) {
    let output = served.keyward(arguments).output().expect("it runs");
    let both = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&both).into_owned())
}

/// oauth 7.by-hand: the command, against a server that gives, fails and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_refresh_command_prints_the_result_or_the_cause_of_a_failure() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let plan = plan(&authorization, &pair).top("oauth: { backoff_first: 0.05s }");
    let refresh = pair.refresh.expect("one");
    let variables = [("REFRESH", &*refresh)];
    let served = Served::start(&plan, &origin, &variables);
    let refreshes = ["connection", "refresh", "acme"];
    let (code, said) = ran(&served, &refreshes);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("acme has a new token, good until"), "{said}");
    assert_eq!(authorization.calls().len(), 1, "once, on a cold start too");
    let before = authorization.calls().len();
    let (code, said) = ran(&served, &["--json", "connection", "refresh", "acme"]);
    assert_eq!(code, Some(0), "{said}");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["name"], "acme");
    assert_eq!(authorization.calls().len(), before + 1, "also what is valid");

    authorization.fail_next(Fault::bad_gateway());
    let (code, said) = ran(&served, &refreshes);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("acme"), "{said}");
    assert!(ran(&served, &["connection", "show", "acme"]).1.contains("active"));

    authorization.fail_always(Fault::error(400, "invalid_grant"));
    let said = until_some("the end of the pause", async || {
        let (code, said) = ran(&served, &refreshes);
        assert_eq!(code, Some(1), "{said}");
        said.contains("invalid_grant").then_some(said)
    })
    .await;
    // Nobody consented: the file has its tokens.
    assert!(said.contains("put a new secret where the configuration file reads it"), "{said}");
    assert!(ran(&served, &["connection", "show", "acme"]).1.contains("broken"));
    let (code, said) = ran(&served, &["connection", "refresh", "nobody"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("nobody"), "{said}");
}

/// oauth 7.by-hand: neither its end nor a refusal refreshes the token of such an app.
#[tokio::test]
async fn an_app_without_auto_refresh_is_refreshed_only_by_hand() {
    let rules = Rules { access_ttl: Some(1.0), ..Rules::default() };
    let mut world = World::with(rules, |plan| plan).await;
    world.connected().await;
    let by_hand = json!({ "settings": { "auto_refresh": false } });
    world.api("PATCH", "/apps/svc-app", &by_hand).await;
    until_dead(&world.server).await;
    for restarted in [false, true] {
        if restarted {
            world.lab.gateway.restart().await;
        }
        world.request().await.is(424).says("keyward connection refresh work");
        assert_eq!(world.connection().await["state"], "active", "nothing is wrong with it");
        assert_eq!(world.server.calls().len(), 1, "the exchange alone");
    }
    world.server.issuer().change(|rules| rules.access_ttl = Some(3_600.0));
    world.api("POST", "/connections/work/refresh", &json!({})).await;
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(world.server.calls().len(), 2);
    world.server.issuer().expire_all();
    assert_eq!(world.request().await.head.status(), 401, "as the API says it");
    assert_eq!(world.server.calls().len(), 2);
    let again = json!({ "settings": { "auto_refresh": null } });
    world.api("PATCH", "/apps/svc-app", &again).await;
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(world.server.calls().len(), 3);
    world.finish().await;
}

/// Longer than a busy machine takes between two calls.
const LONG_PAUSE: &str = "oauth: { backoff_first: 60s, backoff_jitter_percent: 0 }";

/// A refresh by hand, and another one in the pause that follows, are refused for so many seconds at most.
async fn is_unavailable_twice(lab: &Lab, connection: &str, longest: u64) {
    for _ in 0..2 {
        let told = lab
            .gateway
            .api("POST", &format!("/connections/{connection}/refresh"), "{}")
            .await
            .is(503);
        assert_eq!(told.json()["error"]["code"], "refresh_unavailable");
        let wait: u64 = told.head.one("retry-after").expect("when").parse().expect("seconds");
        assert!((1..=longest).contains(&wait), "{wait}");
    }
}

/// oauth 7.by-hand: a server that nobody reaches is down, too.
#[tokio::test]
async fn a_refresh_at_a_server_that_refuses_connections_is_a_503_that_says_when_to_retry() {
    let away = test_support::process::reserved_address();
    let plan = Plan::new(&method(""), "{ refresh_token: { env: REFRESH } }")
        .variable("REFRESH", "rt-of-a-server-that-is-away")
        .resolve(&format!("auth.acme.test: \"{away}\""))
        .allow(&away.to_string())
        .top(LONG_PAUSE);
    let lab = plan.start(Origin::saying("fine")).await;
    is_unavailable_twice(&lab, "acme", 60).await;
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["state"], "active", "{shown:#}");
    assert_eq!(shown["token"]["failing"]["cause"], "connection_refused", "{shown:#}");
    lab.finish().await;
}

/// oauth 7.by-hand: what passes is told so, with when to come again, as agents are told.
#[tokio::test]
async fn a_refresh_while_the_server_is_down_is_a_503_that_says_when_to_retry() {
    // What the server asked for, else `oauth.backoff_first`.
    for (fault, settings, longest) in [
        (Fault::too_many("7"), "", 7),
        (Fault::bad_gateway(), LONG_PAUSE, 60),
        (Fault::status(500, "", "sorry"), LONG_PAUSE, 60),
        (Fault::json(503, &json!({ "error": "temporarily_unavailable" })), LONG_PAUSE, 60),
    ] {
        let world = World::with(Rules::default(), |plan| plan.top(settings)).await;
        world.connected().await;
        world.server.fail_always(fault);
        is_unavailable_twice(&world.lab, "work", longest).await;
        assert_eq!(world.connection().await["state"], "active");
        world.finish().await;
    }
    // A finished grant is not worth coming again for.
    let world = World::with_connection().await;
    world.server.issuer().end_all();
    let told = world.lab.gateway.api("POST", "/connections/work/refresh", "{}").await;
    assert_eq!((told.head.status(), told.head.one("retry-after")), (422, None), "{}", told.text());
    world.finish().await;
}

/// A connection that works with the first of two refresh tokens.
async fn world_with_refresh_token() -> (World, String, String) {
    let world = World::start().await;
    let issue = || world.server.issuer().issue().refresh.expect("a refresh token");
    let (old, new) = (issue(), issue());
    let given = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app",
        "fields": { "refresh_token": old } });
    world.api("POST", "/connections", &given).await;
    let bind = json!({ "connection": "work" });
    world.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    assert_eq!(world.request().await.text(), "fine");
    (world, old, new)
}

/// oauth 6.9: it was refused as if a retry helped, although the given token is spent.
#[tokio::test]
async fn a_new_refresh_token_whose_answer_is_unusable_changes_nothing_and_says_that_it_is_spent() {
    let (world, old, new) = world_with_refresh_token().await;
    world.server.fail_next(Fault::with("access_token", Value::Null));
    let fields = json!({ "fields": { "refresh_token": new } });
    let refused = world.lab.gateway.api_json("POST", "/connections/work/rotate", &fields).await;
    let error = refused.is(422).json()["error"].clone();
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("gives no usable token: the answer holds no access token"), "{error}");
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.contains("the server replaced the given refresh token"), "{hint}");
    let sent: Vec<_> =
        world.server.calls().iter().map(|call| call.form["refresh_token"].clone()).collect();
    assert_eq!(sent, [old, new], "it is sent once");
    assert_eq!(world.request().await.text(), "fine", "with the old grant");
    assert!(world.connection().await["rotation"].is_null());
    world.finish().await;
}

/// oauth 6.9: the refusal said only that the old secret stays, so the spent token was given again.
#[tokio::test]
async fn a_new_refresh_token_whose_test_fails_after_a_rotation_is_reported_as_spent() {
    let (world, _, new) = world_with_refresh_token().await;
    // Its access token is not one that the API accepts.
    world.server.fail_next(Fault::with("access_token", json!("not-of-the-api")));
    let fields = json!({ "fields": { "refresh_token": new } });
    let refused = world.lab.gateway.api_json("POST", "/connections/work/rotate", &fields).await;
    let error = refused.is(422).json()["error"].clone();
    assert_eq!(error["code"], "test_failed", "{error}");
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.contains("the server replaced the given refresh token"), "{hint}");
    assert_eq!(world.server.calls().len(), 2);
    assert_eq!(world.request().await.text(), "fine", "with the old grant");
    assert!(world.connection().await["rotation"].is_null());
    world.finish().await;
}
