//! Who is asking: every form in which real clients send a token, and everything that is not one.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use test_support::*;

async fn connect_with(lab: &Lab, line: &str) -> Message {
    let mut wire = lab.client().await;
    wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{line}\r\n")).await
}

fn basic(pair: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair))
}

#[tokio::test]
async fn a_missing_or_invalid_token_is_407_before_anything_is_dialled() {
    let lab = Lab::simple().await;
    let token = lab.token("ci").to_owned();
    let wrong = token.replace("kwa_", "kwb_");
    for line in [
        String::new(),
        "Proxy-Authorization:\r\n".to_owned(),
        "Proxy-Authorization: Basic\r\n".to_owned(),
        "Proxy-Authorization: Basic !!!\r\n".to_owned(),
        format!("Proxy-Authorization: Negotiate {token}\r\n"),
        format!("Proxy-Authorization: {token}\r\n"),
        format!("Authorization: Bearer {token}\r\n"),
        format!("Proxy-Authorization: Bearer {wrong}\r\n"),
        format!("Proxy-Authorization: Bearer {}\r\n", &token[..token.len() - 1]),
        format!("Proxy-Authorization: Bearer {token}x\r\n"),
        basic("ci:"),
        basic(":"),
        basic("ci"),
        basic(&format!("ci:{wrong}")),
        basic(&format!("ci:{token} ")),
        basic(&format!("ci:{}", token.to_uppercase())),
    ] {
        let answer = connect_with(&lab, &line).await;
        assert_eq!(answer.head.status(), 407, "{line:?}: {answer:?}");
        let challenge = answer.head.one("proxy-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        assert_eq!(answer.head.one("keyward-error"), Some("agent_unauthenticated"));
        assert_eq!(answer.json()["error"]["code"], "agent_unauthenticated");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_user_name_other_than_that_of_the_token_s_agent_is_407() {
    let lab = Plan::api_key().agent("other", "").start(Origin::saying("fine")).await;
    let token = lab.token("ci").to_owned();
    for name in ["other", "nobody", "CI", "ci2"] {
        let answer = connect_with(&lab, &basic(&format!("{name}:{token}"))).await;
        assert_eq!(answer.head.status(), 407, "{name}");
    }
    lab.finish().await;
}

/// The words for a missing token make people with an expired one look for a mistake in the proxy URL.
#[tokio::test]
async fn missing_unknown_and_paused_tokens_get_different_messages_and_remedies() {
    let mut lab = Lab::simple().await;
    lab.add_agent("laptop").await;
    let right = lab.authorization("laptop");
    assert_eq!(connect_with(&lab, &right).await.head.status(), 200);
    lab.gateway.api("POST", "/agents/laptop/pause", "{}").await.is(200);
    for (line, message, remedy) in [
        (String::new(), "proxy authentication is required", "http://NAME:TOKEN@HOST:PORT"),
        (basic("ci:kwa_00000000000000000000"), "token is not accepted", "`keyward run`"),
        (right, "its agent is paused", "`keyward agent show NAME`"),
    ] {
        let answer = connect_with(&lab, &line).await;
        assert_eq!(answer.head.status(), 407, "{line:?}: {answer:?}");
        let error = &answer.json()["error"];
        let said = |member: &str| error[member].as_str().expect("text").to_owned();
        assert!(said("message").contains(message), "{error}");
        assert!(said("hint").contains(remedy), "{error}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn two_proxy_authorization_fields_are_refused() {
    let lab = Lab::simple().await;
    let right = lab.authorization("ci");
    let wrong = basic("ci:kwa_00000000000000000000");
    for lines in [format!("{right}{wrong}"), format!("{wrong}{right}")] {
        let status = connect_with(&lab, &lines).await.head.status();
        assert!(matches!(status, 400 | 407), "{status}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn every_form_of_proxy_authorization_that_clients_send_is_accepted() {
    let lab = Lab::simple().await;
    let token = lab.token("ci").to_owned();
    let encoded = BASE64_STANDARD.encode(format!("ci:{token}"));
    for line in [
        basic(&format!("ci:{token}")),
        basic(&format!("{token}:")),
        basic(&token),
        basic(&format!(":{token}")),
        format!("Proxy-Authorization: Bearer {token}\r\n"),
        format!("proxy-authorization: bearer {token}\r\n"),
        format!("PROXY-AUTHORIZATION: BEARER {token}\r\n"),
        format!("proxy-authorization: basic {encoded}\r\n"),
        format!("Proxy-Authorization:BASIC {encoded}\r\n"),
        format!("Proxy-Authorization:   Basic   {encoded}  \r\n"),
    ] {
        let answer = connect_with(&lab, &line).await;
        assert_eq!(answer.head.status(), 200, "{line:?}: {answer:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_407_keeps_the_client_stream_open_for_the_second_attempt() {
    let lab = Lab::simple().await;
    let mut wire = lab.client().await;
    let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n");
    wire.send(format!("{head}\r\n")).await;
    let refused = wire.answer("CONNECT").await.is(407);
    assert!(refused.head.has("content-length"), "{refused:?}");
    assert_ne!(refused.head.one("connection"), Some("close"));
    wire.send(format!("{head}{}\r\n", lab.authorization("ci"))).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    lab.finish().await;
}

#[tokio::test]
async fn wrong_tokens_are_429_after_the_limit_and_the_right_token_is_still_accepted() {
    let plan = Plan::api_key().limit("auth_failures_per_minute_max: 5");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut last = 407;
    for guess in 0..12 {
        let line = basic(&format!("ci:kwa_guess-number-{guess:010}"));
        let answer = connect_with(&lab, &line).await;
        last = answer.head.status();
        assert!(matches!(last, 407 | 429), "{last}");
        assert_eq!(last == 429, guess >= 5, "guess {guess} got {last}");
    }
    assert_eq!(last, 429);
    let right = connect_with(&lab, &lab.authorization("ci")).await;
    assert_eq!(right.head.status(), 200, "the right token is let in all the same");
    lab.finish().await;
}

#[tokio::test]
async fn every_request_on_the_plain_port_authenticates_by_itself() {
    let lab = Lab::simple().await;
    let mut wire = lab.client().await;
    let first = format!("GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n");
    wire.send(format!("{first}{}\r\n", lab.authorization("ci"))).await;
    assert_eq!(wire.answer("GET").await.head.status(), 200);
    wire.send(format!("{first}\r\n")).await;
    assert_eq!(wire.answer("GET").await.head.status(), 407);
    lab.finish_after(1).await;
}

#[tokio::test]
async fn proxy_authorization_inside_the_tunnel_is_neither_needed_nor_forwarded() {
    let mut lab = Lab::simple().await;
    let authorization = lab.authorization("ci");
    let line = authorization.trim_end();
    let head = lab.delivered(&format!("GET /a\r\n{line}\r\nProxy-Connection: keep-alive")).await;
    assert!(!head.has("proxy-authorization"), "{head:?}");
    assert!(!head.has("proxy-connection"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_wrong_token_inside_the_tunnel_is_ignored_and_not_forwarded() {
    let mut lab = Lab::simple().await;
    let head = lab.delivered("GET /a\r\nProxy-Authorization: Basic Y2k6d3Jvbmc=").await;
    assert!(!head.has("proxy-authorization"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_revoked_token_is_407() {
    let lab = Plan::api_key().agent("leaver", "acme").start(Origin::saying("fine")).await;
    let services = lab.gateway.running().services();
    let org = keyward_base::id::OrgId::default_org();
    let view = services.directory.view();
    let agent = view.find_agent(&org, "leaver").expect("the agent");
    let issued =
        services.directory.add_token(&org, &agent.id, None, None, None).await.expect("a token");
    let text = issued.text.expose_text().expect("text").to_owned();
    let (token, line) = (&issued.id, format!("Proxy-Authorization: Bearer {text}\r\n"));
    assert_eq!(connect_with(&lab, &line).await.head.status(), 200);
    services.directory.revoke_token(&org, &agent.id, token).await.expect("revoked");
    assert_eq!(connect_with(&lab, &line).await.head.status(), 407);
    lab.finish().await;
}
