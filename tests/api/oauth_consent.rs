//! A person consents in a browser, once, and the grant ends in the vault. What is not exactly as it was
//! asked connects nothing and sends nothing to a token endpoint.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use test_support::authorization::{
    AUTH_HOST, CLIENT, CLIENT_SECRET, Fault, Rules, answer, encoded, query,
};
use test_support::browser::Browser;
use test_support::canary::Canary;
use test_support::hooks::Hooks;
use test_support::oauth::{World, provider};
use test_support::{HOST, Message};

/// Refused with this status: a page, nothing connected, nothing asked of the token endpoint.
async fn refused(world: &World, answer: &Message, status: u16) {
    assert_eq!(answer.head.status(), status, "{}", answer.text());
    assert_strict(answer);
    assert!(world.server.calls().is_empty(), "{:#?}", world.server.calls());
    assert_eq!(world.connection().await["state"], "draft");
}

/// No script, no cache, no referrer.
fn assert_strict(page: &Message) {
    assert_closed(page);
    assert_eq!(page.head.one("referrer-policy"), Some("same-origin"), "none to other sites");
}

/// No script and no cache.
pub(crate) fn assert_closed(page: &Message) {
    let policy = page.head.one("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for part in ["form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.head.one("cache-control"), Some("no-store"));
}

/// oauth 2.start, 2.8, 2.9
#[tokio::test]
async fn a_consent_ends_in_a_grant_that_the_agent_uses_and_never_sees() {
    let world = World::start().await;
    let made = world.draft().await;
    assert_eq!(made["state"], "draft");
    let before = world.request().await;
    assert_eq!(
        (before.head.status(), &before.json()["error"]["code"]),
        (424, &json!("connection_missing"))
    );

    let mut browser = world.browser();
    let start = made["authorize_url"].as_str().expect("a start page");
    let page = browser.get(start).await;
    assert_strict(&page);
    for shown in ["Service", "work", "svc-app", "read", "operator"] {
        assert!(page.text().contains(shown), "{shown} in {}", page.text());
    }
    let cookie = page.head.one("set-cookie").expect("the browser is bound").to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/oauth"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let url = browser.begin(start).await;
    let asked = query(&url);
    assert_eq!(asked["response_type"], "code");
    assert_eq!((asked["client_id"].as_str(), asked["scope"].as_str()), (CLIENT, "read"));
    assert_eq!((asked["state"].len(), asked["code_challenge"].len()), (43, 43));
    assert_eq!(asked["code_challenge_method"], "S256");

    let back = browser.get(&world.server.issuer().consent(&url)).await.is(303);
    assert_strict_redirect(&back);
    let call = world.server.only_call();
    assert_eq!(call.form["grant_type"], "authorization_code");
    assert_eq!(call.form["redirect_uri"], asked["redirect_uri"], "the same in both requests");
    assert_eq!(call.form["code_verifier"].len(), 43);
    assert!(!call.doubled && call.issued.is_some());

    let done =
        browser.get(&format!("/oauth/done/{}", made["flow"].as_str().expect("a flow"))).await;
    assert!(done.text().contains("Connected"), "{}", done.text());
    let now = world.connection().await;
    assert_eq!((&now["state"], &now["account"]), (&json!("active"), &json!("alice@acme.test")));
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

fn assert_strict_redirect(answer: &Message) {
    assert!(answer.head.one("location").expect("elsewhere").starts_with("../done/flw_"));
    assert_eq!(answer.head.one("cache-control"), Some("no-store"));
    assert_eq!(answer.head.one("referrer-policy"), Some("no-referrer"));
}

/// oauth 2.1
#[tokio::test]
async fn a_callback_with_repeated_or_oversized_parameters_is_refused() {
    let world = World::start().await;
    let (mut browser, url) = world.begun().await;
    let back = world.server.issuer().consent(&url);
    for twice in ["&state=x", "&code=x", "&iss=x", "&error=a&error=b"] {
        refused(&world, &browser.get(&format!("{back}{twice}")).await, 400).await;
    }
    refused(&world, &browser.get(&format!("{back}&x={}", "a".repeat(8 * 1024))).await, 400).await;
    // Nothing of this has used the flow up.
    assert_eq!(browser.get(&back).await.head.status(), 303);
    world.finish().await;
}

/// oauth 2.2
#[tokio::test]
async fn a_used_invented_or_empty_state_is_refused() {
    let world = World::start().await;
    let (mut browser, url) = world.begun().await;
    let back = world.server.issuer().consent(&url);
    let state = query(&url)["state"].clone();
    for other in ["A".repeat(43), String::new()] {
        refused(&world, &browser.get(&back.replace(&state, &other)).await, 400).await;
    }
    assert_eq!(browser.get(&back).await.head.status(), 303);
    let replayed = browser.get(&back).await;
    assert_eq!(replayed.head.status(), 400, "once");
    let text = replayed.text();
    assert!(text.contains("stays connected") && !text.contains("Not connected"), "{text}");
    assert_eq!(world.server.calls().len(), 1, "the code was not sent again");
    world.finish().await;
}

/// oauth 2.2
#[tokio::test]
async fn only_one_of_many_concurrent_callbacks_with_one_state_succeeds() {
    let world = World::start().await;
    let (browser, url) = world.begun().await;
    let back = world.server.issuer().consent(&url);
    let visits = (0..8).map(|_| {
        let (mut browser, back) = (browser.clone(), back.clone());
        tokio::spawn(async move { browser.get(&back).await.head.status() })
    });
    let mut statuses = vec![];
    for visit in visits.collect::<Vec<_>>() {
        statuses.push(visit.await.expect("an answer"));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 303).count(), 1, "{statuses:?}");
    assert_eq!(world.server.calls().len(), 1);
    world.finish().await;
}

/// oauth 2.2
#[tokio::test]
async fn a_flow_that_is_too_old_is_refused() {
    let world =
        World::with(Rules::default(), |plan| plan.top("oauth: { flow_lifetime: 1s }")).await;
    let made = world.draft().await;
    let (mut browser, url) = world.begins(&made).await;
    let back = world.server.issuer().consent(&url);
    assert_eq!(world.settled(&made).await["state"], "failed");
    refused(&world, &browser.get(&back).await, 400).await;
    world.finish().await;
}

/// oauth 2.3
#[tokio::test]
async fn a_callback_of_another_app_is_refused() {
    let world = World::start().await;
    let other =
        test_support::oauth::app(&world.lab, "other-app", ("other", "of-another-app")).await;
    let (mut browser, url) = world.begun().await;
    let back = world.server.issuer().consent(&url);
    let own = world.app.to_string();
    assert!(back.contains(&own), "the redirect URI is the app's own");
    refused(&world, &browser.get(&back.replace(&own, other.as_str())).await, 400).await;
    world.finish().await;
}

#[tokio::test]
async fn a_start_form_of_another_origin_is_refused_also_without_sec_fetch_site() {
    let world = World::start().await;
    let made = world.draft().await;
    let start = made["authorize_url"].as_str().expect("a page");
    let mut browser = world.browser();
    let page = browser.get(start).await;
    // Else the browser would call our own page's origin `null`.
    assert_eq!(page.head.one("referrer-policy"), Some("same-origin"));
    let port = world.lab.gateway.admin.port();
    for origin in [
        "null".to_owned(),
        "http://evil.test".to_owned(),
        format!("http://localhost:{}", port ^ 1),
        "http://localhost".to_owned(),
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}.evil.test"),
        format!("http://localhost:{port}, http://evil.test"),
        format!("http://localhost:{port}\r\nOrigin: http://evil.test"),
        String::new(),
    ] {
        browser.origin = Some(origin.clone());
        let answer = browser.post(start).await;
        assert_eq!(answer.head.status(), 403, "{origin}: {}", answer.text());
    }
    browser.origin = Some(format!("http://localhost:{port}"));
    assert_eq!(browser.post(start).await.head.status(), 200, "our own page");
    world.finish().await;
}

/// oauth 2.4
#[tokio::test]
async fn another_browser_cannot_finish_a_consent() {
    let world = World::start().await;
    let made = world.draft().await;
    let start = made["authorize_url"].as_str().expect("a page");
    let mut browser = world.browser();
    let url = browser.begin(start).await;
    let back = world.server.issuer().consent(&url);
    let mut thief = world.browser();
    refused(&world, &thief.get(&back).await, 403).await;
    // The state is spent: it was seen by someone else.
    assert_eq!(browser.get(&back).await.head.status(), 400);
    assert_eq!(world.flow(&made).await["state"], "failed");
    world.finish().await;
}

/// oauth 2.browser
#[tokio::test]
async fn a_consent_begins_only_once_by_a_same_origin_post_with_its_cookie() {
    let world = World::start().await;
    let made = world.draft().await;
    let start = made["authorize_url"].as_str().expect("a page");
    let mut browser = world.browser();
    refused(&world, &world.browser().post(start).await, 403).await;
    browser.get(start).await;
    let mut elsewhere = browser.clone();
    for site in ["cross-site", "same-site", "none"] {
        elsewhere.site = site;
        refused(&world, &elsewhere.post(start).await, 403).await;
    }
    // Looked at as often as one likes, begun once.
    assert_eq!(
        browser.get(start).await.head.all("set-cookie").len(),
        0,
        "it stays the same browser"
    );
    assert_eq!(browser.post(start).await.head.status(), 200);
    refused(&world, &browser.post(start).await, 400).await;
    refused(&world, &browser.get(start).await, 400).await;
    world.finish().await;
}

/// oauth 2.5
#[tokio::test]
async fn an_answer_of_another_issuer_is_refused_and_its_error_not_shown() {
    for bend in ["&iss=https%3A%2F%2Fevil.test", "&iss=https%3A%2F%2Fevil.test&error=canary_error"]
    {
        let world = World::with(Rules { iss: false, ..Rules::default() }, |plan| plan).await;
        let (mut browser, url) = world.begun().await;
        let back = world.server.issuer().consent(&url);
        let answer = browser.get(&format!("{back}{bend}")).await;
        refused(&world, &answer, 400).await;
        assert!(!answer.text().contains("canary_error"), "{}", answer.text());
        world.finish().await;
    }
}

/// oauth 2.6
#[tokio::test]
async fn a_declined_consent_is_reported_without_the_provider_s_description() {
    let world = World::start().await;
    let made = world.draft().await;
    let (mut browser, url) = world.begins(&made).await;
    let back = world.server.issuer().decline(&url) + "&error_description=%3Cscript%3Ecanary";
    let answer = browser.get(&back).await;
    refused(&world, &answer, 403).await;
    assert!(answer.text().contains("declined") && !answer.text().contains("canary"));
    assert_eq!(world.connection().await["failure"], "the consent was declined");
    assert_eq!(world.flow(&made).await["why"], "the consent was declined");
    let agents = world.request().await;
    assert_eq!(agents.json()["error"]["code"], "connection_missing");
    world.finish().await;
}

/// oauth 2.7
#[tokio::test]
async fn a_callback_without_a_code_is_refused() {
    let world = World::start().await;
    let (mut browser, url) = world.begun().await;
    let back = world.server.issuer().consent(&url);
    let code = query(&back)["code"].clone();
    refused(&world, &browser.get(&back.replace(&format!("code={code}&"), "")).await, 400).await;
    world.finish().await;
}

/// oauth 2.response-mode
#[tokio::test]
async fn the_callback_accepts_only_get() {
    let world = World::start().await;
    let (mut browser, url) = world.begun().await;
    let back = world.server.issuer().consent(&url);
    for method in ["POST", "HEAD", "PUT"] {
        assert_eq!(browser.ask(method, &back).await.head.status(), 405, "{method}");
    }
    assert!(world.server.calls().is_empty());
    assert_eq!(browser.get(&back).await.head.status(), 303, "not used up");
    world.finish().await;
}

/// oauth 2.8
#[tokio::test]
async fn an_exchange_that_fails_is_a_502_and_never_repeated() {
    let faults = [
        Fault::bad_gateway(),
        Fault::error(400, "invalid_grant"),
        Fault::ResetAfter,
        Fault::ClosesAfter,
        Fault::Truncates,
        Fault::redirect("https://evil.test/token"),
        Fault::with("access_token", Value::Null),
    ];
    for fault in faults {
        let world = World::start().await;
        let made = world.draft().await;
        world.server.fail_next(fault.clone());
        let answer = world.consent(&mut world.browser(), &made).await;
        assert_eq!(answer.head.status(), 502, "{fault:?}: {}", answer.text());
        assert_strict(&answer);
        assert_eq!(world.server.calls().len(), 1, "{fault:?}");
        assert_eq!(world.connection().await["state"], "draft", "{fault:?}");
        assert_eq!(world.flow(&made).await["state"], "failed", "{fault:?}");
        // Started again it works.
        let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
        assert_eq!(world.consent(&mut world.browser(), &again).await.head.status(), 303);
        assert_eq!(world.request().await.text(), "fine");
        world.finish().await;
    }
}

/// oauth 2.8: the secret is form-encoded, then base64, and nowhere else.
#[tokio::test]
async fn the_client_authenticates_at_the_token_endpoint_with_basic_alone() {
    use base64::Engine;
    let world = World::with_connection().await;
    let call = world.server.only_call();
    let pair = format!("{CLIENT}:{}", encoded(CLIENT_SECRET));
    let sent =
        call.head.one("authorization").expect("Basic").trim_start_matches("Basic ").to_owned();
    let sent = base64::prelude::BASE64_STANDARD.decode(sent).expect("base64");
    assert_eq!(
        String::from_utf8(sent).expect("ASCII").replace("%7E", "~").replace("%2D", "-"),
        pair.replace("%7E", "~").replace("%2D", "-")
    );
    assert!(!call.form.contains_key("client_secret"), "{:?}", call.form.keys());
    world.finish().await;
}

#[tokio::test]
async fn the_event_of_a_user_s_own_consent_and_its_start_page_name_the_user() {
    let mut hooks = Hooks::start().await;
    let mut world = World::with(Rules::default(), |plan| hooks.reached(plan)).await;
    let key = hooks.subscribed(&mut world.lab, &["connection.connected"]).await;
    world.api("POST", "/users", &json!({ "name": "annabel", "role": "admin" })).await;
    let token = world.api("POST", "/tokens", &json!({ "user": "annabel" })).await["token"].clone();
    let token = Canary::of(token.as_str().expect("a token").to_owned());
    world.lab.guard(token.clone());
    let bearer = format!("authorization: Bearer {}\r\n", token.text);
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app" });
    let new = new.to_string();
    let made =
        world.lab.gateway.api_with(&bearer, ("POST", "/connections"), &new).await.is(201).json();
    assert_eq!(world.flow(&made).await["person"], "annabel");
    let mut browser = world.browser();
    let page = browser.get(made["authorize_url"].as_str().expect("a start page")).await;
    assert!(page.text().contains("annabel") && !page.text().contains("usr_"), "{}", page.text());
    assert_eq!(world.consent(&mut browser, &made).await.head.status(), 303);
    let event = hooks.event(&key).await;
    assert_eq!((&*event.kind, &event.data["user"]), ("connection.connected", &json!("annabel")));
    assert!(event.data["by"].as_str().is_some_and(|by| by.starts_with("usr_")), "{event:?}");
    world.finish().await;
}

/// oauth 2.no-refresh-token
#[tokio::test]
async fn a_consent_without_a_refresh_token_says_so_on_its_done_page() {
    let world = World::with(Rules { refreshes: false, ..Rules::default() }, |plan| plan).await;
    let made = world.draft().await;
    let mut browser = world.browser();
    assert_eq!(world.consent(&mut browser, &made).await.head.status(), 303);
    let view = world.flow(&made).await;
    assert_eq!((&view["state"], &view["ends"]), (&json!("connected"), &json!(true)));
    let done =
        browser.get(&format!("/oauth/done/{}", made["flow"].as_str().expect("a flow"))).await;
    assert!(done.text().contains("connect again"), "{}", done.text());
    world.finish().await;
}

/// Facebook, Instagram and Threads.
#[tokio::test]
async fn a_token_that_is_exchanged_for_newer_ones_is_not_said_to_end() {
    let provider = provider(", refresh: exchange_access_token");
    let rules = Rules { refreshes: false, ..Rules::default() };
    let world = World::with(rules, |plan| plan.provider(&provider)).await;
    let made = world.connected().await;
    assert_eq!(world.flow(&made).await["ends"], json!(false));
    world.finish().await;
}

/// Instagram and Threads.
#[tokio::test]
async fn a_consent_exchanges_its_token_for_a_long_lived_one_or_fails() {
    let provider = provider(&format!(", lengthen: \"https://{AUTH_HOST}/longer\""));
    let world = World::with(Rules::default(), |plan| plan.provider(&provider)).await;
    let made = world.draft().await;
    let refusal = answer(400, &json!({ "error": "invalid_grant" }));
    world.server.issuer().script("/longer", refusal);
    assert_eq!(world.consent(&mut world.browser(), &made).await.head.status(), 502);
    assert_eq!(world.connection().await["state"], "draft");
    let longer = answer(200, &json!({ "access_token": "longer-token", "expires_in": 3600 }));
    world.server.issuer().script("/longer", longer);
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    assert_eq!(world.consent(&mut world.browser(), &again).await.head.status(), 303);
    world.request().await;
    let sent = world.lab.origin.received();
    let is_longer = |it: &Message| it.head.one("authorization") == Some("Bearer longer-token");
    assert!(sent.iter().any(is_longer), "{sent:?}");
    world.finish().await;
}

/// oauth 6.6, 7.5: nothing says that the token ends, and the lifetime in the provider's file is a guess.
#[tokio::test]
async fn a_token_without_expiry_and_refresh_token_outlives_the_default_lifetime() {
    let rules = Rules { access_ttl: None, refreshes: false, ..Rules::default() };
    let provider = provider(", access_ttl: 0.3s");
    let world = World::with(rules, |plan| plan.provider(&provider)).await;
    let made = world.connected().await;
    let connected = Instant::now();
    assert_eq!(world.flow(&made).await["ends"], json!(false));
    while connected.elapsed() < Duration::from_millis(600) {
        assert_eq!(world.request().await.text(), "fine");
    }
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(world.connection().await["state"], "active");
    assert_eq!(world.server.calls().len(), 1);
    world.finish().await;
}

/// oauth 2.granted
#[tokio::test]
async fn granted_scopes_are_shown_and_a_reconnect_adds_new_ones_to_its_request() {
    let rules = Rules { grants: Some("read".to_owned()), ..Rules::default() };
    let world = World::with(rules, |plan| plan).await;
    let made = world.draft().await;
    world.consent(&mut world.browser(), &made).await;
    assert_eq!(world.connection().await["granted"], json!(["read"]));
    let more = json!({ "scopes": ["write"] });
    let again = world.api("POST", "/connections/work/reconnect", &more).await;
    let url = world.browser().begin(again["authorize_url"].as_str().expect("a page")).await;
    assert_eq!(query(&url)["scope"], "read write", "a step up asks for both");
    world.finish().await;
}

#[tokio::test]
async fn another_browser_sees_nothing_of_a_finished_consent() {
    let world = World::start().await;
    let made = world.connected().await;
    let done = format!("/oauth/done/{}", made["flow"].as_str().expect("a flow"));
    let seen = Browser::new(&world.lab.gateway).get(&done).await.is(403);
    assert!(!seen.text().contains(HOST) && !seen.text().contains("work"), "{}", seen.text());
    world.finish().await;
}

/// oauth 5.flows
#[tokio::test]
async fn one_person_has_a_bounded_number_of_consents_open() {
    let world =
        World::with(Rules::default(), |plan| plan.top("oauth: { flows_per_person_max: 3 }")).await;
    world.draft().await;
    for _ in 0..2 {
        world.api("POST", "/connections/work/reconnect", &json!({})).await;
    }
    let refused = world.lab.gateway.api("POST", "/connections/work/reconnect", "{}").await.is(422);
    assert!(refused.text().contains("3 consents are open"), "{}", refused.text());
    world.finish().await;
}
