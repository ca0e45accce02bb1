//! Servers that require pushed authorization requests (RFC 9126).

use super::*;
use test_support::browser::onward;
use test_support::oauth;

const PUSHED: &str = "/par";
const REFERENCE: &str = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c";

/// A server that requires them, and what it answers to one.
async fn strict(pushed: Vec<u8>) -> (Lab, std::sync::Arc<Authorization>) {
    let (lab, server) = world(honest()).await;
    let issuer = server.issuer();
    issuer.tell("require_pushed_authorization_requests", json!(true));
    issuer.tell("pushed_authorization_request_endpoint", json!(format!("{ISSUER}{PUSHED}")));
    issuer.script(PUSHED, pushed);
    (lab, server)
}

fn accepted() -> Vec<u8> {
    answer(201, &json!({ "request_uri": REFERENCE, "expires_in": 60 }))
}

/// The requests at the endpoint.
fn pushed(server: &Authorization) -> Vec<Message> {
    let all = server.origin.received();
    all.into_iter().filter(|request| request.head.target() == PUSHED).collect()
}

/// What a browser sees that presses the button of the start page.
async fn pressed(lab: &Lab, made: &Value) -> Message {
    let url = made["authorize_url"].as_str().expect("a page");
    let mut browser = Browser::new(&lab.gateway);
    browser.get(url).await.is(200);
    browser.post(url).await
}

/// oauth 2.pushed: its page refused the request.
#[tokio::test]
async fn a_server_that_requires_it_gets_the_parameters_from_the_client_and_the_browser_a_reference()
{
    let (lab, server) = strict(accepted()).await;
    let made = add(&lab).await.is(201).json();
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
    let requests = pushed(&server);
    assert_eq!(requests.len(), 1);
    let (head, form) = (&requests[0].head, requests[0].text());
    assert_eq!(head.one("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(head.one("authorization").is_some_and(|field| field.starts_with("Basic ")));
    let sent = query(&format!("?{form}"));
    assert_eq!((&*sent["response_type"], &*sent["code_challenge_method"]), ("code", "S256"));
    let shown = query(&url);
    assert!(url.starts_with(&format!("{ISSUER}/authorize?")), "{url}");
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["client_id", "request_uri"]);
    assert_eq!((&shown["client_id"], &*shown["request_uri"]), (&sent["client_id"], REFERENCE));
    let back = server.issuer().consent(&format!("{ISSUER}/authorize?{form}"));
    browser.get(&back).await.is(303);
    let call = server.only_call();
    assert_eq!((&call.form["redirect_uri"], call.error), (&sent["redirect_uri"], None));
    lab.finish().await;
}

/// oauth 2.pushed: the link stays valid, because nothing is spent.
#[tokio::test]
async fn a_server_that_takes_no_pushed_request_now_is_reported_and_the_link_works_later() {
    let (lab, server) = strict(answer(503, &json!({}))).await;
    let made = add(&lab).await.is(201).json();
    let page = pressed(&lab, &made).await.is(503).text();
    assert!(page.contains("server error") && page.contains("http_503"), "{page}");
    for unusable in [json!({}), json!({ "request_uri": "a b" }), json!({ "request_uri": "" })] {
        server.issuer().script(PUSHED, answer(201, &unusable));
        let page = pressed(&lab, &made).await.is(503).text();
        assert!(page.contains("pushed authorization request endpoint"), "{page}");
    }
    server.issuer().script(PUSHED, accepted());
    let url = onward(&pressed(&lab, &made).await.is(200));
    assert_eq!(query(&url)["request_uri"], REFERENCE);
    assert_eq!(pushed(&server).len(), 5, "each was sent once");
    lab.finish().await;
}

/// oauth 2.pushed, 13: as at the token endpoint.
#[tokio::test]
async fn a_client_that_the_pushed_request_shows_to_be_forgotten_is_replaced() {
    let (lab, server) = strict(answer(401, &json!({ "error": "invalid_client" }))).await;
    let made = add(&lab).await.is(201).json();
    let page = pressed(&lab, &made).await.is(409).text();
    assert!(page.contains("invalid_client") && page.contains("registers a new one"), "{page}");
    server.issuer().script(PUSHED, accepted());
    let again = lab.gateway.api("POST", "/connections/tools/reconnect", "{}").await.is(200).json();
    pressed(&lab, &again).await.is(200);
    let clients = pushed(&server);
    let clients: Vec<_> =
        clients.iter().map(|request| query(&format!("?{}", request.text()))).collect();
    assert_ne!(clients[0]["client_id"], clients[1]["client_id"]);
    assert_eq!(server.issuer().registered().len(), 2);
    lab.finish().await;
}

/// oauth 2.pushed: a server that only supports it sees the usual request, and one without an endpoint is refused.
#[tokio::test]
async fn pushed_requests_are_sent_only_where_required_and_need_an_endpoint() {
    let (lab, server) = strict(accepted()).await;
    server.issuer().tell("require_pushed_authorization_requests", json!(false));
    let made = add(&lab).await.is(201).json();
    let url = onward(&pressed(&lab, &made).await.is(200));
    assert_eq!(query(&url)["code_challenge_method"], "S256");
    assert!(pushed(&server).is_empty());
    lab.finish().await;

    let (lab, server) = strict(accepted()).await;
    server.issuer().tell("pushed_authorization_request_endpoint", Value::Null);
    let made = add(&lab).await.is(201).json();
    let page = pressed(&lab, &made).await.is(409).text();
    assert!(page.contains("pushed authorization request endpoint"), "{page}");
    lab.finish().await;
}

/// oauth 2.pushed: no metadata is read where both endpoints are configured, so the requirement was not noticed.
#[tokio::test]
async fn a_provider_whose_definition_names_the_endpoint_gets_pushed_requests() {
    let push = oauth::provider(&format!(", push: \"{ISSUER}{PUSHED}\""));
    let world = oauth::World::with(Rules::default(), |plan| plan.provider(&push)).await;
    world.server.issuer().script(PUSHED, accepted());
    let (mut browser, url) = world.begun().await;
    let shown = query(&url);
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["client_id", "request_uri"], "{url}");
    assert_eq!(shown["request_uri"], REFERENCE);
    let requests = pushed(&world.server);
    assert!(requests[0].head.one("authorization").is_some_and(|field| field.starts_with("Basic ")));
    let back = world.server.issuer().consent(&format!("{ISSUER}/authorize?{}", requests[0].text()));
    browser.get(&back).await.is(303);
    assert_eq!(world.request().await.text(), "fine");
    assert_eq!(requests.len(), 1);
    world.finish().await;
}
