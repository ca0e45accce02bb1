//! Paused connections: requests are refused at once, exchanges in progress end, and only the person who paused the
//! connection can resume it.

use std::sync::Arc;

use h2::client::Builder;
use tokio::sync::Notify;

use test_support::http2::Call;
use test_support::install::Install;
use test_support::*;

/// The connection `mine`, added by the API and bound to `ci`.
async fn with_mine(origin: Origin) -> Lab {
    let plan = Plan::api_key().limit("discarded_body_timeout: 50ms");
    Lab::with_mine(plan, origin, serde_json::json!({})).await
}

async fn change(lab: &Lab, name: &str, verb: &str) -> Message {
    lab.gateway.api("POST", &format!("/connections/{name}/{verb}"), "").await
}

#[tokio::test]
async fn a_declared_connection_that_is_paused_stays_so_over_reloads_and_cannot_be_removed() {
    let lab = Lab::simple().await;
    change(&lab, "acme", "pause").await.is(200);
    lab.ask("GET /a").await.is(424);
    let reloaded = lab.gateway.api("POST", "/reload", "").await;
    assert!(reloaded.head.status() < 300, "{}", reloaded.text());
    let refused = lab.ask("GET /a").await.is(424);
    let hint = refused.json()["error"]["hint"].as_str().map(str::to_owned).unwrap_or_default();
    assert!(hint.contains("connection resume acme"), "{hint}");
    let removed = lab.gateway.api("DELETE", "/connections/acme", "").await.is(409);
    assert_eq!(removed.json()["error"]["code"], "managed_by_file");
    assert_eq!(change(&lab, "acme", "resume").await.is(200).json()["state"], "active");
    // Nothing is paused: the file decides.
    change(&lab, "acme", "resume").await.is(409);
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn a_pause_refuses_new_requests_and_ends_those_in_progress() {
    let lab = with_mine(Origin::endless()).await;
    let mut wire = lab.sent("GET /a").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    let paused = change(&lab, "mine", "pause").await;
    assert_eq!((paused.head.status(), &paused.json()["state"]), (200, &"paused".into()));
    assert!(wire.rest().await.len() <= 5, "the answer under way ends");
    let refused = lab.ask("GET /whole").await.is(424);
    assert_eq!(refused.head.one("keyward-error"), Some("connection_paused"));
    let error = &refused.json()["error"];
    assert_eq!(error["connection"], "mine");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("connection resume mine")));
    assert_eq!(lab.origin.received().len(), 1, "nothing more reached the origin");
    lab.finish().await;
}

/// Sends until the gateway does not want more, and waits until the origin has seen the end.
async fn upload_ends(call: &mut Call, ended: &Notify) {
    let upload = async { while call.try_send(&[b'.'; 16 * 1024]).await {} };
    patiently("the end of the upload", upload).await;
    patiently("its end at the origin", ended.notified()).await;
}

#[tokio::test]
async fn after_a_pause_an_upload_ends_whose_answer_has_ended() {
    let ended = Arc::new(Notify::new());
    let lab = with_mine(Origin::answering_early(&ended)).await;
    let client = lab.h2(HOST).await;
    let mut call = client.open("POST /a", false).await;
    call.send(b"a part").await;
    let coming = call.head().await.expect("an answer");
    assert_eq!(coming.rest().await.0.text(), "early");
    change(&lab, "mine", "pause").await.is(200);
    upload_ends(&mut call, &ended).await;
    assert_eq!(lab.finish().await.len(), 1);
}

#[tokio::test]
async fn a_pause_ends_an_upload_whose_answer_has_come_and_was_not_read() {
    let ended = Arc::new(Notify::new());
    let origin = Origin::sharing(ended.clone(), move |mut stream, tell| async move {
        stream.head().await;
        stream.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await;
        assert_eq!(stream.exactly(11).await, b"6\r\na part\r\n");
        stream.send("two").await;
        assert_eq!(stream.exactly(12).await, b"7\r\nanother\r\n");
        stream.stop_recording();
        stream.skip(usize::MAX).await;
        tell.notify_one();
    });
    let lab = with_mine(origin).await;
    let client = lab.h2_with("ci", HOST, Builder::new().initial_window_size(1)).await;
    let mut call = client.open("POST /a", false).await;
    let coming = call.head().await.expect("an answer");
    assert_eq!(coming.head.status(), 200);
    call.send(b"a part").await;
    call.send(b"another").await;
    lab.origin.has_read("another").await;
    change(&lab, "mine", "pause").await.is(200);
    upload_ends(&mut call, &ended).await;
    assert_eq!(lab.finish().await.len(), 1);
}

#[tokio::test]
async fn pausing_and_resuming_are_idempotent_and_a_resumed_connection_serves_requests() {
    let lab = with_mine(Origin::endless()).await;
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
