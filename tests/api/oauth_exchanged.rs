//! Access tokens that are exchanged for newer ones while they live, as those of Meta: there is no refresh token, so a
//! token that ends before its exchange ends the connection.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_vault::KeepAliveCursor;
use serde_json::{Value, json};

use test_support::authorization::{AUTH_HOST, Rules, answer, query};
use test_support::oauth::{World, provider};
use test_support::tokens::{landed, set};
use test_support::until;

/// The parameters of an exchange, as Facebook names them.
const PARAMS: &str = "{ grant_type: fb_exchange_token, fb_exchange_token: \"{access_token}\" }";

/// A connection whose token is exchanged at `/exchange` for one that lives for an hour.
struct Exchanging {
    world: World,
    /// The token of the consent.
    old: String,
    newer: String,
}

impl Exchanging {
    /// The token of the consent lives for so many seconds.
    async fn of(seconds: f64) -> Self {
        let provider = provider(&format!(
            ", refresh: exchange_access_token, renew: \"https://{AUTH_HOST}/exchange\", \
             renew_params: {PARAMS}"
        ));
        let rules = Rules { access_ttl: Some(seconds), refreshes: false, ..Rules::default() };
        let world = World::with(rules, |plan| plan.provider(&provider)).await;
        // So short that only half of the life can be the reason of a renewal.
        set(&world.lab, |it| it.refresh_buffer = Duration::from_millis(1));
        world.connected().await;
        let old = consented(&world);
        world.server.issuer().change(|rules| rules.access_ttl = Some(3_600.0));
        let newer = issued_at(&world, "/exchange");
        Self { world, old, newer }
    }

    /// Exactly one exchange was requested, with the token of the consent while it lived.
    fn was_exchanged_in_time(&self) {
        assert_eq!(asked(&self.world, "/exchange"), [exchange_of(&self.old)]);
        assert!(self.world.server.issuer().is_live(&self.old), "at half of its life");
    }
}

/// The access token of the only consent.
fn consented(world: &World) -> String {
    world.server.only_call().issued.expect("tokens").access
}

/// The token that this endpoint gives.
fn issued_at(world: &World, path: &str) -> String {
    let newer = world.server.issuer().issue().access;
    let given = json!({ "access_token": newer, "expires_in": 3_600 });
    world.server.issuer().script(path, answer(200, &given));
    newer
}

/// The parameters of all requests to this endpoint.
fn asked(world: &World, path: &str) -> Vec<BTreeMap<String, String>> {
    let received = world.server.origin.received();
    let targets = received.iter().map(|it| it.head.target());
    targets.filter(|it| it.split('?').next() == Some(path)).map(query).collect()
}

fn exchange_of(token: &str) -> BTreeMap<String, String> {
    let pairs = [("grant_type", "fb_exchange_token"), ("fb_exchange_token", token)];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The token that the API received last.
fn last_sent(world: &World) -> Option<String> {
    let received = world.lab.origin.received();
    let field = received.last()?.head.one("authorization")?;
    Some(field.strip_prefix("Bearer ")?.to_owned())
}

/// Facebook.
#[tokio::test]
async fn a_consent_exchanges_its_token_as_the_parameter_that_the_provider_s_file_names() {
    let provider = provider(&format!(
        ", refresh: exchange_access_token, lengthen: \"https://{AUTH_HOST}/longer\", \
         lengthen_params: {PARAMS}"
    ));
    let rules = Rules { refreshes: false, ..Rules::default() };
    let world = World::with(rules, |plan| plan.provider(&provider)).await;
    let longer = issued_at(&world, "/longer");
    world.connected().await;
    assert_eq!(asked(&world, "/longer"), [exchange_of(&consented(&world))]);
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(last_sent(&world), Some(longer));
    world.finish().await;
}

/// oauth 7.exchanged: requests
#[tokio::test]
async fn requests_have_an_access_token_exchanged_once_at_half_of_its_life() {
    let exchanging = Exchanging::of(6.0).await;
    let world = &exchanging.world;
    until("the newer token", async || {
        assert_eq!(world.request().await.text(), "fine");
        last_sent(world).as_ref() == Some(&exchanging.newer)
    })
    .await;
    exchanging.was_exchanged_in_time();
    exchanging.world.finish().await;
}

/// oauth 7.exchanged: `oauth.keep_alive` is off, as by default
#[tokio::test]
async fn an_unused_access_token_is_exchanged_at_half_of_its_life() {
    let exchanging = Exchanging::of(6.0).await;
    let world = &exchanging.world;
    let vault = &world.lab.gateway.running().services().vault;
    assert!(world.connection().await["token"]["keep_alive"].is_string(), "it says when");
    until("an exchange", async || {
        vault.keep_alive_step(&mut KeepAliveCursor::default()).await != 0
    })
    .await;
    landed(&world.lab).await;
    exchanging.was_exchanged_in_time();
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(last_sent(world).as_ref(), Some(&exchanging.newer));
    assert_eq!(asked(world, "/exchange").len(), 1);
    exchanging.world.finish().await;
}

/// oauth 7.exchanged, 9.6
#[tokio::test]
async fn an_expired_access_token_is_neither_sent_nor_exchanged() {
    let exchanging = Exchanging::of(2.0).await;
    let world = &exchanging.world;
    until("its end", async || !world.server.issuer().is_live(&exchanging.old)).await;
    let before = world.lab.origin.received().len();
    for _ in 0..2 {
        let told = world.request().await.is(424);
        assert_eq!(told.head.one("keyward-error"), Some("connection_broken"));
    }
    assert_eq!(world.lab.origin.received().len(), before, "the API received nothing");
    assert_eq!(asked(world, "/exchange"), Vec::<BTreeMap<String, String>>::new());
    let shown = world.connection().await;
    assert_eq!(
        (&shown["state"], &shown["reason"], &shown["token"]["keep_alive"]),
        (&json!("broken"), &json!("no_refresh_token"), &Value::Null)
    );
    exchanging.world.finish().await;
}
