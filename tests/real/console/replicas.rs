//! What the console shows of several gateways on one store.

use super::*;
use crate::replicas::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_and_their_audit_logs_are_in_the_console() {
    let database = Database::start();
    let plan = database.under(Plan::api_key());
    let lab = plan.start(Origin::saying("fine")).await;
    let mut other = lab.gateway.replica().await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 200);
    other.api("POST", "/agents", r#"{"name":"elsewhere"}"#).await.is(201);
    until("the record", async || {
        let log = other.api("GET", "/audit", "").await.json();
        log["items"].as_array().is_some_and(|records| !records.is_empty())
    })
    .await;
    // It publishes what it has written by then.
    other.stop().await;
    let verified = until_some("the logs of both", async || {
        let verified = lab.gateway.api("GET", "/audit/verify", "").await.json();
        (verified["chains"].as_array().is_some_and(|chains| chains.len() == 2)).then_some(verified)
    })
    .await;
    let chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut chromium = chromium;
    let mut tab = opened(&lab, &mut chromium, "/audit/verify").await;
    tab.sees("Logs of replicas").await;
    tab.sees("in another log").await;
    tab.sees("stopped").await;
    for chain in verified["chains"].as_array().expect("a list") {
        tab.sees(chain["chain"].as_str().expect("a name")).await;
    }
    tab.is_accessible().await;
    tab.screenshot("chains").await;
    tab.open(&at(&lab, "/settings")).await;
    tab.sees("ms behind the store, not ready from 4 s on").await;
    tab.sees("1 of 1 ready").await;
    tab.is_accessible().await;
    lab.finish().await;
}
