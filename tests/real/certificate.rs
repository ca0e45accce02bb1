//! Verifies a leaf with openssl, the strictest verifier available.

use std::path::Path;
use std::process::{Command, Output};

use crate::stage::*;
use test_support::*;

/// Too long for a common name.
const LONG: &str =
    "a-name-of-many-letters.another-label-of-many-letters.and-one-more-of-them.acme.test";

const ADDRESS: &str = "192.0.2.7";

/// `openssl s_client` through the proxy, strict, as far as the handshake.
fn s_client(lab: &Lab, host: &str) -> Command {
    let mut openssl = program(lab, "openssl");
    let proxy = lab.gateway.proxy.to_string();
    openssl.env("TOKEN", lab.token("ci")).args(["s_client", "-proxy", &proxy]);
    openssl.args(["-proxy_user", "ci", "-proxy_pass", "env:TOKEN"]);
    openssl.args(["-connect", &format!("{host}:443"), "-showcerts"]);
    openssl.args(["-CAfile", "keyward-ca.pem", "-no-CApath", "-no-CAstore"]);
    openssl.args(["-x509_strict", "-verify_return_error"]).args(named(host));
    openssl.stdin(std::process::Stdio::null());
    openssl
}

/// Options that demand a certificate for `host`.
fn named(host: &str) -> [&str; 2] {
    match host {
        ADDRESS => ["-verify_ip", host],
        host => ["-verify_hostname", host],
    }
}

/// `openssl verify` of a leaf, strict, as a server's.
async fn verify(lab: &Lab, leaf: &Path, host: &str) -> Output {
    let mut openssl = program(lab, "openssl");
    openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", "-check_ss_sig"]);
    openssl.args(["-CAfile", "keyward-ca.pem", "-no-CApath", "-no-CAstore"]).args(named(host));
    openssl.arg(leaf);
    run(openssl).await
}

#[tokio::test]
async fn a_leaf_passes_the_strict_checks_of_openssl_for_its_own_name_only() {
    let plan = Plan::api_key()
        .hosts(&format!("{HOST}, {LONG}"))
        .rule(&format!("{{ name: address, hosts: [\"{ADDRESS}\"], action: pass }}"));
    let lab = plan.start(Origin::saying("fine")).await;
    for host in [HOST, LONG, ADDRESS] {
        let output = run(s_client(&lab, host)).await;
        let text = said(&output);
        assert!(output.status.success(), "{host}: {text}");
        assert!(text.contains("Verify return code: 0 (ok)"), "{host}: {text}");
        let (_, from) = text.split_once("-----BEGIN").expect("the chain is shown");
        let (leaf, _) = from.split_once("-----END CERTIFICATE-----").expect("a whole one");
        let file = lab.gateway.folder().join("leaf.pem");
        let pem = format!("-----BEGIN{leaf}-----END CERTIFICATE-----\n");
        std::fs::write(&file, pem).expect("a file");
        let output = verify(&lab, &file, host).await;
        assert!(output.status.success(), "{host}: {}", said(&output));
        let output = verify(&lab, &file, STRANGER).await;
        assert!(!output.status.success(), "{host}: {}", said(&output));
    }
    assert_eq!(lab.origin.streams(), 0, "a handshake alone dials nobody");
    lab.finish().await;
}

#[tokio::test]
async fn after_a_rotation_openssl_accepts_the_chain_by_either_root_strictly() {
    for trusts in [Trusts::Former, Trusts::Current] {
        let lab = rotated(trusts).await;
        let output = run(s_client(&lab, HOST)).await;
        let text = said(&output);
        assert!(output.status.success(), "{trusts:?}: {text}");
        assert!(text.contains("Verify return code: 0 (ok)"), "{trusts:?}: {text}");
        // By the cross certificate, or past it.
        assert_eq!(text.contains("depth=2"), matches!(trusts, Trusts::Former), "{text}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn after_a_rotation_without_overlap_openssl_rejects_the_leaf_by_the_old_root() {
    let lab = lab().await;
    lab.gateway.api("POST", "/ca/rotate", r#"{"no_overlap":true}"#).await.is(200);
    let output = run(s_client(&lab, HOST)).await;
    assert!(!output.status.success(), "{}", said(&output));
    lab.finish().await;
}
