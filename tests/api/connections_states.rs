//! The states of a connection: a draft until the provider takes its secret, active, and broken only where
//! that is certain; what was left is gone on with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

const ME: &str = "{ url: 'https://api.acme.test/me' }";

/// Answers with a status of the test's choosing.
fn answering(status: &Arc<AtomicU16>) -> Origin {
    let status = status.clone();
    Origin::answering(move |_| {
        format!("HTTP/1.1 {} x\r\nContent-Length: 0\r\n\r\n", status.load(SeqCst))
    })
}

/// A lab whose provider answers with `status`, and an agent that no file manages.
async fn lab(plan: Plan, status: u16) -> (Lab, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let mut lab = plan.no_agents().start(answering(&status)).await;
    lab.add_agent("ci").await;
    (lab, status)
}

async fn add(lab: &Lab, key: &str, test: bool) -> Value {
    let new = json!({"provider": "acme", "name": "mine", "fields": {"api_key": key}, "test": test});
    lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201).json()
}

async fn bind(lab: &Lab) {
    lab.bind("ci", "mine").await;
}

async fn post(lab: &Lab, verb: &str, body: &Value) -> Message {
    lab.gateway.api("POST", &format!("/connections/mine/{verb}"), &body.to_string()).await
}

async fn shown(lab: &Lab) -> Value {
    lab.gateway.api("GET", "/connections/mine", "").await.json()
}

#[tokio::test]
async fn a_secret_that_is_a_common_word_is_warned_of_when_it_is_stored_and_where_it_is_shown() {
    let (lab, _) = lab(Plan::api_key(), 200).await;
    let said = "its `api_key` is a common word, which is masked in every answer that has it: replace \
                it by a longer one";
    let made = add(&lab, "internal", false).await;
    assert_eq!(made["warnings"], json!([said]));
    assert_eq!(shown(&lab).await["warnings"], json!([said]));
    let other = json!({ "fields": { "api_key": "username" }, "test": false });
    let rotated = post(&lab, "rotate", &other).await.json();
    assert_eq!(rotated["warnings"], json!([said]), "{rotated}");
    let generated = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(generated["warnings"], Value::Null, "{generated}");
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_with_a_rejected_secret_stays_a_draft_that_no_agent_may_use() {
    let (mut lab, status) = lab(Plan::api_key().test(ME), 401).await;
    let made = add(&lab, &lab.canary.text.clone(), true).await;
    assert_eq!((&made["state"], &made["test"]["outcome"]), (&json!("draft"), &json!("wrong_key")));
    let failure = shown(&lab).await["failure"].clone();
    assert!(failure.as_str().is_some_and(|why| why.contains("rejected this key")), "{failure}");
    bind(&lab).await;
    lab.ask("GET /a").await.is(424);
    assert_eq!(lab.origin.received().len(), 1, "only the test went out");
    // It is resumed where it was left, also after a restart: the secret is there.
    lab.gateway.restart().await;
    assert_eq!(shown(&lab).await["state"], "draft");
    let again = post(&lab, "activate", &json!({})).await.json();
    assert_eq!(again["state"], "draft", "{again}");
    status.store(200, SeqCst);
    let active = post(&lab, "activate", &json!({})).await.json();
    assert_eq!((&active["state"], &active["test"]["ok"]), (&json!("active"), &json!(true)));
    assert_eq!(lab.ask("GET /b").await.head.status(), 200);
    for request in lab.origin.received() {
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    post(&lab, "activate", &json!({})).await.is(422).says("is no draft");
    lab.finish().await;
}

#[tokio::test]
async fn a_draft_is_activated_with_another_secret_or_without_a_test() {
    let typo = Canary::new("typo");
    let (lab, status) = lab(Plan::api_key().test(ME).secret("TYPO", &typo), 401).await;
    add(&lab, &typo.text, true).await;
    status.store(200, SeqCst);
    let fields = json!({"fields": {"api_key": lab.canary.text}});
    assert_eq!(post(&lab, "activate", &fields).await.json()["state"], "active");
    bind(&lab).await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 200);
    let sent: Vec<String> = lab
        .origin
        .received()
        .iter()
        .map(|it| it.head.one("x-api-key").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(sent, [&*typo.text, &*lab.canary.text, &*lab.canary.text]);
    lab.gateway.api("DELETE", "/connections/mine", "").await;
    status.store(500, SeqCst);
    assert_eq!(add(&lab, &typo.text, true).await["state"], "draft", "the key was not judged");
    let untested = post(&lab, "activate", &json!({"test": false})).await.json();
    assert_eq!((&untested["state"], &untested["test"]), (&json!("active"), &Value::Null));
    lab.finish().await;
}

#[tokio::test]
async fn a_provider_without_a_test_is_active_at_once() {
    let (lab, _) = lab(Plan::api_key(), 200).await;
    let made = add(&lab, &lab.canary.text.clone(), true).await;
    assert_eq!((&made["state"], &made["test"]), (&json!("active"), &Value::Null));
    lab.finish_unreached().await;
}

#[tokio::test]
async fn only_two_401s_of_one_test_break_a_connection_and_a_good_test_repairs_it() {
    // The second answer differs from the first, until it is told to stay.
    let answers = Arc::new(std::sync::Mutex::new(vec![401, 200, 401, 401, 200]));
    let origin = Origin::answering(move |request| {
        let status = match request.head.target() {
            "/me" => answers.lock().expect("not poisoned").remove(0),
            _ => 200,
        };
        format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")
    });
    let mut lab = Plan::api_key().test(ME).no_agents().start(origin).await;
    lab.add_agent("ci").await;
    add(&lab, &lab.canary.text.clone(), false).await;
    bind(&lab).await;
    let once = post(&lab, "test", &json!({})).await.json();
    assert_eq!((&once["ok"], &shown(&lab).await["state"]), (&json!(true), &json!("active")));
    let twice = post(&lab, "test", &json!({})).await.json();
    assert_eq!(twice["outcome"], "wrong_key");
    let broken = shown(&lab).await;
    assert_eq!((&broken["state"], &broken["reason"]), (&json!("broken"), &json!("test_failed")));
    let refused = lab.ask("GET /a").await;
    assert_eq!(refused.head.one("keyward-error"), Some("connection_broken"), "{}", refused.text());
    assert!(refused.text().contains("test_failed"), "{}", refused.text());
    assert_eq!(post(&lab, "test", &json!({})).await.json()["ok"], true);
    assert_eq!(shown(&lab).await["state"], "active");
    assert_eq!(lab.ask("GET /a").await.head.status(), 200);
    lab.finish().await;
}

#[tokio::test]
async fn a_test_answer_other_than_401_breaks_no_connection() {
    let (lab, status) = lab(Plan::api_key().test(ME), 200).await;
    add(&lab, &lab.canary.text.clone(), false).await;
    for other in [403, 404, 429, 500, 503, 418] {
        status.store(other, SeqCst);
        assert_eq!(post(&lab, "test", &json!({})).await.json()["ok"], false, "{other}");
        assert_eq!(shown(&lab).await["state"], "active", "{other}");
    }
    assert_eq!(lab.origin.received().len(), 6, "each asked once");
    lab.finish().await;
}

#[tokio::test]
async fn a_change_is_tested_before_it_is_stored() {
    let origin = Origin::answering(|request| {
        let status = if request.head.one("x-team") == Some("good") { 200 } else { 403 };
        format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")
    });
    let lab = Plan::api_key().test(ME).start(origin).await;
    add(&lab, &lab.canary.text.clone(), false).await;
    let change = |team: &str| {
        let body = json!({"settings": {"headers": {"X-Team": team}}, "test": true}).to_string();
        let gateway = &lab.gateway;
        async move { gateway.api("PATCH", "/connections/mine", &body).await }
    };
    let refused = change("bad").await;
    assert_eq!(
        (refused.head.status(), &refused.json()["error"]["code"]),
        (422, &json!("test_failed"))
    );
    assert!(refused.text().contains("nothing was changed"), "{}", refused.text());
    assert_eq!(shown(&lab).await["settings"], json!({}));
    assert_eq!(change("good").await.head.status(), 200);
    assert_eq!(shown(&lab).await["settings"], json!({"headers": {"x-team": "good"}}));
    let teams: Vec<_> = lab
        .origin
        .received()
        .iter()
        .map(|it| it.head.one("x-team").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(teams, ["bad", "good"]);
    lab.finish().await;
}
