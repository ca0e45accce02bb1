//! Device authorization (OAuth 3), against scripted answers.

use std::collections::BTreeMap;

use super::super::OAuthClient;
use super::*;
use crate::tests::scripted_server::{Server, http, json, noon, public, secret, shown};

async fn one(answer: &str) -> (Server, OAuthClient) {
    (Server::start(&[answer]).await, public())
}

async fn polled(answer: &str) -> Result<PollResult, TokenFailure> {
    let (mut server, client) = one(answer).await;
    let (oauth, variables) =
        (server.oauth("client_auth: none, grant: device_code"), BTreeMap::new());
    let result = device_poll(&server.ask(&oauth, &client, &variables), &secret("dc")).await;
    let form = server.received().await.form();
    let expected = [("grant_type", DEVICE_CODE), ("device_code", "dc"), ("client_id", "id")];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    result
}

#[tokio::test]
async fn an_answer_without_usable_codes_or_url_begins_no_device_flow() {
    for body in [
        "{}",
        "<html>",
        r#"{"device_code":"d","user_code":"u"}"#,
        r#"{"device_code":"","user_code":"u","verification_uri":"https://acme.test/d"}"#,
        r#"{"device_code":"d","user_code":"u\u0007","verification_uri":"https://acme.test/d"}"#,
        r#"{"device_code":"d","verification_uri":"https://acme.test/d"}"#,
        r#"{"error":"unauthorized_client"}"#,
    ] {
        let (server, client) = one(&json("200 OK", body)).await;
        let (oauth, variables) =
            (server.oauth("client_auth: none, grant: device_code"), BTreeMap::new());
        let result = device_start(&server.ask(&oauth, &client, &variables)).await;
        assert!(result.is_err(), "{body}");
    }
}

/// OAuth 3, device: 5 s where the server does not say; scopes and the client are named once.
#[tokio::test]
async fn a_device_flow_begins_with_the_codes_interval_and_lifetime_of_the_server() {
    for (more, interval, life) in [
        ("", 5, 600),
        (r#","interval":7,"expires_in":"900""#, 7, 900),
        (r#","interval":0"#, 5, 600),
    ] {
        let body = format!(
            r#"{{"device_code":"dc","user_code":"WDJB-MJHT",
                "verification_url":"https://acme.test/device"{more}}}"#
        );
        let (mut server, client) = one(&json("200 OK", &body)).await;
        let (oauth, variables) = (
            server.oauth("client_auth: none, grant: device_code, scopes: [a, b]"),
            BTreeMap::new(),
        );
        let device = device_start(&server.ask(&oauth, &client, &variables)).await.expect("codes");
        assert_eq!((shown(&device.device_code), shown(&device.user_code)), ("dc", "WDJB-MJHT"));
        assert_eq!(device.verification_uri, "https://acme.test/device");
        assert_eq!(device.interval.as_secs(), interval);
        assert_eq!(device.expires.duration_since(noon()).as_secs(), life);
        assert!(!format!("{device:?}").contains("WDJB"));
        assert_eq!(server.received().await.body, "scope=a+b&client_id=id");
    }
}

/// OAuth 3, device: the flow continues while it is pending, also with status 200 (GitHub).
#[tokio::test]
async fn pending_and_slow_down_continue_a_device_flow_in_any_status() {
    for status in ["200 OK", "400 Bad Request", "403 Forbidden"] {
        let pending = polled(&json(status, r#"{"error":"authorization_pending"}"#)).await;
        assert!(matches!(pending, Ok(PollResult::Pending)), "{status}: {pending:?}");
        let slow = polled(&json(status, r#"{"error":"slow_down"}"#)).await;
        assert!(matches!(slow, Ok(PollResult::SlowDown(None))), "{status}: {slow:?}");
        let slow = polled(&json(status, r#"{"error":"slow_down","interval":12}"#)).await;
        let Ok(PollResult::SlowDown(Some(interval))) = slow else { panic!("{status}: {slow:?}") };
        assert_eq!(interval.as_secs(), 12);
    }
}

/// OAuth 3, device: 5xx, 429 and network errors are temporary.
#[tokio::test]
async fn a_failing_server_ends_no_device_flow() {
    for answer in [
        http("500 Oops", "", ""),
        http("502 Bad Gateway", "", "<html>"),
        http("429 Too Many Requests", "Retry-After: 3\r\n", ""),
        http("302 Found", "Location: /\r\n", ""),
        String::new(),
    ] {
        let result = polled(&answer).await;
        assert!(matches!(result, Err(TokenFailure::Temporary(_))), "{answer}: {result:?}");
    }
}

/// OAuth 3, device: the final error codes.
#[tokio::test]
async fn declined_expired_and_unknown_codes_end_a_device_flow() {
    for code in ["access_denied", "expired_token", "invalid_grant", "quux", "invalid_client"] {
        let result = polled(&json("400 Bad Request", &format!(r#"{{"error":"{code}"}}"#))).await;
        let Err(TokenFailure::Permanent { code: said, .. }) = result else {
            panic!("{code}: {result:?}")
        };
        assert_eq!(said.as_str(), code);
    }
    let result = polled(&http("404 Not Found", "", "<html>")).await;
    assert!(matches!(result, Err(TokenFailure::Permanent { .. })), "{result:?}");
}

#[tokio::test]
async fn polling_after_the_consent_returns_the_tokens() {
    let result = polled(&json("200 OK", r#"{"access_token":"at","refresh_token":"rt"}"#)).await;
    let Ok(PollResult::Tokens(tokens)) = result else { panic!("{result:?}") };
    assert_eq!(shown(&tokens.access), "at");
}
