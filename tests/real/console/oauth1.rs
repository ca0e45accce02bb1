//! A consent of OAuth 1.0a in the browser, at a service by oauthlib: the app is set up, a person declines, and consents.

use serde_json::Value;

use super::*;
use crate::oauth1_consent::{CONSUMER, SECRET, World as Service};
use test_support::oauth::AGENT;

/// The service calls the pair an API key and its secret, as X does.
const FIELDS: &str = ", fields: [{ name: consumer_key, label: API key }, { name: consumer_secret, label: API key secret }, \
     { name: token, label: Access token }, { name: token_secret, label: Access token secret }]";

/// Sets the app up, in the words of the service.
async fn sets_up(tab: &mut Tab<'_>, service: &Service) {
    let lab = &service.lab;
    tab.open(&at(lab, "/connect/to/one")).await;
    tab.sees("One needs an app first").await;
    tab.shows("Set up an app", "1. Register it at One").await;
    tab.sees("Copy the API key and the API key secret").await;
    tab.does_not_see("Scopes").await;
    tab.is_accessible().await;
    tab.screenshot("oauth1-app").await;
    let uri = tab.value("document.querySelector('.numbered pre').textContent").await;
    service.settle(&uri);
    tab.fill("API key", CONSUMER).await;
    tab.fill("API key secret", SECRET).await;
    tab.leads("Add app", "/apps/one").await;
    tab.does_not_see("Client id").await;
    tab.is_accessible().await;
}

/// From the page of the app to the service.
async fn goes_to_the_service(tab: &mut Tab<'_>) {
    tab.leads("Connect an account", "/connect/to/one?app=one&auth=oauth1").await;
    tab.fill("Name", "work").await;
    tab.is_accessible().await;
    tab.screenshot("oauth1-connect").await;
    tab.click("Continue to One").await;
    tab.click(&format!("Continue to https://{AUTH_HOST}")).await;
}

#[tokio::test]
async fn an_account_of_oauth_1_0a_is_connected_after_a_denial() {
    let service = Service::without_app(FIELDS, |plan| plan).await;
    let folder = service.lab.gateway.folder().to_owned();
    let mut chromium = browser_before(&folder, service.issuer.addr).await;
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(&service.lab, None).await).await;
    sets_up(&mut tab, &service).await;

    goes_to_the_service(&mut tab).await;
    tab.shows("Deny", "The consent was declined").await;
    tab.screenshot("oauth1-denied").await;
    let shown = service.api("GET", "/connections/work", &Value::Null).await;
    assert_eq!(shown["state"], "draft", "{shown}");
    assert_eq!(service.tokens(), Vec::<String>::new());

    // What is left is on the first page, with the way on.
    tab.leads("Go to the connections in the console", "/connections").await;
    tab.sees("the consent was declined").await;
    tab.leads("Overview", "/").await;
    tab.sees("not connected").await;
    tab.leads("work", "/connections/work").await;
    tab.sees("The consent was declined").await;
    tab.click("Connect account").await;
    tab.click(&format!("Continue to https://{AUTH_HOST}")).await;
    tab.click("Allow").await;
    tab.shows("Continue in the console", "active").await;
    tab.sees("alice").await;
    tab.shows(AGENT, "Bound.").await;
    tab.is_accessible().await;
    tab.screenshot("oauth1-connected").await;
    assert_eq!(service.ask("GET /1.1/me").await.head.status(), 200, "requests are signed");
    own_origin_only(&mut tab, &service.lab).await;
    service.finish().await;
}
