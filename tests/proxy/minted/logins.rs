//! Sessions: a login that the provider's file describes, its token in requests, and what follows when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

/// A service with a login at `/login`, a renewal at `/renew`, and an API that accepts the newest session.
#[derive(Clone, Default)]
struct Service {
    logins: Arc<AtomicUsize>,
    renewals: Arc<AtomicUsize>,
    /// Sessions up to this number have ended.
    ended: Arc<AtomicUsize>,
    /// The status of logins, if they are refused.
    refused: Arc<AtomicUsize>,
    /// Whether renewals are refused.
    forgets: Arc<AtomicUsize>,
}

impl Service {
    fn start(&self) -> Origin {
        let service = self.clone();
        Origin::answering(move |request: &Message| service.answer(request))
    }

    fn answer(&self, request: &Message) -> String {
        let numbers = || self.logins.load(Ordering::SeqCst) + self.renewals.load(Ordering::SeqCst);
        match request.head.target() {
            "/login" => {
                self.logins.fetch_add(1, Ordering::SeqCst);
                match self.refused.load(Ordering::SeqCst) {
                    0 => session(numbers()),
                    status => status_of(status),
                }
            }
            "/renew" if self.forgets.load(Ordering::SeqCst) == 1 => status_of(400),
            "/renew" => {
                self.renewals.fetch_add(1, Ordering::SeqCst);
                session(numbers())
            }
            _ => {
                let token = request.head.one("x-session").unwrap_or_default();
                let number: usize =
                    token.strip_prefix("session-token-").unwrap_or("0").parse().expect("a number");
                match number > self.ended.load(Ordering::SeqCst) {
                    true => ok("fine"),
                    false => status_of(401),
                }
            }
        }
    }

    /// The sessions until now end.
    fn end_sessions(&self) {
        let all = self.logins.load(Ordering::SeqCst) + self.renewals.load(Ordering::SeqCst);
        self.ended.store(all, Ordering::SeqCst);
    }

    /// Logins and renewals.
    fn counts(&self) -> (usize, usize) {
        (self.logins.load(Ordering::SeqCst), self.renewals.load(Ordering::SeqCst))
    }
}

fn session(number: usize) -> String {
    let body = json!({ "result": { "key": format!("session-token-{number}") }, "again": format!("renewal-key-{number}") });
    answer_of(200, &body.to_string())
}

fn status_of(status: usize) -> String {
    answer_of(status, "{\"message\": \"no\"}")
}

fn answer_of(status: usize, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A connection with user name, password and site, whose provider has `more` in its auth method.
fn plan(more: &str) -> Plan {
    let auth = format!(
        "{{ id: login, kind: session, fields: [{{ name: user, secret: false }}, {{ name: password }}, \
         {{ name: note, optional: true }}], login: {{ url: \"https://{HOST}/login\", json: {{ who: {{ name: \"{{user}}\", \
         password: \"{{password}}\", note: \"{{note}}\" }}, keep: true }} }}, token_path: result.key, \
         placement: {{ header: X-Session }}{more} }}"
    );
    Plan::new(&auth, "{ user: { env: USER_NAME }, password: { env: CANARY } }")
        .variable("USER_NAME", "ann")
}

const RENEWAL: &str = ", renewal: { url: \"https://api.acme.test/renew\", bearer: refresh_token }, renames: { refresh_token: again }";

async fn lab(service: &Service, more: &str) -> Lab {
    let mut lab = plan(more).start(service.start()).await;
    for number in 1..5 {
        lab.guard(Canary::of(format!("session-token-{number}")));
        lab.guard(Canary::of(format!("renewal-key-{number}")));
    }
    lab
}

/// The requests of the origin to this path.
fn to(lab: &Lab, path: &str) -> Vec<Message> {
    lab.origin.received().into_iter().filter(|request| request.head.target() == path).collect()
}

#[tokio::test]
async fn requests_at_the_same_time_log_in_once_and_the_login_is_as_declared() {
    let service = Service::default();
    let lab = lab(&service, "").await;
    let answers = futures_util::future::join_all((0..8).map(|_| lab.ask("GET /things"))).await;
    assert!(answers.iter().all(|answer| answer.text() == "fine"));
    assert_eq!(service.counts(), (1, 0));
    let login = to(&lab, "/login").remove(0);
    assert_eq!(login.head.method(), "POST");
    assert_eq!(login.head.one("content-type"), Some("application/json"));
    let expected: Value =
        json!({ "who": { "name": "ann", "password": lab.canary.text }, "keep": true });
    assert_eq!(login.json(), expected, "a field without a value is left out");
    for request in to(&lab, "/things") {
        assert_eq!(request.head.all("x-session"), ["session-token-1"]);
        assert!(!request.head.has("authorization"));
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_agent_cannot_log_in_itself() {
    let service = Service::default();
    let lab = lab(&service, RENEWAL).await;
    for path in ["/login", "/renew"] {
        let answer = lab.ask(&format!("POST {path}")).await;
        assert_eq!(answer.head.one("keyward-error"), Some("token_endpoint_refused"), "{path}");
    }
    assert!(lab.origin.received().is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn a_session_that_the_service_ended_is_replaced_and_the_request_sent_again() {
    let service = Service::default();
    let lab = lab(&service, "").await;
    assert_eq!(lab.ask("GET /things").await.text(), "fine");
    service.end_sessions();
    assert_eq!(lab.ask("GET /things").await.text(), "fine");
    assert_eq!(service.counts(), (2, 0));
    let sent: Vec<String> =
        to(&lab, "/things").iter().map(|it| it.head.all("x-session").join("")).collect();
    assert_eq!(sent, ["session-token-1", "session-token-1", "session-token-2"]);
    lab.finish().await;
}

#[tokio::test]
async fn an_ended_session_is_renewed_and_if_that_fails_replaced_by_a_new_login() {
    let service = Service::default();
    let lab = lab(&service, RENEWAL).await;
    assert_eq!(lab.ask("GET /things").await.text(), "fine");
    service.end_sessions();
    assert_eq!(lab.ask("GET /things").await.text(), "fine");
    assert_eq!(service.counts(), (1, 1));
    let renewal = to(&lab, "/renew").remove(0);
    assert_eq!(renewal.head.one("authorization"), Some("Bearer renewal-key-1"));
    service.forgets.store(1, Ordering::SeqCst);
    service.end_sessions();
    assert_eq!(lab.ask("GET /things").await.text(), "fine");
    assert_eq!(service.counts(), (2, 1));
    lab.finish().await;
}

#[tokio::test]
async fn a_rejected_login_is_not_tried_again_and_breaks_the_connection() {
    let service = Service::default();
    service.refused.store(401, Ordering::SeqCst);
    let lab = lab(&service, "").await;
    for _ in 0..3 {
        lab.ask("GET /things").await.is(424);
    }
    assert_eq!(service.counts(), (1, 0), "many services lock accounts after a few wrong logins");
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["state"], "broken", "{shown}");
    assert!(to(&lab, "/things").is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn a_login_that_fails_with_503_does_not_break_the_connection() {
    let service = Service::default();
    service.refused.store(503, Ordering::SeqCst);
    let lab = lab(&service, "").await;
    lab.ask("GET /things").await.is(503);
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_ne!(shown["state"], "broken", "{shown}");
    lab.finish().await;
}
