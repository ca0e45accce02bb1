//! The status of the gateway: listeners are named to those who may see their agents and connections.

use serde_json::json;

use super::world::{Ask, World};
use test_support::*;

#[tokio::test]
async fn the_status_names_a_listener_or_the_installation_only_to_those_who_may_see_it() {
    let listen = "agents: [{ agent: watched, at: 'unix:watched.sock' }, \
                  { agent: stranger, org: umbrella, at: 'unix:stranger.sock' }], \
                  databases: [{ at: 'unix:one.sock', agent: stranger, org: umbrella }, \
                  { at: 'unix:two.sock', connection: payroll }, { at: 'unix:three.sock' }]";
    let world = World::of(Plan::api_key().listen(listen)).await;
    let owner = world.person("default", "member");
    let new = Ask::post("/agents", json!({"name": "watched"}));
    assert_eq!(world.ask(Some(&owner), new).await.head.status(), 201);
    let reload = Ask::post("/reload", json!({}));
    assert_eq!(world.ask(None, reload).await.head.status(), 200);
    let of_acme = ["admin", "member", "auditor"].map(|role| world.person("acme", role));
    let hidden = of_acme.into_iter().map(|by| (Some(by), [false; 4]));
    let cases = [
        (None, [true; 4]),
        (Some(world.person("default", "admin")), [true, false, true, true]),
        (Some(world.person("default", "auditor")), [true, false, true, true]),
        (Some(owner), [true, false, false, false]),
        (Some(world.member("default", 1)), [false; 4]),
    ];
    for (by, expected) in cases.into_iter().chain(hidden) {
        let answer = world.ask(by.as_ref(), Ask::get("/status")).await;
        let (text, status) = (answer.text(), answer.json());
        let [watched, stranger, payroll] =
            ["watched", "stranger", "payroll"].map(|name| text.contains(name));
        let told = ["process", "reload"].map(|key| !status[key].is_null());
        let paths = ["data", "config", "ca"].map(|key| status[key] != "");
        let all = [told.as_slice(), paths.as_slice()].concat();
        assert!(all.iter().all(|one| *one == expected[3]), "{by:?}: {text}");
        assert_eq!([watched, stranger, payroll], expected[..3], "{by:?}: {text}");
        assert!(text.contains("three.sock"), "for agents of every organisation: {text}");
    }
    world.finish().await;
}
