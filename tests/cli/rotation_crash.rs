//! Rotations that are killed, wherever they are: the store opens, every secret is injected, and the
//! CA is the old one or the new one. And what rotations of given keys say and leave.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use test_support::canary::Canary;
use test_support::finished::killed_at;
use test_support::install::Install;
use test_support::process::{Served, api_request, said, soak};
use test_support::*;

/// Each is three rows: its grant, its metadata, its name.
const CONNECTIONS: usize = 350;
const AGENTS: usize = 10;

/// How every secret begins.
const SECRET: &str = "secret-of-connection-";

fn secret(number: usize) -> String {
    format!("{SECRET}{number:04}-0123456789")
}

/// Makes the connections, and agents that may use a share of them each; answers the agents' tokens.
async fn fill(served: &Served) -> Vec<String> {
    let writers = (0..AGENTS).map(|writer| async move {
        let mut wire = served.admin().await;
        let agent = format!("reader-{writer}");
        let made = post(&mut wire, "/agents", &format!(r#"{{"name":"{agent}"}}"#)).await;
        assert_eq!(made["name"], *agent);
        for number in (writer..CONNECTIONS).step_by(AGENTS) {
            let new = serde_json::json!({
                "provider": "acme", "auth": "key", "name": format!("c{number}"),
                "fields": { "api_key": secret(number) },
            });
            post(&mut wire, "/connections", &new.to_string()).await;
            let binding = format!(r#"{{"connection":"c{number}"}}"#);
            post(&mut wire, &format!("/agents/{agent}/bindings"), &binding).await;
        }
        let issued = post(&mut wire, &format!("/agents/{agent}/tokens"), "{}").await;
        issued["token"].as_str().expect("shown once").to_owned()
    });
    futures_util::future::join_all(writers).await
}

async fn post(wire: &mut Wire, path: &str, body: &str) -> serde_json::Value {
    wire.send(api_request("POST", path, body)).await;
    wire.answer("POST").await.is(201).json()
}

async fn key_list(served: &Served) -> Vec<serde_json::Value> {
    let answer = served.api("GET", "/keys", "").await.is(200);
    answer.json()["items"].as_array().expect("items").clone()
}

/// Uses every connection through the proxy: what the origin receives is what was stored.
async fn all_are_injected(served: &Served, origin: &Origin, tokens: &[String]) {
    let before = origin.received().len();
    let mut wire = Wire::to(served.proxy).await;
    for number in 0..CONNECTIONS {
        let token = &tokens[number % AGENTS];
        wire.send(absolute(&format!("GET /\r\nKeyward-Connection: c{number}"), HOST, token)).await;
        assert_eq!(wire.answer("GET").await.text(), "fine", "c{number}");
    }
    for (number, request) in origin.received()[before..].iter().enumerate() {
        assert_eq!(request.head.all("x-api-key"), [&*secret(number)]);
    }
}

/// Waits until the gateway has one key, which wraps every row.
async fn finished(served: &Served) {
    let began = Instant::now();
    while key_list(served).await.len() != 1 {
        assert!(began.elapsed() < wire::PATIENCE, "the rotation was never finished");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_while_it_rotates_its_key_loses_no_secret() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let mut served = Served::start(&plan, &origin, &[]);
    let tokens = fill(&served).await;
    // Killed once the new key wraps so many rows.
    let soaked = (0..20).map(|round| round * 55).collect();
    let moments: Vec<u64> = if soak() { soaked } else { vec![0, 1, 400, 950] };
    for moment in moments {
        finished(&served).await;
        let old = key_list(&served).await[0]["id"].clone();
        let mut rotating = served.admin().await;
        rotating.send(api_request("POST", "/keys/rotate", "{}")).await;
        let began = Instant::now();
        loop {
            let keys = key_list(&served).await;
            let moved = keys[0]["id"] != old && keys[0]["rows"].as_u64() >= Some(moment);
            if moved {
                break;
            }
            assert!(began.elapsed() < wire::PATIENCE, "it never came to {moment} rows");
        }
        served.kill();
        served.restart();
        all_are_injected(&served, &origin, &tokens).await;
    }
    finished(&served).await;
    let text = fs::read_to_string(served.data().join("master.key")).expect("the key file");
    assert_eq!(text.lines().count(), 1, "the old key is gone");
    let secrets = Canary::of(SECRET.to_owned());
    secrets.assert_absent("the gateway's output", served.output().as_bytes());
    secrets.assert_absent_below(&served.data());
}

fn json(mut command: Command) -> serde_json::Value {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Bytes of a file; none while it is not there.
fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

#[tokio::test]
async fn a_command_that_is_killed_while_it_rotates_leaves_a_store_that_opens() {
    let (install, _origin) = Install::simple();
    assert!(install.keyward(&["agent", "add", "one"]).output().expect("it runs").status.success());
    let file = install.data().join("master.key");
    for round in 0..if soak() { 30 } else { 3 } {
        let before = bytes(&file);
        let drafts = || {
            let entries = fs::read_dir(install.data()).expect("the folder");
            entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with(".master-key-"))
        };
        killed_at(install.keyward(&["key", "rotate"]), || match round % 3 {
            0 => drafts(),
            1 => bytes(&file) != before,
            _ => bytes(&file) != before && bytes(&file).len() <= before.len(),
        });
        let keys = json(install.keyward(&["key", "list", "--json"]));
        let items = keys["items"].as_array().expect("items");
        assert!(items.iter().all(|key| !key["source"].is_null()), "round {round}: {keys}");
        assert_eq!(install.agent("one")["name"], "one", "round {round}");
    }
    let rotated = json(install.keyward(&["key", "rotate", "--json"]));
    assert_eq!(String::from_utf8_lossy(&bytes(&file)).lines().count(), 1, "{rotated}");
}

#[tokio::test]
async fn a_command_that_is_killed_while_it_rotates_the_ca_leaves_a_ca_that_opens() {
    let (install, _origin) = Install::simple();
    // What is added first makes it all.
    json(install.keyward(&["agent", "add", "one", "--json"]));
    let (cert, key) = (install.data().join("ca/ca.pem"), install.data().join("ca/ca.key"));
    for round in 0..if soak() { 60 } else { 6 } {
        let (old_cert, old_key) = (bytes(&cert), bytes(&key));
        killed_at(install.keyward(&["ca", "rotate", "--no-overlap"]), || match round % 3 {
            0 => cert.with_file_name("ca.pem.keyward-new").exists(),
            1 => bytes(&key) != old_key,
            _ => bytes(&cert) != old_cert,
        });
        let shown = json(install.keyward(&["ca", "show", "--json"]));
        assert_eq!(shown["pem"].as_str().map(str::as_bytes), Some(&*bytes(&cert)), "{round}");
        let names: Vec<_> = fs::read_dir(install.data().join("ca"))
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}

#[tokio::test]
async fn the_old_master_key_does_not_open_the_store_after_a_rotation() {
    let (install, _origin) = Install::simple();
    assert!(install.keyward(&["agent", "add", "one"]).output().expect("it runs").status.success());
    let file = install.data().join("master.key");
    let old = bytes(&file);
    let rotated = install.keyward(&["key", "rotate"]).output().expect("it runs");
    assert!(rotated.status.success(), "{}", said(&rotated));
    let text = said(&rotated);
    assert!(text.contains("created a new key") && text.contains("renew your copy"), "{text}");
    let new = bytes(&file);
    fs::write(&file, &old).expect("the old key put back");
    let refused = install.keyward(&["agent", "list"]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("another master key"), "{}", said(&refused));
    fs::write(&file, &new).expect("the new key");
    assert_eq!(install.agent("one")["name"], "one");
}

#[tokio::test]
async fn a_master_key_of_the_configuration_is_rotated_by_a_new_entry_before_it() {
    let (install, _origin) = Install::simple();
    let file = install.folder().join("keyward.yaml");
    let base = fs::read_to_string(&file).expect("the configuration");
    let with = |keys: &str| {
        fs::write(&file, format!("{base}master_key: {keys}\n")).expect("the configuration");
    };
    let keyward = |arguments: &[&str]| {
        let mut command = install.keyward(arguments);
        command.env("KEY_A", format!("{:064x}", 0xa1b2)).env("KEY_B", format!("{:064x}", 0xc3d4));
        command.output().expect("it runs")
    };
    with("{ env: KEY_A }");
    assert!(keyward(&["agent", "add", "one"]).status.success());
    let refused = keyward(&["key", "rotate"]);
    assert_eq!(refused.status.code(), Some(1));
    let remedy = "`master_key: [{ env: NEW_VARIABLE }, { env: KEY_A }]`, restart, then rotate";
    assert!(said(&refused).contains(remedy), "{}", said(&refused));
    with("[{ env: KEY_B }, { env: KEY_A }]");
    let listed = said(&keyward(&["key", "list"]));
    assert!(listed.contains("env KEY_B") && listed.contains("env KEY_A"), "{listed}");
    let rotated = said(&keyward(&["key", "rotate"]));
    assert!(rotated.contains("env KEY_A is no longer needed"), "{rotated}");
    with("{ env: KEY_B }");
    assert!(said(&keyward(&["agent", "list"])).contains("one"));
    with("{ env: KEY_A }");
    let refused = keyward(&["agent", "list"]);
    assert!(said(&refused).contains("another master key"), "{}", said(&refused));
}
