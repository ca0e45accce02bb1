//! How requests reach an authorization server: each on a stream of its own, plain, guarded and bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use test_support::authorization::{Authorization, Fault, answer};
use test_support::tokens::{api, bank, bank_of, fast, landed, method, plan, refresh_only, rules};
use test_support::*;

async fn refresh(lab: &Lab) -> Message {
    lab.gateway.api("POST", "/connections/acme/refresh", "{}").await
}

/// The honest answer, and fields with it.
fn with_fields(fields: &'static str) -> Fault {
    Fault::Bends(Arc::new(move |honest: Value| {
        let plain = String::from_utf8(answer(200, &honest)).expect("text");
        let (line, rest) = plain.split_once("\r\n").expect("a head");
        format!("{line}\r\n{fields}{rest}").into_bytes()
    }))
}

/// oauth 5.headers, 5.streams, 5.coded
#[tokio::test]
async fn token_requests_send_no_cookie_and_no_credential_fields_and_share_no_stream() {
    let (authorization, lab) = bank(rules(), fast).await;
    authorization
        .fail_next(with_fields("Set-Cookie: s=evil; Path=/\r\nConnection: keep-alive\r\n"));
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    for _ in 0..2 {
        assert_eq!(refresh(&lab).await.head.status(), 200);
    }
    let calls = authorization.calls();
    assert_eq!(calls.len(), 3);
    for call in &calls {
        let head = &call.head;
        assert_eq!(head.one("accept"), Some("application/json"));
        assert_eq!(head.one("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(head.one("accept-encoding"), Some("identity"));
        for name in ["cookie", "authorization", "proxy-authorization", "expect"] {
            assert!(!head.has(name), "{name}");
        }
        assert!(!call.doubled, "a parameter stands twice");
    }
    let mut streams: Vec<usize> = calls.iter().map(|call| call.stream).collect();
    streams.dedup();
    assert_eq!(streams.len(), 3, "a stream served twice");
    lab.finish().await;
}

/// oauth 5.headers: JSON for those who want it.
#[tokio::test]
async fn a_provider_with_token_body_json_gets_a_json_request() {
    let method = method(", token_body: json");
    let (authorization, lab) = bank_of(&method, rules(), fast).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let call = authorization.only_call();
    assert_eq!(call.head.one("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(&call.text).expect("JSON");
    assert_eq!(body["grant_type"], "refresh_token");
    lab.finish().await;
}

/// oauth 5.guard, 5.https: neither a private address nor cleartext.
#[tokio::test]
async fn a_server_at_a_private_address_is_not_dialled() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let addr = authorization.addr();
    let token = pair.refresh.as_deref().expect("one");
    let lab = Plan::new(&method(""), "{ refresh_token: { env: REFRESH } }")
        .resolve(&format!("auth.acme.test: \"{addr}\""))
        .variable("REFRESH", token)
        .start(api(&authorization))
        .await;
    let refused = lab.ask("GET /a").await;
    assert_eq!(refused.head.one("keyward-error"), Some("refresh_unavailable"));
    assert_eq!(authorization.origin.streams(), 0);
    lab.finish().await;

    let plain = method("").replace("https://auth.acme.test/token", "http://auth.acme.test/token");
    let plan = authorization.reached(Plan::new(&plain, "{ refresh_token: { env: REFRESH } }"));
    let error = plan.variable("REFRESH", token).refused(&api(&authorization)).await;
    assert!(error.contains("https"), "{error}");
    assert_eq!(authorization.origin.streams(), 0);
}

/// oauth 5.connect, 5.connect-again: a server that takes the stream and never says a word.
#[tokio::test]
async fn a_hanging_tls_handshake_is_retried_once_and_then_fails() {
    let silent = Origin::with_tls(None, |mut stream: Stream| async move { stream.hold().await });
    let addr = silent.addr;
    let lab = Plan::new(&method(""), "{ refresh_token: { env: REFRESH } }")
        .resolve(&format!("auth.acme.test: \"{addr}\""))
        .allow(&addr.to_string())
        .variable("REFRESH", "rt-of-a-silent-server")
        .top("oauth: { connect_timeout: 0.2s }")
        .start(Origin::saying("fine"))
        .await;
    let began = Instant::now();
    let refused = lab.ask("GET /a").await;
    assert_eq!(refused.head.one("keyward-error"), Some("refresh_unavailable"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    landed(&lab).await;
    assert_eq!(silent.streams(), 2, "once more, at once");
    lab.finish().await;
}

/// oauth 5.parallel: a server is asked by so many at once, and all come to their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_refreshes_at_one_server_are_limited() {
    use test_support::fleet::Fleet;
    let fleet = Arc::new(Fleet::of(12, rules(), ", refreshes_per_server_max: 3").await);
    let gates: Vec<_> = (0..12).map(|_| fleet.authorization.hold_next()).collect();
    let asked = (0..12).map(|row| {
        let fleet = fleet.clone();
        tokio::spawn(async move { fleet.ask(row).await.text() })
    });
    let asked: Vec<_> = asked.collect();
    for (turn, gate) in gates.iter().enumerate() {
        fleet.authorization.asked((turn + 3).min(12)).await;
        let under_way = fleet.authorization.calls().len() - turn;
        assert!(under_way <= 3, "{under_way} at once");
        gate.add_permits(1);
    }
    for answer in asked {
        assert_eq!(answer.await.expect("an answer"), "fine");
    }
    assert_eq!(fleet.authorization.calls().len(), 12);
    Arc::into_inner(fleet).expect("all are done").finish().await;
}

/// oauth 5.agents: an agent's own request to the token endpoint of a host that its connection is for.
#[tokio::test]
async fn an_agent_s_own_request_to_the_token_endpoint_gets_no_credential() {
    let authorization = Authorization::with(rules()).await;
    let own = method("").replace("https://auth.acme.test/token", &format!("https://{HOST}/token"));
    let pair = authorization.issuer().issue();
    let lab =
        test_support::tokens::plan_of(&authorization, &pair, &own).start(api(&authorization)).await;
    for request in ["POST /token\r\nContent-Length: 0", "GET /%74oken", "POST /token/"] {
        let refused = lab.ask(request).await;
        assert_eq!(refused.refusal(), (403, Some("token_endpoint_refused")), "{request}");
    }
    assert!(lab.origin.received().is_empty());
    assert_eq!(lab.ask("GET /tokens").await.text(), "fine", "what is only like it");
    lab.finish().await;
}

/// oauth 5.settings: what the configuration says holds, in fractions of a second too.
#[tokio::test]
async fn oauth_timeouts_accept_fractions_of_a_second() {
    let authorization = Authorization::with(rules()).await;
    let lab = plan(&authorization, &refresh_only(&authorization))
        .top(
            "oauth: { exchange_timeout: 0.4s, answer_timeout: 0.4s, backoff_first: 0.05s, \
             wait_timeout: 9.5s }",
        )
        .start(api(&authorization))
        .await;
    authorization.fail_next(Fault::HangsBefore);
    let began = Instant::now();
    let refused = lab.ask("GET /a").await;
    assert_eq!(refused.head.one("keyward-error"), Some("refresh_unavailable"));
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    lab.finish().await;
}
