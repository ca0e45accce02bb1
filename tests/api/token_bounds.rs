//! What a token with an end cannot prolong: the tokens and links that it makes, and the means of sign-in of users.

use serde_json::json;

use crate::admin_network::{ask_at, user};
use test_support::canary::Canary;
use test_support::login::{Login, sign_in, unseen_at};
use test_support::*;

/// What one makes is bounded by the token of one hour that one's rights come from.
async fn assert_bounded(lab: &Lab, fields: &str) {
    let password = json!({"password": "a password of some length"});
    for (line, body, status) in [
        ("POST /api/v1/tokens", json!({}), 422),
        ("POST /api/v1/tokens", json!({"ttl": "2h"}), 422),
        ("POST /api/v1/tokens", json!({"user": "bob", "scopes": ["read"]}), 422),
        ("PUT /api/v1/users/ann/password", password.clone(), 422),
        ("PUT /api/v1/users/bob/password", password, 422),
        ("POST /api/v1/tokens", json!({"ttl": "1m"}), 201),
        ("POST /api/v1/tokens", json!({"user": "bob", "ttl": "1m"}), 201),
    ] {
        let answer = ask_at(lab, line, fields, &body.to_string()).await;
        assert_eq!(answer.head.status(), status, "{line} {body}: {}", answer.text());
    }
}

/// A login with a link that the sender of these fields makes for itself.
async fn login_by_link_of(lab: &mut Lab, fields: &str) -> Login {
    let made = unseen_at(lab, "POST /api/v1/login-links", fields, "{}").await.json();
    let (_, link) = made["url"].as_str().expect("a URL").split_once("?link=").expect("a link");
    lab.guard(Canary::of(link.to_owned()));
    let answer = sign_in(lab, link, "").await;
    Login::in_answer(lab, &answer)
}

#[tokio::test]
async fn an_expiring_token_cannot_be_prolonged_by_tokens_or_logins_made_with_it() {
    let mut lab = Lab::simple().await;
    for (name, role) in [("ann", "admin"), ("bob", "member")] {
        user(&mut lab, name, role).await;
    }
    let made = lab.gateway.api("POST", "/tokens", r#"{"user":"ann","ttl":"1h"}"#).await.json();
    let token = made["token"].as_str().expect("shown once").to_owned();
    lab.guard(Canary::of(token.clone()));
    let mut fields = format!("Authorization: Bearer {token}\r\n");
    assert_bounded(&lab, &fields).await;
    // The second login goes back to the token through the first one.
    for _ in 0..2 {
        let login = login_by_link_of(&mut lab, &fields).await;
        fields = login.fields();
        let shown = ask_at(&lab, "GET /api/v1/session", &fields, "").await.json();
        assert_eq!(shown["expires"], made["expires"]);
        assert_bounded(&lab, &fields).await;
    }
    // A login without such a token is not bounded.
    let login = Login::of(&mut lab, "default", "ann").await;
    ask_at(&lab, "POST /api/v1/tokens", &login.fields(), "{}").await.is(201);
    lab.finish().await;
}
