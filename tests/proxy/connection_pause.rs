//! Paused connections: requests are refused at once, exchanges in progress end, and only the person who paused the
//! connection can resume it.

use test_support::install::Install;
use test_support::*;

/// The connection `mine`, added by the API and bound to `ci`.
async fn with_mine() -> Lab {
    let mut lab = Plan::api_key().no_agents().start(Origin::endless()).await;
    lab.add_agent("ci").await;
    let key = &lab.canary.text;
    let mine = format!(r#"{{"provider":"acme","name":"mine","fields":{{"api_key":"{key}"}}}}"#);
    lab.gateway.api("POST", "/connections", &mine).await.is(201);
    lab.bind("ci", "mine").await;
    lab
}

async fn change(lab: &Lab, name: &str, verb: &str) -> Message {
    lab.gateway.api("POST", &format!("/connections/{name}/{verb}"), "").await
}

#[tokio::test]
async fn the_api_refuses_to_pause_or_resume_a_connection_declared_in_the_file() {
    let lab = Lab::simple().await;
    for verb in ["pause", "resume"] {
        let answer = change(&lab, "acme", verb).await.is(409);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "managed_by_file");
        assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("file")), "{error}");
    }
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn a_pause_refuses_new_requests_and_ends_those_in_progress() {
    let lab = with_mine().await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text("GET /a", HOST)).await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    let paused = change(&lab, "mine", "pause").await;
    assert_eq!((paused.head.status(), &paused.json()["state"]), (200, &"paused".into()));
    assert!(wire.rest().await.len() <= 5, "the answer under way ends");
    let refused = lab.ask("GET /whole").await;
    assert_eq!(refused.head.status(), 424);
    assert_eq!(refused.head.one("keyward-error"), Some("connection_paused"));
    let error = &refused.json()["error"];
    assert_eq!(error["connection"], "mine");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("connection resume mine")));
    assert_eq!(lab.origin.received().len(), 1, "nothing more reached the origin");
    lab.finish().await;
}

#[tokio::test]
async fn pausing_and_resuming_are_idempotent_and_a_resumed_connection_serves_requests() {
    let lab = with_mine().await;
    for (verb, state) in
        [("resume", "active"), ("pause", "paused"), ("pause", "paused"), ("resume", "active")]
    {
        let answer = change(&lab, "mine", verb).await;
        assert_eq!((answer.head.status(), &answer.json()["state"]), (200, &state.into()), "{verb}");
    }
    assert_eq!(lab.ask("GET /whole").await.text(), "whole");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_persists_across_starts_of_the_gateway_and_is_listed() {
    let plan = Plan::api_key();
    let origin = Origin::saying("fine");
    let install = Install::new(&plan, &origin);
    let key = install.folder().join("key");
    std::fs::write(&key, &plan.canary().text).expect("a file");
    let file = format!("api_key={}", key.display());
    let run = |arguments: &[&str]| {
        let output = install.keyward(arguments).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    run(&["connection", "add", "acme", "--name", "mine", "--secret-file", &file]);
    assert_eq!(run(&["connection", "pause", "mine"]), "connection mine is paused\n");
    for verb in ["pause", "resume"] {
        let mut gateway = install.serve();
        let list = run(&["connection", "list"]);
        let line = list.lines().find(|line| line.starts_with("mine ")).expect("it is listed");
        let state = if verb == "pause" { "paused" } else { "active" };
        assert!(line.ends_with(state), "{list}");
        let shown = run(&["connection", "show", "mine", "--json"]);
        assert!(shown.contains(&format!("\"state\": \"{state}\"")), "{shown}");
        gateway.kill();
        run(&["connection", "resume", "mine"]);
    }
}
