//! The token of a run: it opens what its agent may use while the program lives, and nothing after.

use std::net::SocketAddr;

use test_support::install::Install;
use test_support::*;

const SCRIPT: &str = "echo \"$HTTPS_PROXY\"; while read line; do :; done";

/// The proxy and the token of a proxy URL.
fn parts(url: &str) -> (SocketAddr, String) {
    let (user, proxy) = url.split_once('@').expect("a user");
    let (_, token) = user.rsplit_once(':').expect("a token");
    (proxy.parse().expect("an address"), token.to_owned())
}

async fn status(proxy: SocketAddr, token: &str) -> u16 {
    let mut wire = Wire::to(proxy).await;
    wire.ask(absolute("GET /", HOST, token)).await.head.status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_run_is_invalid_once_the_program_has_ended() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let canary = plan.canary().clone();
    let install = Install::new(&plan, &origin);
    let _gateway = install.serve();
    let mut ran = install.script(SCRIPT);
    let (proxy, token) = parts(&ran.line());
    assert_eq!(status(proxy, &token).await, 200);
    assert_eq!(origin.only().head.all("x-api-key"), [&*canary.text]);
    assert_eq!(install.runs()[0]["label"], format!("run {}", ran.id()));
    drop(ran.stdin.take());
    assert_eq!(ran.code(), Some(0));
    assert_eq!(status(proxy, &token).await, 407, "as soon as the run has ended");
    assert!(install.runs().is_empty());
    assert!(install.is_served(), "the gateway that was there stays");
    canary.assert_absent_below(&install.data());
    assert!(!install.audit().is_empty());
}

/// The changes in the audit log, as people read them, the newest first.
fn changes(install: &Install) -> Vec<String> {
    let query = install.keyward(&["audit", "query", "--changes"]).output().expect("it runs");
    assert!(query.status.success(), "{query:?}");
    String::from_utf8_lossy(&query.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_has_the_start_and_the_end_of_each_run_once() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    for ends in ["by itself", "killed"] {
        let mut ran = install.script(SCRIPT);
        assert!(!ran.line().is_empty());
        let token = install.runs()[0]["id"].as_str().expect("an id").to_owned();
        let facts = format!("run of agent ci (run {}, {token})", ran.id());
        let told = changes(&install);
        assert!(told.iter().any(|it| it.contains(&format!("started {facts}"))), "{told:#?}");
        match ends {
            "killed" => ran.kill(),
            _ => {
                drop(ran.stdin.take());
                assert_eq!(ran.code(), Some(0));
            }
        }
        let ended = format!("ended {facts}");
        install.until("its end is written down", || {
            changes(&install).iter().any(|it| it.contains(&ended))
        });
        let told = changes(&install);
        let of_it = told.iter().filter(|it| it.contains(&token)).count();
        assert_eq!(of_it, 2, "once started, once ended ({ends}): {told:#?}");
        let mut added = told.iter().filter(|it| it.contains("added agent"));
        assert!(added.all(|it| it.contains(" file ")), "only the file added one: {told:#?}");
    }
    let records = install.keyward(&["audit", "query", "--agent", "ci", "--json"]).output();
    let records: serde_json::Value =
        serde_json::from_slice(&records.expect("it runs").stdout).expect("JSON");
    let runs = records["items"].as_array().expect("a list").iter();
    let runs = runs.filter(|record| record["change"]["what"] == "run").collect::<Vec<_>>();
    assert_eq!(runs.len(), 4, "{records:#}");
    for run in runs {
        assert_eq!(run["change"]["id"], run["token"], "{run}");
        assert!(run["change"]["label"].as_str().is_some_and(|it| it.starts_with("run ")), "{run}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_refused_is_audited_as_refused_with_the_code() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    for words in [["agent", "add", "idle"], ["agent", "pause", "idle"]] {
        assert!(install.keyward(&words).output().expect("it runs").status.success());
    }
    let run = install.keyward(&["run", "--agent", "idle", "--", "true"]).output().expect("it runs");
    assert_eq!(run.status.code(), Some(125), "{run:?}");
    let again = install.keyward(&["agent", "add", "idle"]).output().expect("it runs");
    assert!(!again.status.success(), "{again:?}");
    let told = changes(&install);
    for (refused, code) in [
        ("tried to start run of agent idle", "invalid_field"),
        ("tried to add agent idle", "name_taken"),
    ] {
        let line = told.iter().find(|it| it.contains(refused));
        let line = line.unwrap_or_else(|| panic!("{refused}: {told:#?}"));
        assert!(line.split_whitespace().any(|word| word == code), "{code}: {line}");
    }
    let done = told.iter().filter(|it| it.contains(" added agent idle")).count();
    assert_eq!(done, 1, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_run_is_invalid_once_the_run_was_killed() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    let mut ran = install.script(SCRIPT);
    let (proxy, token) = parts(&ran.line());
    assert_eq!(status(proxy, &token).await, 200);
    ran.kill();
    install.until("the token is gone", || install.runs().is_empty());
    assert_eq!(status(proxy, &token).await, 407);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_killed_gateway_the_token_of_a_run_expires_within_three_minutes() {
    let (install, _origin) = Install::simple();
    let mut gateway = install.serve();
    let mut ran = install.script(SCRIPT);
    assert!(!ran.line().is_empty());
    gateway.kill();
    let run = &install.runs()[0];
    let time = |name: &str| run[name].as_str().expect("a time").parse::<jiff::Timestamp>();
    let (created, expires) = (time("created").expect("a time"), time("expires").expect("a time"));
    assert!(expires.duration_since(created).as_secs() <= 180, "{run}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_run_is_valid_after_a_restart_of_the_gateway_until_its_revocation() {
    let origin = Origin::saying("fine");
    // The same address before and after.
    let proxy = test_support::process::reserved_address();
    let install = Install::new(&Plan::api_key(), &origin);
    let file = install.folder().join("keyward.yaml");
    let text = std::fs::read_to_string(&file).expect("a file");
    let text = text.replacen("proxy: \"127.0.0.1:0\"", &format!("proxy: \"{proxy}\""), 1);
    std::fs::write(&file, text).expect("a file");
    let mut gateway = install.serve();
    let mut ran = install.script(SCRIPT);
    let (_, token) = parts(&ran.line());
    gateway.kill();
    let _gateway = install.serve();
    assert_eq!(status(proxy, &token).await, 200);
    let runs = || {
        let socket = install.data().join("admin.sock");
        let get = "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        test_support::cli::over_socket(&socket, get).1.contains("\"runs\":1")
    };
    install.until("the run is open again", runs);
    let run = &install.runs()[0];
    let id = run["id"].as_str().expect("an id");
    let revoked = install.keyward(&["agent", "token", "revoke", "ci", id]).status();
    assert!(revoked.expect("it runs").success());
    assert_eq!(status(proxy, &token).await, 407);
    drop(ran.stdin.take());
    assert_eq!(ran.code(), Some(0));
}
