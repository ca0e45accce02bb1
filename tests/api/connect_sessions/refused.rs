//! What a link does not do: work in a second browser, after its end, for another user, or from another site.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use test_support::hooks::Hooks;

#[tokio::test]
async fn only_one_of_eight_browsers_that_open_a_link_at_once_gets_its_session() {
    let mut keys = Keys::start().await;
    let link = keys.link(json!({})).await;
    let openings = (0..8).map(|_| {
        let (mut browser, url) = (keys.browser(), link.url.clone());
        tokio::spawn(async move {
            let answer = browser.post(&url).await;
            (answer.head.status(), browser.cookies.len())
        })
    });
    let mut all = Vec::new();
    for opening in openings.collect::<Vec<_>>() {
        all.push(opening.await.expect("no panic"));
    }
    all.sort_unstable();
    let lost = std::iter::repeat_n((403, 0), 7);
    assert_eq!(all, std::iter::once((303, 1)).chain(lost).collect::<Vec<_>>());
    keys.lab.finish().await;
}

#[tokio::test]
async fn a_link_that_was_opened_works_in_no_other_browser() {
    let mut keys = Keys::start().await;
    let link = keys.link(json!({})).await;
    for _ in 0..3 {
        let preview = keys.browser().get(&link.url).await;
        assert_eq!((preview.head.status(), preview.head.one("set-cookie")), (200, None));
    }
    assert_eq!(keys.state(&link).await["state"], "open", "a preview uses nothing up");
    let mut owner = keys.opened(&link).await;
    let mut thief = keys.browser();
    for method in ["GET", "POST"] {
        let refused = thief.ask(method, &link.url).await;
        assert_eq!(refused.head.status(), 403, "{method}");
        assert!(refused.text().contains("opened in another browser"), "{}", refused.text());
        assert!(!refused.text().contains(USER), "nothing of it is shown");
    }
    for method in ["GET", "POST"] {
        let refused = thief.ask(method, SESSION).await;
        assert_eq!(refused.head.status(), 403, "{method}: {}", refused.text());
    }
    let made_up = format!("kwn_{}", "A".repeat(38));
    thief.cookies = vec![("keyward-connect".to_owned(), made_up)];
    assert_eq!(thief.get(SESSION).await.head.status(), 403);
    let cookie = owner.cookies[0].1.clone();
    thief.cookies = vec![("keyward-connect".to_owned(), cookie.clone()); 2];
    assert_eq!(thief.get(SESSION).await.head.status(), 403, "a planted cookie beside another");
    assert_eq!(thief.get(&format!("/connect/{cookie}")).await.head.status(), 410, "no link");
    let own = owner.get(&link.url).await;
    assert_eq!((own.head.status(), own.head.one("location")), (303, Some("session")));
    assert_eq!(gives(&mut owner, GOOD).await.head.status(), 303);
    let records = keys.lab.finish_with_changes().await;
    let refused = records.iter().filter(|it| it["outcome"] == "refused");
    let named = |it: &&Value| it["change"]["id"] == *link.id && it["change"]["user"] == USER;
    assert_eq!(refused.filter(named).count(), 2, "{records:#?}");
}

/// A service whose account has a host variable and a field that is not secret.
const SHOP: &str = "{ id: shop, name: Shop, hosts: [\"{shop}.acme.test\"], \
                    variables: [{ name: shop, label: Shop }], \
                    auth: [{ id: key, kind: custom, \
                             fields: [{ name: account, label: Account, secret: false }, { name: key, label: Key }], \
                             place: [{ header: X-Api-Key, value: '{key}' }] }], \
                    test: { url: 'https://{shop}.acme.test/me' } }";

/// Of the field that the alert is about.
const MARKED: &str = r#"aria-describedby="alert" aria-invalid="true" autofocus"#;

#[tokio::test]
async fn the_form_of_a_refused_key_has_the_other_values_and_no_secret() {
    let mut keys = Keys::with(|plan| plan.provider(SHOP)).await;
    let wrong = Canary::new("ak_wrong");
    keys.lab.guard(wrong.clone());
    let link = keys.link(json!({"providers": ["shop"]})).await;
    let mut browser = keys.opened(&link).await;
    let form = action(&browser.get(SESSION).await.is(200));
    let pasted = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    for (account, is_shown) in [("alice & co", true), (&*wrong.text, false), (pasted, false)] {
        let given =
            [("variable.shop", "other"), ("field.account", account), ("field.key", &*wrong.text)];
        let text = browser.submit(&form, &given).await.is(422).text();
        assert!(text.contains(r#"name="variable.shop" required"#), "{text}");
        assert!(text.contains(r#"value="other""#), "{text}");
        assert_eq!(text.contains(r#"value="alice &amp; co""#), is_shown, "{text}");
        assert!(!text.contains(&*wrong.text) && !text.contains(pasted), "{text}");
        assert!(!text.contains(MARKED), "any of them can be wrong: {text}");
    }
    let given = [("variable.shop", "other"), ("field.account", "alice"), ("field.key", pasted)];
    let text = browser.submit(&form, &given).await.is(422).text();
    assert!(text.contains(&format!(r#"name="field.key" required {MARKED}"#)), "{text}");
    assert_eq!(text.matches(MARKED).count(), 1, "{text}");
    let received = keys.lab.origin.received();
    assert!(received.len() >= 3, "each attempt is tested");
    for request in &received {
        assert_eq!(request.head.one("x-api-key"), Some(&*wrong.text));
        assert_eq!(request.head.one("host"), Some("other.acme.test"));
    }
    let given = [("variable.shop", "other"), ("field.account", "alice"), ("field.key", GOOD)];
    assert_eq!(browser.submit(&form, &given).await.head.status(), 303);
    keys.lab.finish().await;
}

/// The mark in the form of a link's page.
async fn marked(browser: &mut Browser, link: &Link) -> String {
    let page = browser.get(&link.url).await.is(200).text();
    let (_, rest) = page.split_once(r#"name="page" value=""#).expect("a mark");
    rest.split('"').next().expect("its end").to_owned()
}

/// The browser discards the answer to the first click, and its cookie.
#[tokio::test]
async fn a_second_click_opens_a_link_in_the_same_browser_until_it_has_taken_a_step() {
    let mut keys = Keys::start().await;
    let link = keys.link(json!({})).await;
    let (mut owner, mut thief) = (keys.browser(), keys.browser());
    let mark = marked(&mut owner, &link).await;
    let others = marked(&mut thief, &link).await;
    assert_ne!(mark, others, "each page has its own");
    assert_eq!(owner.submit(&link.url, &[("page", &mark)]).await.head.status(), 303);
    let lost = std::mem::take(&mut owner.cookies);
    for page in [&others[..], ""] {
        thief.submit(&link.url, &[("page", page)]).await.is(403);
    }
    assert_eq!(thief.post(&link.url).await.head.status(), 403);
    assert_eq!(owner.submit(&link.url, &[("page", &mark)]).await.head.status(), 303);
    assert_ne!(owner.cookies, lost);
    assert_eq!(owner.get(SESSION).await.head.status(), 200);
    thief.cookies = lost;
    assert_eq!(thief.get(SESSION).await.head.status(), 403, "the first cookie is worth nothing");
    let wrong = Canary::new("ak_wrong");
    keys.lab.guard(wrong.clone());
    assert_eq!(gives(&mut owner, &wrong.text).await.head.status(), 422);
    thief.cookies = vec![];
    thief.submit(&link.url, &[("page", &mark)]).await.is(403);
    assert_eq!(gives_again(&mut owner).await.head.status(), 303);
    keys.lab.finish().await;
}

/// Each tries to finish what the other has begun.
#[tokio::test]
async fn the_cookie_of_one_link_finishes_no_consent_of_another() {
    let mut world = consents().await;
    user(&world.lab, "other").await;
    let mine = link(&mut world.lab, json!({"providers": ["svc"]})).await;
    let theirs = link(&mut world.lab, json!({"providers": ["svc"], "user": "other"})).await;
    let (mut me, mut them) = (world.browser(), world.browser());
    opens(&mut me, &mine).await;
    opens(&mut them, &theirs).await;
    let (my_url, their_url) = (begins(&mut me).await, begins(&mut them).await);
    let back = |url: &str| world.server.issuer().consent(url);
    let mut stranger = world.browser();
    for (browser, url) in [(&mut them, &my_url), (&mut stranger, &their_url)] {
        browser.get(&back(url)).await.is(403).says("did not begin this consent");
    }
    assert!(world.server.calls().is_empty(), "no code was exchanged");
    for link in [&mine, &theirs] {
        let state = state(&world.lab, link).await;
        assert_eq!((&state["state"], &state["connected"]), (&json!("failed"), &Value::Null));
    }
    let all = api(&world.lab, "GET", "/connections?provider=svc", Value::Null, 200).await;
    assert_eq!(all["items"], json!([]), "no draft is left");
    world.finish().await;
}

#[tokio::test]
async fn a_link_that_has_ended_shows_and_does_nothing() {
    let mut keys = Keys::start().await;
    let (expired, revoked) = (keys.link(json!({})).await, keys.link(json!({})).await);
    let (opened, unused) = (keys.link(json!({})).await, keys.link(json!({})).await);
    let mut late = keys.opened(&opened).await;
    let form = action(&late.get(SESSION).await);
    let directory = keys.lab.gateway.running().services().directory.clone();
    for link in [&expired, &opened] {
        let id = keyward_base::id::ConnectSessionId::parse(&link.id).expect("an id");
        let org = keyward_base::id::OrgId::default_org();
        let end = |it: &mut keyward_model::Record<keyward_model::ConnectSession>| {
            it.facts.expires = jiff::Timestamp::UNIX_EPOCH;
        };
        directory.change(&org, &id, end).await.expect("it is there");
    }
    api(&keys.lab, "DELETE", &format!("/connect-sessions/{}", revoked.id), Value::Null, 204).await;
    let unknown = unused.url.replace("kwn_", "kwn_x");
    for url in [&expired.url, &revoked.url, &unknown] {
        for method in ["GET", "POST"] {
            let refused = keys.browser().ask(method, url).await;
            assert_eq!(refused.head.status(), 410, "{method} {url}: {}", refused.text());
            assert!(!refused.text().contains(USER) && refused.head.one("set-cookie").is_none());
        }
    }
    late.submit(&form, &[("field.api_key", GOOD)]).await.is(410);
    let complete = format!("/connect-sessions/{}/complete", opened.id);
    api(&keys.lab, "POST", &complete, json!({"fields": {"api_key": GOOD}}), 422).await;
    assert_eq!(keys.state(&expired).await["state"], "expired");
    assert_eq!(keys.lab.origin.received().len(), 0, "nothing was tried at the provider");
    assert!(keys.connections().await.is_empty());
    keys.lab.finish().await;
}

/// A connection `own` of [`USER`] with the key [`GOOD`], and another end user.
async fn owned(lab: &Lab) {
    user(lab, "bob").await;
    let fields = json!({"api_key": GOOD});
    let own = json!({"provider": "acme", "name": "own", "owner": USER, "fields": fields});
    api(lab, "POST", "/connections", own, 201).await;
}

/// Whether `own` still has that key, and no other one beside it.
async fn has_its_key(lab: &Lab) -> bool {
    let fields = json!({"fields": {"api_key": GOOD}});
    let same = api(lab, "POST", "/connections/own/compare", fields, 200).await["same"].clone();
    let own = api(lab, "GET", "/connections/own", Value::Null, 200).await;
    same == json!(true) && own["rotation"].is_null()
}

#[tokio::test]
async fn links_of_a_connection_stop_working_when_its_owner_changes() {
    let mut keys = Keys::start().await;
    owned(&keys.lab).await;
    let of_own = json!({"user": null, "connection": "own"});
    let (unopened, opened) = (keys.link(of_own.clone()).await, keys.link(of_own).await);
    let mut browser = keys.opened(&opened).await;
    let form = action(&browser.get(SESSION).await);
    api(&keys.lab, "PATCH", "/connections/own", json!({"owner": "bob"}), 200).await;
    for refused in [
        keys.browser().get(&unopened.url).await,
        keys.browser().post(&unopened.url).await,
        browser.get(SESSION).await,
        browser.submit(&form, &[("field.api_key", BETTER)]).await,
    ] {
        assert_eq!(refused.head.status(), 410, "{}", refused.text());
    }
    for link in [&unopened, &opened] {
        let complete = format!("/connect-sessions/{}/complete", link.id);
        api(&keys.lab, "POST", &complete, json!({"fields": {"api_key": BETTER}}), 422).await;
    }
    assert!(has_its_key(&keys.lab).await);
    assert_eq!(keys.lab.origin.received().len(), 0, "nothing was tried at the provider");
    keys.lab.finish().await;
}

/// The provider answers the test of the new key after the connection has got another owner.
#[tokio::test]
async fn a_key_whose_test_ends_after_a_hand_over_is_not_put_in_force() {
    let (asked, answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let shared = (asked.clone(), answers.clone());
    let origin = Origin::sharing(shared, |mut stream, (asked, answers)| async move {
        while stream.request().await.is_some() {
            asked.notify_one();
            answers.notified().await;
            stream.send(ok(r#"{"login": "alice@acme.test"}"#)).await;
        }
    });
    let test = format!("{{ method: GET, url: \"https://{HOST}/me\" }}");
    let plan = Plan::api_key().test(&test).top(CONNECT);
    let mut lab = plan.start(origin).await;
    lab.guard(Canary::of(GOOD.to_owned()));
    lab.guard(Canary::of(BETTER.to_owned()));
    user(&lab, USER).await;
    owned(&lab).await;
    let link = link(&mut lab, json!({"user": null, "connection": "own"})).await;
    let complete = format!("/connect-sessions/{}/complete", link.id);
    let fields = json!({"fields": {"api_key": BETTER}}).to_string();
    let (refused, ()) = tokio::join!(lab.gateway.api("POST", &complete, &fields), async {
        asked.notified().await;
        api(&lab, "PATCH", "/connections/own", json!({"owner": "bob"}), 200).await;
        answers.notify_one();
    });
    assert_eq!(refused.head.status(), 422, "{}", refused.text());
    assert!(refused.text().contains("has another owner by now"), "{}", refused.text());
    assert!(has_its_key(&lab).await);
    lab.finish().await;
}

#[tokio::test]
async fn another_site_opens_no_link_and_sends_no_form() {
    let mut keys = Keys::start().await;
    let link = keys.link(json!({})).await;
    let mut browser = keys.browser();
    let foreign = |browser: &mut Browser, by_origin: bool| match by_origin {
        true => browser.origin = Some("https://evil.test".to_owned()),
        false => (browser.site, browser.origin) = ("cross-site", None),
    };
    for by_origin in [true, false] {
        foreign(&mut browser, by_origin);
        assert_eq!(browser.post(&link.url).await.head.status(), 403);
    }
    assert_eq!(keys.state(&link).await["state"], "open");
    let mut browser = keys.opened(&link).await;
    let form = action(&browser.get(SESSION).await);
    for by_origin in [true, false] {
        foreign(&mut browser, by_origin);
        browser.submit(&form, &[("field.api_key", GOOD)]).await.is(403);
    }
    assert_eq!(keys.lab.origin.received().len(), 0);
    assert_eq!(keys.state(&link).await["state"], "opened");
    keys.lab.finish().await;
}

#[tokio::test]
async fn a_key_that_the_provider_refuses_is_not_kept_and_the_form_says_why() {
    let mut hooks = Hooks::start().await;
    let mut keys = Keys::with(|plan| hooks.reached(plan)).await;
    let key = hooks.subscribed(&mut keys.lab, &["connect_session.failed"]).await;
    let link = keys.link(json!({"label": "onboarding"})).await;
    let mut browser = keys.opened(&link).await;
    let wrong = Canary::new("ak_wrong");
    keys.lab.guard(wrong.clone());
    for (fields, says) in [
        (vec![("field.api_key", "")], "is empty"),
        (vec![("field.api_key", "ä")], "non-ASCII"),
        (vec![("field.api_key", "a"), ("field.api_key", "b")], "twice"),
        (vec![("field.other", "a")], "does not have"),
        (vec![], "api_key"),
    ] {
        let form = action(&browser.get(SESSION).await);
        let page = browser.submit(&form, &fields).await;
        assert_eq!(page.head.status(), 422, "{fields:?}: {}", page.text());
        assert!(page.text().contains(says), "{fields:?}: {}", page.text());
    }
    assert_eq!(keys.state(&link).await["state"], "opened", "a mistake in the form is no attempt");
    let page = gives(&mut browser, &wrong.text).await.is(422).says("rejected this key");
    wrong.assert_absent("the page", page.text().as_bytes());
    assert!(page.text().contains(MARKED) && page.text().contains(r#"id="alert""#));
    assert!(keys.connections().await.is_empty());
    let state = keys.state(&link).await;
    assert_eq!(state["state"], "failed");
    assert!(state["reason"].as_str().expect("why").contains("rejected this key"), "{state}");
    let event = hooks.event(&key).await;
    assert_eq!((&event.data["user"], &event.data["reason"]), (&json!(USER), &state["reason"]));
    assert_eq!(event.data["connect_session"], json!({"id": link.id, "name": "onboarding"}));
    wrong.assert_absent("the event", &event.message.body);
    // By the API of a platform with pages of its own.
    let complete = format!("/connect-sessions/{}/complete", link.id);
    let fields = json!({"fields": {"api_key": wrong.text}});
    let refused = api(&keys.lab, "POST", &complete, fields, 422).await;
    assert_eq!(refused["error"]["code"], "test_failed");
    assert!(keys.connections().await.is_empty());
    assert_eq!(gives_again(&mut browser).await.head.status(), 303, "the link still works");
    assert_eq!(keys.state(&link).await["state"], "completed");
    keys.lab.finish().await;
}

#[tokio::test]
async fn a_key_that_was_never_connected_is_removed_without_an_event() {
    let mut hooks = Hooks::start().await;
    let mut keys = Keys::with(|plan| hooks.reached(plan)).await;
    let events = ["connection.connected", "connection.removed"];
    let key = hooks.subscribed(&mut keys.lab, &events).await;
    let link = keys.link(json!({})).await;
    let mut browser = keys.opened(&link).await;
    gives(&mut browser, "ak_wrong").await.is(422).says("rejected this key");
    assert!(keys.connections().await.is_empty());
    gives_again(&mut browser).await.is(303);
    let made = keys.connections().await;
    let first = hooks.event(&key).await;
    assert_eq!((&*first.kind, &first.data["connection"]["id"]), (events[0], &made[0]["id"]));
    let at = format!("/connections/{}", made[0]["id"].as_str().expect("an id"));
    keys.lab.gateway.api("DELETE", &at, "").await.is(200);
    let second = hooks.event(&key).await;
    assert_eq!((&*second.kind, &second.data["connection"]["id"]), (events[1], &made[0]["id"]));
    keys.lab.finish().await;
}

/// After a failure, the page says so first.
async fn gives_again(browser: &mut Browser) -> Message {
    let failed = browser.get(SESSION).await;
    assert!(failed.text().contains("Not connected"), "{}", failed.text());
    let page = browser.get(&format!("{SESSION}?step=choose")).await;
    browser.submit(&action(&page), &[("field.api_key", GOOD)]).await
}

#[tokio::test]
async fn a_link_is_completed_once() {
    let mut keys = Keys::start().await;
    let link = keys.link(json!({})).await;
    let mut browser = keys.opened(&link).await;
    let form = action(&browser.get(SESSION).await);
    let sendings = (0..6).map(|_| {
        let (mut browser, form) = (browser.clone(), form.clone());
        tokio::spawn(async move { browser.submit(&form, &[("field.api_key", GOOD)]).await })
    });
    for sending in sendings.collect::<Vec<_>>() {
        sending.await.expect("no panic");
    }
    let made = keys.connections().await;
    assert_eq!(made.len(), 1, "{made:#?}");
    assert_eq!(keys.state(&link).await["connected"]["id"], made[0]["id"]);
    let again = browser.submit(&form, &[("field.api_key", GOOD)]).await;
    assert!(again.text().contains("Connected"), "{}", again.text());
    let complete = format!("/connect-sessions/{}/complete", link.id);
    api(&keys.lab, "POST", &complete, json!({"fields": {"api_key": GOOD}}), 422).await;
    assert_eq!(keys.connections().await.len(), 1);
    keys.lab.finish().await;
}

#[tokio::test]
async fn an_invalid_connect_session_is_refused_with_the_name_of_its_field() {
    let mut keys = Keys::with(|plan| plan.limit("connect_sessions_max: 2")).await;
    let lab = &keys.lab;
    api(lab, "POST", "/orgs", json!({"name": "other"}), 201).await;
    let stranger = json!({"name": "stranger", "role": "end_user"}).to_string();
    let stranger =
        lab.gateway.api_with("Keyward-Org: other\r\n", ("POST", "/users"), &stranger).await.json();
    let owned = json!({"provider": "acme", "name": "shared", "fields": {"api_key": "k"}});
    api(lab, "POST", "/connections", owned, 201).await;
    for user in [&stranger["id"], &json!("stranger")] {
        let spec = json!({"user": user, "providers": ["acme"]});
        let refused = api(lab, "POST", "/connect-sessions", spec, 404).await;
        assert_eq!(refused["error"]["field"], "user", "{refused}");
    }
    for (spec, field) in [
        (json!({"providers": ["acme"]}), "user"),
        (json!({"user": USER, "providers": []}), "providers"),
        (json!({"user": USER, "connection": "shared"}), "connection"),
        (json!({"user": USER, "providers": ["spotify"]}), "providers"),
        (json!({"user": USER, "return_url": "https://evil.test/app.acme.test"}), "return_url"),
        (json!({"user": USER, "return_url": "https://app.acme.test.evil.test/"}), "return_url"),
        (json!({"user": USER, "return_url": "https://app.acme.test@evil.test/"}), "return_url"),
        (json!({"user": USER, "return_url": "http://app.acme.test/"}), "return_url"),
        (json!({"user": USER, "return_url": "https://app.acme.test:8443/"}), "return_url"),
        (json!({"user": USER, "ttl": "1h"}), "ttl"),
    ] {
        let refused = lab.gateway.api("POST", "/connect-sessions", &spec.to_string()).await;
        assert_eq!(refused.head.status(), 422, "{spec}: {}", refused.text());
        let error = refused.json()["error"].clone();
        let named = error["field"].as_str().unwrap_or_default().to_owned();
        assert!(named == field || error["message"].to_string().contains(field), "{spec}: {error}");
    }
    let (first, _) = (keys.link(json!({})).await, keys.link(json!({})).await);
    let third = json!({"user": USER, "providers": ["acme"]});
    let refused = api(&keys.lab, "POST", "/connect-sessions", third, 422).await;
    let hint = refused["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("limits.connect_sessions_max"), "{refused}");
    let mut browser = keys.opened(&first).await;
    assert_eq!(gives(&mut browser, GOOD).await.head.status(), 303);
    keys.link(json!({})).await;
    keys.lab.finish().await;
}

#[tokio::test]
async fn a_member_makes_links_for_themselves_alone() {
    let mut keys = Keys::start().await;
    let lab = &keys.lab;
    api(lab, "POST", "/users", json!({"name": "ann", "role": "member"}), 201).await;
    let token = api(lab, "POST", "/tokens", json!({"user": "ann"}), 201).await;
    let token = Canary::of(token["token"].as_str().expect("shown once").to_owned());
    keys.lab.guard(token.clone());
    let theirs = keys.link(json!({})).await;
    let ask = async |method: &str, path: &str, body: Value| {
        let line = format!("Authorization: Bearer {}\r\n", token.text);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        keys.lab.gateway.api_with(&line, (method, path), &body).await
    };
    for user in [USER, "unknown"] {
        let spec = json!({"user": user, "providers": ["acme"]});
        let refused = ask("POST", "/connect-sessions", spec).await;
        assert_eq!(refused.head.status(), 404, "{user}: {}", refused.text());
    }
    let path = format!("/connect-sessions/{}", theirs.id);
    for (method, path) in
        [("GET", path.clone()), ("DELETE", path.clone()), ("GET", format!("{path}/providers"))]
    {
        let refused = ask(method, &path, Value::Null).await;
        assert_eq!(refused.head.status(), 404, "{method} {path}: {}", refused.text());
    }
    let complete = json!({"fields": {"api_key": GOOD}});
    ask("POST", &format!("{path}/complete"), complete).await.is(404);
    let own = ask("POST", "/connect-sessions", json!({"providers": ["acme"]})).await;
    assert_eq!((own.head.status(), &own.json()["user_name"]), (201, &json!("ann")));
    let listed = ask("GET", "/connect-sessions", Value::Null).await.json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    keys.lab.finish().await;
}
