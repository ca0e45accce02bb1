//! The console in a real Chromium: people connect accounts, bind agents, watch traffic and repair connections.

mod attention;
mod chromium;
mod forms;
mod hooks;
mod many;
mod oauth1;
mod oidc;
mod passkey;
mod password;
mod people;
mod renewal;
mod replicas;
mod sources;
mod store;
mod stories;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use self::chromium::{Chromium, Look, Tab};
use crate::consent::{trust, world};
use crate::issuer::{Program, World};
use crate::stage::{program, run, said};
use test_support::authorization::AUTH_HOST;
use test_support::*;

/// A browser that reaches and trusts the authorization server.
async fn browser(world: &World) -> Chromium {
    browser_before(&world.folder(), world.issuer.addr).await
}

/// The same, for a server at this address.
async fn browser_before(folder: &Path, server: SocketAddr) -> Chromium {
    trust(folder).await;
    let map = format!("--host-resolver-rules=MAP {AUTH_HOST} {server}");
    Chromium::start(folder, &[map]).await
}

/// A link that signs `user` in once.
async fn link(lab: &Lab, user: Option<&str>) -> String {
    let ask = user.map_or_else(|| json!({}), |user| json!({ "user": user }));
    let made = lab.gateway.api("POST", "/login-links", &ask.to_string()).await.is(201);
    made.json()["url"].as_str().expect("a link").to_owned()
}

/// Opens a link and signs in.
async fn sign_in(tab: &mut Tab<'_>, link: &str) {
    tab.open(link).await;
    tab.leads("Sign in", "/").await;
    tab.sees("Overview").await;
}

/// A tab of the user `ann`, signed in.
async fn signed_in_tab<'a>(lab: &Lab, chromium: &'a mut Chromium) -> Tab<'a> {
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(lab, None).await).await;
    tab
}

/// The same, with a page open.
async fn opened<'a>(lab: &Lab, chromium: &'a mut Chromium, path: &str) -> Tab<'a> {
    let mut tab = signed_in_tab(lab, chromium).await;
    tab.open(&at(lab, path)).await;
    tab
}

/// The URL of a page.
fn at(lab: &Lab, path: &str) -> String {
    format!("http://localhost:{}{path}", lab.gateway.admin.port())
}

/// Waits until the script has renewed the live parts of the page: a second answer comes after the first was shown.
async fn is_renewed(tab: &mut Tab<'_>) {
    let twice = "new Promise((done) => {
        let left = 2;
        const seen = (list) => {
            left -= list.getEntriesByName(location.href).length;
            if (left <= 0) done(true);
        };
        new PerformanceObserver(seen).observe({ type: 'resource' });
    })";
    tab.value(twice).await;
}

/// A person at the authorization server: signs in and agrees.
async fn consents(tab: &mut Tab<'_>) {
    tab.click(&format!("Continue to https://{AUTH_HOST}")).await;
    tab.fill("Enter any login", "alice").await;
    tab.fill("and password", "any").await;
    tab.click("Sign-in").await;
    tab.shows("Continue", "Continue in the console").await;
}

/// An agent and its token.
#[derive(Clone, Copy)]
struct Agent<'a> {
    name: &'a str,
    token: &'a str,
}

impl Agent<'_> {
    /// curl through the gateway: what it prints, and the status at the end.
    async fn curl(self, lab: &Lab, request: &[&str]) -> String {
        let mut curl = program(lab, "curl");
        let proxy = format!("http://{}:{}@{}", self.name, self.token, lab.gateway.proxy);
        curl.env("HTTPS_PROXY", &proxy).env("https_proxy", &proxy);
        curl.args(["-sS", "--max-time", "30", "-w", " %{http_code}"]).args(request);
        curl.arg(format!("https://{HOST}/thing"));
        said(&run(curl).await)
    }

    /// One that the API answers with 200.
    async fn works(self, lab: &Lab) {
        let answer = self.curl(lab, &[]).await;
        assert!(answer.contains(" 200"), "{answer}");
    }
}

/// Adds an agent, and a token of it; the token as the page shows it.
async fn adds_agent(tab: &mut Tab<'_>, name: &str) -> String {
    tab.leads("Agents", "/agents").await;
    tab.click("Add agent").await;
    tab.fill("Name", name).await;
    tab.press(&["Enter"]).await;
    tab.is_at(&format!("/agents/{name}")).await;
    tab.sees("It has no token").await;
    tab.click("Add token").await;
    tab.fill("Label (optional)", "laptop").await;
    tab.press(&["Enter"]).await;
    shown_once(tab).await
}

/// The secret in the dialog that shows it, which is then closed.
async fn shown_once(tab: &mut Tab<'_>) -> String {
    tab.sees("It is not shown again").await;
    let secret = tab.value("document.querySelector('dialog[open] pre').textContent").await;
    tab.click("Done").await;
    secret.as_str().expect("text").to_owned()
}

/// A1, A4, B7, D7, D10, E3: from the first sign-in to a repaired connection, without the terminal.
#[tokio::test]
async fn a_newcomer_connects_binds_watches_and_repairs_in_the_browser() {
    let world = world(Program::OidcProvider, "").await;
    let mut chromium = browser(&world).await;
    let lab = &world.lab;
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(lab, None).await).await;
    let token = adds_agent(&mut tab, "laptop").await;
    let agent = Agent { name: "laptop", token: &token };

    // A key: of a service that has no test request.
    tab.leads("Connections", "/connections").await;
    tab.leads("Connect", "/connect").await;
    tab.fill("Search services", "acme").await;
    tab.is_at("/connect?q=acme").await;
    tab.leads("Acme Key", "/connect/to/acme").await;
    tab.fill("Name", "spare-key").await;
    tab.fill("API key", "a-second-key-of-a-test").await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/spare-key").await;
    tab.sees("Which agents may use it?").await;
    // What the file manages cannot be ticked here.
    tab.sees("managed by the configuration file").await;

    // A consent, at the pages of the authorization server.
    tab.open(&at(lab, "/connect/to/svc")).await;
    tab.fill("Name", "work").await;
    tab.click("Continue to Service").await;
    consents(&mut tab).await;
    tab.shows("Continue in the console", "active").await;
    tab.sees("alice").await;
    let refused = agent.curl(lab, &[]).await;
    assert!(refused.contains("default_deny"), "{refused}");
    tab.shows("laptop", "Bound.").await;

    // Live traffic: the row appears without another page.
    tab.open(&at(lab, "/traffic")).await;
    tab.sees("Live").await;
    agent.works(lab).await;
    tab.sees(&format!("{HOST}/thing")).await;
    tab.screenshot("traffic").await;

    // The service revokes; the page says why, without being loaded again.
    tab.open(&at(lab, "/connections/work")).await;
    tab.sees("active").await;
    breaks(&world, agent).await;
    tab.sees("access was revoked at the service").await;
    tab.screenshot("broken").await;
    tab.click("Reconnect account").await;
    consents_again(&mut tab).await;
    tab.shows("Continue in the console", "active").await;
    agent.works(lab).await;

    own_origin_only(&mut tab, lab).await;
    world.finish().await;
}

/// The service revokes the account; the next request meets that.
async fn breaks(world: &World, agent: Agent<'_>) {
    world.issuer.tell(&json!({ "do": "revoke_all" }));
    let answer = agent.curl(&world.lab, &[]).await;
    assert!(answer.contains(" 424") || answer.contains(" 401"), "{answer}");
    world.try_api("POST", "/connections/work/refresh", &json!({})).await;
}

/// The server knows the person, and asks for consent alone.
async fn consents_again(tab: &mut Tab<'_>) {
    tab.click(&format!("Continue to https://{AUTH_HOST}")).await;
    tab.shows("Continue", "Continue in the console").await;
}

/// All requests of pages of the gateway were to itself, but for the way to a consent; no script failed.
async fn own_origin_only(tab: &mut Tab<'_>, lab: &Lab) {
    let seen = tab.seen().await;
    let gateway = at(lab, "/");
    let own = [gateway.clone(), format!("https://{AUTH_HOST}/"), "data:".to_owned()];
    for request in seen["requests"].as_array().expect("a list") {
        let text = |key: &str| request[key].as_str().expect("text");
        let is_own = own.iter().any(|own| text("url").starts_with(own));
        assert!(is_own || !text("from").starts_with(&gateway), "{request}");
    }
    assert_eq!(seen["errors"], json!([]));
}

/// Pages with and without a rail.
const PAGES: [&str; 28] = [
    "/",
    "/connections",
    "/connections/acme",
    "/connections/acme/rotate",
    "/connect",
    "/connect/to/acme",
    "/connect/done/acme",
    "/agents",
    "/agents/ci",
    "/traffic",
    "/rules",
    "/rules?new=1&host=api.example.com",
    "/plugins",
    "/plugins/new",
    "/apps",
    "/services",
    "/services/new",
    "/audit",
    "/audit/verify",
    "/webhooks",
    "/incoming",
    "/honeytokens",
    "/sources",
    "/sources/new",
    "/sources/new?kind=bitwarden",
    "/people",
    "/settings",
    "/settings/store",
];

/// Bytes of a page with all that it loads.
const WEIGHT_MAX: u64 = 150_000;
/// Bytes of the markup of a page.
const MARKUP_MAX: u64 = 30_000;
/// The same of the page that lists all services.
const CATALOGUE_MARKUP_MAX: u64 = 80_000;

async fn signed_in_lab() -> (Lab, Chromium) {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    let chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    (lab, chromium)
}

/// Milliseconds until the fastest page has painted. Slower ones waited for other tests.
const PAINT_MAX: f64 = 200.0;

/// Each page without a violation that axe-core finds, small, within its window, painted at once, and without a request
/// to elsewhere.
async fn every_page_is_in_order(look: Look) {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = chromium.tab("ann").await;
    tab.looks(look).await;
    tab.open(&at(&lab, "/login")).await;
    tab.is_accessible().await;
    sign_in(&mut tab, &link(&lab, None).await).await;
    let mut painted = f64::MAX;
    for page in PAGES {
        let (status, length) = tab.open(&at(&lab, page)).await;
        assert_eq!(status, 200, "{page}");
        let max = if page == "/connect" { CATALOGUE_MARKUP_MAX } else { MARKUP_MAX };
        assert!(length < max, "{page}: {length}");
        tab.is_accessible().await;
        let weight = tab.weight().await;
        assert!(weight < WEIGHT_MAX, "{page}: {weight}");
        painted = painted.min(tab.paint().await);
        let overflow = tab.value("document.documentElement.scrollWidth - innerWidth").await;
        assert!(overflow.as_i64() <= Some(0), "{page} at {look:?}: {overflow}");
    }
    assert!((0.0..PAINT_MAX).contains(&painted), "{painted} ms");
    own_origin_only(&mut tab, &lab).await;
    lab.finish().await;
}

#[tokio::test]
async fn every_page_is_accessible_small_and_fast_when_wide_and_light() {
    every_page_is_in_order(Look { width: 1280, scheme: "light" }).await;
}

#[tokio::test]
async fn every_page_is_accessible_small_and_fast_when_narrow_and_dark() {
    every_page_is_in_order(Look { width: 390, scheme: "dark" }).await;
}

/// A link works in one browser; the other one, and a copied page, get nothing.
#[tokio::test]
async fn a_used_link_signs_no_other_browser_in() {
    let (lab, mut chromium) = signed_in_lab().await;
    let link = link(&lab, None).await;
    let mut thief = chromium.tab("thief").await;
    // The page of the link is open in both; opening it uses nothing up.
    thief.open(&link).await;
    let mut owner = chromium.tab("owner").await;
    sign_in(&mut owner, &link).await;
    let mut thief = chromium.again("thief");
    thief.leads("Sign in", "/login").await;
    thief.sees("keyward login-link").await;
    assert_eq!(thief.cookies().await, json!([]));
    assert_eq!(thief.open(&at(&lab, "/connections")).await.0, 200);
    thief.is_at("/login").await;
    // A cookie that scripts cannot read; the sign-out ends it.
    let mut owner = chromium.again("owner");
    let cookies = owner.cookies().await;
    assert_eq!((&cookies[0]["httpOnly"], &cookies[0]["sameSite"]), (&json!(true), &json!("Lax")));
    owner.leads("Sign out", "/login").await;
    owner.open(&at(&lab, "/agents")).await;
    owner.is_at("/login").await;
    lab.finish().await;
}

/// By keyboard alone: an agent is added, bound and paused.
#[tokio::test]
async fn an_agent_is_added_and_bound_by_keyboard_alone() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    tab.press(&["g", "a"]).await;
    tab.is_at("/agents").await;
    tab.tab_to("Add agent").await;
    tab.press(&["Enter"]).await;
    tab.sees("Letters, digits").await;
    tab.fill("Name", "by-hand").await;
    tab.press(&["Enter"]).await;
    tab.is_at("/agents/by-hand").await;
    tab.tab_to("ACacmeacme").await;
    tab.press(&["Space"]).await;
    tab.sees("Bound.").await;
    let bound = lab.gateway.api("GET", "/agents/by-hand/bindings", "").await.json();
    assert_eq!(bound["items"][0]["name"], "acme", "{bound}");
    tab.press(&["Control+k"]).await;
    tab.sees("Overview").await;
    let changes = lab.gateway.api("GET", "/audit?changes=true&limit=1000", "").await.json();
    let changes = changes["items"].as_array().expect("a list");
    let bound = changes.iter().find(|record| record["change"]["what"] == "binding");
    let bound = bound.expect("a record of the binding");
    assert_eq!(bound["change"]["why"], "connection acme", "{bound}");
    lab.finish().await;
}
