//! Go's default client, whose certificate verifier is stricter than most.

use std::process::Command;

use crate::stage::*;
use test_support::*;

fn go(lab: &Lab, url: &str) -> Command {
    let source = lab.gateway.folder().join("probe.go");
    std::fs::write(&source, include_str!("probe.go")).expect("a file");
    let mut go = keyed(lab, "go");
    // It builds with what is here, and asks nobody for more.
    go.env("GOCACHE", installed("real-go")).env("GO111MODULE", "off").env("GOTOOLCHAIN", "local");
    go.args(["run", "probe.go", url]);
    go
}

#[tokio::test]
async fn go_accepts_the_leaf_and_is_served() {
    let lab = lab().await;
    let output = run(go(&lab, "https://api.acme.test/v1/items")).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn after_a_rotation_go_accepts_the_chain_by_either_root() {
    for trusts in [Trusts::Former, Trusts::Current] {
        let lab = rotated(trusts).await;
        let output = run(go(&lab, "https://api.acme.test/v1/items")).await;
        assert_served(lab, output).await;
    }
}

#[tokio::test]
async fn go_receives_the_reason_why_a_host_is_denied() {
    let lab = lab().await;
    let output = run(go(&lab, &format!("https://{STRANGER}/"))).await;
    let said = said(&output);
    assert!(said.contains(&format!("default_deny {STRANGER}")), "{said}");
    lab.finish_unreached().await;
}
