//! Words for scopes on the surfaces where people choose or see them.

use serde_json::{Value, json};

use test_support::authorization::Rules;
use test_support::browser::Browser;
use test_support::oauth::{AGENT, World, provider};

/// Its provider has words for two scopes.
async fn world(words: &str) -> World {
    let worded = provider("").replacen("auth: [", &format!("{words}auth: ["), 1);
    let rules = Rules { grants: Some("read".to_owned()), ..Rules::default() };
    World::with(rules, |plan| plan.provider(&worded)).await
}

const WORDS: &str = "scope_words: { read: \"see <your> bills\", \"bills:write\": pay bills }, ";

#[tokio::test]
async fn without_words_scopes_are_shown_by_their_names() {
    let world = world("").await;
    let made = world.connected().await;
    let shown = world.connection().await;
    assert_eq!((&shown["requested"], shown.get("scope_words")), (&json!(["read"]), None));
    let view = world.api("GET", "/providers/svc", &Value::Null).await;
    assert_eq!(view.get("scope_words"), None, "{made}");
    world.finish().await;
}

#[tokio::test]
async fn the_start_page_of_a_consent_shows_its_scopes_in_words() {
    let world = world(WORDS).await;
    let mut browser = world.browser();
    let made = world.draft().await;
    let page = browser.get(made["authorize_url"].as_str().expect("a page")).await;
    let words = "<li>see &lt;your&gt; bills (<code>read</code>)</li>";
    assert!(page.text().contains(words), "{}", page.text());
    assert!(!page.text().contains("pay bills"), "it is not asked for: {}", page.text());
    world.consent(&mut browser, &made).await;

    let more = json!({ "scopes": ["bills:write", "admin"] });
    let again = world.api("POST", "/connections/work/reconnect", &more).await;
    let page = browser.get(again["authorize_url"].as_str().expect("a page")).await;
    for line in [words, "<li>pay bills (<code>bills:write</code>)</li>", "<li><code>admin</code>"] {
        assert!(page.text().contains(line), "{line} in {}", page.text());
    }
    world.finish().await;
}

#[tokio::test]
async fn the_api_shows_scope_words_of_providers_connections_apps_and_slots() {
    let world = world(WORDS).await;
    let view = world.api("GET", "/providers/svc", &Value::Null).await;
    let all = json!({ "read": "see <your> bills", "bills:write": "pay bills" });
    assert_eq!(view["scope_words"], all);
    world.connected().await;
    let shown = world.connection().await;
    assert_eq!(shown["scope_words"], json!({ "read": "see <your> bills" }), "{shown}");

    let wider = json!({ "scopes": ["read", "bills:write", "admin"] });
    world.api("PATCH", "/apps/svc-app", &wider).await;
    let app = world.api("GET", "/apps/svc-app", &Value::Null).await;
    assert_eq!(app["scope_words"], all, "{app}");

    let slot = json!({ "slot": "bills", "provider": "svc", "scopes": ["bills:write", "admin"] });
    let manifest = json!({ "plugin": "payer", "version": "1.0.0", "connections": [slot] });
    let new = json!({ "agent": AGENT, "manifest": manifest, "slots": { "bills": "work" } });
    let plugin = world.api("POST", "/plugins", &new).await;
    assert_eq!(plugin["slots"][0]["scope_words"], json!({ "bills:write": "pay bills" }));
    world.finish().await;
}

#[tokio::test]
async fn a_connect_page_shows_the_requested_scopes_in_words() {
    let world = world(WORDS).await;
    let user = json!({ "name": "ada", "role": "end_user" });
    world.api("POST", "/users", &user).await;
    for (scopes, line) in [
        (json!([]), "<li>see &lt;your&gt; bills (<code>read</code>)</li>"),
        (json!(["bills:write"]), "<li>pay bills (<code>bills:write</code>)</li>"),
    ] {
        let spec = json!({ "user": "ada", "providers": ["svc"], "scopes": scopes });
        let made = world.api("POST", "/connect-sessions", &spec).await;
        let url = made["url"].as_str().expect("a link");
        let mut browser = Browser::new(&world.lab.gateway);
        browser.get(url).await;
        browser.post(url).await;
        let page = browser.get("/connect/session").await;
        assert!(page.text().contains("You are sent to Service"), "{}", page.text());
        assert!(page.text().contains(line), "{line} in {}", page.text());
        assert_eq!(page.text().matches("<li>").count(), 1, "{}", page.text());
    }
    world.finish().await;
}
