//! Agents can neither start, see nor complete a consent: what they hold opens nothing of it, and the proxy
//! is no way to the pages either.

use serde_json::json;

use test_support::Plan;
use test_support::authorization::{CLIENT_SECRET, Rules, encoded, query};
use test_support::browser::Browser;
use test_support::oauth::{AGENT, World};

#[tokio::test]
async fn an_agent_reaches_no_page_of_a_consent_through_the_proxy() {
    let world = World::start().await;
    let made = world.draft().await;
    let start = made["authorize_url"].as_str().expect("a page").to_owned();
    let path = start.split_once("/oauth/").expect("a path").1.to_owned();
    let admin = world.lab.gateway.admin;
    for host in [admin.to_string(), format!("localhost:{}", admin.port())] {
        for path in [format!("/oauth/{path}"), "/oauth/callback/app_x?state=s&code=c".to_owned()] {
            let mut wire = world.lab.client().await;
            let authorization = world.lab.authorization(AGENT);
            wire.send(format!(
                "GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"
            ))
            .await;
            let refused = wire.answer("GET").await;
            assert_eq!(refused.head.status(), 403, "{host}: {}", refused.text());
            assert!(refused.head.has("keyward-error"));
        }
        let mut wire = world.lab.client().await;
        let authorization = world.lab.authorization(AGENT);
        wire.send(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n")).await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 403, "{host}");
    }
    assert!(world.server.calls().is_empty());
    // The person's own way is open as before.
    assert_eq!(world.consent(&mut world.browser(), &made).await.head.status(), 303);
    world.finish().await;
}

#[tokio::test]
async fn the_admin_listener_rejects_an_agent_s_token() {
    let world = World::start().await;
    let made = world.draft().await;
    let flow = made["flow"].as_str().expect("a flow").to_owned();
    let token = world.lab.token(AGENT).to_owned();
    for (method, path) in [
        ("POST", "/api/v1/connections/work/reconnect".to_owned()),
        ("GET", format!("/api/v1/flows/{flow}")),
        ("POST", format!("/api/v1/flows/{flow}/confirm")),
        ("POST", "/api/v1/connections".to_owned()),
    ] {
        let admin = world.lab.gateway.admin;
        let mut wire = world.lab.client_at(admin).await;
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
            admin.port()
        ))
        .await;
        assert_eq!(wire.answer(method).await.head.status(), 401, "{method} {path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn the_refusal_for_a_draft_connection_contains_no_consent_link() {
    let world = World::start().await;
    let made = world.draft().await;
    let told = world.request().await;
    assert_eq!(told.json()["error"]["code"], "connection_missing");
    let start = made["authorize_url"].as_str().expect("a page");
    let ticket = start.rsplit('/').next().expect("a ticket");
    assert!(
        !told.text().contains(ticket) && !told.text().contains("/oauth/start"),
        "{}",
        told.text()
    );
    world.finish().await;
}

#[tokio::test]
async fn start_links_state_and_cookies_are_in_no_log_and_no_file() {
    let world = World::start().await;
    let made = world.draft().await;
    let mut browser = world.browser();
    let start = made["authorize_url"].as_str().expect("a page").to_owned();
    let url = browser.begin(&start).await;
    browser.get(&world.server.issuer().consent(&url)).await;
    let mut secrets = vec![start.rsplit('/').next().expect("a ticket").to_owned()];
    secrets.push(query(&url)["state"].clone());
    secrets.extend(browser.cookies.iter().map(|(_, value)| value.clone()));
    let log = test_support::canary::log().lock().expect("not poisoned").clone();
    for secret in secrets {
        let secret = test_support::canary::Canary::of(secret);
        secret.assert_absent("the log", &log);
        secret.assert_absent_below(world.lab.gateway.folder());
    }
    world.finish().await;
}

/// oauth 2.durable: a flow survives a restart between start and callback.
#[tokio::test]
async fn a_consent_survives_a_restart_between_start_page_and_callback() {
    for begun in [false, true] {
        let mut world = World::start().await;
        let made = world.draft().await;
        let start = made["authorize_url"].as_str().expect("a page").to_owned();
        let mut browser = world.browser();
        let url = if begun { browser.begin(&start).await } else { String::new() };
        world.lab.gateway.restart().await;
        let mut after = Browser::new(&world.lab.gateway);
        after.cookies = browser.cookies.clone();
        let url = if begun { url } else { after.begin(&start).await };
        after.get(&world.server.issuer().consent(&url)).await.is(303);
        assert_eq!(world.connection().await["state"], "active");
        assert_eq!(world.request().await.text(), "fine");
        world.finish().await;
    }
}

/// oauth 2.redirect-uri
#[tokio::test]
async fn the_redirect_uri_of_a_consent_is_the_one_that_its_app_shows() {
    let world = World::start().await;
    let made = world.draft().await;
    let url = world.browser().begin(made["authorize_url"].as_str().expect("a page")).await;
    let app = world.api("GET", "/apps/svc-app", &json!(null)).await;
    assert_eq!(
        json!(query(&url)["redirect_uri"]),
        app["redirect_uri"],
        "the one shown to register"
    );
    world.finish().await;
}

/// oauth 2.redirect-uri: the provider sends the browser to `public_url`, and only there its cookie is known.
#[tokio::test]
async fn a_start_page_at_another_host_than_public_url_links_there_and_begins_nothing() {
    let public = "http://127.0.0.1:9";
    let plan = |plan: Plan| plan.top(&format!("public_url: {public}"));
    let world = World::with(Rules::default(), plan).await;
    let made = world.draft().await;
    let start = made["authorize_url"].as_str().expect("a page");
    assert!(start.starts_with(&format!("{public}/oauth/start/")), "{start}");
    let mut browser = world.browser();
    browser.get(start).await.is(200);
    browser.origin = Some(format!("http://localhost:{}", world.lab.gateway.admin.port()));
    let page = browser.post(start).await.is(403).text();
    assert!(page.contains(&format!("<code>{public}</code>")), "{page}");
    assert!(page.contains(&format!("href=\"{start}\"")), "{page}");
    assert_eq!(world.flow(&made).await["state"], "open");

    browser.origin = Some(public.to_owned());
    world.consent(&mut browser, &made).await.is(303);
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// An API that shows the settings of the app that asks.
#[tokio::test]
async fn an_api_cannot_tell_an_agent_the_app_s_client_secret() {
    let echo = format!("secret={CLIENT_SECRET} form={} end", encoded(CLIENT_SECRET));
    let echo: &'static str = echo.leak();
    let mut world = World::saying(echo, Rules::default(), |plan| plan).await;
    world.connected().await;
    let masked = world.request().await.text();
    assert!(masked.starts_with("secret=**") && masked.ends_with("** end"), "{masked}");
    assert!(!masked.contains(CLIENT_SECRET) && !masked.contains(&encoded(CLIENT_SECRET)));
    // Also with a token that was renewed, and after a restart.
    world.lab.gateway.api("POST", "/connections/work/refresh", "").await.is(200);
    assert_eq!(world.request().await.text(), masked);
    world.lab.gateway.restart().await;
    assert_eq!(world.request().await.text(), masked);
    world.finish().await;
}
