//! Answers to codes that come late: a code is used once, so its answer is awaited, and its tokens are stored.

use serde_json::{Value, json};

use test_support::authorization::{Fault, Rules};
use test_support::browser::Browser;
use test_support::oauth::World;
use test_support::until;

/// Late after 0.2 s.
const PATIENT: &str = "oauth: { exchange_timeout: 0.2s, answer_timeout: 60s }";

async fn done_page(browser: &mut Browser, made: &Value) -> String {
    let flow = made["flow"].as_str().expect("a flow");
    browser.get(&format!("/oauth/done/{flow}")).await.is(200).text()
}

/// oauth 2.8, 5.answer: the exchange ended after `exchange_timeout`, and its tokens were lost.
#[tokio::test]
async fn an_exchange_that_is_answered_late_connects_and_its_page_shows_it() {
    let world = World::with(Rules::default(), |plan| plan.top(PATIENT)).await;
    let made = world.draft().await;
    let gate = world.server.hold_next();
    let mut browser = world.browser();
    world.consent(&mut browser, &made).await.is(303);
    let page = done_page(&mut browser, &made).await;
    assert!(page.contains("not finished yet") && page.contains("http-equiv=\"refresh\""), "{page}");
    assert_eq!(world.flow(&made).await["state"], "open");
    gate.add_permits(1);
    assert_eq!(world.settled(&made).await["state"], "connected");
    let page = done_page(&mut browser, &made).await;
    assert!(page.contains("Connected") && !page.contains("http-equiv"), "{page}");
    assert!(world.server.only_call().delivered);
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// oauth 2.8: the code is spent, and what was issued for it may be valid.
#[tokio::test]
async fn an_exchange_that_is_never_answered_ends_and_says_that_tokens_may_be_lost() {
    let never = "oauth: { exchange_timeout: 0.2s, answer_timeout: 0.4s }";
    let world = World::with(Rules::default(), |plan| plan.top(never)).await;
    let made = world.draft().await;
    world.server.fail_next(Fault::HangsAfter);
    let mut browser = world.browser();
    world.consent(&mut browser, &made).await.is(303);
    let failed = world.settled(&made).await;
    let why = failed["why"].as_str().expect("a reason");
    assert!(why.contains("did not answer in time") && why.contains("connect again"), "{why}");
    let page = done_page(&mut browser, &made).await;
    assert!(page.contains("Not connected") && page.contains("connect again"), "{page}");
    assert_eq!(world.server.calls().len(), 1, "the code is sent once");
    world.finish().await;
}

/// oauth 3, device: the poll ended after `exchange_timeout`, and the next one sent a code that was spent.
#[tokio::test]
async fn a_poll_that_is_answered_late_connects() {
    let rules = Rules { interval: Some(0.05), ..Rules::default() };
    let world =
        World::with(rules, |plan| plan.top("oauth: { exchange_timeout: 1s, answer_timeout: 60s }"))
            .await;
    let by_code = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app", "device": true });
    world.server.fail_always(Fault::error(400, "authorization_pending"));
    let made = world.api("POST", "/connections", &by_code).await;
    world.server.asked(1).await;
    world.server.issuer().decide(made["user_code"].as_str().expect("a code"), true);
    let gate = world.server.hold_next();
    world.server.heal();
    let issued = async || world.server.calls().iter().filter(|call| call.issued.is_some()).count();
    until("the tokens", async || issued().await == 1).await;
    let calls = world.server.calls().len();
    // Several times `exchange_timeout`.
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_millis(2_500) {
        assert_eq!(world.flow(&made).await["state"], "open");
        assert_eq!(world.server.calls().len(), calls, "the spent code was sent again");
    }
    gate.add_permits(1);
    assert_eq!(world.settled(&made).await["state"], "connected");
    world.finish().await;
}
