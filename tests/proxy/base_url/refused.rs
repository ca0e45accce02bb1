//! What no base URL gets, and what is said of it.

use super::{AT, ask, bearer, code};
use test_support::canary::Canary;
use test_support::*;

/// The body without the id of its exchange.
fn told(answer: &Message) -> serde_json::Value {
    let mut told = answer.json();
    told["error"].as_object_mut().expect("an error").remove("exchange");
    told
}

#[tokio::test]
async fn an_answer_without_a_token_does_not_reveal_which_connections_exist() {
    let lab = Lab::simple().await;
    let known = ask(&lab, AT, "GET /to/acme/v1").await;
    assert_eq!((known.head.status(), code(&known)), (401, Some("agent_unauthenticated")));
    let challenge = known.head.one("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Basic realm="), "{known:?}");
    assert!(!known.head.has("proxy-authenticate"), "{known:?}");
    assert!(known.text().contains("Keyward-Token"), "{}", known.text());
    for (host, path) in [(AT, "/to/nothing/"), (AT, "/to//"), ("nothing.localhost", "/")] {
        assert_eq!(told(&ask(&lab, host, &format!("GET {path}")).await), told(&known), "{path}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_wrong_repeated_or_misplaced_token_is_401() {
    let lab = Plan::api_key().agent("other", "").start(Origin::saying("fine")).await;
    let token = lab.token("ci").to_owned();
    let wrong = format!("{token}x");
    for lines in [
        format!("Authorization: Bearer {wrong}"),
        format!("X-Api-Key: {wrong}"),
        format!("Keyward-Token: {wrong}"),
        format!("Keyward-Token: other:{token}"),
        // Which of two counts would be a guess, and neither stands in for the other.
        format!("Keyward-Token: {token}\r\nKeyward-Token: {token}"),
        format!("Keyward-Token: {wrong}\r\nAuthorization: Bearer {token}"),
        format!("Proxy-Authorization: Bearer {wrong}\r\nX-Api-Key: {token}"),
        format!("Cookie: token={token}"),
    ] {
        let answer = ask(&lab, AT, &format!("GET /to/acme/\r\n{lines}")).await;
        assert_eq!(answer.head.status(), 401, "{lines}: {answer:?}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn wrong_tokens_count_toward_the_limit_of_authentication_failures() {
    let lab = Plan::api_key().limit("auth_failures_per_minute_max: 3");
    let lab = lab.start(Origin::saying("fine")).await;
    for expected in [401, 401, 401, 429] {
        let guess = "GET /to/acme/\r\nKeyward-Token: kwa_guessed";
        assert_eq!(ask(&lab, AT, guess).await.head.status(), expected);
    }
    let right = format!("GET /to/acme/\r\n{}", bearer(&lab));
    assert_eq!(ask(&lab, AT, &right).await.head.status(), 200, "the right token is let in");
    lab.finish().await;
}

#[tokio::test]
async fn a_placeholder_sent_as_the_token_is_401_and_the_message_says_so() {
    let lab = Lab::simple().await;
    let placeholder = lab.placeholder("api_key");
    let request = format!("GET /to/acme/\r\nAuthorization: Bearer {placeholder}");
    ask(&lab, AT, &request).await.is(401).says("a placeholder where");
    lab.finish().await;
}

#[tokio::test]
async fn a_401_for_a_browser_has_no_www_authenticate_field() {
    let lab = Lab::simple().await;
    for lines in
        ["Sec-Fetch-Site: none", "Sec-Fetch-Site: same-origin", "Origin: http://127.0.0.1:8080"]
    {
        let answer = ask(&lab, AT, &format!("GET /to/acme/\r\n{lines}")).await;
        assert_eq!(answer.head.status(), 401, "{lines}");
        assert!(!answer.head.has("www-authenticate"), "{lines}: {answer:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn cross_site_requests_are_refused_even_with_a_valid_token() {
    let lab = Lab::simple().await;
    let key = bearer(&lab);
    for lines in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: None, cross-site",
        "Origin: null",
        "Origin: https://evil.test",
        "Origin: http://127.0.0.1:3000",
        "Origin: http://localhost:8080",
        "Origin: https://127.0.0.1:8080",
        "Origin: http://127.0.0.1:8080.evil.test",
        "Origin: http://127.0.0.1:8080\r\nOrigin: http://evil.test",
        "Origin: http://evil.test\r\nSec-Fetch-Site: same-origin",
        "Access-Control-Request-Method: POST",
    ] {
        for method in ["GET", "OPTIONS"] {
            let answer = ask(&lab, AT, &format!("{method} /to/acme/\r\n{key}\r\n{lines}")).await;
            assert_eq!(answer.head.status(), 403, "{lines}: {answer:?}");
            assert_eq!(code(&answer), Some("cross_site_refused"), "{lines}");
            assert!(!answer.head.has("access-control-allow-origin"), "{lines}");
        }
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_request_with_an_unlisted_host_name_is_421() {
    let lab = Lab::simple().await;
    let key = bearer(&lab);
    for host in ["evil.test:8080", "keyward:8080", "localhost.evil.test", "user@localhost", ""] {
        let answer = ask(&lab, host, &format!("GET /to/acme/\r\n{key}")).await;
        assert_eq!((answer.head.status(), code(&answer)), (421, Some("host_mismatch")), "{host}");
        assert!(answer.text().contains("listen.base_url_hosts"), "{}", answer.text());
    }
    let two = format!("GET /to/acme/\r\n{key}\r\nHost: {AT}");
    assert_eq!(ask(&lab, AT, &two).await.head.status(), 421);
    let mut wire = lab.client().await;
    wire.ask(format!("GET /to/acme/ HTTP/1.0\r\n{key}\r\n\r\n")).await.is(421);
    lab.finish_unreached().await;
}

#[tokio::test]
async fn the_listener_of_one_agent_refuses_base_urls() {
    let at = "agents: [{ agent: ci, at: '127.0.0.1:0', unsafe_no_auth: true }]";
    let lab = Plan::api_key().listen(at).start(Origin::saying("fine")).await;
    let (_, at) = lab.gateway.running().agent_addrs()[0].clone();
    for lines in [String::new(), format!("\r\n{}", bearer(&lab))] {
        for (host, path) in [(AT, "/to/acme/"), ("acme.localhost", "/")] {
            let mut wire = lab.client_at(at.tcp().expect("TCP")).await;
            let answer = wire.ask(request_text(&format!("GET {path}{lines}"), host)).await;
            assert_eq!((answer.head.status(), code(&answer)), (403, Some("base_url_refused")));
        }
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn base_urls_are_refused_when_they_are_switched_off() {
    let lab = Plan::api_key().listen("base_urls: false").start(Origin::saying("fine")).await;
    let key = bearer(&lab);
    for (host, path) in [(AT, "/to/acme/"), ("acme.localhost", "/")] {
        let answer = ask(&lab, host, &format!("GET {path}\r\n{key}")).await;
        assert_eq!((answer.head.status(), code(&answer)), (403, Some("base_url_refused")));
    }
    assert_eq!(lab.ask("GET /a").await.text(), "fine", "the proxy stays");
    lab.finish().await;
}

#[tokio::test]
async fn another_agent_s_connection_is_answered_like_a_missing_one() {
    let secret = Canary::new("second");
    let lab = Plan::api_key()
        .secret("SECOND", &secret)
        .connection("{ name: acme-spare, provider: acme, fields: { api_key: { env: SECOND } } }")
        .agent("other", "acme-spare")
        .start(Origin::saying("fine"))
        .await;
    let key = bearer(&lab);
    let mut answers = vec![];
    for name in ["acme-spare", "acme-missing"] {
        let answer = ask(&lab, AT, &format!("GET /to/{name}/\r\n{key}")).await;
        assert_eq!((answer.head.status(), code(&answer)), (424, Some("connection_missing")));
        answers.push(told(&answer).to_string().replace(name, "NAME"));
    }
    assert_eq!(answers[0], answers[1]);
    let answer = ask(&lab, AT, &format!("GET /to/acem/\r\n{key}")).await;
    assert!(answer.text().contains("did you mean `acme`?"), "{}", answer.text());
    let answer = ask(&lab, AT, &format!("GET /to/acme-spar/\r\n{key}")).await;
    assert!(!answer.text().contains("acme-spare"), "{}", answer.text());
    lab.finish_unreached().await;
}

#[tokio::test]
async fn paths_with_dot_segments_are_refused_as_in_a_tunnel() {
    let lab = Lab::simple().await;
    let key = bearer(&lab);
    for path in ["../x", "a/../b", "%2e%2e/x", "a/%2E%2e/b", ".."] {
        let answer = ask(&lab, AT, &format!("GET /to/acme/{path}\r\n{key}")).await;
        assert_eq!((answer.head.status(), code(&answer)), (400, Some("bad_target")), "{path}");
        let tunnel = lab.ask(&format!("GET /{path}")).await;
        assert_eq!(told(&answer), told(&tunnel), "{path}");
    }
    let climbing = ask(&lab, AT, &format!("GET /to/../to/acme/\r\n{key}")).await;
    assert_eq!(climbing.head.status(), 424, "`..` is no connection");
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_request_that_names_two_connections_is_refused() {
    let lab = Lab::simple().await;
    let key = bearer(&lab);
    let answer =
        ask(&lab, AT, &format!("GET /to/acme/\r\n{key}\r\nKeyward-Connection: other")).await;
    assert_eq!((answer.head.status(), code(&answer)), (400, Some("bad_request")));
    let foreign = keyward_placeholder();
    let answer = ask(&lab, AT, &format!("GET /to/acme/\r\n{key}\r\nX-Api-Key: {foreign}")).await;
    assert_eq!((answer.head.status(), code(&answer)), (403, Some("placeholder_foreign")));
    lab.finish_unreached().await;
}

/// A placeholder that nobody was given.
fn keyward_placeholder() -> String {
    keyward_rules::inject::placeholder::Placeholder::issue("sk-", None).as_str().to_owned()
}

#[tokio::test]
async fn a_token_in_the_url_is_refused_and_not_recorded() {
    let lab = Lab::simple().await;
    let (key, token) = (bearer(&lab), lab.token("ci").to_owned());
    for url in [format!("/to/acme/bot{token}/me"), format!("/to/acme/?key={token}")] {
        let answer = ask(&lab, AT, &format!("GET {url}\r\n{key}")).await;
        assert_eq!((answer.head.status(), code(&answer)), (400, Some("bad_request")));
        // Also where nobody is authenticated.
        assert_eq!(ask(&lab, AT, &format!("GET {url}")).await.head.status(), 401);
    }
    assert_eq!(lab.origin.streams(), 0);
    // `finish` looks for the token in the audit log.
    assert_eq!(lab.finish().await.len(), 4);
}

#[tokio::test]
async fn a_chosen_token_in_the_url_is_not_recorded_whatever_is_wrong_with_the_request() {
    let mut lab = Lab::simple().await;
    lab.add_agent("bot").await;
    let chosen = Canary::new("chosen-by-hand-");
    let token = chosen.text.clone();
    for (path, body) in [
        ("/agents/bot/tokens", format!(r#"{{"token":"{token}"}}"#)),
        ("/agents/bot/bindings", r#"{"connection":"acme"}"#.to_owned()),
    ] {
        assert_eq!(lab.gateway.api("POST", path, &body).await.head.status(), 201, "{path}");
    }
    lab.guard(chosen);
    let key = format!("Authorization: Bearer {token}");
    let admitted = ask(&lab, AT, &format!("GET /to/acme/\r\n{key}")).await;
    assert_eq!(admitted.head.status(), 200, "the token is right");
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut statuses = vec![];
    for url in [
        format!("/to/acme/bot{token}/me"),
        format!("/to/acme/{encoded}/me"),
        format!("/to/{token}/me"),
        format!("/to/nothing/{token}"),
        format!("/to/acme@evil.test/{token}"),
        format!("/to/acme/../{token}"),
        format!("/acme/{token}"),
        format!("/{token}"),
    ] {
        for lines in [
            String::new(),
            format!("\r\n{key}"),
            format!("\r\n{key}x"),
            format!("\r\n{key}\r\nSec-Fetch-Site: cross-site"),
        ] {
            for host in [AT, "acme.localhost", "not-ours.test"] {
                let answer = ask(&lab, host, &format!("GET {url}{lines}")).await;
                statuses.push(answer.head.status());
            }
        }
        // Both ways at once: the proxy is asked for a base URL.
        for proof in [String::new(), format!("\r\nProxy-Authorization: Bearer {token}")] {
            let both = format!("GET http://{AT}{url}{proof}");
            statuses.push(ask(&lab, AT, &both).await.head.status());
        }
        // A request line that is no URL of ours either.
        let mut wire = lab.client().await;
        statuses.push(wire.ask(format!("GET {url} HTTP/1.1\r\n\r\n")).await.head.status());
    }
    assert!(statuses.iter().all(|status| (400..500).contains(status)), "{statuses:?}");
    assert_eq!(lab.origin.received().len(), 1);
    // `finish` looks for the token in the audit log and the log.
    lab.finish().await;
}

#[tokio::test]
async fn the_path_of_a_refused_request_of_a_known_agent_is_recorded() {
    let lab = Lab::simple().await;
    let key = bearer(&lab);
    ask(&lab, AT, &format!("GET /to/nothing/v1/me\r\n{key}")).await;
    let records = lab.finish().await;
    assert_eq!(records[0]["path"], "/to/nothing/v1/me");
}

#[tokio::test]
async fn a_connection_with_a_wildcard_host_requires_a_host_in_the_url() {
    let lab = Plan::api_key().hosts("\"*.acme.test\"").start(Origin::saying("fine")).await;
    let key = bearer(&lab);
    let answer = ask(&lab, AT, &format!("GET /to/acme/\r\n{key}")).await;
    assert_eq!((answer.head.status(), code(&answer)), (400, Some("bad_target")));
    assert!(answer.text().contains("/to/acme@HOST/"), "{}", answer.text());
    assert!(answer.text().contains("*.acme.test"), "{}", answer.text());
    let named = ask(&lab, AT, &format!("GET /to/acme@{STRANGER}/v1\r\n{key}")).await;
    assert_eq!(named.text(), "fine", "{named:?}");
    assert_eq!(lab.origin.only().head.one("host"), Some(STRANGER));
    for host in [
        "evil.test",
        "acme.test",
        "api.acme.test:8443",
        "user@api.acme.test",
        "",
        "%61pi.acme.test",
    ] {
        let answer = ask(&lab, AT, &format!("GET /to/acme@{host}/\r\n{key}")).await;
        assert_eq!((answer.head.status(), code(&answer)), (403, Some("denied")), "{host}");
    }
    lab.finish_after(1).await;
}

#[tokio::test]
async fn a_paused_connection_is_424_and_named() {
    let mut lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    lab.add_agent("ci").await;
    let key = &lab.canary.text;
    let mine = format!(r#"{{"provider":"acme","name":"mine","fields":{{"api_key":"{key}"}}}}"#);
    for (path, body) in [
        ("/connections", &*mine),
        ("/agents/ci/bindings", r#"{"connection":"mine"}"#),
        ("/connections/mine/pause", ""),
    ] {
        let status = lab.gateway.api("POST", path, body).await.head.status();
        assert!(matches!(status, 200 | 201), "{path}: {status}");
    }
    let answer = ask(&lab, AT, &format!("GET /to/mine/\r\n{}", bearer(&lab))).await;
    assert_eq!((answer.head.status(), code(&answer)), (424, Some("connection_paused")));
    assert!(answer.text().contains("`mine`"), "{}", answer.text());
    lab.finish_unreached().await;
}

#[tokio::test]
async fn an_origin_form_request_that_is_no_base_url_is_400_and_explains_the_port() {
    let lab = Lab::simple().await;
    for path in ["/", "/v1/models", "/to", "/favicon.ico"] {
        let answer = ask(&lab, AT, &format!("GET {path}\r\nSec-Fetch-Site: none")).await;
        assert_eq!((answer.head.status(), code(&answer)), (400, Some("bad_request")), "{path}");
        assert!(answer.text().contains("this is a proxy"), "{}", answer.text());
        assert!(answer.text().contains("/to/CONNECTION/"), "{}", answer.text());
    }
    lab.finish().await;
}
