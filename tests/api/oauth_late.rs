//! Answers of an authorization server that come late: the refresh token that was sent is not sent again while
//! its answer may still come, and what a late answer brings is kept.

use std::time::{Duration, Instant};

use serde_json::json;

use test_support::authorization::{Authorization, Fault, Rules};
use test_support::fleet::Fleet;
use test_support::install::TOKEN_CI;
use test_support::process::Served;
use test_support::tokens::*;
use test_support::*;

fn refused(answer: &Message) -> (u16, &str) {
    (answer.head.status(), answer.head.one("keyward-error").unwrap_or_default())
}

/// oauth 5.answer, 8.10: the server rotates at once and answers long after `exchange_timeout`.
#[tokio::test]
async fn an_answer_later_than_the_exchange_timeout_loses_no_grant_and_its_token_is_sent_once() {
    let (authorization, lab) = bank(rules(), |it| {
        fast(it);
        it.exchange_timeout = Duration::from_millis(100);
        it.wait_timeout = Duration::from_millis(300);
    })
    .await;
    let gate = authorization.hold_next();
    assert_eq!(refused(&lab.ask("GET /a").await), (503, "refresh_unavailable"));
    authorization.asked(1).await;
    let began = Instant::now();
    // Several exchange timeouts and pauses.
    while began.elapsed() < Duration::from_millis(1_500) {
        let told = lab.ask("GET /a").await;
        assert_eq!(refused(&told), (503, "refresh_unavailable"), "{}", told.text());
        assert!(told.head.has("retry-after"));
        assert_eq!(authorization.calls().len(), 1, "the spent token was sent again");
    }
    gate.add_permits(1);
    landed(&lab).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let call = authorization.only_call();
    assert!(call.delivered);
    let issued = call.issued.expect("tokens").access;
    assert_eq!(
        lab.origin.only().head.one("authorization"),
        Some(&*format!("Bearer {issued}")),
        "what the late answer brought"
    );
    lab.finish().await;
}

/// oauth 5.answer: owners see that an answer is awaited, and the gateway counts no failure yet.
#[tokio::test]
async fn an_awaited_answer_is_shown_and_not_counted_as_a_failure() {
    let (authorization, lab) = bank(rules(), |it| {
        it.exchange_timeout = Duration::from_millis(50);
        it.wait_timeout = Duration::from_millis(50);
    })
    .await;
    let gate = authorization.hold_next();
    let shown = async || lab.gateway.api("GET", "/connections/acme", "").await.json();
    let token = until_some("a late answer", async || {
        let told = lab.ask("GET /a").await;
        assert_eq!(refused(&told), (503, "refresh_unavailable"), "{}", told.text());
        let token = shown().await["token"].clone();
        token["awaited"].is_string().then_some(token)
    })
    .await;
    assert_eq!(token["failing"], serde_json::Value::Null);
    let told = lab.ask("GET /a").await;
    assert!(told.text().contains("has not answered yet"), "{}", told.text());
    gate.add_permits(1);
    landed(&lab).await;
    assert_eq!(shown().await["token"]["awaited"], serde_json::Value::Null);
    lab.finish().await;
}

/// oauth 5.answer, 8.10: when nothing has come within `answer_timeout`, the token is sent once more.
#[tokio::test]
async fn a_token_whose_answer_never_comes_is_sent_again_after_the_answer_timeout() {
    let patient = Rules { grace: Duration::from_secs(3_600), ..rules() };
    let (authorization, lab) = bank(patient, |it| {
        fast(it);
        it.exchange_timeout = Duration::from_millis(50);
        it.answer_timeout = Duration::from_secs(1);
        it.wait_timeout = Duration::from_millis(50);
    })
    .await;
    authorization.fail_next(Fault::HangsBefore);
    let began = Instant::now();
    until("the second try", async || lab.ask("GET /a").await.head.status() == 200).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let calls = authorization.calls();
    assert!(calls.len() >= 2, "sent again");
    assert_eq!(calls[0].form["refresh_token"], calls[1].form["refresh_token"]);
    lab.finish().await;
}

/// oauth 5.answer, 5.parallel: whoever is late gives its turn to the next.
#[tokio::test]
async fn a_late_answer_holds_up_no_other_connection_of_its_server() {
    let more = ", refreshes_per_server_max: 1, exchange_timeout: 0.1s, wait_timeout: 0.2s";
    let fleet = Fleet::of(2, rules(), more).await;
    let gate = fleet.authorization.hold_next();
    assert_eq!(refused(&fleet.ask(0).await), (503, "refresh_unavailable"));
    fleet.authorization.asked(1).await;
    fleet.healed(1).await;
    assert_eq!(fleet.authorization.calls().len(), 2);
    gate.add_permits(1);
    landed(&fleet.lab).await;
    assert_eq!(fleet.ask(0).await.text(), "fine");
    assert_eq!(fleet.authorization.calls().len(), 2, "each token was sent once");
    fleet.finish().await;
}

/// oauth 5.answer, 8.9: a gateway that is asked to end waits for a late answer for a bounded time only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_ends_gives_up_a_late_answer_after_a_bounded_time() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let plan = plan(&authorization, &pair)
        .top("oauth: { exchange_timeout: 0.1s, answer_timeout: 10m, wait_timeout: 0.1s }");
    let refresh = pair.refresh.expect("one");
    let variables = [("REFRESH", &*refresh)];
    let mut served = Served::start(&plan, &origin, &variables);
    let _gate = authorization.hold_next();
    let mut agent = Wire::to(served.proxy).await;
    agent.ask(absolute("GET /", HOST, TOKEN_CI)).await.is(503);
    drop(agent);
    authorization.asked(1).await;
    let began = Instant::now();
    assert_eq!(served.terminate(), Some(1), "its answer is lost: {}", served.output());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let output = served.output();
    assert!(output.contains("a refresh did not end in time"), "{output}");
    assert!(output.contains("acme"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_ends_waits_for_a_late_answer_as_long_as_it_is_told() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let plan = plan(&authorization, &pair).top(
        "oauth: { exchange_timeout: 0.1s, answer_timeout: 10m, wait_timeout: 0.1s, stop_timeout: 10m }",
    );
    let refresh = pair.refresh.expect("one");
    let mut served = Served::start(&plan, &origin, &[("REFRESH", &*refresh)]);
    let gate = authorization.hold_next();
    let mut agent = Wire::to(served.proxy).await;
    agent.ask(absolute("GET /", HOST, TOKEN_CI)).await.is(503);
    drop(agent);
    authorization.asked(1).await;
    served.signal(rustix::process::Signal::TERM);
    // Longer than a gateway without the setting waits: 0.1 s, and the attempts to store an answer.
    until("its listeners to be closed", async || !is_open(served.proxy).await).await;
    gate.add_permits(1);
    assert_eq!(served.exit_code(), Some(0), "{}", served.output());
    served.restart();
    let mut agent = Wire::to(served.proxy).await;
    agent.ask(absolute("GET /", HOST, TOKEN_CI)).await.is(200);
    assert_eq!(authorization.calls().len(), 1, "what the late answer brought is stored");
}

async fn is_open(at: std::net::SocketAddr) -> bool {
    tokio::net::TcpStream::connect(at).await.is_ok()
}

/// oauth 5.answer, 8.9: also where that answer is to be revoked, because its connection was
/// removed; the log says whose tokens may stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_ends_gives_up_the_revocation_of_a_late_answer_and_says_so() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let plan = plan(&authorization, &pair).top(
        "oauth: { exchange_timeout: 0.1s, answer_timeout: 90s, wait_timeout: 0.1s, revoke_timeout: 0.3s }",
    );
    let refresh = pair.refresh.expect("one");
    let variables = [("REFRESH", &*refresh)];
    let mut served = Served::start(&plan, &origin, &variables);
    let fields = json!({ "refresh_token": authorization.issuer().issue().refresh });
    let new = json!({ "provider": "acme", "auth": "oauth", "name": "work", "fields": fields });
    served.api("POST", "/connections", &new.to_string()).await.is(201);
    let _gate = authorization.hold_next();
    served.api("POST", "/connections/work/refresh", "{}").await.is(503);
    authorization.asked(1).await;
    let removed = served.api("DELETE", "/connections/work?revoke=true", "").await;
    assert_eq!(removed.json()["revoked_upstream"], false, "{}", removed.text());
    let began = Instant::now();
    assert_eq!(served.terminate(), Some(0), "{}", served.output());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let output = served.output();
    let told = output.lines().find(|line| line.contains("a late refresh is not revoked"));
    let told = told.unwrap_or_else(|| panic!("{output}"));
    for words in ["WARN", "work", "its tokens may still be valid"] {
        assert!(told.contains(words), "{told}");
    }
}
