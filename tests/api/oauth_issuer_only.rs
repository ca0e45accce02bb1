//! Connections without consent, of a provider that is known by its issuer alone: the token endpoint is read from the
//! server's metadata when a token is needed. OAuth rules 13.

use keyward_base::tokens::TokenSettings;
use keyward_vault::KeepAliveCursor;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use test_support::authorization::{CLIENT, Fault, ISSUER, Rules, TokenCall, answer};
use test_support::oauth::{AGENT, World};
use test_support::tokens::{landed, rules, set};
use test_support::*;

const DOCUMENT: &str = "/.well-known/oauth-authorization-server";

/// Only the issuer is known.
fn provider(more: &str) -> String {
    format!(
        "{{ id: svc, name: Service, hosts: [{HOST}], auth: [{{ id: oauth, kind: oauth2, issuer: \
         \"{ISSUER}\", {more} }}] }}"
    )
}

async fn world(rules: Rules, more: &str) -> World {
    let provider = provider(more);
    let world = World::with(rules, |plan| plan.provider(&provider)).await;
    set(&world.lab, quick);
    world
}

/// Short pauses.
fn quick(settings: &mut TokenSettings) {
    settings.backoff_first = std::time::Duration::from_millis(20);
    settings.backoff_jitter_percent = 0;
}

/// Connection `work` with these fields, bound to the agent.
async fn connect(world: &World, app: bool, fields: &Value) {
    let mut new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "fields": fields });
    if app {
        new["app"] = json!("svc-app");
    }
    world.api("POST", "/connections", &new).await;
    let bind = json!({ "connection": "work" });
    world.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
}

/// How often the metadata was read.
fn documents(world: &World) -> usize {
    let read = world.server.origin.received();
    read.iter().filter(|request| request.head.target().contains("/.well-known/")).count()
}

const MACHINE: &str = "grant: client_credentials, client_auth: basic, scopes: [read]";

/// oauth 13.flight: each grant that needs no consent.
#[tokio::test]
async fn a_provider_known_by_its_issuer_alone_gives_tokens_without_a_consent() {
    let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let exchange = "grant: token_exchange, client_auth: basic";
    for (more, fields) in [
        (MACHINE, json!({})),
        (exchange, json!({ "subject_token": "a-token-of-somebody" })),
        ("grant: jwt_bearer, jwt: { iss: robot }", json!({ "private_key": pem })),
    ] {
        let world = world(Rules::default(), more).await;
        connect(&world, !more.contains("jwt_bearer"), &fields).await;
        let told = world.request().await;
        assert_eq!(told.text(), "fine", "{more}");
        assert_eq!(world.server.only_call().head.target(), "/token", "{more}");
        assert_eq!(documents(&world), 1, "{more}");
        world.finish().await;
    }
}

/// oauth 13.flight: a refresh token that was imported, of a client with a secret and of one without.
#[tokio::test]
async fn an_imported_refresh_token_is_used_with_stored_metadata_after_a_restart() {
    let public = format!("client_auth: none, token_params: {{ client_id: {CLIENT} }}");
    for (rules, more, app) in
        [(Rules::default(), "client_auth: basic", true), (rules(), &*public, false)]
    {
        let mut world = world(rules, more).await;
        let refresh = world.server.issuer().issue().refresh.expect("refreshes");
        connect(&world, app, &json!({ "refresh_token": refresh })).await;
        assert_eq!(world.request().await.text(), "fine", "{more}");
        world.server.issuer().script(DOCUMENT, answer(503, &json!({})));
        world.server.issuer().expire_all();
        world.lab.gateway.restart().await;
        assert_eq!(world.request().await.text(), "fine", "{more}: what was read before is kept");
        assert_eq!((world.server.calls().len(), documents(&world)), (2, 1), "{more}");
        world.finish().await;
    }
}

/// oauth 13.flight: a server that is down passes, and nothing is sent to anybody else.
#[tokio::test]
async fn metadata_that_cannot_be_read_now_is_a_temporary_failure_and_heals() {
    for status in [429, 500, 503] {
        let world = world(Rules::default(), MACHINE).await;
        connect(&world, true, &json!({})).await;
        world.server.issuer().script(DOCUMENT, answer(status, &json!({})));
        let told = world.request().await;
        let error = told.head.one("keyward-error");
        assert_eq!(error, Some("refresh_unavailable"), "{status}: {}", told.text());
        assert!(told.head.has("retry-after"));
        assert_eq!(world.connection().await["state"], "active");
        assert!(world.server.calls().is_empty());
        world.server.issuer().unscript(DOCUMENT);
        until("the healing", async || world.request().await.head.status() == 200).await;
        world.finish().await;
    }
}

/// oauth 13.flight: metadata of another server, or with an endpoint that is not https, gets nothing.
#[tokio::test]
async fn invalid_metadata_breaks_the_connection_and_no_secret_is_sent() {
    for (member, value) in [
        ("issuer", json!("https://evil.test")),
        ("token_endpoint", json!("http://auth.acme.test/token")),
        ("token_endpoint", json!("https://user@auth.acme.test/token")),
        ("token_endpoint", Value::Null),
    ] {
        let world = world(Rules::default(), MACHINE).await;
        connect(&world, true, &json!({})).await;
        world.server.issuer().tell(member, value.clone());
        let told = world.request().await;
        assert_eq!(told.head.one("keyward-error"), Some("connection_broken"), "{member} {value}");
        assert!(world.server.calls().is_empty(), "{member} {value}");
        assert!(world.lab.origin.received().is_empty(), "{member} {value}");
        world.finish().await;
    }
}

/// oauth 13.flight: however many come at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_at_a_cold_start_read_the_metadata_once() {
    let world = world(Rules::default(), MACHINE).await;
    connect(&world, true, &json!({})).await;
    let asked = (0..20).map(|_| world.request());
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.text() == "fine"));
    assert_eq!((world.server.calls().len(), documents(&world)), (1, 1));
    world.finish().await;
}

/// oauth 13.flight: one that could not be read is left alone for a while by every connection of the issuer.
#[tokio::test]
async fn a_second_connection_of_an_issuer_that_is_down_reads_nothing_within_the_pause() {
    let world = world(Rules::default(), MACHINE).await;
    set(&world.lab, |it| it.backoff_first = std::time::Duration::from_secs(60));
    connect(&world, true, &json!({})).await;
    let second = json!({ "provider": "svc", "auth": "oauth", "name": "more", "app": "svc-app" });
    world.api("POST", "/connections", &second).await;
    let bind = json!({ "connection": "more" });
    world.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    world.server.issuer().script(DOCUMENT, answer(503, &json!({})));
    for name in ["work", "more", "work"] {
        let told =
            world.lab.ask_as(AGENT, HOST, &format!("GET /a\r\nKeyward-Connection: {name}")).await;
        assert_eq!(told.head.one("keyward-error"), Some("refresh_unavailable"), "{}", told.text());
        assert_eq!(documents(&world), 1, "{name}");
    }
    assert!(world.server.calls().is_empty());
    world.finish().await;
}

/// oauth 13.flight, 9.2: the client was tried eight times, and the failure had no reason.
#[tokio::test]
async fn a_client_that_is_rejected_after_the_metadata_was_read_is_tried_once() {
    let world = world(Rules::default(), MACHINE).await;
    connect(&world, true, &json!({})).await;
    world.server.fail_always(Fault::error(401, "invalid_client"));
    let told = world.request().await;
    assert_eq!(told.head.one("keyward-error"), Some("connection_broken"), "{}", told.text());
    assert!(told.text().contains("client_rejected (invalid_client)"), "{}", told.text());
    world.server.only_call();
    world.finish().await;
}

/// oauth 13.flight: a server that moves is followed, with an app and without.
#[tokio::test]
async fn a_moved_token_endpoint_is_found_again_without_a_consent() {
    let public = format!("client_auth: none, token_params: {{ client_id: {CLIENT} }}");
    for (rules, more, app) in [(Rules::default(), MACHINE, true), (rules(), &*public, false)] {
        let world = world(rules, more).await;
        let refresh = world.server.issuer().issue().refresh.expect("refreshes");
        let fields = if app { json!({}) } else { json!({ "refresh_token": refresh }) };
        connect(&world, app, &fields).await;
        assert_eq!(world.request().await.text(), "fine", "{more}");
        world.server.issuer().tell("token_endpoint", json!(format!("{ISSUER}/renew")));
        world.server.issuer().expire_all();
        world.server.fail_always(Fault::status(404, "", "gone"));
        let is_new = |call: &TokenCall| call.head.target() == "/renew";
        let moved = async {
            while !world.server.calls().iter().any(is_new) {
                world.request().await;
            }
        };
        patiently("the new endpoint", moved).await;
        world.server.heal();
        until("a token of the new endpoint", async || world.request().await.head.status() == 200)
            .await;
        world.finish().await;
    }
}

/// oauth 13.flight, 5.agents: also where the endpoint that is found is on the API's own host.
#[tokio::test]
async fn a_token_endpoint_found_for_a_connection_without_an_app_gets_no_credential() {
    let more = format!("client_auth: none, token_params: {{ client_id: {CLIENT} }}");
    let world = world(rules(), &more).await;
    world.server.issuer().tell("token_endpoint", json!(format!("https://{HOST}/oauth/token")));
    connect(&world, false, &json!({ "refresh_token": "rt-of-somebody-else" })).await;
    assert_eq!(world.request().await.head.one("keyward-error"), Some("refresh_unavailable"));
    let refused = world.lab.ask_as(AGENT, HOST, "POST /oauth/token").await;
    let code = refused.head.one("keyward-error");
    assert_eq!(code, Some("token_endpoint_refused"), "{}", refused.text());
    world.finish().await;
}

/// oauth 13.flight, 7.keep-alive: no person waits for a refresh of the background job.
#[tokio::test]
async fn keep_alive_leaves_an_issuer_alone_within_the_pause_after_a_failure() {
    let more =
        format!("client_auth: none, token_params: {{ client_id: {CLIENT} }}, keep_alive: 1s");
    let world = world(rules(), &more).await;
    set(&world.lab, |it| {
        it.backoff_first = std::time::Duration::from_secs(60);
        it.keep_alive = true;
    });
    for name in ["work", "more"] {
        let fields = json!({ "refresh_token": world.server.issuer().issue().refresh });
        let new = json!({ "provider": "svc", "auth": "oauth", "name": name, "fields": fields });
        world.api("POST", "/connections", &new).await;
    }
    world.server.issuer().script(DOCUMENT, answer(503, &json!({})));
    let told = world.lab.gateway.api("POST", "/connections/work/refresh", "{}").await;
    assert_eq!((told.head.status(), documents(&world)), (503, 1), "{}", told.text());
    let vault = &world.lab.gateway.running().services().vault;
    until("a refresh of the connection that was not asked for", async || {
        vault.refresh().keep_alive_step(&mut KeepAliveCursor::default()).await != 0
    })
    .await;
    landed(&world.lab).await;
    assert_eq!(documents(&world), 1, "the pause of the issuer holds");
    world.lab.gateway.api("POST", "/connections/more/refresh", "{}").await.is(503);
    assert!(world.server.calls().is_empty());
    world.finish().await;
}
