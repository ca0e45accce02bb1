//! The console in a real Chromium: people connect accounts, bind agents, watch traffic and repair connections.

mod chromium;

use std::path::Path;

use serde_json::{Value, json};

use self::chromium::{Chromium, LOOKS, Tab};
use crate::consent::{trust, world};
use crate::issuer::{Program, World};
use crate::stage::{program, run, said};
use crate::support::authorization::AUTH_HOST;
use crate::support::*;

/// A browser that reaches and trusts the authorization server.
async fn browser(world: &World) -> Chromium {
    let folder = world.folder();
    trust(&folder).await;
    let map = format!("--host-resolver-rules=MAP {AUTH_HOST} {}", world.issuer.addr);
    Chromium::start(&folder, &[map]).await
}

/// A link that signs `user` in once.
async fn link(lab: &Lab, user: Option<&str>) -> String {
    let ask = user.map_or_else(|| json!({}), |user| json!({ "user": user }));
    let made = lab.gateway.api("POST", "/login-links", &ask.to_string()).await;
    assert_eq!(made.head.status(), 201, "{}", made.text());
    made.json()["url"].as_str().expect("a link").to_owned()
}

/// Opens a link and signs in.
async fn sign_in(tab: &mut Tab<'_>, link: &str) {
    tab.open(link).await;
    tab.click("Sign in").await;
    tab.is_at("/").await;
    tab.sees("Overview").await;
}

/// The URL of a page.
fn at(lab: &Lab, path: &str) -> String {
    format!("http://localhost:{}{path}", lab.gateway.admin.port())
}

/// A person at the authorization server: signs in and agrees.
async fn consents(tab: &mut Tab<'_>) {
    tab.click(&format!("Continue to https://{AUTH_HOST}")).await;
    tab.fill("Enter any login", "alice").await;
    tab.fill("and password", "any").await;
    tab.click("Sign-in").await;
    tab.click("Continue").await;
    tab.sees("Continue in the console").await;
}

/// curl of agent `ci` through the gateway; status and body.
async fn curl(lab: &Lab, connection: &str) -> String {
    let mut curl = program(lab, "curl");
    curl.args(["-sS", "-w", " %{http_code}", "-H"]);
    curl.arg(format!("Keyward-Connection: {connection}"));
    curl.arg(format!("https://{HOST}/thing"));
    said(&run(curl).await)
}

/// A1, A4, B7, D7, D10, E3: from the first sign-in to a repaired connection, without the terminal.
#[tokio::test]
async fn a_newcomer_connects_binds_watches_and_repairs_in_the_browser() {
    let world = world(Program::OidcProvider, "").await;
    let mut chromium = browser(&world).await;
    let lab = &world.lab;
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(lab, None).await).await;

    // A key: of a service that has no test request.
    tab.click("Connect").await;
    tab.is_at("/connect").await;
    tab.fill("Search services", "acme").await;
    tab.click("Acme Key").await;
    tab.is_at("/connect/to/acme").await;
    tab.fill("Name", "spare-key").await;
    tab.fill("API key", "a-second-key-of-a-test").await;
    tab.click("Test and connect").await;
    tab.is_at("/connect/done/spare-key").await;
    tab.sees("Which agents may use it?").await;

    // A consent, at the pages of the authorization server.
    tab.open(&at(lab, "/connect/to/svc")).await;
    tab.fill("Name", "work").await;
    tab.click("Continue to Service").await;
    consents(&mut tab).await;
    tab.click("Continue in the console").await;
    tab.sees("active").await;
    tab.sees("alice").await;
    tab.click("ci").await;
    tab.sees("Bound.").await;

    // Live traffic: the row appears without another page.
    tab.open(&at(lab, "/traffic")).await;
    tab.sees("Live").await;
    let answer = curl(lab, "work").await;
    assert!(answer.contains("200"), "{answer}");
    tab.sees(&format!("{HOST}/thing")).await;
    tab.screenshot("traffic").await;

    // The service revokes; the page says why, without being loaded again.
    tab.open(&at(lab, "/connections/work")).await;
    tab.sees("active").await;
    revoke(&world);
    let answer = curl(lab, "work").await;
    assert!(answer.contains("424") || answer.contains("401"), "{answer}");
    world.try_api("POST", "/connections/work/refresh", &json!({})).await;
    tab.sees("access was revoked at the service").await;
    tab.screenshot("broken").await;
    tab.click("Reconnect account").await;
    consents_again(&mut tab).await;
    tab.click("Continue in the console").await;
    tab.sees("active").await;
    let answer = curl(lab, "work").await;
    assert!(answer.contains("200"), "{answer}");

    own_origin_only(&mut tab, lab).await;
    world.finish().await;
}

/// The server knows the person, and asks for consent alone.
async fn consents_again(tab: &mut Tab<'_>) {
    tab.click(&format!("Continue to https://{AUTH_HOST}")).await;
    tab.click("Continue").await;
    tab.sees("Continue in the console").await;
}

fn revoke(world: &World) {
    world.issuer.tell(&json!({ "do": "revoke_all" }));
}

/// All requests were to the gateway, but for the pages of the authorization server; no script failed.
async fn own_origin_only(tab: &mut Tab<'_>, lab: &Lab) {
    let seen = tab.seen().await;
    let own = [at(lab, "/"), format!("https://{AUTH_HOST}/")];
    for url in seen["requests"].as_array().expect("a list") {
        let url = url.as_str().expect("text");
        assert!(own.iter().any(|own| url.starts_with(own)) || url.starts_with("data:"), "{url}");
    }
    assert_eq!(seen["errors"], json!([]));
}
