//! What needs a person: the overview lists it with its remedy, and no page offers what would be refused.

use serde_json::json;

use super::*;

async fn posted(lab: &Lab, path: &str, body: serde_json::Value) {
    let answer = lab.gateway.api("POST", path, &body.to_string()).await;
    assert!((200..300).contains(&answer.head.status()), "{path}: {}", answer.text());
}

/// A connection that was added by request, and an agent that uses it.
async fn used() -> Lab {
    let mut lab = Plan::api_key().start(Origin::saying("fine").await).await;
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
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(&lab, None).await).await;
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

/// Only its owner or an admin resumes it.
#[tokio::test]
async fn who_may_not_resume_a_connection_gets_no_button() {
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
async fn no_page_offers_what_the_api_refuses() {
    let lab = used().await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(&lab, None).await).await;
    tab.open(&at(&lab, "/connections/acme")).await;
    tab.sees("managed by the configuration file").await;
    for dead in ["Pause connection", "Rotate key", "Remove connection"] {
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
async fn the_overview_shows_a_host_that_is_blocked_while_it_is_open() {
    let lab = used().await;
    let agent = Agent { name: "laptop", token: lab.token("laptop") };
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(&lab, None).await).await;
    // A change that is refused is no request.
    let taken = lab.gateway.api("POST", "/agents", r#"{"name":"laptop"}"#).await;
    assert_eq!(taken.head.status(), 409, "{}", taken.text());
    tab.open(&at(&lab, "/")).await;
    tab.sees("No request was blocked.").await;
    let refused = agent.curl(&lab, &["https://elsewhere.example/"]).await;
    assert!(refused.contains("response 403"), "{refused}");
    tab.sees("elsewhere.example").await;
    tab.does_not_see("No request was blocked.").await;
    lab.finish().await;
}
