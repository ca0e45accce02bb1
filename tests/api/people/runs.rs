//! Runs that a person opens for an agent.

use serde_json::{Value, json};

use super::world::{Ask, Person, Working, World};
use test_support::canary::Canary;
use test_support::wire::Wire;

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
