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

/// oauth 13, MCP 1: a page at the URL of the challenge ended the search.
#[tokio::test]
async fn a_page_or_a_redirect_is_no_resource_metadata_and_the_next_url_is_read() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let redirect = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n";
    for (first, document, status) in [
        (page.to_vec(), honest(), 201),
        (redirect.to_vec(), honest(), 201),
        // No place has a document: the first answer decides.
        (page.to_vec(), Value::Null, 422),
        (redirect.to_vec(), Value::Null, 422),
    ] {
        let server = std::sync::Arc::new(Authorization::with(Rules::default()).await);
        let own = server.clone();
        let origin = Origin::answering(move |request| match request.head.target() {
            "/.well-known/oauth-protected-resource/mcp" => first.clone(),
            "/.well-known/oauth-protected-resource" if document.is_object() => {
                answer(200, &document)
            }
            _ => resource(request, &own, &document),
        });
        let plan = server.reached(Plan::api_key().hosts("other.acme.test"));
        let lab = plan.start(origin).await;
        let made = add(&lab).await.is(status);
        assert_eq!(server.issuer().registered().len(), usize::from(status == 201));
        if status == 201 {
            let mut browser = Browser::new(&lab.gateway);
            let page = made.json()["authorize_url"].as_str().expect("a page").to_owned();
            let url = browser.begin(&page).await;
            browser.get(&server.issuer().consent(&url)).await.is(303);
            assert!(server.only_call().issued.is_some());
        }
        lab.finish().await;
    }
}
