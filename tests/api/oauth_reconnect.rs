//! A connection is connected again: the old grant works until the new one is stored, and another account
//! takes its place only when a person says so.

use serde_json::json;

use test_support::HOST;
use test_support::oauth::{AGENT, World};

/// oauth 2.reconnect
#[tokio::test]
async fn an_abandoned_reconnect_changes_nothing() {
    let world = World::with_connection().await;
    // But for when it was used last: requests go through it below.
    let state = async || {
        let mut connection = world.connection().await;
        connection.as_object_mut().expect("an object").remove("last_used");
        connection
    };
    let before = state().await;
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    assert_eq!(again["state"], "active");
    world.browser().begin(again["authorize_url"].as_str().expect("a page")).await;
    assert_eq!(world.request().await.text(), "fine");
    let declined = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let mut browser = world.browser();
    let url = browser.begin(declined["authorize_url"].as_str().expect("a page")).await;
    assert_eq!(browser.get(&world.server.issuer().decline(&url)).await.head.status(), 403);
    assert_eq!(state().await, before, "a failed reconnect is no failure of the connection");
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// oauth 2.reconnect
#[tokio::test]
async fn a_reconnect_keeps_id_bindings_and_placeholder_and_replaces_the_tokens() {
    let world = World::with_connection().await;
    let before = world.connection().await;
    let agent = world.api("GET", &format!("/agents/{AGENT}/bindings"), &json!(null)).await;
    world.server.issuer().end_all();
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    assert_eq!(world.consent(&mut world.browser(), &again).await.head.status(), 303);
    let after = world.connection().await;
    assert_eq!((&after["id"], &after["state"]), (&before["id"], &json!("active")));
    assert_eq!(world.api("GET", &format!("/agents/{AGENT}/bindings"), &json!(null)).await, agent);
    assert_eq!(world.request().await.text(), "fine", "with the new token at once");
    world.finish().await;
}

/// oauth 2.account
#[tokio::test]
async fn another_account_waits_for_a_person_and_may_be_declined() {
    let world = World::with_connection().await;
    world.server.issuer().change(|rules| rules.account = "mallory@acme.test".to_owned());
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let mut browser = world.browser();
    world.consent(&mut browser, &again).await;
    let view = world.flow(&again).await;
    assert_eq!(view["state"], "confirm");
    assert_eq!(
        (&view["before"], &view["account"]),
        (&json!("alice@acme.test"), &json!("mallory@acme.test"))
    );
    assert_eq!(world.connection().await["account"], "alice@acme.test");
    assert_eq!(world.request().await.text(), "fine", "with the old token");
    let done = format!("/oauth/done/{}", again["flow"].as_str().expect("a flow"));
    let page = browser.get(&done).await.text();
    assert!(page.contains("alice@acme.test") && page.contains("mallory@acme.test"), "{page}");
    let none = world.lab.gateway.api("GET", "/flows/flw_x", "").await.is(404).text();
    assert!(none.contains("`flw_x`") && none.contains("connection consents`"), "{none}");
    // Neither a stranger nor another site decides.
    assert_eq!(world.browser().post(&format!("{done}?accept=yes")).await.head.status(), 400);
    browser.site = "cross-site";
    assert_eq!(browser.post(&format!("{done}?accept=yes")).await.head.status(), 403);
    for origin in ["null", "http://evil.test", "http://localhost"] {
        browser.origin = Some(origin.to_owned());
        let answer = browser.post(&format!("{done}?accept=yes")).await;
        assert_eq!(answer.head.status(), 403, "{origin}");
    }
    let path = format!("/flows/{}/confirm", again["flow"].as_str().expect("a flow"));
    let declined = world.api("POST", &path, &json!({ "accept": false })).await;
    assert_eq!(declined["state"], "failed");
    assert_eq!(world.connection().await["account"], "alice@acme.test");
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// oauth 2.account
#[tokio::test]
async fn a_confirmed_other_account_replaces_the_old_one() {
    for in_browser in [true, false] {
        let world = World::with_connection().await;
        let old = world.server.only_call().issued.expect("tokens").access;
        world.server.issuer().change(|rules| rules.account = "bob@acme.test".to_owned());
        let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
        let mut browser = world.browser();
        world.consent(&mut browser, &again).await;
        let flow = again["flow"].as_str().expect("a flow");
        match in_browser {
            true => {
                browser.post(&format!("/oauth/done/{flow}?accept=yes")).await.is(303);
            }
            false => {
                let path = format!("/flows/{flow}/confirm");
                let decided = world.api("POST", &path, &json!({ "accept": true })).await;
                assert_eq!(decided["state"], "connected");
            }
        }
        assert_eq!(world.connection().await["account"], "bob@acme.test");
        assert_eq!(world.request().await.text(), "fine");
        let last = world.lab.origin.received().pop().expect("a request");
        let sent = last.head.one("authorization").expect("injected").to_owned();
        assert!(!sent.contains(&old) && last.head.one("host") == Some(HOST));
        world.finish().await;
    }
}

/// What a refresh finds that was sent before and is answered after.
#[derive(Clone, Copy, Debug)]
enum Late {
    Tokens,
    InvalidGrant,
}

/// oauth 8.5, 8.7: neither its tokens nor its verdict are about the grant that is there by then.
#[tokio::test]
async fn a_late_refresh_answer_does_not_change_the_new_grant() {
    for late in [Late::Tokens, Late::InvalidGrant] {
        let mut world = World::start().await;
        world.connected().await;
        match late {
            Late::Tokens => world.server.issuer().expire_all(),
            Late::InvalidGrant => world.server.issuer().end_all(),
        }
        let gate = world.server.hold_next();
        let mut agent = world.lab.tunnel_as(AGENT, HOST).await;
        agent.send(test_support::request_text("GET /early", HOST)).await;
        world.server.asked(2).await;
        let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
        assert_eq!(world.consent(&mut world.browser(), &again).await.head.status(), 303);
        let new = world.server.calls()[2].issued.clone().expect("tokens").access;
        gate.add_permits(1);
        test_support::tokens::landed(&world.lab).await;
        for restarted in [false, true] {
            if restarted {
                world.lab.gateway.restart().await;
            }
            assert_eq!(world.request().await.text(), "fine", "{late:?}");
            let sent = world.lab.origin.received().pop().expect("a request");
            let field = sent.head.one("authorization").expect("injected").to_owned();
            assert_eq!(field, format!("Bearer {new}"), "{late:?}");
            assert_eq!(world.connection().await["state"], "active", "{late:?}");
        }
        assert_eq!(world.server.calls().len(), 3, "{late:?}");
        world.finish().await;
    }
}

/// oauth 8.5: what was taken away does not come back.
#[tokio::test]
async fn a_late_refresh_answer_does_not_restore_a_removed_connection() {
    let mut world = World::start().await;
    world.connected().await;
    world.server.issuer().expire_all();
    let gate = world.server.hold_next();
    let mut agent = world.lab.tunnel_as(AGENT, HOST).await;
    agent.send(test_support::request_text("GET /early", HOST)).await;
    world.server.asked(2).await;
    world.api("DELETE", "/connections/work", &json!(null)).await;
    gate.add_permits(1);
    test_support::tokens::landed(&world.lab).await;
    for restarted in [false, true] {
        if restarted {
            world.lab.gateway.restart().await;
        }
        assert_eq!(world.request().await.head.status(), 424);
        world.lab.gateway.api("GET", "/connections/work", "").await.is(404);
    }
    let newer = world.server.calls()[1].issued.clone().expect("tokens").access;
    test_support::canary::Canary::of(newer.clone())
        .assert_absent("what the origin received", &world.lab.origin.bytes());
    assert_eq!(world.server.calls().len(), 2);
    world.finish().await;
}
