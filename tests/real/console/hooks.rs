//! A hook in the browser: added by the form, its URL is read, and an event and a refusal are seen.

use aws_lc_rs::hmac;
use serde_json::json;

use super::*;
use test_support::canary::Canary;
use test_support::wire::Wire;

const SECRET: &str = "the-secret-of-the-service-canary";

/// D12: an operator makes a hook without reading documentation, and sees what a service sends to it.
#[tokio::test]
async fn e8_a_hook_is_added_and_shows_what_a_service_sends() {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    lab.guard(Canary::of(SECRET.to_owned()));
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/settings").await;
    tab.shows("Hooks", "No hook yet").await;
    tab.click("Add hook").await;
    tab.fill("Name", "ci").await;
    tab.choose("Signed as by", "github").await;
    tab.shows("Add hook", "is required").await;
    tab.fill("Secret of the service (optional)", SECRET).await;
    tab.press(&["Enter"]).await;
    tab.is_at("/incoming/ci").await;
    tab.sees("/hooks/ci").await;
    tab.sees("keyward hook listen ci").await;
    tab.is_accessible().await;

    assert_eq!(post(&lab, "{\"action\":\"opened\"}", SECRET).await, 200);
    assert_eq!(post(&lab, "{\"action\":\"forged\"}", "another secret").await, 401);
    tab.open(&at(&lab, "/incoming/ci")).await;
    tab.sees("The last refused request").await;
    tab.sees("the signature does not match").await;
    let events = lab.gateway.api("GET", "/hooks/ci/events", "").await.json();
    let id = events["items"][0]["id"].as_str().expect("one event").to_owned();
    tab.sees(&id).await;
    let shown = tab.value("document.querySelector('#events').textContent").await.to_string();
    assert!(shown.contains("opened") && !shown.contains("forged"), "{shown}");
    tab.screenshot("hook").await;
    tab.open(&at(&lab, "/incoming")).await;
    tab.sees("github").await;
    tab.screenshot("hooks").await;

    let change = json!({"to": "https://agent.acme.test/events"}).to_string();
    lab.gateway.api("PATCH", "/hooks/ci", &change).await.is(200);
    tab.open(&at(&lab, "/incoming/ci")).await;
    tab.shows("Pause deliveries", "Paused. Events wait.").await;
    tab.click("Remove hook").await;
    tab.fill("Type ci to confirm", "ci").await;
    tab.press(&["Enter"]).await;
    tab.is_at("/incoming").await;
    assert_eq!(post(&lab, "{}", SECRET).await, 404);
    lab.finish().await;
}

#[tokio::test]
async fn an_event_that_a_person_reads_stays_open_while_the_page_is_renewed() {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    lab.guard(Canary::of(SECRET.to_owned()));
    let new = json!({ "name": "ci", "scheme": "github", "secret": SECRET }).to_string();
    lab.gateway.api("POST", "/hooks", &new).await.is(201);
    assert_eq!(post(&lab, "{\"action\":\"opened\"}", SECRET).await, 200);
    let events = lab.gateway.api("GET", "/hooks/ci/events", "").await.json();
    let id = events["items"][0]["id"].as_str().expect("one event").to_owned();
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/incoming/ci").await;
    let body = "{\"action\":\"opened\"}";
    tab.does_not_see(body).await;
    tab.shows(&id, body).await;
    is_renewed(&mut tab).await;
    assert_eq!(tab.value("document.querySelector('#events details').open").await, true);
    tab.sees(body).await;
    lab.finish().await;
}

/// What a service posts, and the status of its answer.
async fn post(lab: &Lab, body: &str, secret: &str) -> u16 {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let signature: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (at, length) = (lab.gateway.admin, body.len());
    let port = at.port();
    let mut wire = Wire::to(at).await;
    wire.send(format!(
        "POST /hooks/ci HTTP/1.1\r\nHost: localhost:{port}\r\nX-Hub-Signature-256: sha256={signature}\r\n\
         Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire.answer("POST").await.head.status()
}
