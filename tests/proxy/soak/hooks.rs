//! Webhooks of services as fast as a large platform sends them: every event is accepted, delivered, and in order.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use tokio::task::JoinSet;

use super::*;
use test_support::canary::Canary;
use test_support::hooks::Hooks;

/// Hooks that receive at once: the deliveries of one are made one at a time.
const HOOKS: usize = 10;

/// Events of all hooks in a second, in an optimised build.
const RATE: usize = 1_000;

const SECRET: &str = "the-secret-of-the-service-canary";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_events_a_second_are_accepted_and_delivered_in_order() {
    let key = Canary::of("whsec_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=".to_owned());
    let mut program = Hooks::start().await;
    let hooks: String = (0..HOOKS)
        .map(|n| {
            let (keys, to) = ("secret: { env: SIGNED }, signing_key: { env: KEY }", program.url());
            format!("\n  - {{ name: h{n}, scheme: github, {keys}, to: '{to}' }}")
        })
        .collect();
    let plan = program.reached(Plan::api_key().top(&format!("hooks:{hooks}"))).no_agents();
    let api_key = plan.canary().text.clone();
    let variables = [("CANARY", &*api_key), ("SIGNED", SECRET), ("KEY", &*key.text)];
    let served = Served::start_quietly(&plan, &Origin::saying("fine"), &variables);
    let status = served.api("GET", "/status", "").await.json();
    let admin = status["admin"].as_str().expect("an address").to_owned();

    let each = scaled((60 * RATE / HOOKS) as f64);
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for hook in 0..HOOKS {
        let admin = admin.clone();
        senders.spawn(async move { send(&admin, hook, each).await });
    }
    let mut slowest = Duration::ZERO;
    while let Some(sent) = senders.join_next().await {
        slowest = slowest.max(sent.expect("it sends"));
    }
    let accepted = began.elapsed();
    let mut next = BTreeMap::new();
    for _ in 0..each * HOOKS {
        let event = program.message(&key).await.json();
        let (hook, n) = (event["hook"].as_u64().expect("a number"), event["n"].as_u64());
        let expected = next.entry(hook).or_insert(0);
        assert_eq!(n, Some(*expected), "in order of hook {hook}");
        *expected += 1;
    }
    println!(
        "{} events: accepted in {accepted:.1?}, the slowest answer after {slowest:.1?}; delivered after {:.1?}",
        each * HOOKS,
        began.elapsed()
    );
    if soak() && !cfg!(debug_assertions) {
        assert!(accepted < Duration::from_secs(66), "{accepted:.1?}");
    }
}

/// Sends events of a hook at its share of the rate, and returns the time of the slowest answer.
async fn send(admin: &str, hook: usize, events: usize) -> Duration {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut wire = Wire::to(admin).await;
    wire.stop_recording();
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(RATE / HOOKS).expect("small"));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut slowest = Duration::ZERO;
    for n in 0..events {
        ticks.tick().await;
        let body = format!("{{\"hook\":{hook},\"n\":{n}}}");
        let tag = hmac::sign(&key, body.as_bytes());
        let signature: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let began = Instant::now();
        wire.send(format!(
            "POST /hooks/h{hook} HTTP/1.1\r\nHost: {admin}\r\nX-Hub-Signature-256: sha256={signature}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        assert_eq!(wire.answer("POST").await.head.status(), 200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}
