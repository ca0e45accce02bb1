//! Runs that a person opens for an agent.

use serde_json::{Value, json};

use super::world::{Ask, Person, Working, World};
use test_support::canary::Canary;
use test_support::wire::{Message, Wire, until};

#[tokio::test]
async fn a_run_ends_with_the_access_of_the_user_who_opened_it() {
    for how in ["paused", "token revoked", "another role"] {
        let mut world = World::new().await;
        let agent = world.working_agents().into_iter().find(|agent| agent.org == "acme").unwrap();
        let admin = world.person("acme", "admin");
        let (mut run, token) = open_run(&mut world, &admin, &agent.name).await;
        let of_run = Working { token, ..agent };
        assert_eq!(world.connect(&of_run).await, 200, "{how}");
        let user = format!("/users/{}", admin.name);
        let end = match how {
            "paused" => Ask::new("PATCH", &user, Some(json!({"paused": true}))),
            "another role" => Ask::new("PATCH", &user, Some(json!({"role": "member"}))),
            _ => {
                let shown = world.ask(None, Ask::get(&user).in_org("acme")).await.json();
                let id = shown["tokens"][0]["id"].as_str().expect("an id").to_owned();
                Ask::new("DELETE", &format!("/tokens/{id}"), None)
            }
        };
        let ended = world.ask(None, end.in_org("acme")).await;
        assert!(ended.head.status() < 300, "{how}: {}", ended.text());
        assert_eq!(run.chunk().await, Some(vec![]), "{how}: the answer ends");
        // With another role it may be opened again; the token ends by its time else.
        let refused = if how == "another role" { 200 } else { 407 };
        assert_eq!(world.connect(&of_run).await, refused, "{how}");
        world.finish().await;
    }
}

/// Runs of one user beyond this are refused: they would take the streams of the listener from everybody else.
const RUNS_OF_USER_MAX: usize = 96;

#[tokio::test]
async fn open_runs_of_one_user_leave_the_admin_listener_to_others() {
    let mut world = World::new().await;
    let agents = world.working_agents();
    let [acme, globex] = ["acme", "globex"].map(|org| {
        let agent = agents.iter().find(|agent| agent.org == org).unwrap();
        (world.person(org, "admin"), agent.name.clone())
    });
    let mut runs = Vec::new();
    for _ in 0..RUNS_OF_USER_MAX {
        runs.push(open_run(&mut world, &acme.0, &acme.1).await.0);
    }
    let refused = asked_over_tcp(&world, &acme.0).await.is(429);
    assert_eq!(refused.json()["error"]["code"], "rate_limited");
    assert_eq!(refused.head.one("retry-after"), Some("1"));
    for other in [&globex.0, &world.person("acme", "auditor")] {
        asked_over_tcp(&world, other).await.is(200);
    }
    open_run(&mut world, &globex.0, &globex.1).await;
    drop(runs.pop());
    let world_again = &world;
    until("a run that ended is counted no more", async || {
        asked_over_tcp(world_again, &acme.0).await.head.status() == 200
    })
    .await;
    drop(runs);
    world.finish().await;
}

/// The agents that a person sees, over TCP.
async fn asked_over_tcp(world: &World, by: &Person) -> Message {
    let own = world.lab.gateway.admin;
    let mut wire = world.lab.client_at(own).await;
    let token = &by.token;
    wire.send(format!(
        "GET /api/v1/agents HTTP/1.1\r\nHost: {own}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ))
    .await;
    wire.answer("GET").await
}

/// Opens a run as `by`: its answer, and its token.
async fn open_run(world: &mut World, by: &Person, agent: &str) -> (Wire, String) {
    let own = world.lab.gateway.admin;
    let mut wire = Wire::to(own).await;
    let body = json!({"agent": agent, "label": "run 1"}).to_string();
    wire.send(format!(
        "POST /api/v1/runs HTTP/1.1\r\nHost: {own}\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        by.token,
        body.len()
    ))
    .await;
    assert_eq!(wire.head().await.expect("an answer").status(), 201);
    let line = wire.chunk().await.expect("the first line");
    let issued: Value = serde_json::from_slice(&line).expect("JSON");
    let token = issued["token"].as_str().expect("shown once").to_owned();
    world.lab.guard(Canary::of(token.clone()));
    (wire, token)
}
