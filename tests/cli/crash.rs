//! What was acknowledged outlives `kill -9`, and still opens.

use std::collections::BTreeMap;

use test_support::canary::Canary;
use test_support::install::TOKEN_CI;
use test_support::process::{Served, api_request, soak};
use test_support::*;

const CONNECTIONS: usize = 1_000;
const WRITERS: usize = 8;

/// How every secret begins.
const SECRET: &str = "secret-of-connection-";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_connection_is_there_after_kill_9() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let mut served = Served::start(&plan, &origin, &[]);
    let rounds = if soak() { 20 } else { 1 };
    let mut acknowledged = BTreeMap::new();
    for round in 0..rounds {
        // Each round dies at another place.
        let enough = CONNECTIONS / 2 + round * 7;
        let new = add_until_killed(&mut served, round, enough).await;
        assert!(new.len() >= enough, "only {} were acknowledged", new.len());
        acknowledged.extend(new);
        served.restart();
        let there = list(&served).await;
        for name in acknowledged.keys() {
            assert!(there.contains(name), "{name} was acknowledged and is gone");
        }
    }
    open_some(&served, &origin, &acknowledged).await;
    let secrets = Canary::of(SECRET.to_owned());
    secrets.assert_absent("the gateway's output", served.output().as_bytes());
    secrets.assert_absent_below(&served.data());
}

/// Adds connections from several clients until `enough` were acknowledged, then kills the
/// gateway in the middle of the rest. Names and secrets of the acknowledged ones.
async fn add_until_killed(
    served: &mut Served,
    round: usize,
    enough: usize,
) -> BTreeMap<String, String> {
    let (tell, mut acks) = tokio::sync::mpsc::unbounded_channel();
    for writer in 0..WRITERS {
        let mut wire = served.admin().await;
        let tell = tell.clone();
        tokio::spawn(async move {
            for number in 0..CONNECTIONS / WRITERS {
                let name = format!("c-{round}-{writer}-{number}");
                let secret = format!("{SECRET}{name}-0123456789");
                let body = serde_json::json!({
                    "provider": "acme", "auth": "key", "name": name,
                    "fields": { "api_key": secret },
                });
                let request = api_request("POST", "/connections", &body.to_string());
                if wire.try_send(request).await.is_err() {
                    return;
                }
                let Some(answer) = wire.try_answer("POST").await else { return };
                assert_eq!(answer.head.status(), 201, "{}", answer.text());
                drop(tell.send((name, secret)));
            }
        });
    }
    drop(tell);
    let mut acknowledged = BTreeMap::new();
    while acknowledged.len() < enough {
        let (name, secret) = acks.recv().await.expect("there are more to come");
        acknowledged.insert(name, secret);
    }
    served.kill();
    while let Some((name, secret)) = acks.recv().await {
        acknowledged.insert(name, secret);
    }
    acknowledged
}

async fn list(served: &Served) -> Vec<String> {
    let mut names = vec![];
    let mut after = String::new();
    loop {
        let path = format!("/connections?limit=200{after}");
        let page = served.api("GET", &path, "").await.is(200).json();
        let items = page["items"].as_array().expect("items");
        names.extend(items.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return names,
        }
    }
}

/// Uses twenty of them through the proxy: what the origin receives is what was stored.
async fn open_some(served: &Served, origin: &Origin, acknowledged: &BTreeMap<String, String>) {
    served.api("POST", "/agents", r#"{"name":"reader"}"#).await.is(201);
    let issued = served.api("POST", "/agents/reader/tokens", "{}").await;
    let token = issued.json()["token"].as_str().expect("shown once").to_owned();
    let step = acknowledged.len() / 20;
    for (name, secret) in acknowledged.iter().step_by(step.max(1)) {
        let body = format!(r#"{{"connection":"{name}"}}"#);
        served.api("POST", "/agents/reader/bindings", &body).await.is(201);
        let mut wire = Wire::to(served.proxy).await;
        wire.send(absolute(&format!("GET /\r\nKeyward-Connection: {name}"), HOST, &token)).await;
        assert_eq!(wire.answer("GET").await.text(), "fine", "{name}");
        let received = origin.received();
        let last = received.last().expect("a request");
        assert_eq!(last.head.all("x-api-key"), [&**secret]);
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_names_the_first_which_goes_on_serving() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let served = Served::start(&plan, &origin, &[]);
    let second = served.keyward(&["serve"]).output().expect("it runs");
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr);
    let first = served.about("stat");
    let (pid, _) = first.split_once(' ').expect("a process id");
    let locked = format!("store is locked by process {pid}\nhint: ");
    assert!(text.contains(&locked), "{text}");
    let health = served.keyward(&["health"]).output().expect("it runs");
    assert!(health.status.success(), "the first is ready");
    let mut wire = Wire::to(served.proxy).await;
    wire.send(absolute("GET /", HOST, TOKEN_CI)).await;
    assert_eq!(wire.answer("GET").await.text(), "fine", "the first goes on");
}

#[tokio::test]
async fn a_terminated_gateway_exits_0() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let mut served = Served::start(&plan, &origin, &[]);
    assert_eq!(served.terminate(), Some(0), "{}", served.output());
}
