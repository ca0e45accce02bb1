//! Metadata of authorization servers: read when needed, cached while valid, and read again when an endpoint no longer
//! exists. OAuth rules 13.

use serde_json::json;

use test_support::authorization::{AUTH_HOST, Fault, ISSUER, Rules, TokenCall, answer};
use test_support::oauth::{AGENT, World};
use test_support::pki::pki;
use test_support::*;

const DOCUMENT: &str = "/.well-known/oauth-authorization-server";

/// Nobody configured its endpoints: only its issuer is known.
fn provider() -> String {
    format!(
        "{{ id: svc, name: Service, hosts: [{HOST}], auth: [{{ id: oauth, kind: oauth2, grant: \
         authorization_code, issuer: \"{ISSUER}\", client_auth: basic, scopes: [read], account: \
         account.id }}] }}"
    )
}

async fn world() -> World {
    World::with(Rules::default(), |plan| plan.provider(&provider())).await
}

async fn refused(world: &World, what: &str) -> String {
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app" });
    let answer = world.lab.gateway.api("POST", "/connections", &new.to_string()).await;
    assert_eq!(answer.head.status(), 422, "{what}: {}", answer.text());
    assert!(world.server.calls().is_empty(), "{what}");
    answer.text()
}

/// oauth 13, metadata: "later" is not "none"
#[tokio::test]
async fn a_429_or_5xx_for_metadata_is_an_error_and_no_other_well_known_url_is_tried() {
    for status in [429, 500, 503] {
        let world = world().await;
        world.server.issuer().script(DOCUMENT, answer(status, &json!({})));
        // Were it asked for the next place, that would be a good answer.
        let good = answer(200, &world.server.issuer().metadata());
        world.server.issuer().script("/.well-known/openid-configuration", good);
        let said = refused(&world, &status.to_string()).await;
        assert!(said.contains(&status.to_string()) && said.contains("try again"), "{said}");
        world.finish().await;
    }
}

/// An answer of a site that has a page for every path.
fn page() -> Vec<u8> {
    let html = "<!doctype html><title>Sign in</title>";
    let length = html.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{html}")
        .into()
}

/// An answer of a site that leads to its login.
fn redirect() -> Vec<u8> {
    b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/login\r\nContent-Length: 0\r\n\r\n".to_vec()
}

/// The requested well-known URLs, in order.
fn places(world: &World) -> Vec<String> {
    let all = world.server.origin.received();
    let targets = all.iter().map(|request| request.head.target().to_owned());
    targets.filter(|target| target.contains("/.well-known/")).collect()
}

/// The well-known URLs of issuer `/t`.
const OF_T: [&str; 4] = [
    "/.well-known/oauth-authorization-server/t",
    "/.well-known/openid-configuration/t",
    "/t/.well-known/openid-configuration",
    "/t/.well-known/oauth-authorization-server",
];

/// The issuer has a path, and its metadata names it.
async fn world_of_t() -> World {
    let provider = provider().replace(ISSUER, &format!("{ISSUER}/t"));
    let rules = Rules { iss: false, ..Rules::default() };
    let world = World::with(rules, |plan| plan.provider(&provider)).await;
    world.server.issuer().tell("issuer", json!(format!("{ISSUER}/t")));
    world
}

/// oauth 13, metadata: the search ended at the first page.
#[tokio::test]
async fn a_page_or_a_redirect_at_a_well_known_url_is_no_metadata_and_the_next_url_is_read() {
    for (first, second) in [
        (page(), redirect()),
        (redirect(), page()),
        (answer(200, &json!([])), answer(404, &json!({}))),
    ] {
        let world = world_of_t().await;
        let issuer = world.server.issuer();
        issuer.script(OF_T[0], first);
        issuer.script(OF_T[1], second);
        issuer.script(OF_T[2], answer(200, &issuer.metadata()));
        world.connected().await;
        assert_eq!(places(&world), OF_T[..3]);
        assert_eq!(world.server.only_call().form["grant_type"], "authorization_code");
        assert_eq!(world.request().await.text(), "fine");
        world.finish().await;
    }
}

/// oauth 13, metadata: a server that is down, or that names another issuer, ends the search.
#[tokio::test]
async fn without_metadata_at_any_well_known_url_the_first_problem_is_reported() {
    let down = || answer(503, &json!({}));
    let other = || answer(200, &json!({ "issuer": "https://evil.test" }));
    let missing = || answer(404, &json!({}));
    for (answers, requested, said) in [
        ([page(), redirect(), missing()], 4, "is unreadable"),
        ([missing(), redirect(), page()], 4, "answered with a redirect"),
        ([page(), down(), page()], 2, "answers 503 at present"),
        ([redirect(), other(), page()], 2, "names another issuer"),
        ([missing(), missing(), missing()], 4, "has no metadata"),
    ] {
        let world = world_of_t().await;
        for (place, answer) in OF_T.iter().zip(answers) {
            world.server.issuer().script(place, answer);
        }
        let text = refused(&world, said).await;
        assert!(text.contains(said), "{said}: {text}");
        assert_eq!(places(&world), OF_T[..requested], "{said}");
        world.finish().await;
    }
}

/// oauth 2.pkce, and 13, metadata: for an app that a person registered too
#[tokio::test]
async fn metadata_without_s256_or_with_a_user_in_an_endpoint_is_refused() {
    for (member, value) in [
        ("code_challenge_methods_supported", json!(["plain"])),
        ("code_challenge_methods_supported", json!([])),
        ("token_endpoint", json!(format!("https://user@{AUTH_HOST}/token"))),
        ("authorization_endpoint", json!(format!("https://{AUTH_HOST}@evil.test/authorize"))),
        ("issuer", json!(format!("https://user@{AUTH_HOST}"))),
    ] {
        let world = world().await;
        world.server.issuer().tell(member, value.clone());
        refused(&world, &format!("{member} {value}")).await;
        world.finish().await;
    }
}

/// oauth 13, metadata: endpoints that were discovered are there for refreshes, also after a restart
#[tokio::test]
async fn a_server_known_by_its_issuer_alone_renews_tokens_after_a_restart_while_its_documents_are_down()
 {
    let mut world = world().await;
    world.connected().await;
    world.server.issuer().script(DOCUMENT, answer(503, &json!({})));
    for _ in 0..2 {
        world.server.issuer().expire_all();
        assert_eq!(world.request().await.text(), "fine");
        world.lab.gateway.restart().await;
    }
    assert_eq!(world.server.calls().len(), 3, "a code and two refreshes");
    world.finish().await;
}

/// oauth 13, metadata: a stale copy serves while the server is down
#[tokio::test]
async fn stale_metadata_is_used_while_its_server_is_down_and_replaced_afterwards() {
    let world = world().await;
    world.connected().await;
    let flows = world.lab.gateway.running().services().flows.clone();
    let vault = world.lab.gateway.running().services().vault.clone();
    let mut settings = keyward_base::tokens::TokenSettings::clone(&vault.token_settings());
    settings.metadata_age_max = std::time::Duration::ZERO;
    flows.set(settings);
    world.server.issuer().script(DOCUMENT, answer(503, &json!({})));
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    assert!(again["authorize_url"].is_string(), "{again:#}");
    world.server.issuer().tell("code_challenge_methods_supported", json!(["plain"]));
    world.server.issuer().unscript(DOCUMENT);
    let refused = world.lab.gateway.api("POST", "/connections/work/reconnect", "{}").await;
    assert_eq!(refused.head.status(), 422, "what it says now counts: {}", refused.text());
    world.finish().await;
}

/// oauth 2.start: neither a fault of ours, nor the end of the link
#[tokio::test]
async fn a_start_page_whose_server_is_down_says_so_and_works_when_it_is_back() {
    let mut world = world().await;
    let made = world.draft().await;
    let start = made["authorize_url"].as_str().expect("a page").to_owned();
    let mut browser = world.browser();
    assert_eq!(browser.get(&start).await.head.status(), 200);
    world.server.issuer().script(DOCUMENT, answer(503, &json!({})));
    // What it said before is forgotten with the process.
    world.lab.gateway.restart().await;
    let mut again = world.browser();
    again.cookies = browser.cookies;
    for method in ["GET", "POST", "GET"] {
        let told = again.ask(method, &start).await;
        assert_eq!(told.head.status(), 503, "{method}: {}", told.text());
        assert!(told.head.one("retry-after").is_some(), "{method}");
        assert!(told.text().contains("answers 503 at present"), "{}", told.text());
    }
    world.server.issuer().unscript(DOCUMENT);
    let url = again.begin(&start).await;
    assert_eq!(again.get(&world.server.issuer().consent(&url)).await.head.status(), 303);
    assert_eq!(world.connection().await["state"], "active");
    world.finish().await;
}

/// oauth 13, metadata: read anew on 404 or 405 of an endpoint
#[tokio::test]
async fn a_moved_token_endpoint_is_found_again_by_reading_the_metadata() {
    for status in [404, 405] {
        let world = world().await;
        world.connected().await;
        let vault = world.lab.gateway.running().services().vault.clone();
        let mut settings = keyward_base::tokens::TokenSettings::clone(&vault.token_settings());
        settings.backoff_first = std::time::Duration::from_millis(20);
        vault.replace_token_settings(settings);
        world.server.issuer().tell("token_endpoint", json!(format!("{ISSUER}/renew")));
        world.server.issuer().expire_all();
        world.server.fail_always(Fault::status(status, "", "gone"));
        let is_new = |call: &TokenCall| call.head.target() == "/renew";
        let moved = async {
            while !world.server.calls().iter().any(is_new) {
                world.request().await;
            }
        };
        patiently("the new endpoint", moved).await;
        world.server.heal();
        until("a token of the new endpoint", async || world.request().await.head.status() == 200)
            .await;
        assert!(is_new(world.server.calls().last().expect("a call")), "{status}");
        world.finish().await;
    }
}

/// oauth 5: no injection at an endpoint that was discovered, also where it is on the API's own host
#[tokio::test]
async fn a_discovered_token_endpoint_on_the_api_s_host_gets_no_credential() {
    let world = world().await;
    world.server.issuer().tell("token_endpoint", json!(format!("https://{HOST}/oauth/token")));
    world.draft().await;
    let refused = world.lab.ask_as(AGENT, HOST, "POST /oauth/token").await;
    let code = refused.head.one("keyward-error");
    assert_eq!(code, Some("token_endpoint_refused"), "{}", refused.text());
    assert!(world.lab.origin.received().is_empty());
    world.finish().await;
}

/// oauth 2.signed-request: the browser was sent to a page that refused the request.
#[tokio::test]
async fn a_server_that_requires_signed_authorization_requests_is_refused_before_a_consent_begins() {
    let world = world().await;
    let requires = |value| world.server.issuer().tell("require_signed_request_object", value);
    requires(json!(true));
    let said = refused(&world, "a signed request").await;
    assert!(said.contains(ISSUER) && said.contains("JAR"), "{said}");
    world.finish().await;
    for usual in [json!(false), json!(null)] {
        let world = self::world().await;
        world.server.issuer().tell("require_signed_request_object", usual);
        world.connected().await;
        world.finish().await;
    }
}

/// oauth 13.certificate-endpoints: a client with a secret does not use them.
#[tokio::test]
async fn a_client_with_a_certificate_uses_the_endpoints_for_certificates_in_all_requests() {
    for (shows, own) in [(false, "/revoke"), (true, "/mtls/revoke")] {
        let world = world().await;
        let issuer = world.server.issuer();
        let at = |path: &str| format!("{ISSUER}{path}");
        let (token, revoke) = (at("/mtls/token"), at("/mtls/revoke"));
        let aliases = json!({ "token_endpoint": token, "revocation_endpoint": revoke });
        issuer.tell("mtls_endpoint_aliases", aliases);
        if shows {
            let (certificate, key) = pki().pem(&["keyward.acme.test"]);
            let secrets = json!({ "certificate": certificate, "private_key": key });
            let settings = json!({ "client_auth": "mtls" });
            let change = json!({ "secrets": secrets, "settings": settings });
            world.api("PATCH", "/apps/svc-app", &change).await;
            let pair = issuer.issue();
            let tokens = json!({ "access_token": pair.access, "refresh_token": pair.refresh });
            issuer.script("/mtls/token", answer(200, &tokens));
            issuer.script("/mtls/revoke", answer(200, &json!({})));
        }
        world.connected().await;
        assert_eq!(world.request().await.text(), "fine");
        let removed = world.api("DELETE", "/connections/work?revoke=true", &json!(null)).await;
        assert_eq!(removed["revoked_upstream"], true, "{removed}");
        let received = world.server.origin.received();
        let posts = received.iter().filter(|request| request.head.method() == "POST");
        let posts: Vec<_> = posts.map(|request| request.head.target().to_owned()).collect();
        assert_eq!(posts, [own.replace("revoke", "token").as_str(), own, own]);
        world.finish().await;
    }
}

/// A server with its issuer and the endpoints of a consent in the browser, and no others.
async fn world_of_consent_endpoints() -> World {
    let at = |path: &str| format!("{ISSUER}/{path}");
    let endpoints = format!("authorize: \"{}\", token: \"{}\",", at("authorize"), at("token"));
    let provider = provider().replace("client_auth:", &format!("{endpoints} client_auth:"));
    let rules = Rules { interval: Some(0.05), ..Rules::default() };
    World::with(rules, move |plan| plan.provider(&provider)).await
}

/// oauth 13.other-endpoints: the removal reported that the provider has no revocation.
#[tokio::test]
async fn a_revocation_endpoint_that_is_not_configured_is_read_from_the_metadata() {
    let world = world_of_consent_endpoints().await;
    world.connected().await;
    assert!(places(&world).is_empty(), "the consent needs no metadata");
    let pair = world.server.only_call().issued.expect("tokens");
    world.server.issuer().script(DOCUMENT, answer(503, &json!({})));
    let removed = world.api("DELETE", "/connections/work?revoke=true", &json!(null)).await;
    assert_eq!(removed["revoked_upstream"], false, "{removed}");
    assert!(removed["until"].is_string() && world.server.issuer().revoked().is_empty());
    world.server.issuer().unscript(DOCUMENT);
    until("the revocation", async || !world.server.issuer().is_live(&pair.access)).await;
    world.finish().await;
}

/// oauth 13.other-endpoints
#[tokio::test]
async fn a_server_without_metadata_has_no_revocation_where_none_is_configured() {
    let world = world_of_consent_endpoints().await;
    world.server.issuer().tell("issuer", json!("https://other.acme.test"));
    world.connected().await;
    let removed = world.api("DELETE", "/connections/work?revoke=true", &json!(null)).await;
    assert_eq!(removed["revoked_upstream"], json!(null), "{removed}");
    assert_eq!(removed["until"], json!(null), "{removed}");
    assert!(world.server.issuer().revoked().is_empty());
    world.finish().await;
}

/// oauth 13.other-endpoints: the refusal told to give the app its issuer, which it had.
#[tokio::test]
async fn a_device_endpoint_that_is_not_configured_is_read_from_the_metadata() {
    let world = world_of_consent_endpoints().await;
    let new = json!({
        "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app", "device": true
    });
    let made = world.api("POST", "/connections", &new).await;
    world.server.issuer().decide(made["user_code"].as_str().expect("a code"), true);
    assert_eq!(world.settled(&made).await["state"], "connected");
    world.finish().await;
}
