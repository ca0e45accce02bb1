//! Access tokens that are exchanged for newer ones while they live, as those of Meta: there is no refresh token, so a
//! token that ends before its exchange ends the connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyward_vault::KeepAliveCursor;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use test_support::Message;
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

/// A consent at a provider whose `/longer` answers once a permit is added.
struct Lengthening {
    world: World,
    made: Value,
    gate: Arc<Semaphore>,
    /// The person comes back from the provider.
    back: JoinHandle<Message>,
}

impl Lengthening {
    async fn begin() -> Self {
        let provider = provider(&format!(
            ", refresh: exchange_access_token, lengthen: \"https://{AUTH_HOST}/longer\", \
             lengthen_params: {PARAMS}"
        ));
        let rules = Rules { refreshes: false, ..Rules::default() };
        let world = World::with(rules, |plan| plan.provider(&provider)).await;
        let gate = world.server.hold("/longer");
        let made = world.draft().await;
        let (mut browser, url) = world.begins(&made).await;
        let back = world.server.issuer().consent(&url);
        let back = tokio::spawn(async move { browser.get(&back).await });
        Self { world, made, gate, back }
    }

    /// Waits for the request with this number, and answers it.
    async fn answers(&self, number: usize, answer: Vec<u8>) {
        until("a request for a longer token", async || {
            asked(&self.world, "/longer").len() == number
        })
        .await;
        self.world.server.issuer().script("/longer", answer);
        self.gate.add_permits(1);
    }
}

/// oauth 2.lengthen: a failure that may pass
#[tokio::test]
async fn an_exchange_for_a_longer_token_that_fails_with_503_is_made_once_more() {
    let consent = Lengthening::begin().await;
    consent.answers(1, answer(503, &json!({}))).await;
    let longer = consent.world.server.issuer().issue().access;
    let given = json!({ "access_token": longer, "expires_in": 3_600 });
    consent.answers(2, answer(200, &given)).await;
    let Lengthening { world, back, .. } = consent;
    back.await.expect("an answer").is(303);
    let old = consented(&world);
    assert_eq!(asked(&world, "/longer"), [exchange_of(&old), exchange_of(&old)]);
    assert!(world.server.issuer().revoked().is_empty());
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(last_sent(&world), Some(longer));
    world.finish().await;
}

/// oauth 2.lengthen: after the second failure, and at once where another request would change nothing
#[tokio::test]
async fn a_token_that_cannot_be_exchanged_for_a_longer_one_is_revoked() {
    let wait = b"HTTP/1.1 429 Said\r\nRetry-After: 60\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    for (failure, requests) in [
        (answer(503, &json!({})), 2),
        (answer(400, &json!({ "error": "invalid_grant" })), 1),
        (answer(400, &json!({ "error": "unknown" })), 1),
        (wait, 1),
    ] {
        let consent = Lengthening::begin().await;
        for number in 1..=requests {
            consent.answers(number, failure.clone()).await;
        }
        let Lengthening { world, made, back, .. } = consent;
        back.await.expect("an answer").is(502);
        let old = consented(&world);
        assert_eq!(asked(&world, "/longer"), vec![exchange_of(&old); requests]);
        let revoked = world.server.issuer().revoked();
        let tokens: Vec<_> = revoked.iter().map(|asked| asked.form["token"].clone()).collect();
        assert_eq!(tokens, [old.as_str()]);
        assert!(!world.server.issuer().is_live(&old));
        let flow = world.flow(&made).await;
        assert_eq!(flow["state"], "failed");
        let shown = world.connection().await;
        assert_eq!(shown["state"], "draft");
        let why = shown["failure"].as_str().expect("a reason");
        assert!(why.contains("the provider has revoked its access"), "{why}");
        world.finish().await;
    }
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
        vault.refresh().keep_alive_step(&mut KeepAliveCursor::default()).await != 0
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
