//! Callbacks by POST, where the provider's file says so: the same checks as of a redirect, in the browser that
//! began, although the POST of another site brings none of its cookies. OAuth rules 2.

use serde_json::{Value, json};

use test_support::Message;
use test_support::authorization::{Rules, query};
use test_support::browser::{Browser, onward};
use test_support::oauth::{World, provider};

async fn world() -> World {
    let provider = provider(", response_mode: form_post");
    World::with(Rules::default(), |plan| plan.provider(&provider)).await
}

/// Where a browser comes back to, and with what.
struct Back {
    at: String,
    form: String,
}

async fn begun(world: &World) -> (Browser, Value, Back) {
    let made = world.draft().await;
    let (browser, url) = world.begins(&made).await;
    assert_eq!(query(&url)["response_mode"], "form_post");
    let back = world.server.issuer().consent(&url);
    let (at, form) = back.split_once('?').expect("parameters");
    (browser, made, Back { at: at.to_owned(), form: form.to_owned() })
}

/// The address that a page leads on to, below the callback.
fn next(page: &Message) -> String {
    assert_eq!(page.head.status(), 200, "{}", page.text());
    assert!(page.head.all("set-cookie").is_empty());
    onward(page).replace("..", "/oauth")
}

async fn connects_nothing(world: &World, answer: &Message, status: u16) {
    assert_eq!(answer.head.status(), status, "{}", answer.text());
    assert!(world.server.calls().is_empty(), "{:#?}", world.server.calls());
    assert_eq!(world.connection().await["state"], "draft");
}

/// oauth 2.form-post
#[tokio::test]
async fn a_posted_callback_connects_in_the_browser_that_began() {
    let world = world().await;
    let (mut browser, made, back) = begun(&world).await;
    let page = browser.posts_from_elsewhere(&back.at, &back.form).await;
    let policy = page.head.one("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert_eq!(page.head.one("cache-control"), Some("no-store"));
    let code = query(&format!("?{}", back.form))["code"].clone();
    assert!(!page.text().contains(&code), "the code is on no page");
    assert!(world.server.calls().is_empty(), "nothing is sent before the browser is known");
    let done = browser.get(&next(&page)).await.is(303);
    let to = done.head.one("location").expect("elsewhere");
    assert!(to.starts_with("../../done/flw_"), "{to}");
    assert_eq!(world.flow(&made).await["state"], "connected");
    assert_eq!(world.request().await.text(), "fine");
    // Neither the handle nor the state works twice.
    assert_eq!(browser.get(&next(&page)).await.head.status(), 400);
    browser.posts_from_elsewhere(&back.at, &back.form).await.is(400);
    assert_eq!(world.server.calls().len(), 1);
    world.finish().await;
}

/// oauth 2.form-post, 2.4: whoever has the page of a POST is not yet who began
#[tokio::test]
async fn a_posted_callback_finishes_nothing_in_another_browser() {
    let world = world().await;
    let (_, made, back) = begun(&world).await;
    let mut thief = world.browser();
    let page = thief.posts_from_elsewhere(&back.at, &back.form).await;
    connects_nothing(&world, &thief.get(&next(&page)).await, 403).await;
    assert_eq!(world.flow(&made).await["state"], "failed");
    world.finish().await;
}

/// oauth 2.form-post
#[tokio::test]
async fn only_a_same_origin_get_continues_a_posted_callback() {
    let world = world().await;
    let (mut browser, _, back) = begun(&world).await;
    let page = browser.posts_from_elsewhere(&back.at, &back.form).await;
    for site in ["cross-site", "same-site"] {
        browser.site = site;
        connects_nothing(&world, &browser.get(&next(&page)).await, 403).await;
    }
    for origin in ["null", "http://evil.test", "http://localhost"] {
        browser.origin = Some(origin.to_owned());
        connects_nothing(&world, &browser.get(&next(&page)).await, 403).await;
    }
    (browser.site, browser.origin) = ("same-origin", None);
    for method in ["HEAD", "POST"] {
        assert_eq!(browser.ask(method, &next(&page)).await.head.status(), 405, "{method}");
    }
    let other = next(&page).replace("/app_", "/app_0");
    assert_eq!(browser.get(&other).await.head.status(), 400);
    world.finish().await;
}

/// oauth 2.form-post, 2.1, 2.2, 2.3 and 2.5: as strict as by redirect, and nothing is kept of what nobody waits for
#[tokio::test]
async fn an_invalid_posted_callback_is_refused_and_sends_no_token_request() {
    let world = world().await;
    let other = test_support::oauth::app(&world.lab, "other-app", ("other", "of-another")).await;
    let (mut browser, _, back) = begun(&world).await;
    let state = query(&format!("?{}", back.form))["state"].clone();
    let too_long = format!("{}&x={}", back.form, "a".repeat(8 * 1024));
    for (form, status) in [
        (format!("{}&state=x", back.form), 400),
        (format!("{}&code=x", back.form), 400),
        (too_long, 400),
        (back.form.replace(&state, &"A".repeat(43)), 400),
        (back.form.replace(&state, ""), 400),
        (String::new(), 400),
    ] {
        let answer = browser.posts_from_elsewhere(&back.at, &form).await;
        connects_nothing(&world, &answer, status).await;
    }
    let elsewhere = back.at.replace(world.app.as_str(), other.as_str());
    let answer = browser.posts_from_elsewhere(&elsewhere, &back.form).await;
    connects_nothing(&world, &answer, 405).await;
    // JSON, or nothing that says what it is, is no form.
    connects_nothing(&world, &browser.post(&back.at).await, 400).await;
    // None of this used the flow up; an answer of another server does.
    let evil = back.form.replace("iss=", "iss=https%3A%2F%2Fevil.test%2F");
    let page = browser.posts_from_elsewhere(&back.at, &evil).await;
    connects_nothing(&world, &browser.get(&next(&page)).await, 400).await;
    world.finish().await;
}

/// oauth 2.form-post, 2.6
#[tokio::test]
async fn a_posted_access_denied_is_reported_as_a_declined_consent() {
    let world = world().await;
    let (mut browser, made, back) = begun(&world).await;
    let state = query(&format!("?{}", back.form))["state"].clone();
    let iss = "iss=https%3A%2F%2Fauth.acme.test";
    let form = format!("error=access_denied&state={state}&{iss}");
    let page = browser.posts_from_elsewhere(&back.at, &form).await;
    let told = browser.get(&next(&page)).await;
    connects_nothing(&world, &told, 403).await;
    assert!(told.text().contains("declined"), "{}", told.text());
    assert_eq!(world.flow(&made).await["why"], "the consent was declined");
    world.finish().await;
}

/// oauth 2.form-post, 2.durable
#[tokio::test]
async fn a_posted_callback_survives_a_restart_before_the_browser_follows_it() {
    let mut world = world().await;
    let (browser, made, back) = begun(&world).await;
    let page = browser.posts_from_elsewhere(&back.at, &back.form).await;
    world.lab.gateway.restart().await;
    let mut same = world.browser();
    same.cookies = browser.cookies;
    assert_eq!(same.get(&next(&page)).await.head.status(), 303);
    assert_eq!(world.flow(&made).await["state"], "connected");
    let view = world.api("GET", "/connections/work", &json!(null)).await;
    assert_eq!(view["state"], "active");
    world.finish().await;
}
