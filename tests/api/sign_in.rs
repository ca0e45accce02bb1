//! Sign-in of people: links, cookies, CSRF, and what ends a login. `admin_network/table.rs` tries every route.

use serde_json::{Value, json};

use crate::admin_network::{ask_at, user, user_login};
use test_support::canary::Canary;
use test_support::login::{Login, link_in, sign_in, sign_in_with};
use test_support::pki::pki;
use test_support::*;

async fn lab() -> Lab {
    let mut lab = Lab::simple().await;
    for (name, role) in [("ann", "admin"), ("bob", "member"), ("eve", "auditor")] {
        user(&mut lab, name, role).await;
    }
    lab
}

fn code(answer: &Message) -> (u16, Value) {
    (answer.head.status(), answer.json()["error"]["code"].clone())
}

fn refused(status: u16, code: &str) -> (u16, Value) {
    (status, json!(code))
}

/// Whether a login opens the API.
async fn opens(lab: &Lab, login: &Login) -> bool {
    let answer = ask_at(lab, "GET /api/v1/agents", &login.cookie(), "").await;
    match answer.head.status() {
        200 => true,
        401 => false,
        status => panic!("{status}: {}", answer.text()),
    }
}

#[tokio::test]
async fn a_used_unknown_or_malformed_login_link_is_refused() {
    let mut lab = lab().await;
    let link = link_in(&mut lab, "default", json!({"user": "bob"})).await;
    let last = if link.ends_with('0') { '1' } else { '0' };
    let typo = format!("{}{last}", &link[..link.len() - 1]);
    for wrong in ["", "kwo_", &typo, &link.to_uppercase()] {
        let answer = sign_in(&lab, wrong, "").await;
        assert_eq!(code(&answer), refused(401, "unauthenticated"), "{}", answer.text());
        assert!(!answer.head.has("set-cookie") && answer.head.has("www-authenticate"));
    }
    for (body, status) in [
        (json!({}), 422),
        (json!({"link": 1}), 422),
        (json!({"link": link, "more": 1}), 422),
        (json!([link]), 422),
    ] {
        assert_eq!(sign_in_with(&lab, &body, "").await.head.status(), status, "{body}");
    }
    let first = sign_in(&lab, &link, "User-Agent: curl/8.14.1\r\n").await.is(200);
    let login = Login::in_answer(&mut lab, &first);
    let said = first.json();
    assert_eq!(
        (&said["user"], &said["role"], &said["org"]),
        (&json!("bob"), &json!("member"), &json!("default"))
    );
    let cookie = first.head.one("set-cookie").expect("a cookie").replace(&login.token, "TOKEN");
    assert_eq!(cookie, "keyward=TOKEN; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax");
    assert_eq!(first.head.one("cache-control"), Some("no-store"));
    let again = sign_in(&lab, &link, "").await;
    assert_eq!(code(&again), refused(401, "unauthenticated"));
    assert!(opens(&lab, &login).await);
    let records = lab.finish_with_changes().await;
    let logins: Vec<_> = records.iter().filter(|it| it["change"]["what"] == "login").collect();
    assert_eq!(logins.len(), 6, "{logins:?}");
    let made = logins[4];
    assert_eq!((&made["outcome"], &made["status"]), (&json!("completed"), &json!(200)));
    let change = &made["change"];
    assert_eq!(
        (&change["user"], &change["login"], &change["id"], &change["action"], &change["from"]),
        (&json!("bob"), &json!(login.id), &json!(login.id), &json!("added"), &json!("127.0.0.1"))
    );
    assert!(change["by"].as_str().is_some_and(|by| by.starts_with("usr_")), "{change}");
    assert_eq!(
        (&logins[5]["outcome"], &logins[5]["code"]),
        (&json!("refused"), &json!("unauthenticated"))
    );
}

#[tokio::test]
async fn exactly_one_of_concurrent_sign_ins_with_a_link_succeeds() {
    let plan = Plan::api_key().limit("auth_failures_per_minute_max: 1000");
    let mut lab = plan.start(Origin::saying("fine")).await;
    user(&mut lab, "bob", "member").await;
    for _ in 0..5 {
        let link = link_in(&mut lab, "default", json!({"user": "bob"})).await;
        let racing = futures_util::future::join_all((0..8).map(|_| sign_in(&lab, &link, ""))).await;
        let statuses: Vec<_> = racing.iter().map(|answer| answer.head.status()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 7, "{statuses:?}");
        for answer in racing.iter().filter(|answer| answer.head.status() == 200) {
            Login::in_answer(&mut lab, answer);
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_cookie_from_before_a_sign_in_is_not_valid_after_it() {
    let mut lab = lab().await;
    // An attacker's login, planted in the browser of another user.
    let planted = Login::of(&mut lab, "default", "eve").await;
    let link = link_in(&mut lab, "default", json!({"user": "ann"})).await;
    let answer = sign_in(&lab, &link, &planted.cookie()).await.is(200);
    let login = Login::in_answer(&mut lab, &answer);
    assert_ne!((&login.token, &login.csrf), (&planted.token, &planted.csrf));
    assert!(opens(&lab, &login).await && !opens(&lab, &planted).await);
    // A well-formed cookie that the gateway never set is not taken over either.
    let (link, mut unknown) =
        (link_in(&mut lab, "default", json!({"user": "ann"})).await, login.clone());
    unknown.token = "kwl_0000000000000000000000000000000000000000000000000".to_owned();
    let answer = sign_in(&lab, &link, &unknown.cookie()).await;
    let login = Login::in_answer(&mut lab, &answer);
    assert!(opens(&lab, &login).await && !opens(&lab, &unknown).await);
    lab.finish().await;
}

#[tokio::test]
async fn a_page_of_another_site_cannot_sign_in_write_or_use_a_cookie() {
    let allowed = "https://console.example.com";
    let plan = Plan::api_key().listen(&format!("admin_cors: [\"{allowed}\"]"));
    let mut lab = plan.start(Origin::saying("fine")).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    let own = lab.gateway.admin;
    for fields in [
        "Origin: https://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        format!("Origin: http://localhost:{}\r\n", own.port() ^ 1),
        "Sec-Fetch-Site: cross-site\r\n".to_owned(),
        "Sec-Fetch-Site: same-site\r\n".to_owned(),
        format!("Origin: http://{own}\r\nSec-Fetch-Site: same-site\r\n"),
    ] {
        let link = link_in(&mut lab, "default", json!({"user": "ann"})).await;
        let answer = sign_in(&lab, &link, &fields).await;
        assert_eq!(code(&answer), refused(403, "cross_site_refused"), "{fields}");
        assert!(!answer.head.has("set-cookie"));
        let with = format!("{fields}{}", login.fields());
        let answer = ask_at(&lab, "POST /api/v1/agents", &with, r#"{"name":"evil"}"#).await;
        assert_eq!(code(&answer), refused(403, "cross_site_refused"), "{fields}");
    }
    // The configuration allows this origin the API, with a token: cookies are not for it.
    let origin = format!("Origin: {allowed}\r\n");
    let link = link_in(&mut lab, "default", json!({"user": "ann"})).await;
    assert_eq!(code(&sign_in(&lab, &link, &origin).await), refused(403, "cross_site_refused"));
    for (line, body) in [("GET /api/v1/agents", ""), ("POST /api/v1/agents", r#"{"name":"evil"}"#)]
    {
        let with = format!("{origin}{}", login.fields());
        assert_eq!(code(&ask_at(&lab, line, &with, body).await), refused(401, "unauthenticated"));
    }
    for (fields, expected) in [
        (login.cookie(), refused(403, "csrf_required")),
        (format!("{}Keyward-CSRF: \r\n", login.cookie()), refused(403, "csrf_required")),
        (format!("{}{}", login.fields(), "Keyward-CSRF: x\r\n"), refused(403, "csrf_required")),
    ] {
        let answer = ask_at(&lab, "POST /api/v1/agents", &fields, r#"{"name":"evil"}"#).await;
        assert_eq!(code(&answer), expected, "{fields}");
    }
    let form = format!("{}Content-Type: application/x-www-form-urlencoded\r\n", login.fields());
    let mut wire = lab.client_at(own).await;
    wire.send(format!("POST /api/v1/agents HTTP/1.1\r\nHost: {own}\r\nContent-Length: 15\r\n{form}\r\n{{\"name\":\"evil\"}}"))
        .await;
    assert_eq!(code(&wire.answer("POST").await), refused(415, "media_type_refused"));
    for fields in [
        format!("Origin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n{}", login.fields()),
        login.fields(),
    ] {
        let line = "POST /api/v1/agents";
        let name = json!({"name": format!("own-{}", fields.len())}).to_string();
        assert_eq!(ask_at(&lab, line, &fields, &name).await.head.status(), 201);
    }
    let agents = lab.gateway.api("GET", "/agents", "").await.text();
    assert!(!agents.contains("evil"), "{agents}");
    lab.finish().await;
}

#[tokio::test]
async fn an_invalid_token_does_not_fall_back_to_the_cookie() {
    let mut lab = lab().await;
    let login = Login::of(&mut lab, "default", "ann").await;
    for wrong in ["Bearer kwp_wrong", "Basic YW5uOmFubg==", "", "Bearer "] {
        let fields = format!("Authorization: {wrong}\r\n{}", login.fields());
        for line in ["GET /api/v1/agents", "POST /api/v1/agents", "GET /api/v1/session"] {
            let answer = ask_at(&lab, line, &fields, r#"{"name":"evil"}"#).await;
            assert_eq!(code(&answer), refused(401, "unauthenticated"), "{wrong} {line}");
        }
    }
    // The token wins: its rights are the request's.
    let made = json!({"user": "bob"}).to_string();
    let token = lab.gateway.api("POST", "/tokens", &made).await.json()["token"].clone();
    let token = token.as_str().expect("shown once").to_owned();
    lab.guard(Canary::of(token.clone()));
    let fields = format!("Authorization: Bearer {token}\r\n{}", login.cookie());
    let said = ask_at(&lab, "GET /api/v1/session", &fields, "").await.json();
    assert_eq!((&said["user"], said.get("csrf")), (&json!("bob"), None));
    let answer = ask_at(&lab, "POST /api/v1/webhooks", &fields, "{}").await;
    assert_eq!(code(&answer), refused(403, "not_allowed"));
    let answer = ask_at(&lab, "DELETE /api/v1/session", &fields, "").await;
    assert_eq!(code(&answer), refused(422, "refused"));
    assert!(opens(&lab, &login).await);
    lab.finish().await;
}

#[tokio::test]
async fn a_cleartext_cookie_of_a_remote_client_is_refused_and_tls_has_its_own_cookie() {
    let (cert, key) = pki().pair(&["localhost"]);
    let plan = Plan::api_key().listen("admin_proxies: [127.0.0.1]");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    let elsewhere = "X-Forwarded-For: 203.0.113.9\r\n";
    for cookie in [login.fields(), "Cookie: keyward=kwl_unknown\r\n".to_owned()] {
        for line in ["GET /api/v1/agents", "POST /api/v1/agents", "POST /api/v1/session"] {
            let answer = ask_at(&lab, line, &format!("{elsewhere}{cookie}"), "{}").await;
            assert_eq!(code(&answer), refused(403, "cleartext_refused"), "{line}");
        }
    }
    // Behind a proxy that terminates TLS, the client's scheme decides which cookie counts.
    let secure = format!("{elsewhere}X-Forwarded-Proto: https\r\n");
    let fields = format!("{secure}{}", login.cookie());
    let answer = ask_at(&lab, "GET /api/v1/agents", &fields, "").await;
    assert_eq!(code(&answer), refused(401, "unauthenticated"));
    let link = link_in(&mut lab, "default", json!({"user": "ann"})).await;
    let answer = sign_in(&lab, &link, &secure).await;
    let cookie = answer.head.one("set-cookie").expect("a cookie").to_owned();
    let far = Login::in_answer(&mut lab, &answer);
    let end = "; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure";
    assert_eq!(cookie, format!("__Host-keyward={}{end}", far.token));
    let fields = format!("{secure}Cookie: __Host-keyward={}\r\n", far.token);
    assert_eq!(ask_at(&lab, "GET /api/v1/agents", &fields, "").await.head.status(), 200);
    let logins = lab.gateway.api("GET", "/logins?q=203.0.113.9", "").await.json();
    assert_eq!(logins["items"][0]["id"], far.id);
    lab.finish().await;
    let plan = Plan::api_key().listen("admin_tls: { cert: admin.pem, key: admin.key }");
    let plan = plan.file("admin.pem", &cert).file("admin.key", &key);
    let mut lab = plan.start(Origin::saying("fine")).await;
    user(&mut lab, "ann", "admin").await;
    let link = link_in(&mut lab, "default", json!({"user": "ann"})).await;
    let wire =
        lab.secure_trusting(&pki().pem, Wire::to(lab.gateway.admin).await, "localhost").await;
    let mut wire = wire.expect("TLS");
    let (body, port) = (json!({"link": link}).to_string(), lab.gateway.admin.port());
    wire.send(format!(
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let answer = wire.answer("POST").await;
    assert!(answer.head.one("set-cookie").expect("a cookie").starts_with("__Host-keyward="));
    lab.finish().await;
}

#[tokio::test]
async fn a_pause_another_role_or_removal_ends_every_login_at_once() {
    let mut lab = lab().await;
    for (method, path, change) in [
        ("PATCH", "/users/bob", json!({"paused": true})),
        ("PATCH", "/users/bob", json!({"paused": false, "role": "auditor"})),
        ("PATCH", "/users/bob", json!({"role": "member"})),
        ("DELETE", "/users/bob", json!({})),
    ] {
        let active = json!({"paused": false}).to_string();
        lab.gateway.api("PATCH", "/users/bob", &active).await;
        let logins = [
            Login::of(&mut lab, "default", "bob").await,
            Login::of(&mut lab, "default", "bob").await,
        ];
        let other = Login::of(&mut lab, "default", "ann").await;
        for login in &logins {
            assert!(opens(&lab, login).await);
        }
        let answer = lab.gateway.api(method, path, &change.to_string()).await;
        assert!(answer.head.status() < 300, "{}", answer.text());
        for login in &logins {
            assert!(!opens(&lab, login).await, "{method} {change}");
        }
        assert!(opens(&lab, &other).await);
        lab.gateway.api("PATCH", "/users/bob", &active).await;
        assert!(!opens(&lab, &logins[0]).await, "also when the pause has ended");
    }
    // Who changes their own role in the browser stays signed in there, with the new rights.
    let (own, other) =
        (Login::of(&mut lab, "default", "ann").await, Login::of(&mut lab, "default", "ann").await);
    let role = json!({"role": "auditor"}).to_string();
    ask_at(&lab, "PATCH /api/v1/users/ann", &own.fields(), &role).await.is(200);
    assert!(opens(&lab, &own).await && !opens(&lab, &other).await);
    let answer = ask_at(&lab, "POST /api/v1/agents", &own.fields(), r#"{"name":"new-one"}"#).await;
    assert_eq!(code(&answer), refused(403, "not_allowed"));
    let records = lab.finish_with_changes().await;
    let changed = records
        .iter()
        .find(|it| it["change"]["login"] == own.id.as_str() && it["change"]["what"] == "user");
    let changed = changed.expect("a record");
    assert_eq!(
        (&changed["change"]["user"], &changed["change"]["name"]),
        (&json!("ann"), &json!("ann"))
    );
}

#[tokio::test]
async fn a_login_survives_a_restart_and_ends_at_its_sign_out() {
    let mut lab = lab().await;
    let (login, other) =
        (Login::of(&mut lab, "default", "bob").await, Login::of(&mut lab, "default", "bob").await);
    lab.gateway.restart().await;
    let said = ask_at(&lab, "GET /api/v1/session", &login.cookie(), "").await.json();
    assert_eq!((&said["login"], &said["csrf"]), (&json!(login.id), &json!(login.csrf)));
    let out = ask_at(&lab, "DELETE /api/v1/session", &login.cookie(), "").await;
    assert_eq!(code(&out), refused(403, "csrf_required"));
    let out = ask_at(&lab, "DELETE /api/v1/session", &login.fields(), "").await.is(204);
    let cleared = "keyward=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax";
    assert_eq!(out.head.one("set-cookie"), Some(cleared));
    assert!(!opens(&lab, &login).await && opens(&lab, &other).await);
    lab.gateway.restart().await;
    assert!(!opens(&lab, &login).await && opens(&lab, &other).await);
    lab.finish().await;
}

#[tokio::test]
async fn a_streaming_answer_ends_with_its_login() {
    let mut lab = lab().await;
    for how in ["sign-out", "revoked", "paused"] {
        let login = Login::of(&mut lab, "default", "ann").await;
        let (own, cookie) = (lab.gateway.admin, login.cookie());
        let mut wire = lab.client_at(own).await;
        let line = "GET /api/v1/audit?follow=true HTTP/1.1";
        wire.send(format!("{line}\r\nHost: {own}\r\nAccept: text/event-stream\r\n{cookie}\r\n"))
            .await;
        assert_eq!(wire.head().await.expect("an answer").status(), 200);
        let ended = match how {
            "sign-out" => ask_at(&lab, "DELETE /api/v1/session", &login.fields(), "").await,
            "revoked" => lab.gateway.api("DELETE", &format!("/logins/{}", login.id), "").await,
            _ => lab.gateway.api("PATCH", "/users/ann", r#"{"paused":true}"#).await,
        };
        assert!(ended.head.status() < 300, "{how}: {}", ended.text());
        let rest = patiently(how, wire.rest()).await;
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(rest.contains("event: end"), "{how}: {rest}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn logins_are_seen_and_ended_by_their_user_and_by_admins() {
    let mut lab = lab().await;
    let ann = Login::of(&mut lab, "default", "ann").await;
    let bob = Login::of(&mut lab, "default", "bob").await;
    let eve = Login::of(&mut lab, "default", "eve").await;
    let seen = async |lab: &Lab, login: &Login| {
        let all = ask_at(lab, "GET /api/v1/logins", &login.cookie(), "").await.json();
        let all = all["items"].as_array().expect("items").clone();
        let mut names: Vec<_> =
            all.iter().map(|it| it["user_name"].as_str().expect("text").to_owned()).collect();
        names.sort();
        let current: Vec<_> = all.iter().filter(|it| it["current"] == true).collect();
        assert_eq!((current.len(), &current[0]["id"]), (1, &json!(login.id)), "{all:?}");
        names.join(" ")
    };
    assert_eq!(seen(&lab, &ann).await, "ann bob eve");
    assert_eq!(seen(&lab, &bob).await, "bob");
    assert_eq!(seen(&lab, &eve).await, "ann bob eve");
    let end = async |lab: &Lab, by: &Login, id: &str| {
        ask_at(lab, &format!("DELETE /api/v1/logins/{id}"), &by.fields(), "").await
    };
    assert_eq!(code(&end(&lab, &bob, &ann.id).await), refused(404, "not_found"));
    assert_eq!(code(&end(&lab, &eve, &ann.id).await), refused(403, "not_allowed"));
    for unknown in ["lgn_00000000000000000000", "nothing", "ses_00000000000000000000"] {
        assert_eq!(code(&end(&lab, &ann, unknown).await), refused(404, "not_found"), "{unknown}");
    }
    assert!(opens(&lab, &ann).await);
    assert_eq!(end(&lab, &bob, &bob.id).await.head.status(), 204);
    assert!(!opens(&lab, &bob).await);
    assert_eq!(end(&lab, &ann, &eve.id).await.head.status(), 204);
    assert!(!opens(&lab, &eve).await);
    assert_eq!(seen(&lab, &ann).await, "ann");
    lab.finish().await;
}

#[tokio::test]
async fn guesses_of_links_are_limited_and_a_valid_link_is_always_accepted() {
    let plan = Plan::api_key().limit("auth_failures_per_minute_max: 2");
    let mut lab = plan.start(Origin::saying("fine")).await;
    user(&mut lab, "ann", "admin").await;
    for status in [401, 401, 429, 429] {
        let answer = sign_in(&lab, "kwo_guess", "").await.is(status);
        assert_eq!(answer.head.has("retry-after"), status == 429);
    }
    let login = Login::of(&mut lab, "default", "ann").await;
    assert!(opens(&lab, &login).await);
    // Unknown cookies count as unknown tokens do, and lock nobody out.
    for status in [401, 401, 429] {
        let fields = "Cookie: keyward=kwl_guess\r\n";
        ask_at(&lab, "GET /api/v1/agents", fields, "").await.is(status);
    }
    assert!(opens(&lab, &login).await);
    let records = lab.finish_with_changes().await;
    let failed =
        records.iter().filter(|it| it["change"]["what"] == "login" && it["outcome"] == "refused");
    assert_eq!(failed.count(), 2, "floods leave no records");
}

#[tokio::test]
async fn only_admins_make_login_links_and_a_login_by_one_expires_with_its_token() {
    let mut lab = lab().await;
    let ask = async |lab: &Lab, fields: &str, body: Value| {
        ask_at(lab, "POST /api/v1/login-links", fields, &body.to_string()).await
    };
    for name in ["bob", "eve"] {
        let login = Login::of(&mut lab, "default", name).await;
        for body in [json!({}), json!({"user": name}), json!({"user": "ann"})] {
            let answer = ask(&lab, &login.fields(), body).await;
            assert_eq!(code(&answer), refused(403, "not_allowed"), "{name}");
        }
    }
    let token = async |lab: &mut Lab, more: Value| {
        let mut new = json!({"user": "ann"});
        new.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let made = lab.gateway.api("POST", "/tokens", &new.to_string()).await.json();
        let token = made["token"].as_str().expect("shown once").to_owned();
        lab.guard(Canary::of(token.clone()));
        (format!("Authorization: Bearer {token}\r\n"), made["expires"].clone())
    };
    let (narrow, _) = token(&mut lab, json!({"scopes": ["users:write", "read"]})).await;
    assert_eq!(code(&ask(&lab, &narrow, json!({})).await), refused(403, "scope_missing"));
    let (whole, _) = token(&mut lab, json!({})).await;
    let unknown = ask(&lab, &whole, json!({"user": "nobody"})).await;
    assert_eq!(code(&unknown), refused(404, "not_found"));
    lab.gateway.api("POST", "/users", r#"{"name":"u|1","role":"end_user"}"#).await;
    let end_user = lab.gateway.api("POST", "/login-links", r#"{"user":"u|1"}"#).await;
    assert_eq!(code(&end_user), refused(422, "invalid_field"));
    assert_eq!(end_user.json()["error"]["field"], "user");
    // A login that was made with a token's link ends with the token.
    let (short, expires) = token(&mut lab, json!({"ttl": "1h"})).await;
    let own = lab.gateway.admin;
    let mut wire = Wire::to(own).await;
    wire.send(format!("POST /api/v1/login-links HTTP/1.1\r\nHost: {own}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n{short}\r\n{{}}"))
        .await;
    let made = wire.answer("POST").await.json();
    assert_eq!((&made["user"], &made["added"]), (&json!("ann"), &json!(false)));
    let url = made["url"].as_str().expect("a URL");
    let (base, link) = url.split_once("/login?link=").expect("a link");
    assert_eq!(base, format!("http://localhost:{}", own.port()));
    lab.guard(Canary::of(link.to_owned()));
    let answer = sign_in(&lab, link, "").await;
    assert_eq!(answer.json()["expires"], expires);
    Login::in_answer(&mut lab, &answer);
    lab.finish().await;
}

#[tokio::test]
async fn the_operator_gets_the_link_of_the_only_admin_or_of_a_new_one() {
    let mut lab = Lab::simple().await;
    lab.gateway.api("POST", "/users", r#"{"name":"admin","role":"member"}"#).await;
    let refusal = lab.gateway.api("POST", "/login-links", "{}").await;
    assert_eq!(code(&refusal), refused(422, "invalid_field"));
    assert!(refusal.text().contains("keyward user set"), "{}", refusal.text());
    lab.gateway.api("DELETE", "/users/admin", "").await;
    let login = {
        let link = link_in(&mut lab, "default", json!({})).await;
        let answer = sign_in(&lab, &link, "").await;
        Login::in_answer(&mut lab, &answer)
    };
    let said = ask_at(&lab, "GET /api/v1/session", &login.cookie(), "").await.json();
    assert_eq!((&said["user"], &said["role"]), (&json!("admin"), &json!("admin")));
    let again = lab.gateway.api("POST", "/login-links", "{}").await.json();
    assert_eq!((&again["user"], &again["added"]), (&json!("admin"), &json!(false)));
    for name in ["ann", "ben", "cas", "dan", "eli", "flo", "gus"] {
        let new = json!({"name": name, "role": "admin"}).to_string();
        lab.gateway.api("POST", "/users", &new).await;
    }
    let several = lab.gateway.api("POST", "/login-links", "{}").await;
    assert_eq!(code(&several), refused(422, "invalid_field"));
    let message = several.json()["error"]["message"].clone();
    let expected = "is missing: the admins are `admin`, `ann`, `ben`, `cas`, `dan` and 3 more";
    assert_eq!(message, expected);
    // An admin with a cookie gets their own.
    let own = ask_at(&lab, "GET /api/v1/caller", &login.cookie(), "").await.json();
    assert_eq!((&own["user"], &own["scopes"]), (&json!("admin"), &json!(["all"])));
    let socket = lab.gateway.api("POST", "/session", r#"{"link":"kwo_x"}"#).await;
    assert_eq!(code(&socket), refused(422, "refused"));
    lab.finish().await;
}
