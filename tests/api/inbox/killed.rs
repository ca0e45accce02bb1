//! A gateway that is killed between the acceptance of events and their delivery.

use super::*;
use test_support::process::Served;

/// Events that are accepted before the kill.
const EVENTS: usize = 40;

/// Deliveries before the program falls silent.
const BEFORE: usize = 3;

#[tokio::test]
async fn a_killed_gateway_delivers_every_event_that_it_accepted_in_their_order() {
    let key = Canary::of("whsec_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=".to_owned());
    let mut program = Hooks::start().await;
    let hook = format!(
        "hooks:\n  - {{ name: ci, scheme: github, secret: {{ env: SIGNED }}, signing_key: {{ env: KEY }}, to: '{}' }}",
        program.url()
    );
    let plan = program.reached(Plan::api_key().top(&hook)).no_agents();
    let api_key = plan.canary().text.clone();
    let variables = [("CANARY", &*api_key), ("SIGNED", SECRET), ("KEY", &*key.text)];
    let origin = Origin::saying("fine");
    let mut served = Served::start(&plan, &origin, &variables);
    let taken = std::iter::repeat_n(test_support::hooks::status(204), BEFORE);
    program.answers(taken.chain([String::new()]));

    let status = served.api("GET", "/status", "").await.json();
    let admin = status["admin"].as_str().expect("an address").to_owned();
    let mut accepted = Vec::new();
    for n in 0..EVENTS {
        let body = format!("{{\"n\":{n}}}");
        let mut wire = Wire::to(&admin).await;
        let (length, signature) = (body.len(), signed(SECRET, &body));
        wire.send(format!(
            "POST /hooks/ci HTTP/1.1\r\nHost: {admin}\r\nX-Hub-Signature-256: sha256={signature}\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        let answer = wire.answer("POST").await.is(200);
        accepted.push(answer.json()["id"].as_str().expect("an id").to_owned());
    }
    // The one that the program left without an answer is under way.
    let mut arrived = Vec::new();
    for _ in 0..=BEFORE {
        arrived.push(id(&program.message(&key).await));
    }
    served.kill();
    served.restart();
    while arrived.last() != accepted.last() {
        arrived.push(id(&program.message(&key).await));
    }
    // At least once, and in order: the only one that came twice is that without an answer, or its predecessor, whose
    // answer was not noted yet.
    arrived.dedup();
    let again = arrived.iter().position(|one| *one == accepted[0]).expect("the first came");
    assert_eq!(arrived[again..][..BEFORE], accepted[..BEFORE]);
    let rest: Vec<_> =
        arrived[BEFORE..].iter().filter(|one| !accepted[..BEFORE].contains(one)).collect();
    assert_eq!(rest, accepted[BEFORE..].iter().collect::<Vec<_>>());
}

fn id(message: &Message) -> String {
    message.head.one("webhook-id").expect("an id").to_owned()
}
