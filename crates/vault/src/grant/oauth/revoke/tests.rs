//! Revocation (OAuth 13), as the server receives it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::tests::scripted_server::{Server, client, http, json, noon, secret};

fn both() -> Revocable {
    let (refresh, access) = (Some(secret("rt")), Some(secret("at")));
    Revocable { refresh, earlier: None, access, expires: None }
}

/// Tokens without a refresh token.
fn access_only() -> Revocable {
    Revocable { refresh: None, ..both() }
}

async fn revoked(more: &str, answers: &[&str]) -> (RevokeResult, Server) {
    revoked_of(&both(), more, answers).await
}

async fn revoked_of(what: &Revocable, more: &str, answers: &[&str]) -> (RevokeResult, Server) {
    let server = Server::start(answers).await;
    let (client, variables) = (client("s3cret-canary"), BTreeMap::new());
    let oauth = server.oauth(more);
    let result = revoke(&server.ask(&oauth, &client, &variables), what).await;
    (result, server)
}

/// The ways that send the access token alone.
const BY_ACCESS_TOKEN: [&str; 5] = ["bearer", "query", "github", "square", "webflow"];

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// RFC 7009 §2.1: the refresh token first, each with its hint, by a client that proves itself.
#[tokio::test]
async fn both_tokens_are_revoked_the_refresh_token_first() {
    let (result, mut server) = revoked("", &[FINE, FINE]).await;
    assert_eq!(result, RevokeResult::Yes);
    for (token, hint) in [("rt", "refresh_token"), ("at", "access_token")] {
        let form = server.received().await.form();
        assert_eq!((&*form["token"], &*form["token_type_hint"]), (token, hint));
        assert_eq!(form["client_secret"], "s3cret-canary");
    }
}

/// oauth 13.earlier
#[tokio::test]
async fn the_refresh_token_before_the_current_one_is_revoked_too() {
    let what = Revocable { earlier: Some(secret("earlier")), ..both() };
    for (more, sent) in
        [("", &["rt", "earlier", "at"][..]), ("revoke_via: token", &["rt", "earlier"])]
    {
        let refused = json("400 Bad Request", r#"{"error":"invalid_token"}"#);
        for answer in [FINE, &refused] {
            let (result, mut server) = revoked_of(&what, more, &[FINE, answer, FINE]).await;
            assert_eq!(result, RevokeResult::Yes, "{more}");
            for token in sent {
                assert_eq!(server.received().await.form()["token"], *token, "{more}");
            }
        }
    }
    let (result, _) = revoked_of(&what, "", &[FINE, &http("503 Busy", "", "")]).await;
    assert!(matches!(result, RevokeResult::No(TokenFailure::Temporary(_))), "{result:?}");
}

#[tokio::test]
async fn an_unconfirmed_revocation_is_not_reported_as_done() {
    for (answer, passes) in [
        (http("503 Busy", "Retry-After: 1\r\n", ""), true),
        (http("302 Found", "Location: /\r\n", ""), true),
        (String::new(), true),
        (json("400 Bad Request", r#"{"error":"invalid_client"}"#), false),
        (json("200 OK", r#"{"ok":false,"error":"invalid_auth"}"#), false),
    ] {
        let (result, _) = revoked("", &[&answer]).await;
        let RevokeResult::No(failure) = result else { panic!("{answer}: {result:?}") };
        assert_eq!(matches!(failure, TokenFailure::Temporary(_)), passes, "{answer}");
    }
}

#[tokio::test]
async fn a_grant_is_revoked_although_the_server_revokes_no_access_tokens() {
    let refuses = json("400 Bad Request", r#"{"error":"unsupported_token_type"}"#);
    assert_eq!(revoked("", &[FINE, &refuses]).await.0, RevokeResult::Yes);
    assert!(matches!(revoked("", &[&refuses]).await.0, RevokeResult::No(_)));
}

#[tokio::test]
async fn without_revocation_the_person_gets_the_page_to_revoke_at() {
    let more = "revoke_via: none, access_page: 'https://acme.test/apps'";
    let (result, mut server) = revoked(more, &[FINE]).await;
    let by_hand = Some("https://acme.test/apps".to_owned());
    assert_eq!(result, RevokeResult::NotSupported { by_hand });
    assert!(server.is_quiet());
}

/// Google.
#[tokio::test]
async fn some_providers_accept_the_token_alone() {
    let (result, mut server) = revoked("revoke_via: token", &[FINE]).await;
    assert_eq!(result, RevokeResult::Yes);
    assert_eq!(server.received().await.body, "token=rt");
}

/// Slack and Dropbox.
#[tokio::test]
async fn some_providers_revoke_by_the_access_token_itself() {
    let (result, mut server) =
        revoked("revoke_via: bearer", &[&json("200 OK", r#"{"ok":true}"#)]).await;
    assert_eq!(result, RevokeResult::Yes);
    let request = server.received().await;
    assert_eq!((&*request.fields["authorization"], &*request.body), ("Bearer at", ""));
}

/// Strava: its token endpoint has the secret in the body.
#[tokio::test]
async fn some_providers_require_basic_for_revocations() {
    let (result, mut server) = revoked("revoke_via: basic", &[FINE, FINE]).await;
    assert_eq!(result, RevokeResult::Yes);
    let basic = format!("Basic {}", STANDARD.encode("id:s3cret-canary"));
    for token in ["rt", "at"] {
        let request = server.received().await;
        assert_eq!(request.fields["authorization"], basic);
        assert_eq!(request.form()["token"], token);
        assert!(!request.body.contains("client_secret"), "{}", request.body);
    }
}

/// Miro.
#[tokio::test]
async fn some_providers_require_the_access_token_in_the_query() {
    let (result, mut server) = revoked("revoke_via: query", &[FINE]).await;
    assert_eq!(result, RevokeResult::Yes);
    let request = server.received().await;
    assert_eq!(request.line, "POST /token?access_token=at HTTP/1.1");
    assert!(request.body.is_empty() && !request.fields.contains_key("authorization"));
}

#[tokio::test]
async fn webflow_revocations_send_the_token_and_the_client_secret_as_json() {
    let answer = json("200 OK", r#"{"did_revoke":true}"#);
    let (result, mut server) = revoked("revoke_via: webflow", &[&answer]).await;
    assert_eq!(result, RevokeResult::Yes);
    let request = server.received().await;
    assert_eq!(request.fields["content-type"], "application/json");
    let expected = r#"{"access_token":"at","client_id":"id","client_secret":"s3cret-canary"}"#;
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn github_revokes_by_delete_with_basic_and_404_counts_as_revoked() {
    for answer in ["HTTP/1.1 204 No Content\r\n\r\n", &json("404 Not Found", r#"{"message":"x"}"#)]
    {
        let (result, mut server) = revoked("revoke_via: github", &[answer]).await;
        assert_eq!(result, RevokeResult::Yes);
        let request = server.received().await;
        assert!(request.line.starts_with("DELETE "));
        assert_eq!(request.body, r#"{"access_token":"at"}"#);
        let basic = format!("Basic {}", STANDARD.encode("id:s3cret-canary"));
        assert_eq!(request.fields["authorization"], basic);
    }
}

#[tokio::test]
async fn square_revocations_send_the_client_secret_as_client_authorization() {
    let answer = json("200 OK", r#"{"success":true}"#);
    let (result, mut server) = revoked("revoke_via: square", &[&answer]).await;
    assert_eq!(result, RevokeResult::Yes);
    let request = server.received().await;
    assert_eq!(request.fields["authorization"], "Client s3cret-canary");
    assert_eq!(request.body, r#"{"access_token":"at","client_id":"id"}"#);
}

/// oauth 13.renewed
#[tokio::test]
async fn an_expired_access_token_is_not_sent_where_the_way_needs_a_valid_one() {
    for way in BY_ACCESS_TOKEN {
        let more = format!("revoke_via: {way}, access_page: 'https://acme.test/apps'");
        let expired = Revocable { expires: Some(noon()), ..both() };
        let (result, mut server) = revoked_of(&expired, &more, &[FINE]).await;
        assert!(matches!(result, RevokeResult::NeedsRenewal(_)), "{way}: {result:?}");
        assert!(server.is_quiet(), "{way}");
        let expired = Revocable { refresh: None, ..expired };
        let (result, mut server) = revoked_of(&expired, &more, &[FINE]).await;
        let by_hand = Some("https://acme.test/apps".to_owned());
        assert_eq!(result, RevokeResult::Expired { by_hand }, "{way}");
        assert!(server.is_quiet(), "{way}");
    }
}

/// oauth 13.renewed: imported as a refresh token alone.
#[tokio::test]
async fn a_refresh_token_is_not_sent_in_place_of_an_access_token() {
    for way in BY_ACCESS_TOKEN {
        let refresh_only = Revocable { access: None, ..both() };
        let more = format!("revoke_via: {way}");
        let (result, mut server) = revoked_of(&refresh_only, &more, &[FINE]).await;
        assert!(matches!(result, RevokeResult::NeedsRenewal(_)), "{way}: {result:?}");
        assert!(server.is_quiet(), "{way}");
    }
}

/// oauth 13.renewed: Dropbox and Slack. Whether the grant has ended, its refresh token shows.
#[tokio::test]
async fn a_rejected_access_token_needs_a_renewal_if_there_is_a_refresh_token() {
    let dropbox = json("401 No", r#"{"error":{".tag":"expired_access_token"}}"#);
    let slack = json("200 OK", r#"{"ok":false,"error":"token_expired"}"#);
    for answer in [&dropbox, &slack] {
        let (result, mut server) = revoked("revoke_via: bearer", &[answer]).await;
        assert!(matches!(result, RevokeResult::NeedsRenewal(_)), "{answer}: {result:?}");
        assert_eq!(server.received().await.fields["authorization"], "Bearer at");
        let (result, _) = revoked_of(&access_only(), "revoke_via: bearer", &[answer]).await;
        assert!(matches!(result, RevokeResult::No(_)), "{answer}: {result:?}");
    }
    let busy = json("503 Busy", r#"{"error":"invalid_token"}"#);
    let (result, _) = revoked("revoke_via: bearer", &[&busy]).await;
    assert!(matches!(result, RevokeResult::No(TokenFailure::Temporary(_))), "{result:?}");
}

/// oauth 13.gone: Google says 400 where RFC 7009 §2.2 says 200.
#[tokio::test]
async fn a_token_that_the_provider_says_is_not_valid_counts_as_revoked() {
    for code in ["invalid_token", "invalid_grant", "token_revoked"] {
        let answer = json("400 Bad Request", &format!(r#"{{"error":"{code}"}}"#));
        let (result, mut server) = revoked("revoke_via: token", &[&answer]).await;
        assert_eq!(result, RevokeResult::Yes, "{code}");
        assert_eq!(server.received().await.body, "token=rt");
        let (result, mut server) = revoked("", &[&answer, &answer]).await;
        assert_eq!(result, RevokeResult::Yes, "{code}");
        for token in ["rt", "at"] {
            assert_eq!(server.received().await.form()["token"], token, "each is judged by itself");
        }
        let (result, _) = revoked_of(&access_only(), "revoke_via: bearer", &[&answer]).await;
        assert_eq!(result, RevokeResult::Yes, "{code}");
    }
}

/// oauth 13.gone
#[tokio::test]
async fn an_overloaded_server_says_nothing_about_the_token() {
    for status in ["429 Slow Down", "503 Busy"] {
        let answer = json(status, r#"{"error":"invalid_token"}"#);
        for more in ["", "revoke_via: token"] {
            let (result, _) = revoked(more, &[&answer]).await;
            let is_temporary = matches!(result, RevokeResult::No(TokenFailure::Temporary(_)));
            assert!(is_temporary, "{more}: {result:?}");
        }
    }
}
