//! What needs a person: the overview lists it with its remedy, and no page offers what would be refused.

use serde_json::json;

use super::*;

async fn posted(lab: &Lab, path: &str, body: serde_json::Value) {
    lab.gateway.api_json("POST", path, &body).await.done(path);
}

/// A connection that was added by request, and an agent that uses it.
async fn used() -> Lab {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    lab.add_agent("laptop").await;
    let new = json!({ "provider": "acme", "name": "mine", "fields": { "api_key": "a-key-of-a-test-0123" } });
    posted(&lab, "/connections", new).await;
    posted(&lab, "/agents/laptop/bindings", json!({ "connection": "mine" })).await;
    lab
}

#[tokio::test]
async fn the_overview_lists_a_paused_connection_and_resumes_it() {
    let lab = used().await;
    let agent = Agent { name: "laptop", token: lab.token("laptop") };
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    tab.sees("Nothing. All connections work.").await;
    posted(&lab, "/connections/mine/pause", json!({})).await;
    let refused = agent.curl(&lab, &[]).await;
    assert!(refused.contains("connection_paused"), "{refused}");
    // The page renews itself.
    tab.sees("requests that need it are refused").await;
    tab.does_not_see("All connections work").await;
    tab.is_accessible().await;
    tab.screenshot("paused").await;
    tab.tab_to("Resume connection").await;
    tab.press(&["Enter"]).await;
    tab.sees("Resumed.").await;
    tab.sees("Nothing. All connections work.").await;
    agent.works(&lab).await;
    lab.finish().await;
}

/// An alarm may pause it as well.
#[tokio::test]
async fn an_open_page_of_an_agent_shows_that_it_was_paused() {
    let lab = used().await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/agents/laptop").await;
    tab.sees("Pause agent").await;
    posted(&lab, "/agents/laptop/pause", json!({})).await;
    tab.sees("A person paused this agent").await;
    tab.sees("Resume agent").await;
    tab.does_not_see("Pause agent").await;
    lab.finish().await;
}

/// Only its owner or an admin resumes it.
#[tokio::test]
async fn a_user_who_may_not_resume_a_connection_sees_no_button_for_it() {
    let lab = used().await;
    posted(&lab, "/users", json!({ "name": "bob", "role": "member" })).await;
    posted(&lab, "/connections/mine/pause", json!({})).await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = chromium.tab("bob").await;
    sign_in(&mut tab, &link(&lab, Some("bob")).await).await;
    for page in ["/", "/connections", "/connections/mine"] {
        tab.open(&at(&lab, page)).await;
        tab.sees("requests that need it are refused").await;
        tab.does_not_see("Resume connection").await;
    }
    lab.finish().await;
}

/// A pause of what the file declares would be refused, and a second one changes nothing.
#[tokio::test]
async fn connection_pages_have_no_button_for_a_change_that_the_api_refuses() {
    let lab = used().await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/connections/acme").await;
    tab.sees("managed by the configuration file").await;
    tab.sees("Pause connection").await;
    for dead in ["Rotate key", "Remove connection"] {
        tab.does_not_see(dead).await;
    }
    posted(&lab, "/connections/mine/pause", json!({})).await;
    tab.open(&at(&lab, "/connections/mine")).await;
    tab.sees("Resume connection").await;
    tab.sees("paused by operator").await;
    tab.does_not_see("Pause connection").await;
    lab.finish().await;
}

#[tokio::test]
async fn the_open_overview_shows_a_newly_blocked_host() {
    let lab = used().await;
    let agent = Agent { name: "laptop", token: lab.token("laptop") };
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    // A change that is refused is no request.
    lab.gateway.api("POST", "/agents", r#"{"name":"laptop"}"#).await.is(409);
    tab.open(&at(&lab, "/")).await;
    tab.sees("No request was blocked.").await;
    let refused = agent.curl(&lab, &["https://elsewhere.example/"]).await;
    assert!(refused.contains("response 403"), "{refused}");
    tab.sees("elsewhere.example").await;
    tab.does_not_see("No request was blocked.").await;
    lab.finish().await;
}

/// The stream ends with the login. The page says so, and goes on with the next login: without a request twice, and
/// with what came between.
#[tokio::test]
async fn live_traffic_goes_on_after_a_sign_in_and_shows_each_request_once() {
    let lab = used().await;
    let agent = Agent { name: "laptop", token: lab.token("laptop") };
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/traffic").await;
    tab.sees("Live").await;
    agent.works(&lab).await;
    tab.sees(&format!("{HOST}/thing")).await;
    let logins = lab.gateway.api("GET", "/logins", "").await.json();
    let login = logins["items"][0]["id"].as_str().expect("an id").to_owned();
    lab.gateway.api("DELETE", &format!("/logins/{login}"), "").await.is(204);
    tab.sees("Signed out").await;
    let refused = agent.curl(&lab, &["https://elsewhere.example/"]).await;
    assert!(refused.contains("response 403"), "{refused}");
    let mut other = tab.beside("ann, again").await;
    sign_in(&mut other, &link(&lab, None).await).await;
    let mut tab = chromium.again("ann");
    tab.comes_to_front().await;
    tab.sees("elsewhere.example").await;
    tab.sees("Live").await;
    let all = "[...document.querySelectorAll('[data-traffic] tr')].map((row) => row.textContent)";
    let rows = until_some("three requests", async || {
        let rows = tab.value(all).await;
        rows.as_array().is_some_and(|rows| rows.len() >= 3).then_some(rows)
    })
    .await;
    let times = |text: &str| {
        let all = rows.as_array().expect("a list").iter();
        all.filter(|row| row.as_str().is_some_and(|row| row.contains(text))).count()
    };
    // One of the requests of `curl` is to `/thing` as well.
    assert_eq!((times("elsewhere.example"), times("/thing")), (1, 2), "{rows}");
    lab.finish().await;
}
