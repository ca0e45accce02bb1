//! Whose account a consent is for: another one than the connection had is noticed wherever the provider
//! says so, waits for a person, and is taken back at the provider when it is not wanted. OAuth rules 2.

use std::time::Duration;

use serde_json::{Value, json};

use test_support::HOST;
use test_support::authorization::{AUTH_HOST, Fault, ISSUER, Rules, answer, id_token};
use test_support::browser::Browser;
use test_support::oauth::{World, provider};
use test_support::{until, until_some};

const ALICE: &str = "alice@acme.test";
const BOB: &str = "bob@acme.test";

/// The provider of consents, whose token answer names no account by itself.
fn silent(more: &str) -> String {
    let text = provider(more);
    assert!(text.contains(", account: account.id"), "{text}");
    text.replace(", account: account.id", "")
}

/// One that says it by its ID token.
fn by_id_token() -> String {
    silent("").replace("scopes: [read]", "scopes: [openid, read]")
}

/// One that says it in the answer to its test request.
fn by_test() -> String {
    silent("")
        .replace(&format!("https://{HOST}/me\""), &format!("https://{HOST}/me\", account: [login]"))
}

/// One that says it at its userinfo endpoint.
fn by_userinfo() -> String {
    silent(&format!(", userinfo: \"https://{AUTH_HOST}/userinfo\""))
}

/// One of whose endpoints only the issuer is known; its metadata names the userinfo endpoint.
fn by_metadata() -> String {
    format!(
        "{{ id: svc, name: Service, hosts: [{HOST}], auth: [{{ id: oauth, kind: oauth2, \
         grant: authorization_code, issuer: \"{ISSUER}\", client_auth: basic, \
         scopes: [openid, read] }}] }}"
    )
}

async fn world(provider: &str) -> World {
    // Longer than a busy machine takes.
    let patient = "oauth: { revoke_timeout: 25s, account_timeout: 25s }";
    let world = World::with(Rules::default(), |plan| plan.provider(provider).top(patient)).await;
    world.server.issuer().tell("userinfo_endpoint", json!(format!("{ISSUER}/userinfo")));
    world
}

/// The account that consents from now on.
fn account(world: &World, name: &str) {
    world.server.issuer().change(|rules| rules.account = name.to_owned());
}

/// Connects again: how it was begun.
async fn again(world: &World) -> Value {
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    world.consent(&mut world.browser(), &again).await.is(303);
    again
}

async fn decides(world: &World, begun: &Value, accept: bool) -> Value {
    let path = format!("/flows/{}/confirm", begun["flow"].as_str().expect("a flow"));
    world.api("POST", &path, &json!({ "accept": accept })).await
}

/// The access token that was issued last.
fn newest(world: &World) -> String {
    let issued = world.server.calls().into_iter().rev().find_map(|call| call.issued);
    issued.expect("tokens").access
}

async fn asks_before_bob_takes_alices_place(name: &str, world: World) {
    world.connected().await;
    assert_eq!(world.connection().await["account"], ALICE, "{name}");
    let same = again(&world).await;
    assert_eq!(world.flow(&same).await["state"], "connected", "{name}: the same account");
    let alices = newest(&world);

    account(&world, BOB);
    let other = again(&world).await;
    let view = world.flow(&other).await;
    assert_eq!(
        (&view["state"], &view["before"], &view["account"]),
        (&json!("confirm"), &json!(ALICE), &json!(BOB)),
        "{name}: {view}"
    );
    assert_eq!(world.request().await.text(), "fine", "{name}: with the old token");
    assert_eq!(world.connection().await["account"], ALICE, "{name}");
    let bobs = newest(&world);
    let declined = decides(&world, &other, false).await;
    assert_eq!(declined["state"], "failed", "{name}");
    let why = declined["why"].as_str().expect("why");
    assert!(why.ends_with("the provider has revoked its access"), "{name}: {why}");
    let issuer = world.server.issuer();
    assert!(!issuer.is_live(&bobs) && issuer.is_live(&alices), "{name}");

    let other = again(&world).await;
    assert_eq!(decides(&world, &other, true).await["state"], "connected", "{name}");
    assert_eq!(world.connection().await["account"], BOB, "{name}");
    assert_eq!(world.request().await.text(), "fine", "{name}");
    // From now on it is bob's.
    let same = again(&world).await;
    assert_eq!(world.flow(&same).await["state"], "connected", "{name}");
    world.finish().await;
}

/// oauth 2.account, 2.account-source: another account asks before it takes the place of the old one
#[tokio::test]
async fn another_account_named_by_an_id_token_waits_for_confirmation() {
    asks_before_bob_takes_alices_place("ID token", world(&by_id_token()).await).await;
}

/// oauth 2.account, 2.account-source
#[tokio::test]
async fn another_account_named_by_the_test_request_waits_for_confirmation() {
    asks_before_bob_takes_alices_place("test request", world(&by_test()).await).await;
}

/// oauth 2.account, 2.account-source
#[tokio::test]
async fn another_account_named_by_userinfo_waits_for_confirmation() {
    asks_before_bob_takes_alices_place("userinfo", world(&by_userinfo()).await).await;
    // Of the metadata, and no ID token that could say it first.
    let world = world(&by_metadata()).await;
    world.server.fail_always(Fault::without("id_token"));
    asks_before_bob_takes_alices_place("userinfo of the metadata", world).await;
}

/// oauth 2.id-token: one of another issuer, client or time names nobody, and is kept nowhere
#[tokio::test]
async fn an_invalid_id_token_names_no_account_and_is_not_stored() {
    for (member, value) in [
        ("iss", json!("https://evil.test")),
        ("aud", json!("another-client")),
        ("aud", json!(["another-client"])),
        ("azp", json!("another-client")),
        ("exp", json!(1)),
        ("sub", Value::Null),
    ] {
        let world = world(&by_id_token()).await;
        world.connected().await;
        account(&world, BOB);
        let mut claims = world.server.issuer().id_claims();
        claims[member] = value;
        let token = id_token(&claims);
        world.server.fail_next(Fault::with("id_token", json!(token)));
        let other = again(&world).await;
        let view = world.flow(&other).await;
        // Nobody says that it is bob, and nobody that it is still alice.
        assert_eq!(
            (&view["state"], &view["account"]),
            (&json!("confirm"), &Value::Null),
            "{member}"
        );
        let log = test_support::canary::log().lock().expect("not poisoned").clone();
        let token = test_support::canary::Canary::of(token);
        token.assert_absent("the log", &log);
        token.assert_absent_below(world.lab.gateway.folder());
        world.finish().await;
    }
}

/// oauth 2.account: nobody says whose it is; declining it must not end the access that works
#[tokio::test]
async fn a_reconnect_whose_account_the_provider_does_not_name_waits_for_confirmation() {
    let world = world(&by_userinfo()).await;
    let made = world.connected().await;
    let old = newest(&world);
    let down = answer(503, &json!({ "error": "down" }));
    world.server.issuer().script("/userinfo", down);
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let mut browser = world.browser();
    world.consent(&mut browser, &again).await;
    let view = world.flow(&again).await;
    assert_eq!((&view["state"], &view["account"]), (&json!("confirm"), &Value::Null), "{view}");
    let done = format!("/oauth/done/{}", again["flow"].as_str().expect("a flow"));
    let page = browser.get(&done).await.text();
    assert!(page.contains("does not say which account") && page.contains(ALICE), "{page}");
    assert_eq!(browser.post(&format!("{done}?accept=no")).await.head.status(), 303);
    let why = world.flow(&again).await["why"].as_str().expect("why").to_owned();
    let shared = "stays valid at the provider, since connection `work` may use it";
    assert!(why.contains(shared), "{why}");
    assert!(world.server.issuer().revoked().is_empty(), "some providers end all of an account's");
    assert!(world.server.issuer().is_live(&old));
    assert_eq!(world.request().await.text(), "fine");
    assert_ne!(again["flow"], made["flow"]);
    world.finish().await;
}

/// The name of the cookie was enough.
#[tokio::test]
async fn a_browser_with_another_value_of_a_consent_s_cookie_sees_nothing_of_its_result() {
    let world = world(&provider("")).await;
    world.connected().await;
    account(&world, BOB);
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let mut own = world.browser();
    world.consent(&mut own, &again).await.is(303);
    let flow = again["flow"].as_str().expect("a flow");
    let (done, name) = (format!("/oauth/done/{flow}"), format!("keyward_{flow}"));
    assert!(own.cookies.iter().any(|(known, _)| *known == name), "{:?}", own.cookies);
    let mut others = [world.browser(), world.browser(), world.browser()];
    others[1].cookies = vec![(name.clone(), "anything".to_owned())];
    // Sent twice, so that a planted one has no effect.
    others[2].cookies = [own.cookies.clone(), vec![(name, "anything".to_owned())]].concat();
    let sees_nothing = async |others: &mut [Browser]| {
        for other in others {
            let page = other.get(&done).await.is(403).text();
            assert!(page.contains("his browser did not begin this consent"), "{page}");
            assert!(!page.contains("acme") && !page.contains("declined"), "{page}");
        }
    };
    sees_nothing(&mut others).await;
    let page = own.get(&done).await.is(200).text();
    assert!(page.contains(ALICE) && page.contains(BOB), "{page}");
    assert_eq!(others[1].post(&format!("{done}?accept=yes")).await.head.status(), 400);
    assert_eq!(world.flow(&again).await["state"], "confirm", "nothing is decided");

    decides(&world, &again, false).await;
    sees_nothing(&mut others).await;
    let page = own.get(&done).await.is(200).text();
    assert!(page.contains("the other account was declined"), "{page}");
    world.finish().await;
}

/// oauth 2.account: of a connection of before accounts were known
#[tokio::test]
async fn an_unknown_previous_account_is_looked_up_with_the_old_token() {
    let world = world(&by_userinfo()).await;
    let down = answer(503, &json!({ "error": "down" }));
    world.server.issuer().script("/userinfo", down);
    world.connected().await;
    assert_eq!(world.connection().await["account"], Value::Null);
    world.server.issuer().unscript("/userinfo");
    account(&world, BOB);
    let other = again(&world).await;
    let view = world.flow(&other).await;
    assert_eq!((&view["before"], &view["account"]), (&json!(ALICE), &json!(BOB)), "{view}");
    world.finish().await;
}

/// oauth 2.account: a decision that nobody takes is a no, also at the provider
#[tokio::test]
async fn the_access_of_an_unconfirmed_account_is_revoked_when_its_consent_expires() {
    let world = world(&provider("")).await;
    world.connected().await;
    account(&world, BOB);
    let flows = &world.lab.gateway.running().services().flows;
    let mut settings = (*world.lab.gateway.running().services().vault.token_settings()).clone();
    settings.flow_lifetime = Duration::from_secs(3);
    flows.set(settings);
    let begun = until_some("a consent in time", async || {
        let begun = world.api("POST", "/connections/work/reconnect", &json!({})).await;
        let start = begun["authorize_url"].as_str().expect("a page").to_owned();
        let mut browser = world.browser();
        if browser.get(&start).await.head.status() != 200 {
            return None;
        }
        let sent = browser.post(&start).await;
        if sent.head.status() != 200 {
            return None;
        }
        let back = world.server.issuer().consent(&test_support::browser::onward(&sent));
        (browser.get(&back).await.head.status() == 303).then_some(begun)
    })
    .await;
    let bobs = newest(&world);
    until("the revocation", async || !world.server.issuer().is_live(&bobs)).await;
    assert_eq!(
        until_some("its end", async || {
            let view = world.flow(&begun).await;
            view["why"]
                .as_str()
                .is_some_and(|why| why.contains("has revoked its access"))
                .then_some(view)
        })
        .await["state"],
        "failed"
    );
    assert_eq!(world.request().await.text(), "fine", "alice's");
    world.finish().await;
}

/// oauth 2.account, 2.durable
#[tokio::test]
async fn an_account_that_waits_for_confirmation_survives_a_restart() {
    let mut world = world(&by_id_token()).await;
    world.connected().await;
    account(&world, BOB);
    let other = again(&world).await;
    world.lab.gateway.restart().await;
    assert_eq!(world.flow(&other).await["account"], BOB);
    assert_eq!(decides(&world, &other, true).await["state"], "connected");
    assert_eq!(world.connection().await["account"], BOB);
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// oauth 2.account: access that another connection uses is not taken away with the one that was declined
#[tokio::test]
async fn a_declined_account_that_another_connection_has_keeps_its_access() {
    let world = world(&by_id_token()).await;
    world.connected().await;
    account(&world, BOB);
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "bobs", "app": "svc-app" });
    let made = world.api("POST", "/connections", &new).await;
    assert_eq!(world.consent(&mut world.browser(), &made).await.head.status(), 303);
    let other = again(&world).await;
    let declined = decides(&world, &other, false).await;
    let why = declined["why"].as_str().expect("why");
    assert!(why.contains("since connection `bobs` may use it too"), "{why}");
    assert!(world.server.issuer().revoked().is_empty());
    world.finish().await;
}
