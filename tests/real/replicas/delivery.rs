//! Events of services, which one replica of several delivers.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use tempfile::TempDir;

use super::*;
use test_support::hooks::Hooks;
use test_support::process::{Served, reserved_address};
use test_support::wire::PATIENCE;

const SECRET: &str = "the-secret-of-the-service-canary";

/// How long a delivery may take.
const DELIVERED_WITHIN: &str = "5s";

/// Posts an event to hook `ci` at an admin listener, signed as GitHub does it.
async fn posted(at: SocketAddr, event: usize) {
    let body = body_of(event);
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let signature: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (port, length) = (at.port(), body.len());
    let mut wire = Wire::to(at).await;
    wire.send(format!(
        "POST /hooks/ci HTTP/1.1\r\nHost: localhost:{port}\r\nX-GitHub-Event: push\r\n\
         Content-Type: application/json\r\nX-GitHub-Delivery: {event}\r\n\
         X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    let answer = wire.answer("POST").await;
    assert!((200..300).contains(&answer.head.status()), "{}", answer.text());
}

fn body_of(event: usize) -> String {
    format!("{{\"event\":{event}}}")
}

fn hook_to(program: &Hooks) -> Value {
    // GitHub signs in the same way, but repeats an event for a person alone: then it is delivered again.
    json!({"name": "ci", "scheme": "meta", "to": program.url(), "secret": SECRET})
}

/// A service repeats its requests to whichever replica the load balancer chooses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_both_replicas_get_is_delivered_once() {
    const EVENTS: usize = 20;
    let (database, program) = (Database::start(), Hooks::start().await);
    let plan = program.reached(database.under(Plan::api_key()));
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(Canary::of(SECRET.to_owned()));
    let mut other = lab.gateway.replica().await;
    let made = call(&lab.gateway, "POST", "/hooks", &hook_to(&program)).await;
    lab.guard(Canary::of(made["signing_key"].as_str().expect("shown once").to_owned()));
    until("the hook at the other replica", async || {
        other.api("GET", "/hooks/ci", "").await.head.status() == 200
    })
    .await;
    for event in 0..EVENTS {
        for gateway in [&lab.gateway, &other] {
            posted(gateway.admin, event).await;
        }
    }
    for gateway in [&lab.gateway, &other] {
        until("all deliveries", async || {
            call(gateway, "GET", "/hooks/ci", &Value::Null).await["waiting"] == 0
        })
        .await;
    }
    let bodies: Vec<String> = program.origin.received().iter().map(Message::text).collect();
    assert_eq!(bodies, (0..EVENTS).map(body_of).collect::<Vec<_>>(), "each once, in their order");
    other.stop().await;
    lab.finish().await;
}

/// The replica that delivers is killed while the receiver has not answered: the other one delivers when the lease of
/// the first has ended, what the receiver has seen already too, in the same order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_replica_that_is_killed_are_delivered_by_the_other() {
    const EVENTS: usize = 3;
    let (database, mut program) = (Database::start(), Hooks::start().await);
    let (origin, certificates) = (Origin::saying("fine"), TempDir::new().expect("one"));
    let at = |name: &str| certificates.path().join(name).display().to_string();
    let admins = [reserved_address(), reserved_address()];
    let plan = |admin: SocketAddr| {
        let retries = ["1s"; 9].join(", ");
        program
            .reached(Plan::api_key())
            .admin(&admin.to_string())
            .top(STORE)
            .top("master_key: { env: MASTER_KEY }")
            .top(&format!("events: {{ timeout: {DELIVERED_WITHIN}, retries: [{retries}] }}"))
            .top(&format!("ca: {{ cert: {}, key: {} }}", at("ca.pem"), at("ca.key")))
    };
    let plans = admins.map(plan);
    let url = database.url();
    let variables = [
        ("DATABASE_URL", &*url),
        ("DATABASE_PASSWORD", &database.password.text),
        ("MASTER_KEY", MASTER_KEY),
        ("CANARY", &plans[0].canary().text),
        ("TOKEN_CI", "kwa_token-of-no-request-0123456789"),
    ];
    let mut first = Served::start_quietly(&plans[0], &origin, &variables);
    first.api("POST", "/hooks", &hook_to(&program).to_string()).await.is(201);
    program.hold(true);
    for event in 0..EVENTS {
        posted(admins[0], event).await;
    }
    let unanswered = program.origin.arrival().await;
    let second = Served::start_quietly(&plans[1], &origin, &variables);
    let waiting = async || second.api("GET", "/hooks/ci", "").await.json()["waiting"].clone();
    until("the events at the other replica", async || waiting().await == EVENTS).await;
    first.kill();
    let before = program.origin.received().len();
    program.hold(false);
    // The lease is 20 seconds longer than a delivery.
    let next = async {
        while program.origin.received().len() == before {
            waiting().await;
        }
    };
    tokio::time::timeout(PATIENCE * 2, next).await.expect("the next delivery");
    until("all deliveries", async || waiting().await == 0).await;
    let received = program.origin.received();
    let bodies: Vec<String> = received[before..].iter().map(Message::text).collect();
    assert_eq!(bodies, (0..EVENTS).map(body_of).collect::<Vec<_>>(), "each once, in their order");
    let id = |message: &Message| message.head.one("webhook-id").map(str::to_owned);
    assert_eq!(id(&received[before]), id(&unanswered), "the receiver can tell");
}
