//! The requests of a consent of OAuth 1.0a, as the server receives them, and its answers.

use std::collections::BTreeMap;

use super::*;
use crate::tests::scripted_server::{Server, client, http, json, secret};
use keyward_rules::inject::sign::hmac::HmacAlgorithm;
use keyward_rules::provider::OAuth;
use keyward_rules::provider::oauth::{TemporaryEndpoint, UrlTemplate};

const CALLBACK: &str = "http://localhost:8081/oauth/callback/app_1?state=st";

const SCHEME: OAuth1Scheme = OAuth1Scheme { algorithm: HmacAlgorithm::Sha1, has_realm: true };

fn form(status: &str, body: &str) -> String {
    http(status, "Content-Type: text/html\r\n", body)
}

fn oauth(server: &Server, confirms: bool) -> OAuth {
    let url = UrlTemplate::literal(&server.url);
    OAuth {
        temporary: Some(TemporaryEndpoint { url, confirms, takes_state: false }),
        ..server.oauth("")
    }
}

fn pair() -> TokenPair {
    TokenPair { token: secret("tt"), secret: secret("ts-canary") }
}

/// The parameters in `Authorization`, without their quotes.
fn signed(authorization: &str) -> BTreeMap<String, String> {
    let pairs = authorization.strip_prefix("OAuth ").expect("OAuth").split(", ");
    let pairs = pairs.map(|pair| pair.split_once('=').expect("a pair"));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

async fn temporary(answer: &str, confirms: bool) -> (Result<TokenPair, TokenFailure>, Server) {
    let server = Server::start(&[answer]).await;
    let (client, variables) = (client("s3cret-canary"), BTreeMap::new());
    let oauth = oauth(&server, confirms);
    let ask = server.ask(&oauth, &client, &variables);
    let result = SignedRequests { ask, scheme: SCHEME }.temporary(CALLBACK).await;
    (result, server)
}

async fn exchanged(answer: &str) -> (Result<OAuth1TokenAnswer, TokenFailure>, Server) {
    let server = Server::start(&[answer]).await;
    let (client, variables) = (client("s3cret-canary"), BTreeMap::new());
    let oauth = oauth(&server, true);
    let ask = server.ask(&oauth, &client, &variables);
    let result = SignedRequests { ask, scheme: SCHEME }.exchange(&pair(), "ver").await;
    (result, server)
}

async fn revoked(answer: &str) -> (RevokeResult, Server) {
    let server = Server::start(&[answer]).await;
    let (client, variables) = (client("s3cret-canary"), BTreeMap::new());
    let oauth = oauth(&server, true);
    let ask = server.ask(&oauth, &client, &variables);
    let result = SignedRequests { ask, scheme: SCHEME }.revoke(&pair()).await;
    (result, server)
}

/// oauth 2.oauth1-confirmed
#[tokio::test]
async fn a_callback_that_is_not_confirmed_gives_no_temporary_credentials() {
    for body in [
        "oauth_token=a&oauth_token_secret=b",
        "oauth_token=a&oauth_token_secret=b&oauth_callback_confirmed=false",
        "oauth_token=a&oauth_token_secret=b&oauth_callback_confirmed=True",
    ] {
        let (result, _) = temporary(&form("200 OK", body), true).await;
        let code = result.unwrap_err().code().map(ToString::to_string);
        assert_eq!(code.as_deref(), Some(CALLBACK_NOT_CONFIRMED), "{body}");
    }
    let (loose, _) = temporary(&form("200 OK", "oauth_token=a&oauth_token_secret=b"), false).await;
    assert!(loose.is_ok());
}

/// oauth 2.oauth1-exchange
#[tokio::test]
async fn an_answer_without_a_usable_token_is_refused() {
    let long = "a".repeat(17 * 1024);
    for body in [
        "",
        "<html>",
        "oauth_token=a",
        "oauth_token=&oauth_token_secret=b",
        "oauth_token=a&oauth_token_secret=",
        "oauth_token=a&oauth_token_secret=b&oauth_token=c",
        "oauth_token=a%0D%0AX%3A&oauth_token_secret=b",
        "oauth_token=a&oauth_token_secret=b%20c",
        r#"{"oauth_token":"a","oauth_token_secret":"b"}"#,
        &format!("oauth_token={long}&oauth_token_secret=b"),
    ] {
        let (result, _) = exchanged(&form("200 OK", body)).await;
        assert!(result.is_err(), "{body:.60}");
    }
}

/// oauth 2.oauth1-exchange
#[tokio::test]
async fn a_refusal_is_named_by_the_code_of_the_service_and_shows_no_secret() {
    let challenge = "WWW-Authenticate: OAuth realm=\"x\", oauth_problem=\"timestamp_refused\"\r\n";
    for (answer, code) in [
        (form("401 No", "oauth_problem=signature_invalid&x=1"), "signature_invalid"),
        (http("401 No", challenge, ""), "timestamp_refused"),
        (form("400 No", "error=invalid_request&error_description=x"), "invalid_request"),
        (json("403 No", r#"{"errors":[{"code":415,"message":"m"}]}"#), "415"),
        (form("200 OK", "oauth_problem=permission_denied"), "permission_denied"),
        (form("401 No", "Failed to validate oauth signature and token"), "http_401"),
        (form("401 No", "oauth_problem=ts-canary"), "http_401"),
        (form("401 No", "oauth_problem=s3cret-canary"), "http_401"),
        (http("302 Found", "Location: https://evil.test/\r\n", ""), "http_302"),
        (form("503 Busy", ""), "http_503"),
    ] {
        let (result, mut server) = exchanged(&answer).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.code().map(ToString::to_string).as_deref(), Some(code), "{answer}");
        assert!(!format!("{failure} {failure:?}").contains("canary"), "{failure:?}");
        server.received().await;
        assert!(server.is_quiet(), "asked once: {answer}");
    }
}

/// oauth 2.oauth1-state
#[tokio::test]
async fn the_callback_is_signed_and_goes_into_no_url() {
    let answer = "oauth_token=tt&oauth_token_secret=ts&oauth_callback_confirmed=true";
    let (result, mut server) = temporary(&form("200 OK", answer), true).await;
    assert_eq!(result.unwrap().secret.expose_text(), Some("ts"));
    let request = server.received().await;
    assert_eq!(request.line, "POST /token HTTP/1.1");
    assert_eq!((&*request.body, &*request.fields["content-length"]), ("", "0"));
    let signed = signed(&request.fields["authorization"]);
    let callback = "http%3A%2F%2Flocalhost%3A8081%2Foauth%2Fcallback%2Fapp_1%3Fstate%3Dst";
    assert_eq!(signed["oauth_callback"], callback);
    assert!(!signed.contains_key("oauth_token") && !signed.contains_key("realm"), "{signed:?}");
    assert!(!request.fields["authorization"].contains("canary"));
}

/// oauth 2.oauth1-exchange
#[tokio::test]
async fn the_verifier_is_exchanged_for_the_token_and_further_fields() {
    let answer = "oauth_token=at&oauth_token_secret=as&user_id=38&screen_name=alice&x=%00";
    let (result, mut server) = exchanged(&form("200 OK", answer)).await;
    let OAuth1TokenAnswer { pair, others } = result.unwrap();
    assert_eq!(pair.token.expose_text(), Some("at"));
    assert_eq!(pair.secret.expose_text(), Some("as"));
    assert_eq!(
        others.into_iter().collect::<Vec<_>>(),
        [("screen_name".to_owned(), "alice".to_owned()), ("user_id".to_owned(), "38".to_owned()),]
    );
    let signed = signed(&server.received().await.fields["authorization"]);
    assert_eq!((&*signed["oauth_token"], &*signed["oauth_verifier"]), ("tt", "ver"));
}

/// oauth 2.oauth1-signed
#[tokio::test]
async fn an_unconfirmed_revocation_by_oauth1_is_not_reported_as_done() {
    for (answer, passes) in [
        (form("503 Busy", ""), true),
        (json("401 No", r#"{"errors":[{"code":32}]}"#), true),
        (form("404 No", ""), true),
        (form("401 No", "oauth_problem=invalid_client"), false),
        (form("400 No", "oauth_problem=account_inactive"), false),
    ] {
        let (result, _) = revoked(&answer).await;
        let RevokeResult::No(failure) = result else { panic!("{answer}: {result:?}") };
        assert_eq!(matches!(failure, TokenFailure::Temporary(_)), passes, "{answer}");
    }
    for answer in [json("200 OK", "{}"), json("401 No", r#"{"errors":[{"code":89}]}"#)] {
        let (result, mut server) = revoked(&answer).await;
        assert_eq!(result, RevokeResult::Yes, "{answer}");
        let request = server.received().await;
        assert_eq!(signed(&request.fields["authorization"])["oauth_token"], "tt");
        assert!(!request.line.contains("tt"), "{}", request.line);
    }
}
