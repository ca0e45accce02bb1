//! Headless links: the browser goes to the provider at once, and the platform's exchange of the code connects the account.

use serde_json::{Value, json};

use super::*;
use test_support::authorization::query;

const RETURN_URL: &str = "https://app.acme.test/connected";

/// A headless link of [`USER`] for `svc`, with these members instead or beside.
async fn headless(lab: &mut Lab, more: Value) -> Link {
    let mut spec = json!({"providers": ["svc"], "headless": true, "return_url": RETURN_URL});
    for (key, value) in more.as_object().expect("members") {
        spec[key] = value.clone();
    }
    link(lab, spec).await
}

/// Opens the link: the address at the provider, without a page between.
async fn goes(browser: &mut Browser, link: &Link) -> String {
    let bound = browser.get(&link.url).await;
    assert_eq!((bound.head.status(), bound.head.one("location")), (303, Some("session")));
    leads(browser, SESSION).await
}

/// Where a page redirects the browser.
async fn leads(browser: &mut Browser, to: &str) -> String {
    let sent = browser.get(to).await.is(303);
    sent.head.one("location").expect("a location").to_owned()
}

/// The person consents; the code that the browser brings to the platform.
async fn consents_at(world: &World, browser: &mut Browser, url: &str) -> String {
    let back = browser.get(&world.server.issuer().consent(url)).await;
    assert_eq!(back.head.one("location"), Some("../../connect/session"), "{}", back.text());
    let home = leads(browser, SESSION).await;
    assert!(home.starts_with(&format!("{RETURN_URL}?connect_session=cns_")), "{home}");
    query(&home)["code"].clone()
}

async fn exchanged(lab: &Lab, link: &Link, body: Value, status: u16) -> Value {
    api(lab, "POST", &format!("/connect-sessions/{}/exchange", link.id), body, status).await
}

async fn made(lab: &Lab) -> Vec<Value> {
    let all = api(lab, "GET", "/connections?provider=svc", Value::Null, 200).await;
    all["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn the_exchange_of_the_code_connects_the_account() {
    let mut world = consents().await;
    let link = headless(&mut world.lab, json!({})).await;
    let mut browser = world.browser();
    let url = goes(&mut browser, &link).await;
    assert_eq!(query(&url)["code_challenge_method"], "S256");
    let code = consents_at(&world, &mut browser, &url).await;
    assert_eq!(world.server.calls().len(), 1, "the provider's code is exchanged at once");
    assert_eq!(state(&world.lab, &link).await["state"], "opened");
    assert_eq!(made(&world.lab).await[0]["state"], "draft");
    exchanged(&world.lab, &link, json!({"code": "0".repeat(32)}), 422).await;
    assert_eq!(made(&world.lab).await[0]["state"], "draft", "a wrong code connects nothing");

    // The tokens wait also over a restart.
    world.lab.gateway.restart().await;
    let done = exchanged(&world.lab, &link, json!({"code": code}), 200).await;
    assert_eq!(done["state"], "completed");
    let now = made(&world.lab).await.remove(0);
    assert_eq!((&now["state"], &now["account"]), (&json!("active"), &json!("alice@acme.test")));
    assert_eq!(done["connected"]["id"], now["id"]);
    exchanged(&world.lab, &link, json!({"code": code}), 422).await;
    assert_eq!(world.server.calls().len(), 1);
    world.finish().await;
}

/// An attacker begins a link for their own user and leads another person through it: that person's browser arrives at the
/// platform, which does not exchange the code.
#[tokio::test]
async fn a_browser_alone_connects_nothing_before_the_platform_exchanges_the_code() {
    let mut world = consents().await;
    let link = headless(&mut world.lab, json!({})).await;
    let mut browser = world.browser();
    let url = goes(&mut browser, &link).await;
    world.browser().get(&link.url).await.is(403);
    consents_at(&world, &mut browser, &url).await;
    let open = api(&world.lab, "GET", "/flows", Value::Null, 200).await;
    let flow = open["items"][0]["id"].as_str().expect("a consent").to_owned();
    assert_eq!(open["items"][0]["state"], "held");
    for (method, to) in [
        ("POST", format!("{SESSION}?step=account&accept=yes")),
        ("POST", format!("/oauth/done/{flow}?accept=yes")),
        ("POST", SESSION.to_owned()),
        ("GET", SESSION.to_owned()),
    ] {
        browser.ask(method, &to).await;
        assert_eq!(made(&world.lab).await[0]["state"], "draft", "{method} {to}");
    }
    let confirm = format!("/flows/{flow}/confirm");
    api(&world.lab, "POST", &confirm, json!({"accept": true}), 422).await;
    let pair = world.server.only_call().issued.expect("tokens");
    assert!(world.server.issuer().is_live(&pair.access));
    let path = format!("/connect-sessions/{}", link.id);
    api(&world.lab, "DELETE", &path, Value::Null, 204).await;
    assert_eq!(made(&world.lab).await, Vec::<Value>::new());
    assert!(!world.server.issuer().is_live(&pair.access), "the tokens are revoked");
    world.finish().await;
}

#[tokio::test]
async fn a_declined_consent_returns_without_a_code_and_its_link_can_be_used_again() {
    let mut world = consents().await;
    let link = headless(&mut world.lab, json!({})).await;
    let mut browser = world.browser();
    let url = goes(&mut browser, &link).await;
    let (app, state_of) = (world.app.clone(), query(&url)["state"].clone());
    let issuer = "https%3A%2F%2Fauth.acme.test";
    let declined =
        format!("/oauth/callback/{app}?error=access_denied&state={state_of}&iss={issuer}");
    browser.get(&declined).await;
    let home = leads(&mut browser, SESSION).await;
    assert_eq!(home, format!("{RETURN_URL}?connect_session={}", link.id));
    assert_eq!(state(&world.lab, &link).await["reason"], "the consent was declined");
    assert_eq!(leads(&mut browser, &link.url).await, "session?step=choose");
    let url = leads(&mut browser, &format!("{SESSION}?step=choose")).await;
    let code = consents_at(&world, &mut browser, &url).await;
    let now = state(&world.lab, &link).await;
    assert_eq!((&now["state"], &now["reason"]), (&json!("opened"), &Value::Null), "of the first");
    exchanged(&world.lab, &link, json!({"code": code}), 200).await;
    world.finish().await;
}

#[tokio::test]
async fn an_exchange_for_another_account_is_refused_unless_other_account_is_set() {
    let mut world = consents().await;
    let first = headless(&mut world.lab, json!({})).await;
    let mut browser = world.browser();
    let url = goes(&mut browser, &first).await;
    let code = consents_at(&world, &mut browser, &url).await;
    let done = exchanged(&world.lab, &first, json!({"code": code}), 200).await;
    let name = done["connected"]["name"].as_str().expect("a name").to_owned();
    world.server.issuer().change(|rules| rules.account = "bob@acme.test".to_owned());
    let again = headless(&mut world.lab, json!({"connection": name})).await;
    let mut browser = world.browser();
    let url = goes(&mut browser, &again).await;
    let code = consents_at(&world, &mut browser, &url).await;
    let refused = exchanged(&world.lab, &again, json!({"code": code}), 422).await;
    let message = refused["error"]["message"].as_str().expect("text");
    assert!(message.contains("bob@acme.test") && message.contains("alice@acme.test"), "{refused}");
    assert_eq!(made(&world.lab).await[0]["account"], "alice@acme.test");
    let agreed = json!({"code": code, "other_account": true});
    exchanged(&world.lab, &again, agreed, 200).await;
    assert_eq!(made(&world.lab).await[0]["account"], "bob@acme.test");
    world.finish().await;
}

/// The platform reads the reason, and the browser is back at the platform.
#[tokio::test]
async fn a_consent_that_cannot_begin_returns_to_the_platform() {
    let mut world = consents().await;
    let link = headless(&mut world.lab, json!({})).await;
    let (app, id) = (world.app.clone(), link.id.clone());
    api(&world.lab, "DELETE", &format!("/apps/{app}"), Value::Null, 204).await;
    let mut browser = world.browser();
    browser.get(&link.url).await;
    let home = leads(&mut browser, SESSION).await;
    assert_eq!(home, format!("{RETURN_URL}?connect_session={id}"));
    let state = state(&world.lab, &link).await;
    assert_eq!(state["state"], "failed", "{state}");
    world.finish().await;
}

#[tokio::test]
async fn only_consents_may_be_headless_and_only_a_get_opens_their_link() {
    let mut world = consents().await;
    let base = json!({"user": USER, "headless": true, "return_url": RETURN_URL});
    for (more, field) in [
        (json!({"providers": ["acme"]}), "headless"),
        (json!({"providers": ["svc", "acme"]}), "providers"),
        (json!({"providers": ["svc"], "auth": "api_key"}), "auth"),
        (json!({"providers": ["svc"], "variables": {"shop": "x"}}), "variables"),
        (json!({"providers": ["svc"], "return_url": null}), "return_url"),
        (json!({"providers": ["svc"], "headless": false, "auth": "oauth"}), "auth"),
    ] {
        let mut spec = base.clone();
        for (key, value) in more.as_object().expect("members") {
            spec[key] = value.clone();
        }
        let refused = api(&world.lab, "POST", "/connect-sessions", spec, 422).await;
        assert_eq!(refused["error"]["field"], field, "{refused}");
    }
    let link = headless(&mut world.lab, json!({"auth": "oauth"})).await;
    assert_eq!(world.browser().ask("HEAD", &link.url).await.head.status(), 405);
    assert_eq!(state(&world.lab, &link).await["state"], "open");
    goes(&mut world.browser(), &link).await;
    world.finish().await;
}
