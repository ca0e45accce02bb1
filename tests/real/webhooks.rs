//! Webhook events, verified by the reference libraries of Standard Webhooks.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::stage::installed;
use test_support::hooks::Hooks;
use test_support::{Origin, Plan};

/// What the library of `interpreter` makes of an event: its type, and whether a changed body is refused.
async fn verified(interpreter: &str, script: &str) -> Value {
    let mut hooks = Hooks::start().await;
    let mut lab = hooks.reached(Plan::api_key()).start(Origin::saying("fine")).await;
    lab.add_agent("bot").await;
    let key = hooks.subscribed(&mut lab, &["connection.bound"]).await;
    lab.bind("bot", "acme").await;
    let event = hooks.event(&key).await.message;
    let field = |name: &str| event.head.one(name).expect("a field").to_owned();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!(field(name)))).collect();
    let given = json!({ "key": key.text, "headers": headers, "body": event.text() });
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/webhooks");
    let folder = lab.gateway.folder();
    // Modules are looked for beside the script.
    std::fs::copy(programs.join(script), folder.join(script)).expect("a file of ours");
    let modules = installed("real-node/node_modules");
    std::os::unix::fs::symlink(modules, folder.join("node_modules")).expect("a link");
    let mut command = Command::new(installed(interpreter));
    command.current_dir(folder).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("`tests/run` installs it");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(given.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{script}");
    lab.finish().await;
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn nodes_reference_library_verifies_events_and_refuses_changed_ones() {
    let verified = verified("real-node/node_modules/node24/bin/node", "verify.mjs").await;
    assert_eq!(verified, json!({ "type": "connection.bound", "refused": true }));
}

#[tokio::test]
async fn pythons_reference_library_verifies_events_and_refuses_changed_ones() {
    let verified = verified("real-venv/bin/python", "verify.py").await;
    assert_eq!(verified, json!({ "type": "connection.bound", "refused": true }));
}
