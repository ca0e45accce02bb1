//! What a person sees who opens a link: a key, a consent, another one, a connection that is connected again.

use keyward_base::id::OrgId;
use serde_json::{Value, json};

use super::*;
use test_support::authorization::query;
use test_support::hooks::Hooks;

/// No script, no cache, and a style sheet that is allowed by its hash.
fn assert_strict(page: &Message) {
    crate::oauth_consent::assert_closed(page);
    assert!(!page.text().contains("<script") && page.text().len() < 25 * 1024);
}

/// Where the done page leads, with the code.
fn code(done: &Message) -> (String, String) {
    let url = test_support::browser::onward(done);
    let asked = query(&url);
    (url, asked["code"].clone())
}

#[tokio::test]
async fn a_person_connects_with_a_key_and_the_platform_gets_an_event_and_a_code() {
    let mut hooks = Hooks::start().await;
    let mut keys = Keys::with(|plan| hooks.reached(plan)).await;
    let key = hooks.subscribed(&mut keys.lab, &["connect_session.completed"]).await;
    let return_url = "https://app.acme.test/connected?tab=1";
    let link = keys.link(json!({"return_url": return_url, "label": "first"})).await;
    let mut browser = keys.browser();
    let page = browser.get(&link.url).await;
    assert_strict(&page);
    for shown in ["Acme Chat", "Connect Acme", USER, "Continue", "#3355ff"] {
        assert!(page.text().contains(shown), "{shown} in {}", page.text());
    }
    let sent = browser.post(&link.url).await;
    let cookie = sent.head.one("set-cookie").expect("the browser is bound").to_owned();
    for part in ["keyward-connect=kwn_", "HttpOnly", "SameSite=Lax", "Path=/;"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    keys.lab.guard(Canary::of(browser.cookies[0].1.clone()));
    assert_eq!(keys.state(&link).await["state"], "opened");
    let page = browser.get(SESSION).await;
    assert_strict(&page);
    assert!(page.text().contains("type=\"password\""), "{}", page.text());
    let sent = browser.submit(&action(&page), &[("field.api_key", GOOD)]).await;
    assert_eq!((sent.head.status(), sent.head.one("location")), (303, Some("session")));
    let done = browser.get(SESSION).await;
    assert_strict(&done);
    assert!(done.text().contains("Your Acme account is connected"), "{}", done.text());
    let (url, code) = code(&done);
    assert!(url.starts_with(&format!("{return_url}&connect_session={}&code=", link.id)), "{url}");

    let made = keys.connections().await;
    let user = api(&keys.lab, "GET", "/users", Value::Null, 200).await;
    let user = user["items"].as_array().expect("a list").iter().find(|it| it["name"] == USER);
    let of = |key: &str| made[0][key].clone();
    let user = user.expect("the user")["id"].clone();
    assert_eq!((of("state"), of("owner")), (json!("active"), user));
    assert_eq!((of("name"), of("visibility")), (json!("acme-of-auth0-5f7c"), json!("private")));
    let state = keys.state(&link).await;
    assert_eq!(state["connected"]["name"], "acme-of-auth0-5f7c");
    let event = hooks.event(&key).await;
    assert_eq!(event.data["connect_session"], json!({"id": link.id, "name": "first"}));
    assert_eq!((&event.data["user"], &event.data["connection"]["id"]), (&json!(USER), &of("id")));

    let exchange = format!("/connect-sessions/{}/exchange", link.id);
    let other = keys.link(json!({})).await;
    let of_other = format!("/connect-sessions/{}/exchange", other.id);
    for (path, code, status) in [
        (&exchange, "0".repeat(32), 422),
        (&exchange, browser.cookies[0].1.clone(), 422),
        (&of_other, code.clone(), 422),
        (&exchange, code.clone(), 200),
        (&exchange, code.clone(), 422),
    ] {
        api(&keys.lab, "POST", path, json!({"code": code}), status).await;
    }
    let records = keys.lab.finish_with_changes().await;
    let of_link = records.iter().filter(|it| it["change"]["id"] == *link.id);
    let told: Vec<_> = of_link.map(|it| it["change"]["action"].as_str().expect("one")).collect();
    assert_eq!(
        told,
        ["added", "opened", "completed", "exchange", "exchange", "exchange", "exchange"]
    );
}

/// A browser removes the line breaks of what is pasted into an `input`, and PEM is read by lines.
#[tokio::test]
async fn the_page_of_a_link_has_a_field_of_several_lines_for_a_ca() {
    let mut keys = Keys::start().await;
    let link = keys.link(json!({"providers": ["kubernetes"]})).await;
    let mut browser = keys.opened(&link).await;
    let page = browser.get(&format!("{SESSION}?provider=kubernetes&auth=token")).await.is(200);
    assert_strict(&page);
    let text = page.text();
    assert!(text.contains(r#"<textarea autocomplete="off" id="field.ca""#), "{text}");
    assert!(
        text.contains(r#"<input type="password" autocomplete="off" id="field.token""#),
        "{text}"
    );
    keys.lab.finish().await;
}

#[tokio::test]
async fn a_person_chooses_declines_and_then_consents() {
    let mut world = consents().await;
    let more = json!({"providers": ["acme", "svc"], "return_url": "https://app.acme.test/"});
    let link = link(&mut world.lab, more).await;
    let mut browser = world.browser();
    opens(&mut browser, &link).await;
    let page = browser.get(SESSION).await;
    assert_strict(&page);
    assert!(page.text().contains("?provider=acme") && page.text().contains("?provider=svc"));
    let page = browser.get(&format!("{SESSION}?provider=svc")).await;
    assert!(page.text().contains("You are sent to Service"), "{}", page.text());
    let sent = browser.post(&action(&page)).await;
    let url = test_support::browser::onward(&sent);
    let waits = browser.get(SESSION).await;
    assert!(waits.text().contains("Continue at Service"), "{}", waits.text());
    let state_of = query(&url)["state"].clone();
    let app = &world.app;
    let issuer = "https%3A%2F%2Fauth.acme.test";
    let declined =
        format!("/oauth/callback/{app}?error=access_denied&state={state_of}&iss={issuer}");
    let back = browser.get(&declined).await;
    assert_eq!(back.head.one("location"), Some("../../connect/session"), "{}", back.text());
    let failed = browser.get(SESSION).await;
    assert!(failed.text().contains("The consent was declined"), "{}", failed.text());
    assert_eq!(state(&world.lab, &link).await["reason"], "the consent was declined");
    let none = api(&world.lab, "GET", "/connections?provider=svc", Value::Null, 200).await;
    assert_eq!(none["items"], json!([]), "no draft is left");

    let page = browser.get(&format!("{SESSION}?provider=svc")).await;
    let sent = browser.post(&action(&page)).await;
    let url = test_support::browser::onward(&sent);
    assert_eq!(query(&url)["code_challenge_method"], "S256");
    let back = browser.get(&world.server.issuer().consent(&url)).await;
    assert_eq!(back.head.one("location"), Some("../../connect/session"), "{}", back.text());
    let done = browser.get(SESSION).await;
    assert!(done.text().contains("Your Service account is connected"), "{}", done.text());
    let (_, code) = code(&done);
    let exchange = format!("/connect-sessions/{}/exchange", link.id);
    let told = api(&world.lab, "POST", &exchange, json!({"code": code}), 200).await;
    assert_eq!(
        (&told["state"], &told["connected"]["provider"]),
        (&json!("completed"), &json!("svc"))
    );
    let name = told["connected"]["name"].as_str().expect("a name");
    let made = api(&world.lab, "GET", &format!("/connections/{name}"), Value::Null, 200).await;
    assert_eq!((&made["state"], &made["account"]), (&json!("active"), &json!("alice@acme.test")));
    assert_eq!(world.server.calls().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn links_and_open_consents_survive_a_restart() {
    let mut world = consents().await;
    let link = link(&mut world.lab, json!({"providers": ["svc"]})).await;
    let unopened = super::link(&mut world.lab, json!({"providers": ["svc"]})).await;
    let mut browser = world.browser();
    opens(&mut browser, &link).await;
    let url = begins(&mut browser).await;
    let back = world.server.issuer().consent(&url);
    world.lab.gateway.restart().await;
    let mut again = world.browser();
    again.cookies = browser.cookies.clone();
    let back = again.get(&back).await;
    assert_eq!(back.head.one("location"), Some("../../connect/session"), "{}", back.text());
    assert!(again.get(SESSION).await.text().contains("is connected"));
    assert_eq!(state(&world.lab, &link).await["state"], "completed");
    opens(&mut world.browser(), &unopened).await;
    world.finish().await;
}

/// Id, name and bindings stay; the old key works until the new one is tested.
#[tokio::test]
async fn a_connection_is_connected_again_in_place() {
    let mut keys = Keys::start().await;
    let first = keys.link(json!({})).await;
    let mut browser = keys.opened(&first).await;
    assert_eq!(gives(&mut browser, GOOD).await.head.status(), 303);
    let before = keys.connections().await.remove(0);
    let name = before["name"].as_str().expect("a name").to_owned();
    let link = keys.link(json!({"user": null, "connection": name})).await;
    assert_eq!(keys.state(&link).await["user_name"], USER, "its owner");
    let mut browser = keys.opened(&link).await;
    let page = browser.get(SESSION).await;
    assert!(page.text().contains(&name), "{}", page.text());
    gives(&mut browser, "ak_wrong-0123456789abcdef").await.is(422).says("old secret stays");
    assert_eq!(keys.connections().await[0]["state"], "active");
    let page = browser.get(&format!("{SESSION}?step=choose")).await;
    browser.submit(&action(&page), &[("field.api_key", BETTER)]).await.is(303);
    let after = keys.connections().await;
    assert_eq!((after.len(), &after[0]["id"]), (1, &before["id"]));
    assert_ne!(after[0]["rotated"], before["rotated"]);
    assert_eq!(keys.state(&link).await["connected"]["id"], before["id"]);
    keys.lab.finish().await;
}

#[tokio::test]
async fn a_consent_with_another_account_is_confirmed_in_the_same_browser_only() {
    let mut world = consents().await;
    let link = link(&mut world.lab, json!({"providers": ["svc"]})).await;
    let mut browser = world.browser();
    opens(&mut browser, &link).await;
    let url = begins(&mut browser).await;
    browser.get(&world.server.issuer().consent(&url)).await;
    let done = state(&world.lab, &link).await;
    let name = done["connected"]["name"].as_str().expect("a name").to_owned();
    let again = super::link(&mut world.lab, json!({"connection": name})).await;
    let mut browser = world.browser();
    opens(&mut browser, &again).await;
    let url = begins(&mut browser).await;
    world.server.issuer().change(|rules| rules.account = "bob@acme.test".to_owned());
    let back = browser.get(&world.server.issuer().consent(&url)).await;
    assert_eq!(back.head.one("location"), Some("../../connect/session"), "{}", back.text());
    let asked = browser.get(SESSION).await;
    assert!(asked.text().contains("bob@acme.test"), "{}", asked.text());
    let yes = format!("{SESSION}?step=account&accept=yes");
    assert_eq!(world.browser().post(&yes).await.head.status(), 403, "another browser");
    assert_eq!(browser.post(&yes).await.head.status(), 303);
    let state = state(&world.lab, &again).await;
    assert_eq!(
        (&state["state"], &state["connected"]["id"]),
        (&json!("completed"), &done["connected"]["id"])
    );
    let now = api(&world.lab, "GET", &format!("/connections/{name}"), Value::Null, 200).await;
    assert_eq!(now["account"], "bob@acme.test");
    world.finish().await;
}

/// A platform with pages of its own asks what to show, and sends what was entered.
#[tokio::test]
async fn a_platform_completes_a_link_by_the_api_without_pages_of_keyward() {
    let mut keys = Keys::start().await;
    let link = keys.link(json!({"providers": ["acme", "openai"]})).await;
    let path = format!("/connect-sessions/{}", link.id);
    let offers = api(&keys.lab, "GET", &format!("{path}/providers"), Value::Null, 200).await;
    let offers = offers["items"].as_array().expect("a list").clone();
    let ids: Vec<_> = offers.iter().map(|it| it["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["acme", "openai"]);
    assert_eq!(offers[0]["auth"][0]["fields"][0]["name"], "api_key");
    assert!(offers[1]["key_url"].as_str().is_some_and(|url| url.starts_with("https://")));
    let complete = format!("{path}/complete");
    let fields = json!({"api_key": GOOD});
    api(&keys.lab, "POST", &complete, json!({"fields": fields}), 422).await;
    let other = json!({"provider": "github", "fields": fields});
    api(&keys.lab, "POST", &complete, other, 422).await;
    let done = json!({"provider": "acme", "fields": fields});
    let done = api(&keys.lab, "POST", &complete, done, 200).await;
    assert_eq!(
        (&done["state"], &done["connected"]["provider"]),
        (&json!("completed"), &json!("acme"))
    );
    assert_eq!(keys.browser().get(&link.url).await.head.status(), 410, "the link is used up");
    keys.lab.finish().await;
}

/// What an expired link began is removed, also after a restart.
#[tokio::test]
async fn a_revoked_or_expired_link_leaves_no_draft_connection() {
    let mut world = consents().await;
    let link = link(&mut world.lab, json!({"providers": ["svc"]})).await;
    let mut browser = world.browser();
    opens(&mut browser, &link).await;
    let url = begins(&mut browser).await;
    let drafts = async |world: &World| {
        let all = api(&world.lab, "GET", "/connections?provider=svc", Value::Null, 200).await;
        all["items"].as_array().expect("a list").len()
    };
    assert_eq!(drafts(&world).await, 1);
    let path = format!("/connect-sessions/{}", link.id);
    api(&world.lab, "DELETE", &path, Value::Null, 204).await;
    assert_eq!(drafts(&world).await, 0);
    browser.get(&world.server.issuer().consent(&url)).await.is(400);

    let second = super::link(&mut world.lab, json!({"providers": ["svc"]})).await;
    let mut browser = world.browser();
    opens(&mut browser, &second).await;
    begins(&mut browser).await;
    let services = world.lab.gateway.running().services().clone();
    let id = keyward_base::id::ConnectSessionId::parse(&second.id).expect("an id");
    let org = OrgId::default_org();
    let end = |it: &mut keyward_model::Record<keyward_model::ConnectSession>| {
        it.facts.expires = jiff::Timestamp::UNIX_EPOCH;
    };
    let ended = services.directory.change(&org, &id, end).await.expect("it is there");
    let flow = ended.facts.flow.clone().expect("a consent");
    services.flows.sweep_connect_sessions().await.expect("a store");
    services.flows.cancel(&org, &flow).await.ok();
    services.flows.sweep_connect_sessions().await.expect("a store");
    assert_eq!(drafts(&world).await, 0);
    world.lab.gateway.api("GET", &format!("/connect-sessions/{}", second.id), "").await.is(404);
    world.finish().await;
}

#[tokio::test]
async fn a_draft_that_a_hook_names_stays_and_keeps_no_other_link_from_being_removed() {
    let mut world = consents().await;
    world.lab.guard(Canary::of("the-secret-of-a-hook-canary".to_owned()));
    let services = world.lab.gateway.running().services().clone();
    let org = OrgId::default_org();
    let (mut links, mut drafts) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let link = link(&mut world.lab, json!({"providers": ["svc"]})).await;
        let mut browser = world.browser();
        opens(&mut browser, &link).await;
        begins(&mut browser).await;
        let id = keyward_base::id::ConnectSessionId::parse(&link.id).expect("an id");
        let end = |it: &mut keyward_model::Record<keyward_model::ConnectSession>| {
            it.facts.expires = jiff::Timestamp::UNIX_EPOCH;
        };
        let ended = services.directory.change(&org, &id, end).await.expect("it is there");
        drafts.push(ended.facts.draft.clone().expect("a draft"));
        links.push(link);
    }
    let hook = json!({
        "name": "early",
        "connection": drafts[0].as_str(),
        "scheme": "github",
        "secret": "the-secret-of-a-hook-canary",
    });
    api(&world.lab, "POST", "/hooks", hook, 201).await;
    services.flows.sweep_connect_sessions().await.expect("a store");
    let view = services.directory.view();
    let left: Vec<bool> =
        drafts.iter().map(|draft| view.connection(&org, draft).is_some()).collect();
    assert_eq!(left, [true, false]);
    for link in &links {
        let path = format!("/connect-sessions/{}", link.id);
        api(&world.lab, "GET", &path, Value::Null, 404).await;
    }
    world.finish().await;
}
