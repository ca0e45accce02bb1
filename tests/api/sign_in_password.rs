//! Sign-in with a password: who may set one, what the same answer hides, and how guesses are slowed down.

use serde_json::{Value, json};

use crate::admin_network::{ask_at, user, user_login};
use test_support::canary::Canary;
use test_support::login::{Login, link_in, sign_in_with, unseen_at};
use test_support::*;

const PASSWORD: &str = "correct horse battery staple";
const OTHER: &str = "another horse without a name";

async fn lab(top: &str) -> Lab {
    let mut lab = Plan::api_key().top(top).start(Origin::saying("fine")).await;
    for (name, role) in [("ann", "admin"), ("bob", "member")] {
        user(&mut lab, name, role).await;
    }
    for secret in [PASSWORD, OTHER] {
        lab.guard(Canary::of(secret.to_owned()));
    }
    lab
}

fn code(answer: &Message) -> (u16, Value) {
    (answer.head.status(), answer.json()["error"]["code"].clone())
}

async fn set(lab: &Lab, name: &str, password: &str) -> u16 {
    let body = json!({"password": password}).to_string();
    let path = format!("/users/{name}/password");
    lab.gateway.api("PUT", &path, &body).await.head.status()
}

async fn tries(lab: &Lab, name: &str, password: &str) -> Message {
    sign_in_with(lab, &json!({"user": name, "password": password}), "").await
}

/// What an answer says apart from its request.
fn plain(answer: &Message) -> (u16, Value) {
    let mut said = answer.json();
    said["error"].as_object_mut().expect("an error").remove("request");
    (answer.head.status(), said)
}

#[tokio::test]
async fn wrong_passwords_and_unknown_users_get_the_same_answer_and_no_cookie() {
    let mut lab = lab("").await;
    assert_eq!(set(&lab, "bob", PASSWORD).await, 204);
    let wrong = tries(&lab, "bob", OTHER).await;
    assert_eq!(code(&wrong), (401, json!("unauthenticated")));
    for (name, password) in [("ann", PASSWORD), ("nobody", PASSWORD), ("", PASSWORD), ("bob", "")] {
        let answer = tries(&lab, name, password).await;
        assert_eq!(plain(&answer), plain(&wrong), "{name}");
        assert!(!answer.head.has("set-cookie"));
    }
    let elsewhere = "Keyward-Org: nowhere\r\n";
    let body = json!({"user": "bob", "password": PASSWORD});
    assert_eq!(plain(&sign_in_with(&lab, &body, elsewhere).await), plain(&wrong));
    let answer = tries(&lab, "bob", PASSWORD).await.is(200);
    let login = Login::in_answer(&mut lab, &answer);
    let said = ask_at(&lab, "GET /api/v1/session", &login.cookie(), "").await.json();
    assert_eq!(said["user"], "bob");
    let shown = lab.gateway.api("GET", "/users/bob", "").await.json();
    assert_eq!(shown["sign_in"], json!({"password": true, "totp": false, "passkeys": []}));
    lab.gateway.api("PATCH", "/users/bob", r#"{"paused":true}"#).await.is(200);
    assert_eq!(plain(&tries(&lab, "bob", PASSWORD).await), plain(&wrong), "a paused user");
    lab.finish().await;
}

#[tokio::test]
async fn a_user_of_another_organisation_signs_in_as_organisation_slash_name() {
    let mut lab = lab("").await;
    assert_eq!(set(&lab, "bob", PASSWORD).await, 204);
    lab.gateway.api("POST", "/orgs", r#"{"name":"acme"}"#).await.is(201);
    let of_acme = "Keyward-Org: acme\r\n";
    let new = r#"{"name":"bob","role":"member"}"#;
    lab.gateway.api_with(of_acme, ("POST", "/users"), new).await.is(201);
    let body = json!({"password": OTHER}).to_string();
    lab.gateway.api_with(of_acme, ("PUT", "/users/bob/password"), &body).await.is(204);
    let wrong = tries(&lab, "bob", OTHER).await;
    assert_eq!(code(&wrong), (401, json!("unauthenticated")), "of `default`");
    for name in ["acme/bob", "nowhere/bob", "Acme/bob", "/bob", "acme/"] {
        let answer = tries(&lab, name, PASSWORD).await;
        assert_eq!(plain(&answer), plain(&wrong), "{name}");
    }
    let answer = tries(&lab, "acme/bob", OTHER).await.is(200);
    let login = Login::in_answer(&mut lab, &answer);
    let said = ask_at(&lab, "GET /api/v1/session", &login.cookie(), "").await.json();
    assert_eq!((&said["org"], &said["user"]), (&json!("acme"), &json!("bob")));
    lab.finish().await;
}

#[tokio::test]
async fn a_password_is_set_by_its_user_who_knows_the_last_one_and_by_admins() {
    let mut lab = lab("").await;
    for bad in ["", "short", "x\ny z and more of it", &"x".repeat(257)] {
        assert_eq!(set(&lab, "bob", bad).await, 422, "{bad}");
    }
    lab.gateway.api("POST", "/users", r#"{"name":"u|1","role":"end_user"}"#).await;
    assert_eq!(set(&lab, "u%7C1", PASSWORD).await, 422, "an end user");
    let by_link = Login::of(&mut lab, "default", "bob").await;
    let put = async |lab: &Lab, by: &Login, name: &str, body: Value| {
        let line = format!("PUT /api/v1/users/{name}/password");
        ask_at(lab, &line, &by.fields(), &body.to_string()).await
    };
    let of_ann = put(&lab, &by_link, "ann", json!({"password": PASSWORD})).await;
    assert_eq!(code(&of_ann), (404, json!("not_found")), "members see only themselves");
    put(&lab, &by_link, "bob", json!({"password": PASSWORD})).await.is(204);
    let answer = tries(&lab, "bob", PASSWORD).await;
    let login = Login::in_answer(&mut lab, &answer);
    for body in [json!({"password": OTHER}), json!({"password": OTHER, "current": OTHER})] {
        let answer = put(&lab, &login, "bob", body).await;
        assert_eq!(code(&answer), (422, json!("invalid_field")));
        assert_eq!(answer.json()["error"]["field"], "current");
    }
    let right = json!({"password": OTHER, "current": PASSWORD});
    assert_eq!(put(&lab, &login, "bob", right).await.head.status(), 204);
    let line = "DELETE /api/v1/users/bob/password";
    let refused = ask_at(&lab, line, &login.fields(), "").await;
    assert_eq!(code(&refused), (422, json!("refused")), "an open browser is not enough");
    assert!(refused.text().contains("login-link"), "{}", refused.text());
    let opens = async |login: &Login| {
        ask_at(&lab, "GET /api/v1/agents", &login.cookie(), "").await.head.status() == 200
    };
    assert!(opens(&login).await && !opens(&by_link).await, "other logins end");
    assert_eq!(tries(&lab, "bob", PASSWORD).await.head.status(), 401);
    lab.gateway.api("DELETE", "/users/bob/password", "").await.is(204);
    assert!(!opens(&login).await);
    assert_eq!(tries(&lab, "bob", OTHER).await.head.status(), 401);
    let records = lab.finish_with_changes().await;
    let set = records.iter().find(|it| {
        it["change"]["login"] == login.id.as_str()
            && it["outcome"] == "completed"
            && it["change"]["what"] == "password"
    });
    assert_eq!(set.expect("a record")["change"]["name"], "bob");
}

#[tokio::test]
async fn an_auditor_sets_their_own_password_and_no_other() {
    let mut lab = lab("").await;
    let eve = user_login(&mut lab, "eve", "auditor").await;
    for (name, status) in [("bob", 403), ("ann", 403), ("nobody", 404), ("eve", 204)] {
        let line = format!("PUT /api/v1/users/{name}/password");
        let body = json!({"password": PASSWORD}).to_string();
        let answer = ask_at(&lab, &line, &eve.fields(), &body).await;
        assert_eq!(answer.head.status(), status, "{name}: {}", answer.text());
        if status == 403 {
            let error = answer.json()["error"].clone();
            let message = format!("only user `{name}` and admins may do this");
            assert_eq!(
                (&error["code"], &error["message"]),
                (&json!("not_allowed"), &json!(message))
            );
            assert_eq!(error["hint"], "ask an admin");
        }
    }
    assert_eq!(tries(&lab, "bob", PASSWORD).await.head.status(), 401);
    assert_eq!(tries(&lab, "eve", PASSWORD).await.head.status(), 200);
    lab.finish().await;
}

#[tokio::test]
async fn password_guesses_block_neither_known_addresses_of_the_user_nor_login_links() {
    let mut lab =
        Plan::api_key().listen("admin_proxies: [127.0.0.1]").start(Origin::saying("fine")).await;
    user(&mut lab, "bob", "member").await;
    assert_eq!(set(&lab, "bob", PASSWORD).await, 204);
    let from = |client: &str| format!("X-Forwarded-Proto: https\r\nX-Forwarded-For: {client}\r\n");
    let status = async |lab: &Lab, client: &str, password: &str| {
        let body = json!({"user": "bob", "password": password});
        sign_in_with(lab, &body, &from(client)).await.head.status()
    };
    assert_eq!(status(&lab, "192.0.2.1", PASSWORD).await, 200, "known from now on");
    let mut refused = 0;
    for client in 1..=25 {
        refused += u32::from(status(&lab, &format!("203.0.113.{client}"), OTHER).await == 429);
    }
    assert!(refused >= 5, "{refused}");
    assert_eq!(status(&lab, "198.51.100.1", PASSWORD).await, 429, "also the right one, elsewhere");
    assert_eq!(status(&lab, "192.0.2.1", PASSWORD).await, 200, "the owner");
    let link = link_in(&mut lab, "default", json!({"user": "bob"})).await;
    sign_in_with(&lab, &json!({"link": link}), &from("198.51.100.1")).await.is(200);
    lab.finish().await;
}

#[tokio::test]
async fn passwords_can_be_switched_off_and_links_stay() {
    let mut lab = lab("sign_in: { password: false }").await;
    assert_eq!(set(&lab, "bob", PASSWORD).await, 204);
    let answer = tries(&lab, "bob", PASSWORD).await;
    assert_eq!(code(&answer), (422, json!("refused")));
    assert!(answer.text().contains("sign_in.password"), "{}", answer.text());
    Login::of(&mut lab, "default", "bob").await;
    lab.finish().await;
}

#[tokio::test]
async fn the_login_form_works_without_javascript_and_no_page_holds_the_password() {
    let mut lab = lab("").await;
    assert_eq!(set(&lab, "bob", PASSWORD).await, 204);
    let post = async |lab: &Lab, body: &str| unseen_at(lab, "POST /login", "", body).await;
    let encoded = PASSWORD.replace(' ', "+");
    for (body, status, says) in [
        ("to=%2Fagents".to_owned(), 422, "keyward login-link"),
        ("user=bob".to_owned(), 422, "Password is missing"),
        ("user=bob&password=another+one".to_owned(), 401, "User or password is wrong"),
        (format!("user=bob&password={encoded}&link=kwo_x"), 422, "Link must not be given"),
    ] {
        let answer = post(&lab, &body).await;
        assert_eq!(answer.head.status(), status, "{body}: {}", answer.text());
        assert!(!answer.text().contains(PASSWORD) && !answer.head.has("set-cookie"));
        assert!(answer.text().contains(says), "{body}: {}", answer.text());
        assert!(answer.text().contains("type=\"password\""), "the form comes again");
    }
    let answer = post(&lab, &format!("user=bob&password={encoded}&to=%2Fagents")).await;
    assert_eq!((answer.head.status(), answer.head.one("location")), (303, Some("/agents")));
    let cookie = answer.head.one("set-cookie").expect("a cookie").to_owned();
    let (_, token) =
        cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair");
    lab.guard(Canary::of(token.to_owned()));
    lab.finish().await;
}
