//! Authorization servers as MCP servers name them: the slash of an origin, the place of their metadata, and how a
//! registered client authenticates. The forms are those of the MCP SDKs, FastMCP and Django OAuth Toolkit.

use super::*;

/// Consents to the connection `tools`. Returns the authorization URL.
async fn consented(lab: &Lab, server: &Authorization, made: &Value) -> String {
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
    browser.get(&server.issuer().consent(&url)).await.is(303);
    url
}

/// Refreshes the connection `tools`, and uses it. Returns the token calls since its consent.
async fn refreshed(lab: &Lab, server: &Authorization) -> Vec<TokenCall> {
    let bind = json!({ "connection": "tools" }).to_string();
    lab.gateway.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    lab.gateway.api("POST", "/connections/tools/refresh", "").await.is(200);
    assert_eq!(lab.ask_as(AGENT, HOST, "GET /mcp").await.json(), "fine");
    let calls = server.calls();
    let kinds: Vec<_> = calls.iter().map(|call| call.form["grant_type"].as_str()).collect();
    assert_eq!(kinds, ["authorization_code", "refresh_token"]);
    calls
}

/// oauth 13, registration: no server of the MCP SDK for Python could be connected. It lists both, and refuses Basic
/// without `client_id` in the form.
#[tokio::test]
async fn a_client_is_registered_for_the_form_where_the_server_lists_basic_too() {
    for listed in [
        ["client_secret_post", "client_secret_basic"],
        ["client_secret_basic", "client_secret_post"],
    ] {
        let rules = Rules { auth: ClientAuth::Post, ..Rules::default() };
        let (lab, server) = world_with(honest(), rules, |plan| plan).await;
        server.issuer().tell("token_endpoint_auth_methods_supported", json!(listed));
        let made = add(&lab).await.is(201).json();
        let asked: Value =
            serde_json::from_str(&server.issuer().registered()[0].text).expect("JSON");
        assert_eq!(asked["token_endpoint_auth_method"], "client_secret_post");
        consented(&lab, &server, &made).await;
        for call in refreshed(&lab, &server).await {
            assert!(call.form.contains_key("client_id") && call.form.contains_key("client_secret"));
            assert!(!call.head.has("authorization"), "one method in each request");
        }
        lab.finish().await;
    }
}

/// oauth 13, metadata: URL types of FastMCP and the MCP SDKs add the slash, on one of both sides.
#[tokio::test]
async fn a_listed_origin_is_found_with_and_without_the_slash_at_its_end() {
    let slashed = format!("{ISSUER}/");
    // With `iss`, the callback names the server as its metadata does.
    for (listed, told, iss) in [(ISSUER, &*slashed, false), (&*slashed, ISSUER, true)] {
        let mut document = honest();
        document["authorization_servers"] = json!([listed]);
        let rules = Rules { iss, ..Rules::default() };
        let (lab, server) = world_with(document, rules, |plan| plan).await;
        server.issuer().tell("issuer", json!(told));
        let made = add(&lab).await.is(201).json();
        consented(&lab, &server, &made).await;
        refreshed(&lab, &server).await;
        let apps = lab.gateway.api("GET", "/apps", "").await.json();
        assert_eq!(apps["items"][0]["urls"]["issuer"], told, "{apps}");
        lab.finish().await;
    }
}

/// oauth 13, metadata: such a server was refused, because its metadata has the slash that its origin has not.
#[tokio::test]
async fn a_server_without_resource_metadata_may_name_its_origin_with_a_slash() {
    let rules = Rules { iss: false, ..Rules::default() };
    let server = std::sync::Arc::new(Authorization::with(rules).await);
    let own = server.clone();
    let origin = Origin::answering(move |request| match request.head.target() {
        "/.well-known/oauth-protected-resource/mcp" => answer(404, &json!({})),
        "/.well-known/oauth-authorization-server" => {
            let mut metadata = own.issuer().metadata();
            metadata["issuer"] = json!(format!("https://{HOST}/"));
            answer(200, &metadata)
        }
        _ => resource(request, &own, &Value::Null),
    });
    let mut lab = server.reached(Plan::api_key().hosts("other.acme.test")).start(origin).await;
    lab.add_agent(AGENT).await;
    let made = add(&lab).await.is(201).json();
    consented(&lab, &server, &made).await;
    refreshed(&lab, &server).await;
    lab.finish().await;
}

/// oauth 13, metadata: an application that is mounted below a path has its metadata there.
#[tokio::test]
async fn metadata_below_the_path_of_its_issuer_is_read_after_the_other_places() {
    let mut document = honest();
    let issuer = format!("{ISSUER}/o");
    document["authorization_servers"] = json!([issuer]);
    let rules = Rules { iss: false, ..Rules::default() };
    let (lab, server) = world_with(document, rules, |plan| plan).await;
    server.issuer().tell("issuer", json!(issuer));
    let place = "/o/.well-known/oauth-authorization-server";
    server.issuer().script(place, answer(200, &server.issuer().metadata()));
    let made = add(&lab).await.is(201).json();
    let read: Vec<String> =
        server.origin.received().iter().map(|it| it.head.target().to_owned()).collect();
    assert_eq!(
        read[..4],
        [
            "/.well-known/oauth-authorization-server/o",
            "/.well-known/openid-configuration/o",
            "/o/.well-known/openid-configuration",
            place,
        ]
    );
    consented(&lab, &server, &made).await;
    refreshed(&lab, &server).await;
    lab.finish().await;
}

/// oauth 13, metadata: no client was registered, and access was not revoked, at Django OAuth Toolkit below a path, whose
/// document of OpenID Connect has neither endpoint.
#[tokio::test]
async fn endpoints_that_the_openid_document_omits_are_read_from_the_oauth_document_of_the_same_issuer()
 {
    let issuer = format!("{ISSUER}/o");
    let mut document = honest();
    document["authorization_servers"] = json!([issuer]);
    let [openid, oauth] = ["openid-configuration", "oauth-authorization-server"]
        .map(|name| format!("/o/.well-known/{name}"));
    for is_same_issuer in [false, true] {
        let rules = Rules { iss: false, ..Rules::default() };
        let (lab, server) = world_with(document.clone(), rules, |plan| plan).await;
        server.issuer().tell("issuer", json!(issuer));
        let whole = server.issuer().metadata();
        let mut partial = whole.clone();
        for name in ["revocation_endpoint", "registration_endpoint"] {
            partial.as_object_mut().expect("an object").remove(name).expect(name);
        }
        server.issuer().script(&openid, answer(200, &partial));
        let mut other = whole;
        if !is_same_issuer {
            other["issuer"] = json!(ISSUER);
        }
        server.issuer().script(&oauth, answer(200, &other));
        let made = add(&lab).await;
        if !is_same_issuer {
            let text = made.is(422).text();
            assert!(text.contains("does not support client registration"), "{text}");
            assert!(server.issuer().registered().is_empty());
            lab.finish().await;
            continue;
        }
        consented(&lab, &server, &made.is(201).json()).await;
        let removed = lab.gateway.api("DELETE", "/connections/tools?revoke=true", "").await;
        assert_eq!(removed.is(200).json()["revoked_upstream"], true);
        lab.finish().await;
    }
}

/// oauth 13, MCP 7: authorization servers that know resources by name, as better-auth does, refused the URL in place of
/// the name.
#[tokio::test]
async fn the_resource_is_requested_by_the_name_in_its_metadata() {
    for path in ["", "/", "/mcp/"] {
        let mut document = honest();
        let resource = format!("https://{HOST}{path}");
        document["resource"] = json!(resource);
        let (lab, server) = world(document).await;
        let made = add(&lab).await.is(201).json();
        assert_eq!(query(&consented(&lab, &server, &made).await)["resource"], resource);
        for call in refreshed(&lab, &server).await {
            assert_eq!(call.form["resource"], resource);
        }
        add_as(&lab, "more").await.is(201);
        assert_eq!(server.issuer().registered().len(), 1, "the client of the resource");
        lab.finish().await;
    }
}

/// oauth 13, registration and MCP 6: servers of the MCP SDK for Python refused the scopes of each consent.
#[tokio::test]
async fn a_client_is_registered_for_the_scopes_that_its_consents_request() {
    let (lab, server) = world(honest()).await;
    let made = add(&lab).await.is(201).json();
    let first = query(&consented(&lab, &server, &made).await);
    let mut clients = vec![first["client_id"].clone()];
    for (body, scope) in [("{}", "tools"), (r#"{"scopes":["write"]}"#, "tools write")] {
        let again = lab.gateway.api("POST", "/connections/tools/reconnect", body).await.is(200);
        let asked = query(&consented(&lab, &server, &again.json()).await);
        assert_eq!(asked["scope"], scope);
        clients.push(asked["client_id"].clone());
    }
    assert_eq!(clients[0], clients[1]);
    assert_ne!(clients[1], clients[2]);
    let registered = server.issuer().registered().into_iter();
    let scopes: Vec<_> = registered.map(|asked| asked.form["scope"].clone()).collect();
    assert_eq!(scopes, ["tools", "tools write"]);
    add_as(&lab, "more").await.is(201);
    assert_eq!(server.issuer().registered().len(), 2, "one of both is used again");
    lab.finish().await;
}

/// oauth 13, registration: oidc-provider registers no client for the scopes of a resource.
#[tokio::test]
async fn a_client_whose_scopes_are_refused_is_registered_without_them() {
    for code in ["invalid_client_metadata", "invalid_scope"] {
        let rules = Rules { auth: ClientAuth::None, ..Rules::default() };
        let server = std::sync::Arc::new(Authorization::with(rules).await);
        server.issuer().tell("registration_endpoint", json!(format!("https://{HOST}/register")));
        server.issuer().tell("token_endpoint_auth_methods_supported", json!(["none"]));
        server.issuer().know_client("unscoped");
        let own = server.clone();
        let origin = Origin::answering(move |request| match request.head.target() {
            "/register" if request.text().contains("\"scope\"") => {
                answer(400, &json!({ "error": code }))
            }
            "/register" => answer(201, &json!({ "client_id": "unscoped" })),
            _ => resource(request, &own, &honest()),
        });
        let mut lab = server.reached(Plan::api_key().hosts("other.acme.test")).start(origin).await;
        lab.add_agent(AGENT).await;
        let made = add(&lab).await.is(201).json();
        let asked = query(&consented(&lab, &server, &made).await);
        assert_eq!((&*asked["client_id"], &*asked["scope"]), ("unscoped", "tools"));
        refreshed(&lab, &server).await;
        // Its registration says nothing about scopes, so further ones need no other client.
        let more = r#"{"scopes":["write"]}"#;
        lab.gateway.api("POST", "/connections/tools/reconnect", more).await.is(200);
        let all = lab.origin.received();
        let registered = all.iter().filter(|it| it.head.target() == "/register");
        assert_eq!(registered.count(), 2);
        lab.finish().await;
    }
}
