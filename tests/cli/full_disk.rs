//! A disk that is full, or fails, while the embedded store must write.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use test_support::authorization::Authorization;
use test_support::cli::Cli;
use test_support::install::TOKEN_CI;
use test_support::process::{Served, is_served};
use test_support::tokens::*;
use test_support::*;

/// A request of the agent, and its answer.
async fn asked(served: &Served) -> Message {
    let mut agent = Wire::to(served.proxy).await;
    agent.ask(absolute("GET /", HOST, TOKEN_CI)).await
}

/// The parts that fail, as the gateway says.
async fn faults(served: &Served) -> Vec<Value> {
    let status = served.api("GET", "/status", "").await.json();
    let faults = status["faults"].as_array().cloned().unwrap_or_default();
    faults.into_iter().map(|fault| fault["part"].clone()).collect()
}

/// The server has rotated the token when the disk is full. The new token is stored when the disk has room, without a restart,
/// and the old one is not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_a_full_disk_refused_is_stored_once_the_disk_has_room() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let plan =
        plan(&authorization, &pair).top("oauth: { wait_timeout: 0.1s, backoff_first: 0.05s }");
    let refresh = pair.refresh.expect("one");
    let variables = [("REFRESH", &*refresh)];
    let mut served = Served::start_with_file_limits(&plan, &origin, &variables);
    let gate = authorization.hold_next();
    assert_eq!(asked(&served).await.head.status(), 503);
    authorization.asked(1).await;
    served.limit_files(Some(4_096));
    gate.add_permits(1);
    until("the failure of the store", async || faults(&served).await.contains(&json!("store")))
        .await;
    served.limit_files(None);
    until("the recovery of the store", async || faults(&served).await.is_empty()).await;
    until("the token", async || asked(&served).await.head.status() == 200).await;
    assert_eq!(authorization.calls().len(), 1, "the spent token was sent again");
    let issued = authorization.only_call().issued.expect("tokens");
    assert_eq!(
        origin.only().head.one("authorization"),
        Some(&*format!("Bearer {}", issued.access))
    );
    served.kill();
    served.restart();
    authorization.issuer().expire_all();
    until("the next token", async || asked(&served).await.head.status() == 200).await;
    let calls = authorization.calls();
    assert!(calls.iter().all(|call| call.issued.is_some()), "a spent token was sent");
}

/// Adds a provider whose row has so many bytes; the status.
async fn provider_added(served: &Served, bytes: usize) -> u16 {
    let host = "other.acme.test";
    let definition = json!({
        "id": "corp", "name": "C".repeat(bytes), "hosts": [host],
        "auth": [{ "id": "bearer", "kind": "bearer", "env": ["CORP_TOKEN"] }],
        "test": { "url": format!("https://{host}/me"), "rejects": [401, 403] },
    });
    served.api("POST", "/providers", &definition.to_string()).await.head.status()
}

/// sled writes a large row into a file of its own. After that write has failed, it can do nothing more, not even close its files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_row_that_a_full_disk_refuses_leaves_the_store_in_use() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let served = Served::start_with_file_limits(&plan, &origin, &[]);
    // The log of the store is smaller.
    served.limit_files(Some(400 * 1024));
    assert!(provider_added(&served, 700 * 1024).await >= 500);
    served.limit_files(None);
    until("a provider", async || provider_added(&served, 200 * 1024).await == 201).await;
    until("the recovery of the store", async || faults(&served).await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_store_cannot_be_closed_ends_and_its_restart_recovers() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let mut served = Served::start(&plan, &origin, &[]);
    let blobs = served.data().join("store/sled/blobs");
    let aside = served.data().join("store/sled/blobs-aside");
    fs::rename(&blobs, &aside).expect("ours");
    assert!(provider_added(&served, 200 * 1024).await >= 500);
    // A write for which the files are opened again. The gateway may end before it answers.
    let mut later = served.keyward(&["agent", "add", "later"]);
    drop(later.stdin(Stdio::null()).output().expect("it runs"));
    until("its end", async || !is_served(&served.data())).await;
    assert_eq!(served.exit_code(), Some(1));
    let said = served.output();
    assert!(said.contains("the store cannot be closed after a failed write"), "{said}");
    fs::rename(&aside, &blobs).expect("ours");
    served.restart();
    assert_eq!(provider_added(&served, 200 * 1024).await, 201);
}

/// Whether the status says that a reload was interrupted.
async fn is_interrupted(served: &Served) -> bool {
    let status = served.api("GET", "/status", "").await.json();
    status["reload"]["incomplete"].as_bool().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_a_full_disk_interrupts_is_not_called_refused_and_is_completed_later() {
    let origin = Origin::saying("fine");
    let served = Served::start_with_file_limits(&Plan::api_key(), &origin, &[]);
    // Its credential is in memory from now on.
    assert_eq!(asked(&served).await.head.status(), 200);
    // Room for records of the audit log, which is smaller than the store.
    let records = fs::metadata(served.data().join("audit/audit.jsonl")).expect("a log").len();
    served.limit_files(Some(records + 4_096));
    let file = served.config();
    let yaml = fs::read_to_string(&file).expect("the configuration");
    let deny = format!("rules: [{{ name: no, hosts: [{HOST}], action: deny }}]");
    let more = yaml.replace("agents:\n", "agents:\n  - { name: later, use: [acme] }\n");
    assert_ne!(more, yaml);
    fs::write(&file, format!("{more}{deny}\n")).expect("written");
    let answer = served.api("POST", "/reload", "").await.is(503);
    let error = answer.json()["error"].clone();
    assert_eq!(error["code"], "reload_incomplete", "{error}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("the reload was interrupted, and may be in force in part: "));
    assert!(error["hint"].as_str().is_some_and(|it| it.contains("keyward reload")), "{error}");
    assert!(is_interrupted(&served).await);
    // Rules take effect after all stored resources.
    assert_eq!(asked(&served).await.head.status(), 200);
    assert_eq!(origin.received().len(), 2);
    served.limit_files(None);
    let reloaded = async || served.api("POST", "/reload", "").await.head.status() == 200;
    until("the reload", reloaded).await;
    assert!(!is_interrupted(&served).await);
    served.api("GET", "/agents/later", "").await.is(200);
    assert_eq!(asked(&served).await.head.status(), 403);
    assert_eq!(origin.received().len(), 2);
}

/// The writer has the deleted file open, so its space would not be free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_that_is_deleted_on_a_full_disk_goes_on_in_a_new_file() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let served = Served::start_with_file_limits(&plan, &origin, &[]);
    let log = served.data().join("audit/audit.jsonl");
    let size = || fs::metadata(&log).map_or(0, |about| about.len());
    let is_larger_than = async |bytes: u64| {
        asked(&served).await;
        size() > bytes
    };
    until("some records", async || is_larger_than(16 * 1024).await).await;
    served.limit_files(Some(size()));
    until("a refusal", async || asked(&served).await.head.status() == 503).await;
    fs::remove_file(&log).expect("ours");
    until("a request", async || asked(&served).await.head.status() == 200).await;
    until("records of a new file", async || is_larger_than(0).await).await;
    let text = fs::read_to_string(&log).expect("a file");
    let first = text.lines().next().expect("a record");
    assert!(first.contains("found changed"), "{first}");
}

#[test]
fn a_gateway_whose_audit_log_cannot_be_written_ends_when_it_is_stopped() {
    let cli = Cli::new();
    // Each write fails with ENOSPC.
    let serving = cli.serve_with("agents: [{ name: ci }]\naudit: { file: /dev/full }\n");
    serving.signal(rustix::process::Signal::TERM);
    assert_eq!(serving.wait(), Some(0));
}
