//! A token that is refused although it is valid: it is too new, or the service asks for more than a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use test_support::authorization::Authorization;
use test_support::tokens::*;
use test_support::*;

const FRESH: &str = "oauth: { fresh_for: 10s }";

async fn lab(authorization: &Authorization, origin: Origin) -> Lab {
    plan(authorization, &refresh_only(authorization)).top(FRESH).start(origin).await
}

fn refused(challenge: &str, status: u16) -> String {
    format!("HTTP/1.1 {status} No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 2\r\n\r\nno")
}

async fn shown(lab: &Lab) -> Value {
    lab.gateway.api("GET", "/connections/acme", "").await.json()
}

/// The tokens that the origin received, in order.
fn sent(lab: &Lab) -> Vec<String> {
    let received = lab.origin.received();
    received.iter().map(|request| request.head.all("authorization").join(",")).collect()
}

/// oauth 11.new: at a cold start, and for the token that replaces a refused one.
#[tokio::test]
async fn a_token_that_is_not_known_everywhere_yet_is_sent_again_and_not_replaced() {
    let authorization = Authorization::with(rules()).await;
    let count = Arc::new(AtomicUsize::new(0));
    let number = count.clone();
    let origin = Origin::answering(move |_: &Message| match number.fetch_add(1, SeqCst) {
        0 | 1 => refused("Bearer error=\"invalid_token\"", 401),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_owned(),
    });
    let lab = lab(&authorization, origin).await;
    let answer = lab.ask("POST /a\r\nContent-Length: 0").await;
    assert_eq!((answer.head.status(), answer.text()), (200, "fine".to_owned()));
    let tokens = sent(&lab);
    assert_eq!((tokens.len(), authorization.calls().len()), (3, 1), "one token, sent three times");
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    lab.finish().await;
}

/// oauth 11.new, 11.4: it may be revoked.
#[tokio::test]
async fn a_new_token_that_stays_refused_is_replaced_once_after_two_waits() {
    let authorization = Authorization::with(rules()).await;
    let origin = Origin::answering(|_: &Message| refused("Bearer error=\"invalid_token\"", 401));
    let lab = lab(&authorization, origin).await;
    let began = std::time::Instant::now();
    assert_eq!(lab.ask("GET /a").await.head.status(), 401);
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!((sent(&lab).len(), authorization.calls().len()), (4, 2));
    assert_eq!(lab.ask("GET /b").await.head.status(), 401);
    assert_eq!((sent(&lab).len(), authorization.calls().len()), (5, 2), "ignored for a while");
    lab.finish().await;
}

/// oauth 11.asked
#[tokio::test]
async fn what_a_challenge_asks_for_is_shown_and_no_other_token_is_fetched() {
    for (challenge, status, told) in [
        (
            "Bearer error=\"insufficient_user_authentication\", acr_values=\"phr\", max_age=\"60\"",
            401,
            "acr_values phr max_age 60",
        ),
        (
            "Bearer error=\"insufficient_scope\", scope=\"files:read files:write\"",
            403,
            "scope files:read files:write",
        ),
    ] {
        let authorization = Authorization::with(rules()).await;
        let origin = Origin::answering(move |_: &Message| refused(challenge, status));
        let lab = lab(&authorization, origin).await;
        let answer = lab.ask("GET /a").await;
        assert_eq!(answer.head.status(), status);
        assert_eq!(answer.head.one("www-authenticate"), Some(challenge));
        assert_eq!((sent(&lab).len(), authorization.calls().len()), (1, 1), "{challenge}");
        let asked = shown(&lab).await["token"]["asked"].as_str().unwrap_or_default().to_owned();
        assert!(asked.ends_with(told), "{asked}");
        lab.finish().await;
    }
}

/// oauth 11.asked
#[tokio::test]
async fn claims_of_a_challenge_are_sent_with_the_next_token_request() {
    let authorization = Authorization::with(rules()).await;
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1657834417"}}}"#;
    let challenge = format!(
        "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{}\"",
        BASE64_STANDARD.encode(claims)
    );
    let first = Arc::new(AtomicUsize::new(0));
    let origin = Origin::answering(move |_: &Message| match first.fetch_add(1, SeqCst) {
        0 => refused(&challenge, 401),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_owned(),
    });
    let plan = plan(&authorization, &refresh_only(&authorization));
    let lab = plan.start(origin).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let calls = authorization.calls();
    let asked: Vec<_> = calls.iter().map(|call| call.form.get("claims").cloned()).collect();
    assert_eq!(asked, [None, Some(claims.to_owned())]);
    assert!(
        shown(&lab).await["token"]["asked"].as_str().is_some_and(|asked| asked.contains("nbf"))
    );
    lab.finish().await;
}
