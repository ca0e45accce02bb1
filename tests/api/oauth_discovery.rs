//! A remote MCP server is connected from its URL alone; an authorization server is believed only about
//! itself. OAuth rules 13.

mod forgotten_clients;
mod named_servers;
mod public_clients;
mod pushed;
mod resource_metadata;

use serde_json::{Value, json};

use crate::admin_network::{ask_at, user_login};
use test_support::authorization::{
    AUTH_HOST, Authorization, ClientAuth, ISSUER, Rules, TokenCall, answer, query,
};
use test_support::browser::Browser;
use test_support::canary::Canary;
use test_support::oauth::AGENT;
use test_support::{HOST, Lab, Message, Origin, Plan};

/// What the server says at its URL and about itself.
fn resource(request: &Message, server: &Authorization, document: &Value) -> Vec<u8> {
    let metadata = format!("https://{HOST}/.well-known/oauth-protected-resource/mcp");
    match request.head.target() {
        "/.well-known/oauth-protected-resource/mcp" => answer(200, document),
        "/mcp" if server.issuer().is_live(&bearer(request)) => answer(200, &json!("fine")),
        "/mcp" => format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer resource_metadata=\"{metadata}\", \
             scope=\"tools\"\r\nContent-Length: 0\r\n\r\n"
        )
        .into(),
        _ => answer(404, &json!({})),
    }
}

fn bearer(request: &Message) -> String {
    let field = request.head.one("authorization").unwrap_or_default();
    field.trim_start_matches("Bearer ").to_owned()
}

fn honest() -> Value {
    json!({ "resource": format!("https://{HOST}/mcp"), "authorization_servers": [ISSUER],
            "scopes_supported": ["all"] })
}

async fn world(document: Value) -> (Lab, std::sync::Arc<Authorization>) {
    world_with(document, Rules::default(), |plan| plan).await
}

async fn world_with(
    document: Value,
    rules: Rules,
    change: impl FnOnce(Plan) -> Plan,
) -> (Lab, std::sync::Arc<Authorization>) {
    let server = std::sync::Arc::new(Authorization::with(rules).await);
    let own = server.clone();
    let origin = Origin::answering(move |request| resource(request, &own, &document));
    let plan = server.reached(Plan::api_key().hosts("other.acme.test"));
    let mut lab = change(plan).start(origin).await;
    lab.add_agent(AGENT).await;
    (lab, server)
}

async fn add(lab: &Lab) -> Message {
    add_as(lab, "tools").await
}

async fn add_as(lab: &Lab, name: &str) -> Message {
    let new = json!({ "provider": "mcp", "name": name, "url": format!("https://{HOST}/mcp/") });
    lab.gateway.api("POST", "/connections", &new.to_string()).await
}

/// oauth 13, MCP 1 to 7
#[tokio::test]
async fn an_mcp_server_connects_from_its_url_alone() {
    let (lab, server) = world(honest()).await;
    let made = add(&lab).await.is(201).json();
    let registered = server.issuer().registered();
    assert_eq!(registered.len(), 1);
    let asked: Value = serde_json::from_str(&registered[0].text).expect("JSON");
    assert_eq!(asked["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(
        (&asked["application_type"], &asked["client_name"]),
        (&json!("native"), &json!("Keyward"))
    );

    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
    let question = query(&url);
    assert_eq!(json!([question["redirect_uri"]]), asked["redirect_uris"]);
    assert_eq!(
        (question["resource"].as_str(), question["scope"].as_str()),
        (&*format!("https://{HOST}/mcp"), "tools")
    );
    assert_eq!(browser.get(&server.issuer().consent(&url)).await.head.status(), 303);
    let call = server.only_call();
    assert_eq!(call.form["resource"], format!("https://{HOST}/mcp"), "in the exchange too");

    // A second connection of it uses the same client.
    let again = json!({ "provider": "mcp", "name": "more", "url": format!("https://{HOST}/mcp") });
    lab.gateway.api("POST", "/connections", &again.to_string()).await.is(201);
    assert_eq!(server.issuer().registered().len(), 1, "one registration, reused");

    let bind = json!({ "connection": "tools" }).to_string();
    lab.gateway.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    let mut wire = lab.tunnel_as(AGENT, HOST).await;
    wire.send(test_support::request_text("GET /mcp", HOST)).await;
    assert_eq!(wire.answer("GET").await.json(), "fine");
    let secret = Canary::of(server.only_call().issued.expect("tokens").access);
    secret.assert_absent_below(lab.gateway.folder());
    lab.finish().await;
}

/// The form named no provider, so that the API refused each URL.
#[tokio::test]
async fn the_form_of_the_console_connects_an_mcp_server_from_its_url() {
    let (mut lab, server) = world(honest()).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    let line = format!("GET /connect/to/mcp?agent={AGENT}");
    let page = ask_at(&lab, &line, &login.cookie(), "").await.is(200).text();
    let (_, form) = page.split_once(" data-api=\"POST /connections\"").expect("a form");
    let (form, fields) = form.split_once('>').expect("its end");
    assert!(fields.contains(r#"name="url""#) && fields.contains(r#"name="name""#), "{page}");
    assert!(form.contains(&format!("/connect/done/{{name}}?agent={AGENT}")), "{form}");
    let (_, body) = form.split_once("data-body=\"").expect("a body");
    let (body, _) = body.split_once('"').expect("its end");
    let mut body: Value = serde_json::from_str(&body.replace("&quot;", "\"")).expect("JSON");
    body["name"] = json!("tools");
    body["url"] = json!(format!("https://{HOST}/mcp"));
    let line = "POST /api/v1/connections";
    let made = ask_at(&lab, line, &login.fields(), &body.to_string()).await.is(201).json();
    assert_eq!(server.issuer().registered().len(), 1);
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
    assert_eq!(query(&url)["resource"], format!("https://{HOST}/mcp"));
    lab.finish().await;
}

/// All but the environment was lost.
#[tokio::test]
async fn the_description_tags_and_environment_of_an_mcp_connection_are_kept() {
    let (lab, _server) = world(honest()).await;
    let said = json!({ "description": "ours", "purpose": "search", "tags": ["team:crm"],
        "rotate_every": "90d", "environment": "prod" });
    let mut new = said.clone();
    new["provider"] = json!("mcp");
    new["name"] = json!("tools");
    new["url"] = json!(format!("https://{HOST}/mcp"));
    lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
    let shown = lab.gateway.api("GET", "/connections/tools", "").await.is(200).json();
    for (member, value) in said.as_object().expect("an object") {
        assert_eq!(&shown[member], value, "{member}");
    }
    lab.finish().await;
}

async fn is_refused_for(lab: &Lab, new: &Value, field: &str) {
    let refused = lab.gateway.api("POST", "/connections", &new.to_string()).await.is(422);
    let error = &refused.json()["error"];
    assert_eq!((&error["code"], &error["field"]), (&json!("invalid_field"), &json!(field)));
    assert!(error["hint"].as_str().is_some_and(|hint| hint.starts_with("omit it")), "{error}");
}

/// It was accepted and dropped.
#[tokio::test]
async fn fields_that_do_not_apply_to_a_connection_by_mcp_url_are_refused() {
    let (lab, server) = world(honest()).await;
    let reference = json!({ "from": "vault", "ref": "kv/mcp" });
    for (field, value) in [
        ("fields", json!({ "token": "word" })),
        ("fields", json!({ "token": reference })),
        ("references", json!({ "token": reference })),
        ("auth", json!("bearer")),
        ("app", json!("desk")),
        ("variables", json!({ "host": HOST })),
    ] {
        let mut new =
            json!({ "provider": "mcp", "name": "a", "url": format!("https://{HOST}/mcp") });
        new[field] = value;
        is_refused_for(&lab, &new, field).await;
    }
    assert_eq!(server.issuer().registered().len(), 0);
    lab.finish().await;
}

/// One that the catalogue or the configuration names needs no URL, and its client serves no other server.
#[tokio::test]
async fn a_named_mcp_server_connects_by_its_id() {
    let named = format!(
        "{{ id: named-mcp, name: Named, mcp: \"https://{HOST}/mcp\", hosts: [{HOST}], \
         auth: [{{ id: consent, kind: oauth2, pkce: required }}] }}"
    );
    let (lab, server) = world_with(honest(), Rules::default(), |plan| plan.provider(&named)).await;
    let shown = lab.gateway.api("GET", "/providers/named-mcp", "").await.json();
    assert_eq!(shown["mcp"], format!("https://{HOST}/mcp"));
    assert_eq!(shown["auth"][0]["needs_app"], false, "Keyward registers one: {shown}");
    // It was accepted and dropped.
    for (field, value) in [
        ("app", json!("desk")),
        ("auth", json!("bearer")),
        ("references", json!({ "token": { "from": "vault", "ref": "kv/mcp" } })),
        ("variables", json!({ "host": HOST })),
    ] {
        let mut new = json!({ "provider": "named-mcp", "name": "tools" });
        new[field] = value;
        is_refused_for(&lab, &new, field).await;
    }
    assert_eq!(server.issuer().registered().len(), 0);
    let new = json!({ "provider": "named-mcp", "name": "tools", "auth": "consent" }).to_string();
    let made = lab.gateway.api("POST", "/connections", &new).await.is(201);
    assert_eq!(made.json()["provider"], "named-mcp");
    let apps = lab.gateway.api("GET", "/apps", "").await.json();
    assert_eq!(apps["items"][0]["provider"], "named-mcp", "{apps}");
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made.json()["authorize_url"].as_str().expect("a page")).await;
    assert_eq!(query(&url)["resource"], format!("https://{HOST}/mcp"));
    assert_eq!(browser.get(&server.issuer().consent(&url)).await.head.status(), 303);

    // The same server by its URL is another provider, which does not get its client.
    assert_eq!(add_as(&lab, "more").await.head.status(), 201);
    assert_eq!(server.issuer().registered().len(), 2);

    let bind = json!({ "connection": "tools" }).to_string();
    lab.gateway.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    let mut wire = lab.tunnel_as(AGENT, HOST).await;
    wire.send(test_support::request_text("GET /mcp", HOST)).await;
    assert_eq!(wire.answer("GET").await.json(), "fine");
    lab.finish().await;
}

/// oauth 13, MCP 1, 2 and metadata
#[tokio::test]
async fn invalid_resource_metadata_is_refused_and_no_client_is_registered() {
    let other = |resource: &str| json!({ "resource": resource, "authorization_servers": [ISSUER] });
    let several = json!({ "resource": format!("https://{HOST}/mcp"),
                          "authorization_servers": [ISSUER, "https://second.acme.test"] });
    for document in [
        other("https://evil.test/mcp"),
        other(&format!("https://{HOST}/mcp2")),
        json!({ "resource": format!("https://{HOST}/mcp"), "authorization_servers": [] }),
        json!({ "resource": format!("https://{HOST}/mcp"), "authorization_servers": ["http://auth.acme.test"] }),
        json!([]),
        several,
    ] {
        let (lab, server) = world(document.clone()).await;
        let refused = add(&lab).await;
        assert_eq!(refused.head.status(), 422, "{document}: {}", refused.text());
        assert!(server.issuer().registered().is_empty(), "{document}");
        let left = lab.gateway.api("GET", "/connections/tools", "").await;
        assert_eq!(left.head.status(), 404, "nothing is left of it");
        lab.finish().await;
    }
}

/// oauth 2.pkce, and 13, metadata
#[tokio::test]
async fn authorization_server_metadata_that_is_invalid_or_lacks_s256_is_refused() {
    let lies: [(&str, Value); 5] = [
        ("issuer", json!("https://evil.test")),
        ("issuer", json!(format!("{ISSUER}/tenant"))),
        ("code_challenge_methods_supported", json!(["plain"])),
        ("code_challenge_methods_supported", Value::Null),
        ("token_endpoint", json!(format!("http://{AUTH_HOST}/token"))),
    ];
    for (member, value) in lies {
        let (lab, server) = world(honest()).await;
        server.issuer().tell(member, value.clone());
        let refused = add(&lab).await;
        assert_eq!(refused.head.status(), 422, "{member} {value}: {}", refused.text());
        lab.gateway.api("GET", "/connections/tools", "").await.is(404);
        lab.finish().await;
    }
}

/// oauth 13, registration
#[tokio::test]
async fn a_failed_client_registration_is_refused_and_leaves_no_connection() {
    for script in [
        answer(403, &json!({ "error": "access_denied" })),
        answer(201, &json!({ "client_id": "" })),
        answer(201, &json!({ "client_id": "x", "token_endpoint_auth_method": "private_key_jwt" })),
        b"HTTP/1.1 307 Elsewhere\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
    ] {
        let (lab, server) = world(honest()).await;
        server.issuer().script("/register", script);
        add(&lab).await.is(422);
        lab.gateway.api("GET", "/connections/tools", "").await.is(404);
        lab.finish().await;
    }
}

/// oauth 13, MCP 3: the commands exist.
#[tokio::test]
async fn the_refusal_of_a_server_without_client_registration_names_the_steps_for_an_own_client() {
    let (lab, server) = world(honest()).await;
    server.issuer().tell("registration_endpoint", Value::Null);
    let text = add(&lab).await.is(422).text();
    let steps = ["keyward provider add --help", "keyward app add"];
    assert!(steps.iter().all(|step| text.contains(step)), "{text}");
    lab.finish().await;
}

/// oauth 13, MCP 3: a document about ourselves, where servers read those and we have a public address.
#[tokio::test]
async fn a_client_id_may_be_the_url_of_a_client_metadata_document() {
    let rules = Rules { auth: ClientAuth::None, ..Rules::default() };
    let public = |plan: Plan| plan.top("public_url: https://kw.acme.test");
    let (lab, server) = world_with(honest(), rules, public).await;
    server.issuer().tell("client_id_metadata_document_supported", json!(true));
    let made = add(&lab).await.json();
    let mut browser = Browser::new(&lab.gateway);
    let start = made["authorize_url"].as_str().expect("a page").to_owned();
    let cookie = browser.get(&start).await.head.one("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    let url = browser.begin(&start).await;
    let id = query(&url)["client_id"].clone();
    assert!(id.starts_with("https://kw.acme.test/oauth/client/app_"), "{id}");
    let document = browser.get(&id).await.json();
    assert_eq!(document["client_id"], json!(id), "identical");
    assert_eq!(document["redirect_uris"], json!([query(&url)["redirect_uri"]]));
    server.issuer().know_client(&id);
    assert_eq!(browser.get(&server.issuer().consent(&url)).await.head.status(), 303);
    assert_eq!(server.only_call().form["client_id"], id);
    assert!(server.issuer().registered().is_empty(), "nothing was registered");
    assert_eq!(browser.get("/oauth/client/app_00000000000000000000").await.head.status(), 404);
    lab.finish().await;
}

/// oauth 13, MCP 5: a client that the server forgot is registered anew, and shown to no other server.
#[tokio::test]
async fn a_reconnect_with_register_replaces_a_client_that_the_server_forgot() {
    let (lab, server) = world(honest()).await;
    let made = add(&lab).await.json();
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
    server.issuer().forget_client(&query(&url)["client_id"]);
    let again = lab
        .gateway
        .api("POST", "/connections/tools/reconnect", r#"{"register":true}"#)
        .await
        .is(200);
    let mut browser = Browser::new(&lab.gateway);
    let new = browser.begin(again.json()["authorize_url"].as_str().expect("a page")).await;
    assert_ne!(query(&new)["client_id"], query(&url)["client_id"]);
    assert_ne!(query(&new)["redirect_uri"], query(&url)["redirect_uri"], "its own redirect URI");
    assert_eq!(browser.get(&server.issuer().consent(&new)).await.head.status(), 303);
    assert_eq!(server.issuer().registered().len(), 2);
    lab.finish().await;
}

/// Each attempt would leave a registration at the server.
#[tokio::test]
async fn the_client_that_replaces_an_expired_one_serves_the_next_attempt_too() {
    let (lab, server) = world(honest()).await;
    let secret = "expired-0123456789abcdef";
    let expired =
        json!({ "client_id": "expired", "client_secret": secret, "client_secret_expires_at": 1 });
    server.issuer().script("/register", answer(201, &expired));
    add(&lab).await.is(201);
    server.issuer().unscript("/register");
    let mut clients = Vec::new();
    for body in ["{}", "{}", r#"{"register":true}"#] {
        let again = lab.gateway.api("POST", "/connections/tools/reconnect", body).await.is(200);
        let page = again.json()["authorize_url"].as_str().expect("a page").to_owned();
        let url = Browser::new(&lab.gateway).begin(&page).await;
        clients.push(query(&url)["client_id"].clone());
    }
    assert_eq!(clients[0], clients[1]);
    assert_ne!(clients[1], clients[2]);
    assert_eq!(server.issuer().registered().len(), 2);
    lab.finish().await;
}

/// oauth 2.reconnect: tokens are of the client that they were issued to, and of no other one.
#[tokio::test]
async fn a_client_that_is_registered_again_is_used_when_its_consent_has_ended() {
    let (lab, server) = world(honest()).await;
    let made = add(&lab).await.json();
    let consented = async |url: &str, browser: &mut Browser| {
        browser.get(&server.issuer().consent(url)).await.is(303);
    };
    let mut browser = Browser::new(&lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
    consented(&url, &mut browser).await;
    let reconnect = async |body: &str| {
        let again = lab.gateway.api("POST", "/connections/tools/reconnect", body).await.is(200);
        let mut browser = Browser::new(&lab.gateway);
        let page = again.json()["authorize_url"].as_str().expect("a page").to_owned();
        let url = browser.begin(&page).await;
        (url, browser)
    };
    let refreshed = async || {
        lab.gateway.api("POST", "/connections/tools/refresh", "").await.is(200);
    };
    let (begun_before, mut its_browser) = reconnect("{}").await;
    let (url, mut browser) = reconnect(r#"{"register":true}"#).await;
    // No consent has ended yet, so the tokens in use are those of the first client.
    refreshed().await;
    consented(&url, &mut browser).await;
    refreshed().await;
    // A consent ends with the client that it began with.
    consented(&begun_before, &mut its_browser).await;
    refreshed().await;
    let proof = |call: &TokenCall| call.head.one("authorization").map(str::to_owned);
    let proofs: Vec<_> = server.calls().iter().map(proof).collect();
    let (first, second) = (proofs[0].clone(), proofs[2].clone());
    assert_ne!(first, second);
    let expected = [&first, &first, &second, &second, &first, &first];
    assert_eq!(proofs.iter().collect::<Vec<_>>(), expected);
    let shown = lab.gateway.api("GET", "/connections/tools", "").await.json();
    assert_eq!(shown["state"], "active", "{shown}");
    lab.finish().await;
}

/// oauth 5.agents: no injection at an authorization server's endpoints, also where it is on the API's host.
#[tokio::test]
async fn an_agent_gets_no_injection_at_the_token_endpoint_of_an_mcp_server() {
    let (lab, server) = world(honest()).await;
    server.issuer().tell("token_endpoint", json!(format!("https://{HOST}/token")));
    assert_eq!(add(&lab).await.head.status(), 201);
    let bind = json!({ "connection": "tools" }).to_string();
    lab.gateway.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    let mut wire = lab.tunnel_as(AGENT, HOST).await;
    wire.send(test_support::request_text("POST /token", HOST)).await;
    let refused = wire.answer("POST").await;
    assert_eq!(
        refused.head.one("keyward-error"),
        Some("token_endpoint_refused"),
        "{}",
        refused.text()
    );
    lab.finish().await;
}

/// oauth 2.5: announced, and missing; in an answer that says an error too.
#[tokio::test]
async fn a_callback_without_the_announced_iss_parameter_is_refused() {
    for declines in [false, true] {
        let (lab, server) = world(honest()).await;
        let made = add(&lab).await.json();
        let mut browser = Browser::new(&lab.gateway);
        let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
        let issuer = server.issuer();
        let back = if declines { issuer.decline(&url) } else { issuer.consent(&url) };
        let (without, _) = back.split_once("&iss=").expect("it is announced and sent");
        let refused = browser.get(without).await.is(400);
        assert!(!refused.text().contains("declined"), "{}", refused.text());
        assert!(server.calls().is_empty(), "nothing was sent");
        let shown = lab.gateway.api("GET", "/connections/tools", "").await.json();
        assert_eq!(shown["state"], "draft");
        assert_eq!(browser.get(&back).await.head.status(), 400, "it is spent");
        lab.finish().await;
    }
}

/// oauth 5.metadata: a document that does not end.
#[tokio::test]
async fn metadata_over_its_size_limit_is_refused() {
    for (padding, connects) in [(900 * 1024, true), (1024 * 1024, false)] {
        let (lab, server) = world(honest()).await;
        server.issuer().tell("padding", json!("x".repeat(padding)));
        let made = add(&lab).await;
        assert_eq!(made.head.status(), if connects { 201 } else { 422 }, "{}", made.text());
        assert_eq!(server.issuer().registered().len(), usize::from(connects));
        lab.finish().await;
    }
}

/// oauth 13, metadata: what was read before holds while the server does not tell.
#[tokio::test]
async fn metadata_that_is_too_old_is_used_while_its_server_is_down() {
    let old = |plan: Plan| plan.top("oauth: { metadata_age_max: 1ms }");
    let (lab, server) = world_with(honest(), Rules::default(), old).await;
    assert_eq!(add(&lab).await.head.status(), 201);
    let well_known = "/.well-known/oauth-authorization-server";
    let read = || {
        let all = server.origin.received();
        all.iter().filter(|request| request.head.target() == well_known).count()
    };
    let before = read();
    for (name, down) in [
        ("b", &b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n"[..]),
        ("c", b"HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"),
    ] {
        server.issuer().script(well_known, down);
        let again =
            json!({ "provider": "mcp", "name": name, "url": format!("https://{HOST}/mcp") });
        let again = lab.gateway.api("POST", "/connections", &again.to_string()).await.is(201);
        let mut browser = Browser::new(&lab.gateway);
        let url = browser.begin(again.json()["authorize_url"].as_str().expect("a page")).await;
        browser.get(&server.issuer().consent(&url)).await.is(303);
    }
    assert!(read() > before, "it was asked for anew");
    assert_eq!(server.calls().len(), 2);
    lab.finish().await;
}
