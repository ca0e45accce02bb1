//! One-time codes beside a password: how a key is set up and removed, and that each code works once.

use jiff::Timestamp;
use keyward_base::secret::TotpKey;
use keyward_state::crypto::totp;
use serde_json::{Value, json};

use crate::admin_network::{ask_at, user};
use test_support::canary::Canary;
use test_support::login::{Login, sign_in_with, unseen_at};
use test_support::*;

const PASSWORD: &str = "correct horse battery staple";

/// A key that the API showed once.
struct Key(TotpKey);

impl Key {
    fn of(lab: &mut Lab, made: &Message) -> Self {
        assert_eq!(made.head.status(), 201, "{}", made.text());
        let made = made.json();
        let secret = made["secret"].as_str().expect("shown once").to_owned();
        assert!(made["uri"].as_str().expect("a URI").contains(&format!("secret={secret}&")));
        assert!(made["qr"].as_str().expect("a picture").starts_with("data:image/svg+xml;base64,"));
        lab.guard(Canary::of(secret));
        Self(serde_json::from_value(made["secret"].clone()).expect("base 32"))
    }

    /// The code of now, or of some steps later: those next to now are accepted.
    fn code(&self, later: u64) -> String {
        totp::code(&self.0, totp::step_at(Timestamp::now()) + later)
    }
}

fn code(answer: &Message) -> (u16, Value) {
    (answer.head.status(), answer.json()["error"]["code"].clone())
}

/// Bob with a password, and a lab whose answers are not kept: they show keys.
async fn lab() -> Lab {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    user(&mut lab, "ann", "admin").await;
    user(&mut lab, "bob", "member").await;
    lab.guard(Canary::of(PASSWORD.to_owned()));
    let body = json!({"password": PASSWORD}).to_string();
    lab.gateway.api("PUT", "/users/bob/password", &body).await.is(204);
    lab
}

async fn bob(lab: &Lab, totp: Option<&str>) -> Message {
    let body = json!({"user": "bob", "password": PASSWORD, "totp": totp});
    sign_in_with(lab, &body, "").await
}

async fn of_bob(lab: &Lab, by: &Login, method: &str, body: Value) -> Message {
    let line = format!("{method} /api/v1/users/bob/totp");
    unseen_at(lab, &line, &by.fields(), &body.to_string()).await
}

#[tokio::test]
async fn after_confirmation_a_password_needs_a_one_time_code_and_each_works_once() {
    let mut lab = lab().await;
    let by_link = Login::of(&mut lab, "default", "bob").await;
    let made = of_bob(&lab, &by_link, "POST", json!({})).await;
    let key = Key::of(&mut lab, &made);
    assert_eq!(bob(&lab, None).await.head.status(), 200, "not confirmed");
    for wrong in ["", "000000x", "12345", &key.code(7)] {
        let answer = of_bob(&lab, &by_link, "PUT", json!({"code": wrong})).await;
        assert_eq!(code(&answer), (422, json!("invalid_field")), "{wrong}");
    }
    let first = key.code(0);
    of_bob(&lab, &by_link, "PUT", json!({"code": first})).await.is(204);
    let answer = bob(&lab, None).await;
    assert_eq!(code(&answer), (401, json!("totp_required")));
    assert!(answer.head.has("www-authenticate") && !answer.head.has("set-cookie"));
    for wrong in ["", "000000x", &first, &key.code(9)] {
        let answer = bob(&lab, Some(wrong)).await;
        assert_eq!(code(&answer), (401, json!("totp_required")), "{wrong}");
    }
    let form = format!("user=bob&password={}", PASSWORD.replace(' ', "+"));
    let page = unseen_at(&lab, "POST /login", "", &form).await.is(401);
    assert!(page.text().contains("<fieldset class=\"field\" data-second>"), "{}", page.text());
    let second = key.code(1);
    let body = json!({"user": "bob", "password": "another password", "totp": second});
    let answer = sign_in_with(&lab, &body, "").await;
    assert_eq!(code(&answer), (401, json!("unauthenticated")), "the code is not used up");
    let racing = futures_util::future::join_all((0..4).map(|_| bob(&lab, Some(&second)))).await;
    let fine: Vec<_> = racing.iter().filter(|answer| answer.head.status() == 200).collect();
    assert_eq!(fine.len(), 1);
    let login = Login::in_answer(&mut lab, fine[0]);
    let said = ask_at(&lab, "GET /api/v1/session", &login.cookie(), "").await.json();
    assert_eq!((&said["user"], &said["method"]), (&json!("bob"), &json!("password_totp")));
    let shown = lab.gateway.api("GET", "/users/bob", "").await.json();
    assert_eq!(shown["sign_in"], json!({"password": true, "totp": true, "passkeys": []}));
    Login::of(&mut lab, "default", "bob").await;
    let records = lab.finish_with_changes().await;
    let signed_in = records.iter().find(|it| it["change"]["id"] == login.id.as_str());
    let why = &signed_in.expect("a record")["change"]["why"];
    assert_eq!(why, "by password and one-time code");
    let refused = records.iter().filter(|it| it["code"] == "totp_required");
    assert!(
        refused.clone().count() >= 8 && refused.clone().all(|it| it["change"]["name"] == "bob")
    );
}

#[tokio::test]
async fn a_password_login_alone_neither_sets_up_nor_removes_one_time_codes() {
    let mut lab = lab().await;
    let answer = bob(&lab, None).await;
    let login = Login::in_answer(&mut lab, &answer);
    for body in [json!({}), json!({"current": "not the password"})] {
        let answer = of_bob(&lab, &login, "POST", body).await;
        assert_eq!(code(&answer), (422, json!("invalid_field")));
        assert_eq!(answer.json()["error"]["field"], "current");
    }
    let made = of_bob(&lab, &login, "POST", json!({"current": PASSWORD})).await;
    let key = Key::of(&mut lab, &made);
    of_bob(&lab, &login, "PUT", json!({"code": key.code(0)})).await.is(204);
    let again = of_bob(&lab, &login, "PUT", json!({"code": key.code(1)})).await;
    assert_eq!(code(&again), (422, json!("refused")), "there is no new key");
    let refused = of_bob(&lab, &login, "DELETE", json!({})).await;
    assert_eq!(code(&refused), (422, json!("refused")));
    // Another key needs a code of the one so far.
    let refused = of_bob(&lab, &login, "POST", json!({"current": PASSWORD})).await;
    assert_eq!(refused.json()["error"]["field"], "code");
    let with_code = json!({"current": PASSWORD, "code": key.code(1)});
    let made = of_bob(&lab, &login, "POST", with_code).await;
    let other = Key::of(&mut lab, &made);
    assert_eq!(code(&bob(&lab, Some(&other.code(0))).await), (401, json!("totp_required")));
    let by_link = Login::of(&mut lab, "default", "bob").await;
    assert_eq!(of_bob(&lab, &by_link, "DELETE", json!({})).await.head.status(), 204);
    assert_eq!(bob(&lab, None).await.head.status(), 200);
    let gone = of_bob(&lab, &by_link, "PUT", json!({"code": other.code(0)})).await;
    assert_eq!(code(&gone), (422, json!("refused")), "new keys go as well");
    lab.finish().await;
}

#[tokio::test]
async fn one_time_codes_require_a_password_and_nine_wrong_ones_are_not_rate_limited() {
    let mut lab = lab().await;
    let ann = Login::of(&mut lab, "default", "ann").await;
    let none = unseen_at(&lab, "POST /api/v1/users/ann/totp", &ann.fields(), "{}").await;
    assert_eq!(code(&none), (422, json!("refused")));
    let made = of_bob(&lab, &ann, "POST", json!({})).await;
    let key = Key::of(&mut lab, &made);
    let confirmed = of_bob(&lab, &ann, "PUT", json!({"code": key.code(0)})).await;
    assert_eq!(confirmed.head.status(), 204, "an admin helps: {}", confirmed.text());
    let mut limited = 0;
    for guess in 0..9 {
        let answer = bob(&lab, Some(&format!("00000{guess}"))).await;
        limited += u32::from(answer.head.status() == 429);
    }
    assert_eq!(limited, 0, "a person mistypes");
    Login::of(&mut lab, "default", "bob").await;
    lab.finish().await;
}
