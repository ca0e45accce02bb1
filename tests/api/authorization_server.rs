//! The scripted authorization server is as strict as real ones: else what passes before it proves
//! nothing.

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};

use test_support::Message;
use test_support::authorization::{
    AUTH_HOST, Authorization, CLIENT, CLIENT_SECRET, Fault, Rules, encoded, query,
};

async fn token(server: &Authorization, form: &str) -> Message {
    let pair = BASE64_STANDARD.encode(format!("{CLIENT}:{}", encoded(CLIENT_SECRET)));
    let length = form.len();
    let head = format!(
        "POST /token HTTP/1.1\r\nHost: {AUTH_HOST}\r\nAuthorization: Basic {pair}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n"
    );
    server.ask(&(head + form)).await
}

async fn refresh(server: &Authorization, token_text: &str) -> Message {
    token(server, &format!("grant_type=refresh_token&refresh_token={token_text}")).await
}

#[tokio::test]
async fn a_reused_refresh_token_revokes_its_token_family() {
    let server = Authorization::start().await;
    let first = server.issuer().issue();
    let spent = first.refresh.expect("refreshes");
    let second = refresh(&server, &spent).await.json();
    assert!(server.issuer().is_live(second["access_token"].as_str().expect("a token")));
    assert_eq!(refresh(&server, &spent).await.json()["error"], "invalid_grant");
    let newest = second["refresh_token"].as_str().expect("rotated");
    assert_eq!(refresh(&server, newest).await.json()["error"], "invalid_grant", "the family ended");
    assert!(!server.issuer().is_live(second["access_token"].as_str().expect("a token")));
    let calls = server.calls();
    assert_eq!(calls.iter().filter(|call| call.issued.is_some()).count(), 1);
    assert!(calls.iter().all(|call| call.delivered));
}

#[tokio::test]
async fn a_code_requires_its_pkce_verifier_and_works_once() {
    let server = Authorization::start().await;
    let verifier = "v".repeat(43);
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let url = format!(
        "https://{AUTH_HOST}/authorize?response_type=code&client_id={CLIENT}&state=s&scope=read\
         &redirect_uri=http%3A%2F%2Flocalhost%2Fback&code_challenge_method=S256\
         &code_challenge={challenge}"
    );
    let form = |code: &str, verifier: &str| {
        format!(
            "grant_type=authorization_code&code={code}&code_verifier={verifier}\
             &redirect_uri=http%3A%2F%2Flocalhost%2Fback"
        )
    };
    let wrong = query(&server.issuer().consent(&url))["code"].clone();
    let refused = token(&server, &form(&wrong, &"w".repeat(43))).await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    let code = query(&server.issuer().consent(&url))["code"].clone();
    assert_eq!(token(&server, &form(&code, &verifier)).await.head.status(), 200);
    assert_eq!(token(&server, &form(&code, &verifier)).await.head.status(), 400, "once");
}

#[tokio::test]
async fn a_fault_before_issuance_spends_no_token_and_a_fault_after_it_issues_one() {
    let server = Authorization::start().await;
    let pair = server.issuer().issue();
    let first = pair.refresh.expect("refreshes");
    server.fail_next(Fault::bad_gateway());
    server.fail_next(Fault::with("expires_in", json!("3600")));
    server.fail_next(Fault::Drips(Duration::from_micros(10)));
    assert_eq!(refresh(&server, &first).await.head.status(), 502);
    assert!(server.issuer().is_fresh(&first), "not spent");
    let second = refresh(&server, &first).await.json();
    assert_eq!(second["expires_in"], "3600");
    let dripped = refresh(&server, second["refresh_token"].as_str().expect("one")).await;
    assert!(dripped.json()["access_token"].is_string());
    let issued: Vec<bool> = server.calls().iter().map(|call| call.issued.is_some()).collect();
    assert_eq!(issued, [false, true, true]);
}

#[tokio::test]
async fn a_wrong_client_secret_is_refused_as_invalid_client() {
    let server = Authorization::with(Rules::default()).await;
    let pair = BASE64_STANDARD.encode(format!("{CLIENT}:guess"));
    let head = format!(
        "POST /token HTTP/1.1\r\nHost: {AUTH_HOST}\r\nAuthorization: Basic {pair}\r\n\
         Content-Length: 29\r\n\r\ngrant_type=client_credentials"
    );
    let refused = server.ask(&head).await;
    assert_eq!((refused.head.status(), &refused.json()["error"]), (401, &json!("invalid_client")));
    assert_eq!(server.only_call().error.as_deref(), Some("invalid_client"));
}
