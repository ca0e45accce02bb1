//! Tokens are renewed before they end, once for all, and nothing that a server gave is lost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use test_support::authorization::{Authorization, Fault, Rules};
use test_support::oauth::World;
use test_support::tokens::*;
use test_support::*;

fn bearer(authorization: &Authorization) -> String {
    let calls = authorization.calls();
    let issued = calls.iter().rev().find_map(|call| call.issued.clone()).expect("issued");
    format!("Bearer {}", issued.access)
}

fn error(answer: &Message) -> (u16, String) {
    let code = answer.head.one("keyward-error").unwrap_or_default().to_owned();
    (answer.head.status(), code)
}

/// oauth 7.3, 10.2: dead and not to be renewed just now.
#[tokio::test]
async fn an_expired_token_is_never_sent_while_refreshes_fail() {
    let (authorization, lab) =
        bank(short(1.0), |it| it.backoff_first = Duration::from_secs(60)).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    until_dead(&authorization).await;
    authorization.fail_always(Fault::bad_gateway());
    for _ in 0..3 {
        let refused = lab.ask("GET /a").await;
        assert_eq!(error(&refused), (503, "refresh_unavailable".to_owned()));
        let seconds: u64 =
            refused.head.one("retry-after").expect("a time").parse().expect("seconds");
        assert!((1..=72).contains(&seconds), "{seconds}");
        assert_eq!(refused.json()["error"]["connection"], "acme");
    }
    assert_eq!(lab.origin.received().len(), 1, "nothing went out");
    assert_eq!(authorization.calls().len(), 2, "one try, then silence");
    lab.finish().await;
}

/// oauth 9.1: permanent, of a person.
#[tokio::test]
async fn an_invalid_grant_breaks_the_connection_and_is_not_retried() {
    let (authorization, lab) = bank(short(1.0), fast).await;
    authorization.fail_always(Fault::error(400, "invalid_grant"));
    for _ in 0..3 {
        let refused = lab.ask("GET /a").await;
        assert_eq!(error(&refused), (424, "connection_broken".to_owned()));
        let said = refused.text();
        assert!(said.contains("acme") && said.contains("invalid_grant"), "{said}");
        // Nobody consented: the file has its tokens.
        assert!(said.contains("where the configuration file reads it"), "{said}");
    }
    assert_eq!(authorization.calls().len(), 1);
    assert!(lab.origin.received().is_empty());
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!((&shown["state"], &shown["reason"]), (&"broken".into(), &"revoked".into()));
    lab.finish().await;
}

/// oauth 9.2: permanent, of the operator.
#[tokio::test]
async fn the_refusal_after_invalid_client_names_both_remedies() {
    let world = World::with_connection().await;
    world.server.issuer().expire_all();
    world.server.fail_always(Fault::error(401, "invalid_client"));
    let refused = world.request().await;
    assert_eq!(error(&refused), (424, "connection_broken".to_owned()));
    let said = refused.text();
    assert!(said.contains("client id and secret of app `svc-app`"), "{said}");
    assert!(said.contains("`keyward connection reconnect work`"), "{said}");
    world.finish().await;
}

/// oauth 7.5, 9.6: no refresh token.
#[tokio::test]
async fn a_401_without_a_refresh_token_breaks_the_connection_and_sends_no_refresh() {
    let rules = Rules { refreshes: false, ..rules() };
    let authorization = Authorization::with(rules).await;
    let pair = authorization.issuer().issue();
    let origin = api(&authorization);
    let lab = plan(&authorization, &pair).start(origin).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    authorization.issuer().expire_all();
    let refused = lab.ask("GET /a").await;
    assert_eq!(error(&refused), (424, "connection_broken".to_owned()));
    assert!(refused.text().contains("no_refresh_token"), "{}", refused.text());
    assert!(authorization.calls().is_empty());
    lab.finish().await;
}

/// oauth 5.wait, 8.2: the waiter's own deadline.
#[tokio::test]
async fn a_refresh_continues_after_its_waiting_request_timed_out() {
    let (authorization, lab) =
        bank(rules(), |it| it.wait_timeout = Duration::from_millis(200)).await;
    let gate = authorization.hold_next();
    let refused = lab.ask("GET /a").await;
    assert_eq!(error(&refused), (503, "refresh_unavailable".to_owned()));
    gate.add_permits(1);
    landed(&lab).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 1);
    lab.finish().await;
}

/// oauth 8.1, 8.3: 500 at the moment of expiry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_requests_at_a_token_s_expiry_cost_one_refresh_and_all_succeed() {
    let (authorization, lab) = bank(short(2.0), usual).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let lab = Arc::new(lab);
    let mut wires = Vec::new();
    for _ in 0..500 {
        wires.push(lab.tunnel(HOST).await);
    }
    until_dead(&authorization).await;
    authorization.issuer().change(|rules| rules.access_ttl = Some(3_600.0));
    let asked = wires
        .into_iter()
        .map(|mut wire| async move { wire.ask(request_text("GET /a", HOST)).await.head.status() });
    let statuses = futures_util::future::join_all(asked).await;
    assert_eq!(statuses, vec![200; 500]);
    // One to begin with, and those that agents' connecting asked for; then one for all.
    let after: Vec<_> = authorization.calls();
    assert_eq!(after.len(), 2, "{after:#?}");
    Arc::into_inner(lab).expect("all are done").finish().await;
}

/// oauth 8.2
#[tokio::test]
async fn the_token_of_a_refresh_is_kept_when_the_agent_that_began_it_hangs_up() {
    let (authorization, lab) = bank(rules(), usual).await;
    let gate = authorization.hold_next();
    let wire = lab.sent("GET /a").await;
    authorization.asked(1).await;
    wire.abort();
    gate.add_permits(1);
    landed(&lab).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(lab.origin.only().head.one("authorization"), Some(&*bearer(&authorization)));
    assert_eq!(authorization.calls().len(), 1);
    lab.finish().await;
}

/// oauth 7.4
#[tokio::test]
async fn a_valid_token_is_used_while_refreshes_fail() {
    let (authorization, lab) = bank(rules(), |it| it.backoff_first = Duration::from_secs(60)).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    authorization.fail_always(Fault::ResetBefore);
    lab.gateway.api("POST", "/connections/acme/refresh", "{}").await.is(503);
    for _ in 0..5 {
        assert_eq!(lab.ask("GET /a").await.text(), "fine");
    }
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["token"]["failing"]["count"], 1, "{shown:#}");
    lab.finish().await;
}

/// oauth 10.3, both forms.
#[tokio::test]
async fn the_retry_after_of_a_token_endpoint_is_passed_on_to_the_agent() {
    for (field, least, most) in [("7", 7, 7), ("Fri, 01 Jan 2100 00:00:00 GMT", 890, 900)] {
        let (authorization, lab) = bank(rules(), fast).await;
        authorization.fail_always(Fault::too_many(field));
        let refused = lab.ask("GET /a").await;
        assert_eq!(error(&refused), (503, "refresh_unavailable".to_owned()));
        let again = lab.ask("GET /a").await;
        let seconds: u64 = again.head.one("retry-after").expect("a time").parse().expect("seconds");
        assert!((least - 2..=most).contains(&seconds), "{field}: {seconds}");
        assert_eq!(authorization.calls().len(), 1);
        lab.finish().await;
    }
}

/// oauth 10.5: the first request after the pause tries again.
#[tokio::test]
async fn a_connection_recovers_by_itself_when_its_server_does() {
    let (authorization, lab) = bank(rules(), fast).await;
    authorization.fail_next(Fault::status(500, "", "oops"));
    assert_eq!(error(&lab.ask("GET /a").await).0, 503);
    until("healing", async || lab.ask("GET /a").await.head.status() == 200).await;
    assert_eq!(authorization.calls().len(), 2);
    lab.finish().await;
}

/// oauth 8.8: one hanging server delays nobody else.
#[tokio::test]
async fn a_server_that_hangs_delays_only_its_own_connections() {
    let authorization = Authorization::with(rules()).await;
    let other = Authorization::named(&["other.auth.test"], rules()).await;
    let (pair, second) = (refresh_only(&authorization), refresh_only(&other));
    let (addr, method) = (other.addr(), method("").replace("//auth.acme", "//other.auth"));
    let lab = plan(&authorization, &pair)
        .resolve(&format!("other.auth.test: \"{addr}\""))
        .allow(&addr.to_string())
        .provider(&format!("{{ id: second, name: Second, hosts: [{STRANGER}], auth: [{method}] }}"))
        .connection(
            "{ name: second, provider: second, fields: { refresh_token: { env: SECOND } } }",
        )
        .variable("SECOND", second.refresh.as_deref().expect("one"))
        .agent("two", "second")
        .start(api(&other))
        .await;
    authorization.fail_always(Fault::HangsBefore);
    let stuck = lab.sent("GET /a").await;
    authorization.asked(1).await;
    assert_eq!(lab.ask_as("two", STRANGER, "GET /a").await.text(), "fine");
    stuck.abort();
    set(&lab, |it| it.exchange_timeout = Duration::from_millis(10));
    lab.finish().await;
}

/// oauth 7.6: nothing but age and refusals.
#[tokio::test]
async fn reading_connections_refreshes_no_token() {
    let (authorization, lab) = bank(rules(), usual).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    for path in ["/connections", "/connections/acme"] {
        lab.gateway.api("GET", path, "").await.is(200);
    }
    assert_eq!(authorization.calls().len(), 1);
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert!(shown["token"]["expires"].is_string(), "{shown:#}");
    lab.finish().await;
}

/// The owner may want a newer one at any time.
#[tokio::test]
async fn a_refresh_by_hand_is_a_new_generation_in_the_audit() {
    let (authorization, lab) = bank(rules(), usual).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    lab.gateway.api("POST", "/connections/acme/refresh", "{}").await.is(200);
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 2);
    assert_eq!(
        lab.origin.received().last().expect("one").head.one("authorization"),
        Some(&*bearer(&authorization))
    );
    let records = lab.finish().await;
    let generations: Vec<&Value> = records.iter().map(|record| &record["generation"]).collect();
    assert_eq!(generations, [2, 3]);
}

/// All requests wait together on a cold start too: oauth 8.1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_at_a_cold_start_cost_one_refresh() {
    let (authorization, lab) = bank(rules(), usual).await;
    let lab = Arc::new(lab);
    assert_eq!(crowd(&lab, 50, "GET /a").await, vec![200; 50]);
    assert_eq!(authorization.calls().len(), 1);
    Arc::into_inner(lab).expect("all are done").finish().await;
}
