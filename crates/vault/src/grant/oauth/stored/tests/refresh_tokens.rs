//! Which refresh token is stored after an answer, and which one the next request sends.

use super::*;

/// oauth 6.8, 7.1: lifetimes begin when the request was sent.
#[tokio::test]
async fn a_refresh_without_a_new_refresh_token_keeps_the_old_one() {
    for none in ["", r#","refresh_token":null"#, r#","refresh_token":"""#] {
        let body = format!(r#"{{"access_token":"new","expires_in":60{none}}}"#);
        let server = Server::start(&[&json("200 OK", &body)]).await;
        let client = client("s3cret-canary");
        let minted = minted(&provider(""), &expired(Some("rt1")), &server, &client).await;
        let minted = minted.expect("a credential");
        assert_eq!(written(&minted), "Bearer new");
        assert_eq!(minted.life.expires, Some(after(60)));
        assert!(minted.life.renewable);
        let rotated = again(&minted.rotated.expect("a newer grant"));
        assert_eq!(shown(&as_oauth(&rotated).fields()["refresh_token"]), "rt1");
    }
}

/// oauth 6.9
#[tokio::test]
async fn a_new_refresh_token_replaces_the_old_one_and_its_end() {
    let body = r#"{"access_token":"new","refresh_token":"rt2","refresh_token_expires_in":100}"#;
    let server = Server::start(&[&json("200 OK", body)]).await;
    let client = client("s3cret-canary");
    let minted = minted(&provider(""), &expired(Some("rt1")), &server, &client).await;
    let minted = minted.expect("a credential");
    assert_eq!(minted.life.refresh_expires, Some(after(100)));
    let rotated = again(&minted.rotated.expect("a newer grant"));
    assert_eq!(shown(&as_oauth(&rotated).fields()["refresh_token"]), "rt2");
    assert_eq!(minted.credential.generation, 3);
}

/// oauth 6.9: one failure that says nothing about the token keeps both.
#[tokio::test]
async fn the_refresh_token_before_one_of_an_error_answer_is_tried_if_that_is_refused() {
    let with_next = r#"{"error":"server_error","refresh_token":"rt2"}"#;
    let refused = r#"{"error":"invalid_grant"}"#;
    let script = [
        json("500 X", with_next),
        json("503 X", "{}"),
        json("400 X", refused),
        json("400 X", refused),
    ];
    let script: Vec<_> = script.iter().map(String::as_str).collect();
    let mut server = Server::start(&script).await;
    let (oauth, client) = (server.oauth(""), client("s3cret-canary"));
    let variables = BTreeMap::new();
    let ask = server.ask(&oauth, &client, &variables);
    let grant = expired(Some("rt1"));
    let second = as_oauth(&grant).renewed(&ask).await.expect("a newer refresh token");
    assert!(matches!(second.unusable_answer(), Some(TokenFailure::Temporary(_))));
    let second = again(&Grant::OAuth(second));
    let earlier = second.revocable().and_then(|what| what.earlier);
    assert!(earlier.is_some_and(|token| token.is_text("rt1")));
    as_oauth(&second).renewed(&ask).await.expect_err("it is down");
    let third = as_oauth(&second).renewed(&ask).await.expect("the earlier refresh token");
    let third = again(&Grant::OAuth(third));
    let failure = as_oauth(&third).renewed(&ask).await.expect_err("both are refused");
    assert!(failure.is_of_invalid_token(), "{failure:?}");
    for sent in ["rt1", "rt2", "rt2", "rt1"] {
        let form = server.received().await.form();
        assert_eq!(form["refresh_token"], sent);
    }
}

fn id_token(subject: &str) -> String {
    use base64::Engine as _;
    let claims = format!(r#"{{"iss":"x","aud":"id","sub":"{subject}"}}"#);
    format!("e30.{}.", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims))
}

/// oauth 7.subject
#[tokio::test]
async fn a_refresh_with_an_id_token_of_another_subject_gives_no_token() {
    let tokens = |subject: &str| {
        json("200 OK", &format!(r#"{{"access_token":"new","id_token":"{}"}}"#, id_token(subject)))
    };
    let script =
        [tokens("1"), tokens("1"), tokens("2"), json("200 OK", r#"{"access_token":"new"}"#)];
    let script: Vec<_> = script.iter().map(String::as_str).collect();
    let server = Server::start(&script).await;
    let (oauth, client) = (server.oauth(""), client("s3cret-canary"));
    let variables = BTreeMap::new();
    let ask = server.ask(&oauth, &client, &variables);
    let first = as_oauth(&expired(Some("rt1"))).renewed(&ask).await.expect("the first subject");
    let first = again(&Grant::OAuth(first));
    as_oauth(&first).renewed(&ask).await.expect("the same one");
    let other = as_oauth(&first).renewed(&ask).await.expect_err("another account");
    assert_eq!(other.code().map(|code| code.as_str()), Some("other_account"));
    as_oauth(&first).renewed(&ask).await.expect("no ID token says nothing");
}

/// oauth 5.answer: an answer is awaited for minutes only where it may have the only refresh token.
#[tokio::test]
async fn only_a_refresh_token_that_a_server_may_replace_can_be_spent() {
    let same = r#"{"access_token":"new","refresh_token":"rt1"}"#;
    let none = r#"{"access_token":"new"}"#;
    let other = r#"{"access_token":"new","refresh_token":"rt2"}"#;
    for (answer, may_be_spent) in [(same, false), (none, false), (other, true)] {
        let server = Server::start(&[&json("200 OK", answer)]).await;
        let (oauth, client) = (server.oauth(""), client("s3cret-canary"));
        let variables = BTreeMap::new();
        let before = expired(Some("rt1"));
        assert!(as_oauth(&before).may_be_spent(), "nothing is known yet");
        let newer = as_oauth(&before).renewed(&server.ask(&oauth, &client, &variables)).await;
        let newer = again(&Grant::OAuth(newer.expect("tokens")));
        assert_eq!(as_oauth(&newer).may_be_spent(), may_be_spent, "{answer}");
    }
}
