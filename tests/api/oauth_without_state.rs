//! A browser comes back without `state`: nothing is connected, and a person who waits at a terminal sees why, unless it is not
//! certain that this browser answers this consent.

use serde_json::{Value, json};

use test_support::authorization::{Rules, query};
use test_support::browser::Browser;
use test_support::oauth::World;

const NO_STATE: &str =
    "the answer has no `state`: begin the consent in Keyward, and not on a page of the provider";

/// The address at which the browser comes back, with this query.
fn back(url: &str, parameters: &str) -> String {
    format!("{}?{parameters}", query(url)["redirect_uri"])
}

/// It is refused with 400, and the consent stays open.
async fn has_no_effect(world: &World, made: &Value, browser: &mut Browser, back: &str) {
    let answer = browser.get(back).await;
    assert_eq!(answer.head.status(), 400, "{}", answer.text());
    assert!(answer.text().contains("begin the consent in Keyward"), "{}", answer.text());
    assert_eq!(world.flow(made).await["state"], "open", "{back}");
}

/// oauth 2.2
#[tokio::test]
async fn a_callback_without_state_of_another_browser_or_app_ends_no_consent() {
    let world = World::start().await;
    let other = test_support::oauth::app(&world.lab, "other-app", ("other", "of-another")).await;
    let made = world.draft().await;
    let (mut browser, url) = world.begins(&made).await;
    let declined = back(&url, "error=access_denied");
    has_no_effect(&world, &made, &mut world.browser(), &declined).await;
    let mut thief = browser.clone();
    for (_, value) in &mut thief.cookies {
        *value = "A".repeat(43);
    }
    has_no_effect(&world, &made, &mut thief, &declined).await;
    let at_other = declined.replace(world.app.as_str(), other.as_str());
    has_no_effect(&world, &made, &mut browser, &at_other).await;
    // With two consents of one browser, it is not known which one is answered.
    let mut beside = browser.clone();
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    beside.begin(again["authorize_url"].as_str().expect("a page")).await;
    has_no_effect(&world, &made, &mut beside, &declined).await;
    assert_eq!(world.flow(&again).await["state"], "open");
    let consents = world.server.issuer().consent(&url);
    browser.get(&consents).await.is(303);
    assert_eq!(world.flow(&made).await["state"], "connected");
    world.finish().await;
}

/// oauth 2.2, 2.5, 2.6
#[tokio::test]
async fn a_callback_without_state_ends_the_only_consent_of_its_browser_with_the_reason() {
    for (parameters, status, why) in [
        ("error=access_denied", 403, "the consent was declined"),
        ("error=access_denied&state2=x", 403, "the consent was declined"),
        ("error=canary_error&iss=https%3A%2F%2Fevil.test", 400, NO_STATE),
        ("code=canary-code", 400, NO_STATE),
        ("", 400, NO_STATE),
    ] {
        let world = World::with(Rules { iss: false, ..Rules::default() }, |plan| plan).await;
        let made = world.draft().await;
        let (mut browser, url) = world.begins(&made).await;
        let answer = browser.get(&back(&url, parameters)).await;
        assert_eq!(answer.head.status(), status, "{parameters}: {}", answer.text());
        assert!(!answer.text().contains("canary"), "{parameters}: {}", answer.text());
        let flow = world.flow(&made).await;
        assert_eq!((&flow["state"], &flow["why"]), (&json!("failed"), &json!(why)), "{parameters}");
        assert_eq!(world.connection().await["failure"], why, "{parameters}");
        // What was begun is over.
        let late = browser.get(&world.server.issuer().consent(&url)).await;
        assert_eq!(late.head.status(), 400, "{}", late.text());
        assert!(world.server.calls().is_empty());
        world.finish().await;
    }
}
