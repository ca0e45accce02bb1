//! Hosts that a provider's answers name: taken where its file declares them, within its own domains, at a
//! consent and at every refresh; anything else changes nothing.

use serde_json::{Value, json};

use test_support::authorization::{AUTH_HOST, Fault, Rules};
use test_support::oauth::{AGENT, World};
use test_support::*;

/// Its API is at `{pod}.acme.test`, which the token's answer names as a URL.
fn provider() -> String {
    let at = |path: &str| format!("https://{AUTH_HOST}/{path}");
    format!(
        "{{ id: svc, name: Service, hosts: [\"{{pod}}.acme.test\"], variables: [{{ name: pod, kind: \
         label, label: Pod, captured: true, within: \"https://{{}}.acme.test\" }}], auth: [{{ id: oauth, \
         kind: oauth2, grant: authorization_code, issuer: \"https://{AUTH_HOST}\", authorize: \"{}\", \
         token: \"{}\", client_auth: basic, scopes: [read], account: account.id, capture: {{ pod: \
         instance_url, workspace: workspace_id }} }}] }}",
        at("authorize"),
        at("token"),
    )
}

fn names(url: &str) -> Fault {
    Fault::with("instance_url", json!(url))
}

async fn connected_at(url: &str) -> World {
    let world = World::with(Rules::default(), |plan| plan.provider(&provider())).await;
    let made = world.draft().await;
    world.server.fail_next(names(url));
    let mut browser = world.browser();
    world.consent(&mut browser, &made).await.is(303);
    world
}

/// What the agent is told, by CONNECT where that is refused.
async fn ask(world: &World, host: &str) -> Message {
    let (target, authorization) = (format!("{host}:443"), world.lab.authorization(AGENT));
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    let mut wire = world.lab.client().await;
    let answer = wire.ask(connect).await;
    if answer.head.status() != 200 {
        return answer;
    }
    let mut wire = world.lab.secure(wire, host).await;
    wire.ask(request_text("GET /thing", host)).await
}

/// oauth 6.13, 2.token-host: a host of the answer must be the provider's
#[tokio::test]
async fn a_consent_whose_answer_names_a_foreign_host_connects_nothing() {
    for evil in [
        "https://evil.test",
        "https://api.acme.test.evil.test",
        "https://x.api.acme.test",
        "http://api.acme.test",
        "https://evil.test/.acme.test",
        "https://user@evil.acme.test",
    ] {
        let world = World::with(Rules::default(), |plan| plan.provider(&provider())).await;
        let made = world.draft().await;
        world.server.fail_next(names(evil));
        let mut browser = world.browser();
        let back = world.consent(&mut browser, &made).await;
        assert_eq!(back.head.status(), 502, "{evil}: {}", back.text());
        assert_eq!(world.connection().await["state"], "draft", "{evil}");
        world.finish().await;
    }
}

/// oauth 6.13: by a consent
#[tokio::test]
async fn a_consent_stores_the_host_that_its_token_answer_names() {
    let world = connected_at("https://api.acme.test").await;
    assert_eq!(world.connection().await["hosts"], json!(["api.acme.test"]));
    assert_eq!(ask(&world, HOST).await.text(), "fine");
    world.finish().await;
}

/// oauth 6.13: by a refresh, whose answer says nothing that may be believed
#[tokio::test]
async fn a_refresh_whose_answer_names_a_foreign_host_is_accepted_and_keeps_the_host() {
    let world = connected_at("https://api.acme.test").await;
    for evil in ["https://evil.test", "https://x.other.acme.test", "other.acme.test", ""] {
        world.server.issuer().expire_all();
        world.server.fail_next(names(evil));
        assert_eq!(ask(&world, HOST).await.text(), "fine", "{evil}");
        assert_eq!(world.connection().await["hosts"], json!(["api.acme.test"]), "{evil}");
    }
    world.finish().await;
}

/// oauth 6.13: by a refresh; 14, Salesforce
#[tokio::test]
async fn a_refresh_whose_answer_names_another_host_of_the_provider_s_moves_the_connection() {
    let mut world = connected_at("https://api.acme.test").await;
    assert_eq!(ask(&world, HOST).await.text(), "fine");
    world.server.fail_next(names("https://other.acme.test"));
    world.api("POST", "/connections/work/refresh", &json!({})).await;
    assert_eq!(world.connection().await["hosts"], json!(["other.acme.test"]));
    until("the new host", async || ask(&world, STRANGER).await.text() == "fine").await;
    let fresh = world.server.calls().last().and_then(|call| call.issued.clone()).expect("issued");
    let received = world.lab.origin.received();
    let at = |host: &str| received.iter().filter(|it| it.head.one("host") == Some(host)).count();
    assert_eq!((at(HOST), at(STRANGER)), (1, 1));
    let last = received.last().expect("one");
    assert_eq!(last.head.one("authorization"), Some(&*format!("Bearer {}", fresh.access)));
    let mut wire = world.lab.client().await;
    let agent = world.lab.authorization(AGENT);
    wire.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{agent}\r\n")).await;
    let old = wire.answer("CONNECT").await;
    assert_eq!(old.head.status(), 403, "its credential goes there no more: {}", old.text());
    world.lab.gateway.restart().await;
    let shown: Value = world.connection().await;
    assert_eq!(shown["hosts"], json!(["other.acme.test"]), "and not after a restart");
    assert_eq!(ask(&world, STRANGER).await.text(), "fine");
    world.finish().await;
}

/// oauth 6.13: by a provider whose file says nothing of it
#[tokio::test]
async fn the_host_that_an_answer_names_is_said_if_requests_do_not_go_there() {
    for (url, told) in [
        ("https://other.acme.test/v2", json!("other.acme.test")),
        ("https://api.acme.test", Value::Null),
        ("ftp://other.acme.test", Value::Null),
    ] {
        let world = World::start().await;
        let made = world.draft().await;
        world.server.fail_next(Fault::with("api_domain", json!(url)));
        let mut browser = world.browser();
        world.consent(&mut browser, &made).await.is(303);
        let shown = world.connection().await;
        assert_eq!(shown["token"]["account_host"], told, "{url}: {shown}");
        world.finish().await;
    }
}
