//! What prolongs a login: what its user does, and not what an open page does by itself. Who ends it.

use std::sync::atomic::Ordering;

use super::*;
use crate::auth::RENEWAL_FIELD;
use keyward_base::id::LoginId;
use keyward_base::time::Clock;
use keyward_model::Login;

/// A browser that is signed in over the network.
struct Browser {
    router: Router,
    cookie: String,
    csrf: String,
    login: LoginId,
}

impl Browser {
    async fn signed_in(lab: &Lab) -> Self {
        Self::signed_in_by(lab, json!({})).await
    }

    /// Of the user whom the request for a link names.
    async fn signed_in_by(lab: &Lab, link: Value) -> Self {
        let access = NetworkAccess {
            names: OwnNames::new(80, Vec::new()),
            proxies: Vec::new(),
            origins: Vec::new(),
            metrics_are_open: false,
        };
        let router = network_router(lab.admin.clone(), access, Router::new());
        let link = lab.post("/api/v1/login-links", link).await.1;
        let (_, link) = link["url"].as_str().unwrap().split_once("?link=").unwrap();
        let request = from_browser(Method::POST, "/api/v1/session")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(json!({ "link": link }).to_string()));
        let answer = router.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let said = answer.into_body().collect().await.unwrap().to_bytes();
        let said: Value = serde_json::from_slice(&said).unwrap();
        let login = serde_json::from_value(said["login"].clone()).unwrap();
        let csrf = said["csrf"].as_str().unwrap().to_owned();
        Self { router, cookie, csrf, login }
    }

    /// Asks with this field in addition.
    async fn asks(&self, (name, value): (&str, &str)) -> StatusCode {
        let request = from_browser(Method::GET, "/api/v1/agents")
            .header(header::COOKIE, &self.cookie)
            .header(name, value);
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap().status()
    }

    /// Ends a login.
    async fn ends(&self, login: &str) -> StatusCode {
        let request = from_browser(Method::DELETE, &format!("/api/v1/logins/{login}"))
            .header(header::COOKIE, &self.cookie)
            .header(header::CONTENT_TYPE, "application/json")
            .header("keyward-csrf", &self.csrf);
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap().status()
    }

    /// Its user does something, whose time is stored.
    async fn is_used(&self, lab: &Lab) -> StatusCode {
        let deps = lab.admin.deps();
        let (now, mut changes) = (deps.clock.now(), deps.directory.changes());
        let status = self.asks(("accept", "text/html")).await;
        let is_stored = || {
            let view = deps.directory.view();
            let login = view.one::<Login>(&OrgId::default_org(), &self.login);
            login.is_some_and(|login| login.facts.last_used == now)
        };
        while status == StatusCode::OK && !is_stored() {
            changes.changed().await.unwrap();
        }
        status
    }
}

fn from_browser(method: Method, path: &str) -> http::request::Builder {
    let at = "127.0.0.1:80".parse().unwrap();
    let builder = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    builder.extension(Arrival { local: at, peer: at, is_tls: false })
}

/// Lets this time pass.
fn pass(lab: &Lab, hours: i64) {
    let Clock::Fixed(now) = &lab.admin.deps().clock else { panic!("a clock that is set") };
    now.fetch_add(hours * 3_600_000, Ordering::SeqCst);
}

#[tokio::test]
async fn requests_that_an_open_page_sends_by_itself_do_not_prolong_its_login() {
    let lab = Lab::new().await;
    let (left, used) = (Browser::signed_in(&lab).await, Browser::signed_in(&lab).await);
    let own = [
        (RENEWAL_FIELD, "parts"),
        (RENEWAL_FIELD, "whole"),
        ("accept", "text/event-stream"),
        ("accept", "text/html, text/event-stream;q=0.5"),
    ];
    for _ in 0..2 {
        pass(&lab, 4);
        for field in own {
            assert_eq!(left.asks(field).await, StatusCode::OK, "{field:?}");
        }
        // Times of use are stored one after the other, so the time of an earlier request would be stored now.
        assert_eq!(used.is_used(&lab).await, StatusCode::OK);
    }
    // Twelve hours after the sign-in.
    pass(&lab, 4);
    for field in own {
        assert_eq!(left.asks(field).await, StatusCode::UNAUTHORIZED, "{field:?}");
    }
    assert_eq!(left.is_used(&lab).await, StatusCode::UNAUTHORIZED);
    assert_eq!(used.is_used(&lab).await, StatusCode::OK);
}

/// An auditor changes nothing else.
#[tokio::test]
async fn an_auditor_ends_their_own_logins_and_no_other() {
    let lab = Lab::new().await;
    for (name, role) in [("eve", "auditor"), ("bob", "member")] {
        lab.post("/api/v1/users", json!({"name": name, "role": role})).await;
    }
    let by = async |name: &str| Browser::signed_in_by(&lab, json!({"user": name})).await;
    let (here, lost, other) = (by("eve").await, by("eve").await, by("bob").await);
    let (_, token) = lab.post("/api/v1/tokens", json!({"user": "eve"})).await;
    let token = format!("Bearer {}", token["token"].as_str().unwrap());
    let with_token = from_browser(Method::DELETE, &format!("/api/v1/logins/{}", lost.login))
        .header(header::AUTHORIZATION, token);
    let with_token = with_token.body(Body::empty()).unwrap();
    let answer = here.router.clone().oneshot(with_token).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "a token changes nothing");
    for login in [other.login.as_str(), "lgn_nothing"] {
        assert_eq!(here.ends(login).await, StatusCode::FORBIDDEN, "{login}");
    }
    assert_eq!(other.ends(lost.login.as_str()).await, StatusCode::NOT_FOUND, "a member sees none");
    for browser in [&lost, &other] {
        assert_eq!(browser.asks(("accept", "text/html")).await, StatusCode::OK);
    }
    assert_eq!(here.ends(lost.login.as_str()).await, StatusCode::NO_CONTENT);
    assert_eq!(lost.asks(("accept", "text/html")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(here.asks(("accept", "text/html")).await, StatusCode::OK);
}
