//! A client that Keyward registered and the server has forgotten: its consent fails, and the next one has a new client.

use super::*;
use test_support::authorization::Fault;

const FORGOTTEN: &str = "start again, and Keyward registers a new one";

/// Begins the consent of a connection: its browser, and the authorization URL.
async fn begun(lab: &Lab, started: &Value) -> (Browser, String) {
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(started["authorize_url"].as_str().expect("a page")).await;
    (browser, url)
}

async fn reconnected(lab: &Lab) -> Value {
    lab.gateway.api("POST", "/connections/tools/reconnect", "{}").await.is(200).json()
}

/// oauth 13, MCP 5: the next consent had the same client, also that of another connection.
#[tokio::test]
async fn a_client_that_the_server_forgot_is_replaced_after_a_failed_exchange() {
    let (lab, server) = world(honest()).await;
    let (mut browser, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
    let back = server.issuer().consent(&url);
    let forgotten = query(&url)["client_id"].clone();
    server.issuer().forget_client(&forgotten);
    let page = browser.get(&back).await.is(502).text();
    assert!(page.contains("invalid_client") && page.contains(FORGOTTEN), "{page}");
    let shown = lab.gateway.api("GET", "/connections/tools", "").await.json();
    assert_eq!(shown["state"], "draft");
    let why = shown["failure"].as_str().expect("a failure");
    assert!(why.contains(FORGOTTEN) && !why.contains("app set"), "{why}");

    let (mut browser, url) = begun(&lab, &reconnected(&lab).await).await;
    let new = query(&url)["client_id"].clone();
    assert_ne!(new, forgotten);
    browser.get(&server.issuer().consent(&url)).await.is(303);
    let shown = lab.gateway.api("GET", "/connections/tools", "").await.json();
    assert_eq!(shown["state"], "active", "{shown}");
    let more = add_as(&lab, "more").await.is(201).json();
    assert_eq!(query(&begun(&lab, &more).await.1)["client_id"], new);
    assert_eq!(server.issuer().registered().len(), 2);
    assert_eq!(server.calls().len(), 2, "each code was sent once");
    lab.finish().await;
}

/// oauth 13, MCP 5: older servers of the MCP SDK for Python answer so, and kept the dead client.
#[tokio::test]
async fn a_client_that_is_refused_with_401_and_unauthorized_client_is_replaced_too() {
    let (lab, server) = world(honest()).await;
    let (mut browser, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
    server.fail_next(Fault::error(401, "unauthorized_client"));
    let page = browser.get(&server.issuer().consent(&url)).await.is(502).text();
    assert!(page.contains(FORGOTTEN), "{page}");
    let (mut browser, new) = begun(&lab, &reconnected(&lab).await).await;
    assert_ne!(query(&new)["client_id"], query(&url)["client_id"]);
    browser.get(&server.issuer().consent(&new)).await.is(303);
    assert_eq!(server.issuer().registered().len(), 2);
    lab.finish().await;
}

/// oauth 13, MCP 5, and 2.reconnect: what works is not touched.
#[tokio::test]
async fn a_failed_reconnect_with_a_forgotten_client_leaves_the_connection_with_its_tokens() {
    let (lab, server) = world(honest()).await;
    let (mut browser, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
    browser.get(&server.issuer().consent(&url)).await.is(303);
    let bind = json!({ "connection": "tools" }).to_string();
    lab.gateway.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;

    let (mut browser, url) = begun(&lab, &reconnected(&lab).await).await;
    let back = server.issuer().consent(&url);
    server.issuer().forget_client(&query(&url)["client_id"]);
    browser.get(&back).await.is(502);
    assert_eq!(lab.ask_as(AGENT, HOST, "GET /mcp").await.json(), "fine");
    let shown = lab.gateway.api("GET", "/connections/tools", "").await.json();
    assert_eq!(shown["state"], "active", "{shown}");

    let (mut browser, new) = begun(&lab, &reconnected(&lab).await).await;
    assert_ne!(query(&new)["client_id"], query(&url)["client_id"]);
    browser.get(&server.issuer().consent(&new)).await.is(303);
    lab.gateway.api("POST", "/connections/tools/refresh", "").await.is(200);
    assert_eq!(server.issuer().registered().len(), 2);
    lab.finish().await;
}

/// oauth 13, MCP 5: a code is refused with the same words as at the token endpoint.
#[tokio::test]
async fn a_client_that_the_device_endpoint_rejects_is_replaced_too() {
    let (lab, server) = world(honest()).await;
    let (_, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
    server.issuer().forget_client(&query(&url)["client_id"]);
    let path = "/connections/tools/reconnect";
    let refused = lab.gateway.api("POST", path, r#"{"device":true}"#).await.is(422).text();
    assert!(refused.contains(FORGOTTEN), "{refused}");
    let (mut browser, new) = begun(&lab, &reconnected(&lab).await).await;
    assert_ne!(query(&new)["client_id"], query(&url)["client_id"]);
    browser.get(&server.issuer().consent(&new)).await.is(303);
    assert_eq!(server.issuer().devices_asked().len(), 1);
    lab.finish().await;
}
