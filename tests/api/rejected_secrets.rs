//! A secret that the provider rejects becomes visible: repeated 401 answers of traffic lead to a test, and a rejected
//! test breaks the connection. An agent that provokes 401 answers breaks nothing while the test succeeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::hooks::Hooks;
use test_support::*;

const ME: &str = "{ url: 'https://api.acme.test/me' }";

/// A provider that knows the key while `live`, answers 401 below `/private` in any case, and `test` to its test.
#[derive(Clone)]
struct Provider {
    live: Arc<AtomicBool>,
    test: Arc<AtomicU16>,
}

impl Provider {
    fn new(live: bool) -> Self {
        let test = AtomicU16::new(if live { 200 } else { 401 });
        Self { live: Arc::new(AtomicBool::new(live)), test: Arc::new(test) }
    }

    fn origin(&self) -> Origin {
        let Self { live, test } = self.clone();
        Origin::answering(move |request| {
            let status = match request.head.target() {
                "/me" => test.load(SeqCst),
                "/private" => 401,
                _ if live.load(SeqCst) => 200,
                _ => 401,
            };
            format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")
        })
    }

    fn set(&self, live: bool) {
        self.live.store(live, SeqCst);
        self.test.store(if live { 200 } else { 401 }, SeqCst);
    }
}

/// A lab with the connection `mine` of the store and the agent `ci`.
async fn lab(provider: &Provider, plan: Plan) -> Lab {
    Lab::with_mine(plan, provider.origin(), json!({})).await
}

async fn shown(lab: &Lab, name: &str) -> Value {
    lab.gateway.api("GET", &format!("/connections/{name}"), "").await.json()
}

async fn post(lab: &Lab, verb: &str, body: &Value) -> Value {
    lab.gateway.api("POST", &format!("/connections/mine/{verb}"), &body.to_string()).await.json()
}

/// The statuses that the agent gets for these paths.
async fn asks(lab: &Lab, paths: &[&str]) -> Vec<u16> {
    let mut got = Vec::new();
    for path in paths {
        got.push(lab.ask(&format!("GET {path}")).await.head.status());
    }
    got
}

/// How often the provider was tested.
fn tests(lab: &Lab) -> usize {
    lab.origin.received().iter().filter(|it| it.head.target() == "/me").count()
}

/// Waits for the background test to end: its audit record is written after the answer.
async fn is_tested(lab: &Lab, count: usize) {
    until("the test", async || tests(lab) >= count).await;
}

async fn is(lab: &Lab, name: &str, state: &str) -> Value {
    until_some(state, async || {
        let seen = shown(lab, name).await;
        (seen["state"] == state).then_some(seen)
    })
    .await
}

#[tokio::test]
async fn an_agent_that_provokes_refusals_breaks_nothing_while_the_test_succeeds() {
    let lab = lab(&Provider::new(true), Plan::api_key().test(ME)).await;
    assert_eq!(asks(&lab, &["/private"; 2]).await, [401; 2]);
    is_tested(&lab, 1).await;
    // Whatever follows: one test, and its pause is not shortened by a success.
    assert_eq!(asks(&lab, &["/private", "/a", "/private", "/private"]).await, [401, 200, 401, 401]);
    assert_eq!(asks(&lab, &["/private"; 8]).await, [401; 8]);
    assert_eq!(asks(&lab, &["/a"]).await, [200]);
    assert_eq!((tests(&lab), &shown(&lab, "mine").await["state"]), (1, &json!("active")));
    lab.finish().await;
}

#[tokio::test]
async fn one_refusal_or_a_success_between_two_is_no_reason_for_a_test() {
    let lab = lab(&Provider::new(true), Plan::api_key().test(ME)).await;
    assert_eq!(asks(&lab, &["/private", "/a", "/private", "/a"]).await, [401, 200, 401, 200]);
    assert_eq!((tests(&lab), &shown(&lab, "mine").await["state"]), (0, &json!("active")));
    lab.finish().await;
}

#[tokio::test]
async fn a_revoked_key_breaks_its_connection_until_a_test_succeeds() {
    let provider = Provider::new(true);
    let mut hooks = Hooks::start().await;
    let plan = hooks.reached(Plan::api_key().test(ME));
    let mut lab = lab(&provider, plan).await;
    let key = hooks.subscribed(&mut lab, &["connection.broken", "connection.reconnected"]).await;
    assert_eq!(asks(&lab, &["/a"]).await, [200]);
    provider.set(false);
    assert_eq!(asks(&lab, &["/a", "/b"]).await, [401; 2], "no answer waits for the test");
    let broken = is(&lab, "mine", "broken").await;
    assert_eq!((&broken["reason"], &broken["detail"]), (&json!("rejected"), &json!("401")));
    let event = hooks.event(&key).await;
    assert_eq!(event.kind, "connection.broken");
    assert_eq!(event.data["reason"], "rejected", "{}", event.data);
    let remedy = "give it a new secret: `keyward connection rotate mine`";
    assert_eq!(event.data["remedy"], remedy, "{}", event.data);
    assert_eq!(broken["remedy"], remedy);

    let before = lab.origin.received().len();
    let refused = lab.ask("GET /c").await;
    assert_eq!(refused.refusal(), (424, Some("connection_broken")), "{}", refused.text());
    assert_eq!(refused.json()["error"]["hint"], remedy);
    assert!(refused.text().contains("rejected"), "{}", refused.text());
    assert_eq!(lab.origin.received().len(), before, "nothing of it was sent");

    lab.gateway.restart().await;
    assert_eq!(shown(&lab, "mine").await["reason"], "rejected");
    assert_eq!(asks(&lab, &["/d"]).await, [424]);
    let still = post(&lab, "test", &json!({})).await;
    assert_eq!((&still["outcome"], &still["hint"]), (&json!("wrong_key"), &json!(remedy)));
    assert_eq!(shown(&lab, "mine").await["reason"], "rejected");

    provider.set(true);
    assert_eq!(post(&lab, "test", &json!({})).await["ok"], true);
    assert_eq!(shown(&lab, "mine").await["state"], "active");
    assert_eq!(asks(&lab, &["/e"]).await, [200]);
    assert_eq!(hooks.event(&key).await.kind, "connection.reconnected");
    // It is counted from the beginning, and can be revoked again.
    provider.set(false);
    assert_eq!(asks(&lab, &["/f", "/g"]).await, [401; 2]);
    is(&lab, "mine", "broken").await;
    let records = lab.finish_with_changes().await;
    let told = records.iter().filter(|it| it["change"]["event"] == "connection.broken");
    let told: Vec<_> = told.map(|it| (&it["change"]["by"], &it["change"]["why"])).collect();
    assert_eq!(told, [(&json!("gateway"), &json!("rejected, 401")); 2]);
}

#[tokio::test]
async fn a_new_secret_repairs_a_broken_connection_and_it_stays_active_after_a_restart() {
    let provider = Provider::new(false);
    let next = Canary::new("next");
    let mut lab = lab(&provider, Plan::api_key().test(ME)).await;
    lab.guard(next.clone());
    assert_eq!(asks(&lab, &["/a"; 2]).await, [401; 2]);
    is(&lab, "mine", "broken").await;
    provider.set(true);
    let rotated = post(&lab, "rotate", &json!({"fields": {"api_key": next.text}})).await;
    assert_eq!(rotated["state"], "active", "{rotated}");
    assert_eq!(asks(&lab, &["/b"]).await, [200]);
    let last = lab.origin.received().pop().expect("one");
    assert_eq!(last.head.all("x-api-key"), [&*next.text]);
    lab.gateway.restart().await;
    assert_eq!(shown(&lab, "mine").await["state"], "active");
    lab.finish().await;
}

#[tokio::test]
async fn a_test_with_another_status_than_401_breaks_no_connection() {
    for status in [403, 404, 429, 500, 503] {
        let provider = Provider::new(false);
        provider.test.store(status, SeqCst);
        let lab = lab(&provider, Plan::api_key().test(ME)).await;
        assert_eq!(asks(&lab, &["/a"; 2]).await, [401; 2]);
        is_tested(&lab, 1).await;
        assert_eq!(asks(&lab, &["/a"; 3]).await, [401; 3], "{status}");
        assert_eq!((tests(&lab), &shown(&lab, "mine").await["state"]), (1, &json!("active")));
        lab.finish().await;
    }
}

#[tokio::test]
async fn without_a_test_request_a_few_refusals_break_nothing() {
    let lab = lab(&Provider::new(false), Plan::api_key()).await;
    assert_eq!(asks(&lab, &["/a"; 12]).await, [401; 12]);
    assert_eq!(shown(&lab, "mine").await["state"], "active");
    lab.finish().await;
}

#[tokio::test]
async fn a_person_resumes_a_key_whose_test_alone_is_refused() {
    let provider = Provider::new(true);
    provider.test.store(401, SeqCst);
    let mut lab = lab(&provider, Plan::api_key().test(ME)).await;
    assert_eq!(asks(&lab, &["/private"; 2]).await, [401; 2]);
    is(&lab, "mine", "broken").await;
    let resumed = post(&lab, "resume", &json!({})).await;
    assert_eq!(resumed["state"], "active", "{resumed}");
    // From then on the test decides nothing, also after a restart.
    lab.gateway.restart().await;
    assert_eq!(asks(&lab, &["/a", "/private", "/private", "/private"]).await, [200, 401, 401, 401]);
    assert_eq!(asks(&lab, &["/a"]).await, [200]);
    assert_eq!((tests(&lab), &shown(&lab, "mine").await["state"]), (1, &json!("active")));
    lab.finish().await;
}

#[tokio::test]
async fn a_rejected_secret_of_the_file_is_replaced_in_its_file_and_by_a_reload() {
    let provider = Provider::new(false);
    let good = Canary::new("good");
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { header: X-Api-Key } }",
        "{ api_key: { file: key.txt } }",
    );
    let old = plan.canary().clone();
    let plan = plan.test(ME).file("key.txt", &old.text);
    let mut lab = plan.start(provider.origin()).await;
    lab.guard(good.clone());
    assert_eq!(asks(&lab, &["/a"; 2]).await, [401; 2]);
    let broken = is(&lab, "acme", "broken").await;
    let remedy = "put a new secret where the configuration file reads it, then: `keyward reload` (for a \
                  variable, restart the gateway); if the present one is right, test it: `keyward \
                  connection test acme`";
    assert_eq!((&broken["reason"], &broken["remedy"]), (&json!("rejected"), &json!(remedy)));
    lab.gateway.restart().await;
    assert_eq!(asks(&lab, &["/b"]).await, [424], "the file still has the rejected secret");
    std::fs::write(lab.gateway.folder().join("key.txt"), &good.text).expect("a file");
    provider.set(true);
    lab.gateway.api("POST", "/reload", "{}").await.is(200);
    assert_eq!(asks(&lab, &["/c"]).await, [200]);
    let last = lab.origin.received().pop().expect("one");
    assert_eq!(last.head.all("x-api-key"), [&*good.text]);
    // The file of the test has the secret, which is searched for everywhere else.
    std::fs::remove_file(lab.gateway.folder().join("key.txt")).expect("it is there");
    lab.finish().await;
}
