//! Java's HttpClient, which answers the proxy's 407 on a new stream and has its own certificate verifier.

use std::process::Command;

use crate::stage::*;
use test_support::*;

fn java(lab: &Lab, url: &str) -> Command {
    let source = lab.gateway.folder().join("Probe.java");
    std::fs::write(&source, include_str!("Probe.java")).expect("a file");
    let mut java = keyed(lab, "java");
    java.args([
        "-Djdk.http.auth.tunneling.disabledSchemes=",
        "-Djdk.httpclient.HttpClient.log=all",
    ]);
    java.arg(source).arg(url);
    java
}

#[tokio::test]
async fn java_accepts_the_leaf_and_is_served() {
    let lab = lab().await;
    let output = run(java(&lab, "https://api.acme.test/v1/items")).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn after_a_rotation_java_accepts_the_chain_by_either_root() {
    for trusts in [Trusts::Former, Trusts::Current] {
        let lab = rotated(trusts).await;
        let output = run(java(&lab, "https://api.acme.test/v1/items")).await;
        assert_served(lab, output).await;
    }
}
