//! State that replicas share: what one replica makes, another one uses and ends; and what the owner of the database sees
//! of it.

use super::lag::{tunnel_at, until_refused, until_served};
use super::*;
use test_support::browser::Browser;
use test_support::login::Login;

const END_USER: &str = "auth0|5f7c";

/// A key that the API takes.
const GOOD: &str = "ak_good-of-a-person-0123456789abcdef";

/// What opens the form of a connect session.
const FORM: &str = "<form method=\"post\" action=\"";

/// Two replicas before an API that takes the canary and [`GOOD`].
async fn two(database: &Database) -> (Lab, Gateway) {
    let plan = Plan::api_key();
    let own = plan.canary().text.clone();
    let origin = Origin::answering(move |request: &Message| match request.head.one("x-api-key") {
        Some(key) if key == GOOD || key == own => ok(r#"{"login": "alice@acme.test"}"#),
        _ => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let test = format!("{{ method: GET, url: \"https://{HOST}/me\" }}");
    let plan = plan.test(&test).limit("auth_failures_per_minute_max: 1000000");
    let lab = database.under(plan).start(origin).await;
    let other = lab.gateway.replica().await;
    (lab, other)
}

/// Waits until a replica shows this resource.
async fn until_shown(gateway: &Gateway, path: &str) -> Value {
    until_some(path, async || {
        let answer = gateway.api("GET", path, "").await;
        (answer.head.status() == 200).then(|| answer.json())
    })
    .await
}

fn text(answer: &Value, key: &str) -> String {
    answer[key].as_str().unwrap_or_else(|| panic!("no {key} in {answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_one_replica_is_used_and_ended_at_the_other() {
    let database = Database::start();
    let (mut lab, mut other) = two(&database).await;
    lab.add_agent("support").await;
    let a = &lab.gateway;
    call(a, "PATCH", "/agents/support", &json!({ "user_providers": ["acme"] })).await;
    call(a, "POST", "/users", &json!({ "name": END_USER, "role": "end_user" })).await;
    let fields = json!({ "api_key": GOOD });
    let own = json!({ "provider": "acme", "name": "own", "owner": END_USER, "fields": fields });
    call(a, "POST", "/connections", &own).await;
    let asked = json!({ "agent": "support", "user": END_USER });
    let made = call(a, "POST", "/sessions", &asked).await;
    let (token, path) = (text(&made, "token"), format!("/sessions/{}", text(&made, "id")));
    until_shown(&other, &path).await;
    let before = lab.origin.received().len();
    drop(until_served(&lab, &other, &token, 407).await);
    let received = lab.origin.received();
    assert_eq!(received.len(), before + 1);
    assert_eq!(received[before].head.one("x-api-key"), Some(GOOD), "that of the end user");
    let mut open = until_served(&lab, &lab.gateway, &token, 407).await;
    call(&other, "DELETE", &path, &Value::Null).await;
    until_refused(&mut open, 401).await;
    let served = lab.origin.received().len();
    let refused = tunnel_at(&lab, &lab.gateway, &token).await.err();
    assert_eq!(refused, Some(401), "a new tunnel at the replica that made it");
    assert_eq!(lab.origin.received().len(), served);
    lab.gateway.api("GET", &path, "").await.is(404);
    for secret in [GOOD, &token] {
        lab.guard(Canary::of(secret.to_owned()));
        database.assert_lacks([Canary::of(secret.to_owned()), lab.canary.clone()]);
    }
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_link_is_opened_at_one_of_two_replicas_and_completed_at_the_other() {
    let database = Database::start();
    let (mut lab, mut other) = two(&database).await;
    let user = json!({ "name": END_USER, "role": "end_user" });
    call(&lab.gateway, "POST", "/users", &user).await;
    let asked = json!({ "user": END_USER, "providers": ["acme"] });
    let made = call(&lab.gateway, "POST", "/connect-sessions", &asked).await;
    let (url, path) = (text(&made, "url"), format!("/connect-sessions/{}", text(&made, "id")));
    assert_eq!(until_shown(&other, &path).await["state"], "open");
    // In two browsers, at both replicas at once.
    let mut browsers = [Browser::new(&lab.gateway), Browser::at(other.admin)];
    let [one, two] = &mut browsers;
    let answers = tokio::join!(one.post(&url), two.post(&url));
    let mut statuses = [answers.0.head.status(), answers.1.head.status()];
    let winner = statuses.iter().position(|status| *status == 303).expect("one of them");
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 403]);
    for gateway in [&lab.gateway, &other] {
        Browser::at(gateway.admin).post(&url).await.is(403);
    }
    // The next request of the browser reaches the other replica.
    let elsewhere = [other.admin, lab.gateway.admin][winner];
    let mut moved = Browser::at(elsewhere);
    moved.cookies = browsers[winner].cookies.clone();
    let page = until_some("the page at the other replica", async || {
        let page = moved.get("/connect/session").await;
        (page.head.status() == 200).then(|| page.text())
    })
    .await;
    let (_, rest) = page.split_once(FORM).expect("a form");
    let query = rest.split('"').next().expect("an address").replace("&amp;", "&");
    let form = format!("/connect/session{query}");
    moved.submit(&form, &[("field.api_key", GOOD)]).await.is(303);
    for gateway in [&lab.gateway, &other] {
        let connected =
            async { while until_shown(gateway, &path).await["state"] != "completed" {} };
        patiently("the connection at both", connected).await;
    }
    let link = url.rsplit('/').next().expect("a token").to_owned();
    for secret in [GOOD, &link, &*moved.cookies[0].1] {
        lab.guard(Canary::of(secret.to_owned()));
        database.assert_lacks([Canary::of(secret.to_owned())]);
    }
    other.stop().await;
    lab.finish().await;
}

/// One request to the admin listener of a replica.
async fn admin_at(gateway: &Gateway, line: &str, fields: &str, body: &str) -> Message {
    let at = gateway.admin;
    let mut wire = Wire::to(at).await;
    wire.send(format!(
        "{line} HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    ))
    .await;
    wire.answer(line.split(' ').next().expect("a method")).await
}

async fn until_login_is(gateway: &Gateway, login: &Login, status: u16) {
    until(&format!("{status} for a login"), async || {
        admin_at(gateway, "GET /api/v1/agents", &login.cookie(), "").await.head.status() == status
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_one_replica_is_valid_at_both_until_it_is_ended_at_either() {
    let database = Database::start();
    let (mut lab, mut other) = two(&database).await;
    call(&lab.gateway, "POST", "/users", &json!({ "name": "bob", "role": "member" })).await;
    until_shown(&other, "/users/bob").await;
    let made = call(&lab.gateway, "POST", "/login-links", &json!({ "user": "bob" })).await;
    let url = text(&made, "url");
    let (_, link) = url.split_once("/login?link=").expect("a link");
    // Signs one browser in, whichever replicas are asked. One that does not know it yet refuses it.
    let body = json!({ "link": link }).to_string();
    let sign_in = async |gateway| admin_at(gateway, "POST /api/v1/session", "", &body).await;
    let answers = tokio::join!(sign_in(&lab.gateway), sign_in(&other));
    let mut statuses = [answers.0.head.status(), answers.1.head.status()];
    let first = if statuses[0] == 200 { answers.0 } else { answers.1 };
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "{}", first.text());
    for gateway in [&lab.gateway, &other] {
        assert_eq!(sign_in(gateway).await.head.status(), 401, "it was used");
    }
    let login = Login::in_answer(&mut lab, &first);
    for gateway in [&lab.gateway, &other] {
        until_login_is(gateway, &login, 200).await;
    }
    // Without the CSRF value of the login, the other replica does not end it.
    admin_at(&other, "DELETE /api/v1/session", &login.cookie(), "").await.is(403);
    admin_at(&other, "DELETE /api/v1/session", &login.fields(), "").await.is(204);
    until_login_is(&other, &login, 401).await;
    until_login_is(&lab.gateway, &login, 401).await;
    database.assert_lacks([link.to_owned(), login.token, login.csrf].map(Canary::of));
    other.stop().await;
    lab.finish().await;
}

/// Waits until a replica shows as many requests of an agent; one of these numbers.
async fn until_used(gateway: &Gateway, requests: &[u64]) {
    until(&format!("{requests:?} requests"), async || {
        let usage = call(gateway, "GET", "/agents/ci/usage", &Value::Null).await;
        let shown = usage["history"]["total"]["requests"].as_u64();
        shown.is_some_and(|shown| requests.contains(&shown))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_two_replicas_add_up_in_the_usage_that_each_shows() {
    let database = Database::start();
    let (mut lab, mut other) = two(&database).await;
    // The second replica also shows those of the first if a minute ends meanwhile.
    for (gateway, count, shown) in [(&lab.gateway, 3, &[3][..]), (&other, 2, &[2, 5])] {
        for _ in 0..count {
            assert_eq!(ask_at(&lab, gateway, "ci").await.head.status(), 200);
        }
        until_used(gateway, shown).await;
    }
    // Each minute, and when it stops, a replica adds what it counted.
    other.restart().await;
    until_used(&lab.gateway, &[5]).await;
    lab.gateway.restart().await;
    until_used(&other, &[5]).await;
    until_used(&lab.gateway, &[5]).await;
    assert_eq!(ask_at(&lab, &other, "ci").await.head.status(), 200);
    until_used(&other, &[6]).await;
    other.stop().await;
    until_used(&lab.gateway, &[6]).await;
    lab.finish().await;
}
