//! Secrets that are no fields of a request: those of apps, and keys that tokens are minted from.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;

use super::*;
use crate::admin_network::{ask_at, user_login};
use test_support::authorization::{CLIENT, CLIENT_SECRET, Fault, Rules};
use test_support::oauth::World;
use test_support::tokens::set;

/// A world whose app has its client secret in file `key` of source `kept`.
async fn world(folder: &TempDir, source: &str) -> World {
    world_with(Rules::default(), folder, source).await
}

async fn world_with(rules: Rules, folder: &TempDir, source: &str) -> World {
    let source = format!(
        "sources:\n  - {{ name: kept, {source}file: {{ folder: '{}' }} }}\n\
         apps:\n  - {{ name: svc-filed, provider: svc, client_id: {CLIENT}, client_secret: {{ from: kept, ref: key }} }}",
        folder.path().display()
    );
    let world =
        World::with(rules, |plan| plan.provider(&test_support::oauth::provider("")).top(&source));
    let world = world.await;
    let shown = world.api("GET", "/apps/svc-filed", &Value::Null).await;
    assert_eq!(shown["references"]["client_secret"], json!({ "from": "kept", "ref": "key" }));
    assert_eq!((&shown["secrets"], &shown["problem"]), (&json!([]), &Value::Null), "{shown}");
    let secrets = json!({ "secrets": { "client_secret": { "from": "kept", "ref": "key" } } });
    let changed = world.api("PATCH", "/apps/svc-app", &secrets).await;
    assert_eq!(changed["references"], shown["references"], "{changed}");
    assert_eq!(changed["secrets"], json!([]), "the stored one is gone: {changed}");
    world
}

fn secret_of(text: &str) -> Canary {
    Canary::of(text.to_owned())
}

/// Tokens that end by themselves soon.
fn short() -> Rules {
    Rules { access_ttl: Some(2.0), ..Rules::default() }
}

/// Sends requests until Keyward refuses one because a token ended.
async fn refusal(world: &World) -> Message {
    until_some("a refusal", async || {
        let answer = world.request().await;
        // The API may find a token ended before Keyward does; its answer stays if no newer token comes at once.
        (!matches!(answer.head.status(), 200 | 401)).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn a_rotated_client_secret_is_used_by_the_next_token_and_outlives_its_source_and_the_gateway()
{
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let mut world = world(&folder, "").await;
    world.connected().await;
    assert_eq!(world.request().await.text(), "fine");

    let rotated = Canary::new("cnry");
    world.lab.guard(rotated.clone());
    write(folder.path(), "key", &format!("{}\n", rotated.text));
    world.server.issuer().change_secret(&rotated.text);
    world.server.issuer().expire_all();
    assert_eq!(world.request().await.text(), "fine", "no restart, no command");

    fs::remove_file(folder.path().join("key")).expect("it was there");
    world.server.issuer().expire_all();
    assert_eq!(world.request().await.text(), "fine", "the last value");
    let shown = world.api("GET", "/apps/svc-app", &Value::Null).await;
    let message = shown["fetch_failing"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("source `kept`, ref `key`"), "{shown}");
    assert!(shown["fetched"]["kept_until"].is_string(), "{shown}");

    world.lab.gateway.restart().await;
    world.server.issuer().expire_all();
    assert_eq!(world.request().await.text(), "fine", "it is stored");
    world.finish().await;
}

#[tokio::test]
async fn a_client_secret_is_not_used_for_longer_than_its_source_says_and_no_blank_is_sent() {
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let world = world_with(short(), &folder, "ttl: 1s, keep: 0s, ").await;
    world.connected().await;
    let asked = world.server.calls().len();
    write(folder.path(), "key", " \n");
    let refused = refusal(&world).await.is(503);
    let said = refused.json();
    assert_eq!(said["error"]["code"], "source_unavailable", "{said}");
    let message = said["error"]["message"].as_str().unwrap_or_default();
    assert!(!message.contains("ref `key`") && !message.contains("empty"), "{said}");
    assert!(message.ends_with("cannot be fetched just now"), "{said}");
    assert!(refused.head.has("retry-after"), "{refused:?}");
    // What was asked before had the last value.
    let calls = world.server.calls();
    assert!(calls[asked..].iter().all(|call| call.issued.is_some()), "{calls:?}");
    let shown = world.api("GET", "/apps/svc-app", &Value::Null).await;
    assert!(shown["problem"].as_str().is_some_and(|it| it.contains("source `kept`")), "{shown}");

    write(folder.path(), "key", CLIENT_SECRET);
    until("the secret", async || world.request().await.head.status() == 200).await;
    world.finish().await;
}

#[tokio::test]
async fn a_rejected_client_secret_of_a_source_does_not_break_the_connection() {
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let mut world = world_with(short(), &folder, "").await;
    world.connected().await;
    world.server.issuer().change_secret("rotated-by-the-provider");
    let refused = refusal(&world).await.is(503).says("source `kept`, ref `key`");
    let pause: u64 = refused.head.one("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=60).contains(&pause), "{pause}");
    assert_eq!(world.connection().await["state"], "active");
    write(folder.path(), "key", "rotated-by-the-provider");
    // The new one is used after the pause, which is over at a start.
    world.lab.gateway.restart().await;
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// oauth 9.2, 9.quiet: another secret would not change what the server says.
#[tokio::test]
async fn a_refusal_that_is_not_about_the_client_secret_of_a_source_breaks_the_connection() {
    for code in ["invalid_scope", "unauthorized_client", "unsupported_grant_type"] {
        let folder = folder("key", &secret_of(CLIENT_SECRET));
        let world = world(&folder, "").await;
        set(&world.lab, |it| it.rejected_backoff_first = Duration::from_secs(3_600));
        world.connected().await;
        world.server.fail_always(Fault::error(400, code));
        world.server.issuer().expire_all();
        let asked = world.server.calls().len();
        for _ in 0..3 {
            let refused = world.request().await.is(424);
            assert_eq!(refused.head.one("keyward-error"), Some("connection_broken"), "{code}");
            let said = refused.text();
            assert!(said.contains(code) && !said.contains("source `kept`"), "{said}");
        }
        let calls = world.server.calls();
        assert_eq!(calls.len(), asked + 1, "{code}: one request for a token");
        assert_eq!(calls[asked].form["grant_type"], "refresh_token", "{code}");
        let shown = world.connection().await;
        assert_eq!(
            (&shown["state"], &shown["reason"], &shown["detail"]),
            (&json!("broken"), &json!("client_rejected"), &json!(code)),
            "{shown}"
        );
        // The server permits it, and a person has it tried again.
        world.server.heal();
        refresh(&world).await.is(200);
        assert_eq!(world.request().await.text(), "fine", "{code}");
        world.finish().await;
    }
}

/// oauth 9.2: with 401, it is Keycloak's code for a wrong secret.
#[tokio::test]
async fn an_unauthorized_client_with_401_is_a_rejected_client_secret_of_the_source() {
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let world = world_with(short(), &folder, "").await;
    world.connected().await;
    world.server.fail_always(Fault::error(401, "unauthorized_client"));
    refusal(&world).await.is(503).says("source `kept`, ref `key`");
    assert_eq!(world.connection().await["state"], "active");
    world.finish().await;
}

/// A world whose app's secret the server rejected: requests are refused, and wait.
async fn rejected(folder: &TempDir) -> World {
    let world = world_with(short(), folder, "").await;
    world.connected().await;
    world.server.issuer().change_secret(ROTATED);
    let refused = refusal(&world).await.is(503);
    let hint = refused.json()["error"]["hint"].to_string();
    assert!(hint.contains("correct the secret in its source"), "{hint}");
    // Nothing is sent within the pause, for any request.
    let asked = world.server.calls().len();
    for _ in 0..3 {
        assert_eq!(world.request().await.head.status(), 503);
    }
    assert_eq!(world.server.calls().len(), asked);
    world
}

/// The secret of a client after its rotation at the provider.
const ROTATED: &str = "rotated-by-the-provider";

async fn refresh(world: &World) -> Message {
    world.lab.gateway.api("POST", "/connections/work/refresh", "").await
}

#[tokio::test]
async fn a_refresh_tries_a_rejected_client_secret_at_once_however_often() {
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let world = rejected(&folder).await;
    for _ in 0..6 {
        let asked = world.server.calls().len();
        let refused = refresh(&world).await.is(503).says("invalid_client");
        assert!(refused.text().contains("source `kept`, ref `key`"), "{}", refused.text());
        assert_eq!(world.server.calls().len(), asked + 1, "one request for each refresh");
    }
    // The provider takes the secret back, and no file changes.
    world.server.issuer().change_secret(CLIENT_SECRET);
    let asked = world.server.calls().len();
    refresh(&world).await.is(200);
    assert_eq!(world.server.calls().len(), asked + 1);
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

#[tokio::test]
async fn a_changed_file_of_a_rejected_client_secret_ends_the_pause() {
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let world = rejected(&folder).await;
    write(folder.path(), "key", &format!("{ROTATED}\n"));
    until("the other secret", async || world.request().await.head.status() == 200).await;
    let calls = world.server.calls();
    let rejected = calls.iter().filter(|call| call.issued.is_none()).count();
    assert_eq!(rejected, 1, "the old one was tried once: {calls:?}");
    world.finish().await;
}

#[tokio::test]
async fn another_reference_of_an_app_s_secret_is_tried_at_once() {
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let world = rejected(&folder).await;
    // No source refers to this file yet.
    write(folder.path(), "other", ROTATED);
    let other = json!({ "secrets": { "client_secret": { "from": "kept", "ref": "other" } } });
    world.api("PATCH", "/apps/svc-app", &other).await;
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

#[tokio::test]
async fn a_refresh_by_hand_fetches_a_missing_client_secret_at_once() {
    let folder = folder("key", &secret_of(CLIENT_SECRET));
    let world = world_with(short(), &folder, "ttl: 1s, keep: 0s, ").await;
    world.connected().await;
    fs::remove_file(folder.path().join("key")).expect("it was there");
    let refused = refusal(&world).await;
    assert_eq!(refused.json()["error"]["code"], "source_unavailable", "{}", refused.text());
    for _ in 0..3 {
        // Each lengthens the pause of requests.
        assert_eq!(refresh(&world).await.head.status(), 503);
    }
    write(folder.path(), "key", CLIENT_SECRET);
    refresh(&world).await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn an_app_s_source_cannot_be_removed_and_its_references_are_checked() {
    let mut lab = Lab::simple().await;
    let source = json!({"name": "kept", "doppler": {}, "credentials": {"token": "t"}});
    api(&lab, "POST", "/sources", source, 201).await;
    let app = |secrets: Value| json!({"name": "g", "provider": "github", "client_id": "x", "secrets": secrets});
    let unknown = app(json!({"client_secret": {"from": "other", "ref": "A"}}));
    let refused = api(&lab, "POST", "/apps", unknown, 404).await;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("there is no source `other`"), "{message}");
    let unknown = app(json!({"password": {"from": "kept", "ref": "A"}}));
    let refused = api(&lab, "POST", "/apps", unknown, 422).await;
    assert!(refused.to_string().contains("references"), "{refused}");

    api(&lab, "POST", "/apps", app(json!({"client_secret": {"from": "kept", "ref": "A"}})), 201)
        .await;
    let refused = api(&lab, "DELETE", "/sources/kept", Value::Null, 422).await;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("app `g`"), "{message}");
    let login = user_login(&mut lab, "ann", "admin").await;
    let page = ask_at(&lab, "GET /sources", &login.cookie(), "").await.text();
    assert!(page.contains("/sources/kept/edit") && !page.contains("Remove source"), "{page}");
    let patch = json!({"references": {"client_secret": null}});
    api(&lab, "PATCH", "/apps/g", patch, 422).await;
    let patch = json!({"references": {"client_secret": {"ref": "B"}}});
    let changed = api(&lab, "PATCH", "/apps/g", patch, 200).await;
    assert_eq!(changed["references"]["client_secret"]["ref"], "B");
    let source = api(&lab, "GET", "/sources/kept", Value::Null, 200).await;
    assert_eq!(source["apps"], json!(["g"]), "{source}");
    lab.finish().await;
}

/// The claims and the key id of the token in a request.
fn token(request: &Message) -> (Value, Value) {
    let field = request.head.one("authorization").expect("a credential");
    let token = field.strip_prefix("Bearer ").expect("a token");
    let part = |at: usize| {
        let part = token.split('.').nth(at).expect("three parts");
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    };
    (part(0), part(1))
}

/// Waits until sources gave more values than `known` since the gateway began: how many.
async fn fetches_beyond(lab: &Lab, known: u64) -> u64 {
    let begin = "keyward_source_fetches_total{outcome=\"fetched\"} ";
    until_some("a fetch", async || {
        let metrics = lab.gateway.metrics().await;
        let count = metrics.lines().find_map(|line| line.strip_prefix(begin)?.parse().ok());
        count.filter(|count| *count > known)
    })
    .await
}

#[tokio::test]
async fn tokens_are_minted_with_the_key_that_is_in_the_source_now() {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let (first, second) = (secret_of(&key()), secret_of(&key()));
    let folder = folder("key", &first);
    write(folder.path(), "id", "K1\n");
    let auth = "{ id: key, kind: signed_jwt, fields: [{ name: key_id, secret: false }, { name: private_key }], \
                jwt: { alg: ES256, kid: \"{key_id}\", iss: me, ttl: 10m } }";
    let fields = "{ key_id: { from: kept, ref: id }, private_key: { from: kept, ref: key } }";
    let source = format!(
        "sources:\n  - {{ name: kept, file: {{ folder: '{}' }} }}",
        folder.path().display()
    );
    let plan = Plan::new(auth, fields).top(&source);
    let mut lab = plan.start(Origin::saying("fine")).await;
    for key in [&first, &second] {
        // Its lines: in a token's place, none of them may appear.
        lab.guard(secret_of(key.text.lines().nth(1).expect("base64")));
    }
    let kid = |head: &Message| token(head).0["kid"].clone();
    lab.delivered("GET /a").await;
    let before = lab.origin.received();
    assert_eq!(kid(before.last().expect("one")), "K1");

    write(folder.path(), "key", &second.text);
    write(folder.path(), "id", "K2");
    until("a token of the other key", async || {
        lab.delivered("GET /b").await;
        kid(lab.origin.received().last().expect("one")) == "K2"
    })
    .await;

    // A start and a file that was only touched sign no other token: what counts is the content.
    let generation = |shown: Value| shown["token"]["generation"].clone();
    let signed = generation(connection(&lab).await);
    lab.gateway.restart().await;
    let mut compared = 0;
    for _ in 0..3 {
        // The next one is noticed when what follows from the last one is done.
        write(folder.path(), "key", &second.text);
        compared = fetches_beyond(&lab, compared).await;
    }
    assert_eq!(generation(connection(&lab).await), signed);
    lab.delivered("GET /b").await;
    assert_eq!(kid(lab.origin.received().last().expect("one")), "K2");

    // A source without keys does not end a token, and the last key still mints one.
    fs::remove_file(folder.path().join("key")).expect("it was there");
    lab.gateway.restart().await;
    lab.delivered("GET /c").await;
    let shown = connection(&lab).await;
    assert!(shown["token"]["expires"].is_string(), "{shown}");
    assert!(shown["fetched"]["at"].is_string(), "{shown}");
    lab.finish().await;
}

#[tokio::test]
async fn a_refresh_token_of_a_consent_cannot_be_a_reference() {
    let world = World::start().await;
    let source = json!({"name": "kept", "doppler": {}, "credentials": {"token": "t"}});
    world.api("POST", "/sources", &source).await;
    let fields = json!({"refresh_token": {"from": "kept", "ref": "A"}});
    let new = json!({"provider": "svc", "name": "b", "app": "svc-app", "fields": fields});
    let refused = world.lab.gateway.api("POST", "/connections", &new.to_string()).await.is(422);
    assert!(refused.text().contains("renews its own secret"), "{}", refused.text());
    world.finish().await;
}
