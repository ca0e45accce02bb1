//! Where protected resource metadata is looked for, and which forms of it are read.

use super::*;

/// oauth 13, MCP 1 and 6: servers in Go write an empty list as `null`.
#[tokio::test]
async fn null_in_resource_metadata_counts_as_an_empty_list() {
    let mut document = honest();
    document["scopes_supported"] = Value::Null;
    let (lab, server) = world(document.clone()).await;
    let made = add(&lab).await.is(201).json();
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
    assert_eq!(query(&url)["scope"], "tools", "of the challenge");
    browser.get(&server.issuer().consent(&url)).await.is(303);
    assert!(server.only_call().issued.is_some());
    lab.finish().await;

    document["authorization_servers"] = Value::Null;
    let (lab, server) = world(document).await;
    let refused = add(&lab).await.is(422).text();
    assert!(refused.contains("does not say which authorization server it trusts"), "{refused}");
    assert!(server.issuer().registered().is_empty());
    lab.finish().await;
}
