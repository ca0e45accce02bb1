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

/// The requests at the authorization endpoint that are Keyward's own.
fn probes(server: &Authorization) -> Vec<std::collections::BTreeMap<String, String>> {
    let all = server.origin.received();
    let targets = all.iter().map(|request| request.head.target().to_owned());
    targets.filter(|target| target.starts_with("/authorize?")).map(|to| query(&to)).collect()
}

/// oauth 13, MCP 5: each consent led to the error page of the server until `--register-again`.
#[tokio::test]
async fn a_client_that_the_authorization_endpoint_denies_is_replaced_after_an_unfinished_consent() {
    let (lab, server) = world(honest()).await;
    let (_, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
    assert!(probes(&server).is_empty(), "nothing was unfinished");
    let denial = answer(400, &json!({ "error": "invalid_client" }));
    server.issuer().script("/authorize", denial);
    let (mut browser, new) = begun(&lab, &reconnected(&lab).await).await;
    let probed = probes(&server);
    assert_eq!(probed.len(), 1);
    assert_eq!(probed[0]["client_id"], query(&url)["client_id"]);
    assert!(probed[0]["state"] != query(&url)["state"], "a state of no flow");
    assert_ne!(query(&new)["client_id"], query(&url)["client_id"]);
    browser.get(&server.issuer().consent(&new)).await.is(303);
    assert_eq!(server.issuer().registered().len(), 2);
    let shown = lab.gateway.api("GET", "/connections/tools", "").await.json();
    assert_eq!(shown["state"], "active", "{shown}");
    lab.finish().await;
}

/// The answer of Better Auth to a request that accepts JSON.
fn error_page(code: &str) -> Vec<u8> {
    let url = format!("{ISSUER}/error?error={code}&error_description=client_id+is+required");
    answer(200, &json!({ "redirect": true, "url": url }))
}

/// oauth 13, MCP 5: each consent led to the error page of Better Auth or FastMCP until `--register-again`.
#[tokio::test]
async fn a_client_that_better_auth_or_fastmcp_denies_is_replaced_after_an_unfinished_consent() {
    let fastmcp = json!({ "error": "invalid_request", "error_description": "Client ID is not registered",
                          "registration_endpoint": format!("{ISSUER}/register") });
    for denial in [error_page("invalid_client"), answer(400, &fastmcp)] {
        let (lab, server) = world(honest()).await;
        let (_, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
        server.issuer().script("/authorize", denial);
        let (mut browser, new) = begun(&lab, &reconnected(&lab).await).await;
        assert_ne!(query(&new)["client_id"], query(&url)["client_id"]);
        browser.get(&server.issuer().consent(&new)).await.is(303);
        assert_eq!(server.issuer().registered().len(), 2);
        lab.finish().await;
    }
}

/// oauth 13, MCP 5: a client whose only consent was declined was used again without a question, and its consent led to the
/// error page of Better Auth.
#[tokio::test]
async fn an_unused_client_of_a_declined_consent_is_used_again_unless_the_server_denies_it() {
    let (lab, server) = world(honest()).await;
    let (_, first) = begun(&lab, &add(&lab).await.is(201).json()).await;
    let denied = || server.issuer().script("/authorize", error_page("invalid_client"));
    denied();
    let (mut browser, second) = begun(&lab, &reconnected(&lab).await).await;
    assert_ne!(query(&second)["client_id"], query(&first)["client_id"]);
    browser.get(&server.issuer().decline(&second)).await.is(403);

    server.issuer().unscript("/authorize");
    let (mut browser, again) = begun(&lab, &reconnected(&lab).await).await;
    assert_eq!(query(&again)["client_id"], query(&second)["client_id"]);
    assert_eq!(server.issuer().registered().len(), 2);
    browser.get(&server.issuer().decline(&again)).await.is(403);

    denied();
    let (mut browser, third) = begun(&lab, &reconnected(&lab).await).await;
    assert!(
        ![&first, &second].iter().any(|it| query(it)["client_id"] == query(&third)["client_id"])
    );
    browser.get(&server.issuer().consent(&third)).await.is(303);
    assert_eq!(server.issuer().registered().len(), 3);
    lab.finish().await;
}

/// oauth 13, MCP 5: a page is not certain.
#[tokio::test]
async fn an_error_page_of_the_authorization_endpoint_replaces_no_client_and_the_remedy_is_shown() {
    let (lab, server) = world(honest()).await;
    let (_, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
    for page in [
        answer(400, &json!({ "error": "invalid_request" })),
        answer(403, &json!({ "error": "invalid_client" })),
        b"HTTP/1.1 400 No\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\ninvalid_client"
            .to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: /error\r\nContent-Length: 0\r\n\r\n".to_vec(),
        error_page("invalid_request"),
        answer(200, &json!({ "error": "invalid_client" })),
    ] {
        server.issuer().script("/authorize", page);
        let again = reconnected(&lab).await;
        let start = again["authorize_url"].as_str().expect("a page").to_owned();
        let shown = Browser::new(&lab.gateway).get(&start).await.is(200).text();
        let remedy = "<code>keyward connection reconnect tools --register-again</code>";
        assert!(shown.contains(remedy), "{shown}");
        assert_eq!(query(&begun(&lab, &again).await.1)["client_id"], query(&url)["client_id"]);
    }
    assert_eq!(server.issuer().registered().len(), 1);
    // A client that comes back is no longer in doubt.
    server.issuer().unscript("/authorize");
    let (mut browser, url) = begun(&lab, &reconnected(&lab).await).await;
    browser.get(&server.issuer().consent(&url)).await.is(303);
    let probed = probes(&server).len();
    let again = reconnected(&lab).await;
    let start = again["authorize_url"].as_str().expect("a page").to_owned();
    let shown = Browser::new(&lab.gateway).get(&start).await.is(200).text();
    assert!(!shown.contains("register-again"), "{shown}");
    assert_eq!(probes(&server).len(), probed);
    lab.finish().await;
}

/// oauth 13, MCP 5
#[tokio::test]
async fn an_unfinished_consent_of_a_registered_client_ends_with_the_remedy() {
    let short = |plan: Plan| plan.top("oauth: { flow_lifetime: 1s }");
    let (lab, _server) = world_with(honest(), Rules::default(), short).await;
    let made = add(&lab).await.is(201).json();
    begun(&lab, &made).await;
    let path = format!("/flows/{}", made["flow"].as_str().expect("a flow"));
    let ended = test_support::until_some("the end of the consent", async || {
        let view = lab.gateway.api("GET", &path, "").await.json();
        (view["state"] != "open").then_some(view)
    })
    .await;
    assert_eq!(ended["state"], "failed");
    let why = ended["why"].as_str().expect("a reason");
    assert!(why.contains("`keyward connection reconnect tools --register-again`"), "{why}");
    lab.finish().await;
}

/// oauth 13, MCP 5, and 2.6
#[tokio::test]
async fn a_client_that_the_callback_names_as_invalid_is_replaced() {
    let (lab, server) = world(honest()).await;
    let (mut browser, url) = begun(&lab, &add(&lab).await.is(201).json()).await;
    let back = server.issuer().decline(&url).replace("access_denied", "invalid_client");
    let page = browser.get(&back).await.is(409).text();
    assert!(page.contains("invalid_client") && page.contains(FORGOTTEN), "{page}");
    let (mut browser, new) = begun(&lab, &reconnected(&lab).await).await;
    assert_ne!(query(&new)["client_id"], query(&url)["client_id"]);
    browser.get(&server.issuer().consent(&new)).await.is(303);
    assert_eq!((server.issuer().registered().len(), server.calls().len()), (2, 1));
    lab.finish().await;
}
