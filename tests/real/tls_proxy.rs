//! Programs that use TLS to the proxy itself (`HTTPS_PROXY=https://…`) and trust its CA for both.

use std::process::Command;

use crate::stage::*;
use test_support::*;

const REQUESTS: &str = "
import os, requests
answer = requests.get('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']}, timeout=20)
answer.raise_for_status()
print(answer.text)
";

const HTTPX: &str = "
import os, httpx
answer = httpx.get('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']}, timeout=20)
answer.raise_for_status()
print(answer.text)
";

async fn tls_lab() -> Lab {
    planned(Plan::api_key().proxy("[{ at: \"127.0.0.1:0\", tls: {} }]")).await
}

/// With the proxy's variables for TLS.
fn by_tls(lab: &Lab, mut command: Command) -> Command {
    let proxy = format!("https://ci:{}@{}", lab.token("ci"), lab.gateway.proxy);
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    {
        command.env(name, &proxy);
    }
    command
}

async fn python_is_served(script: &str) {
    let lab = tls_lab().await;
    let mut python = by_tls(&lab, keyed(&lab, installed("real-venv/bin/python")));
    python.args(["-c", script]);
    let output = run(python).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn curl_that_trusts_another_ca_is_not_served() {
    let lab = tls_lab().await;
    let mut curl = by_tls(&lab, keyed(&lab, "curl"));
    let roots = pki_file(&lab);
    curl.args(["--verbose", "--max-time", "20", "--proxy-cacert"]).arg(roots);
    curl.arg("https://api.acme.test/a");
    let output = run(curl).await;
    assert_eq!(output.status.code(), Some(60), "{}", said(&output));
    lab.finish_unreached().await;
}

#[tokio::test]
async fn curl_is_served() {
    let lab = tls_lab().await;
    let mut curl = by_tls(&lab, keyed(&lab, "curl"));
    // It reads no variable for the roots of a proxy.
    curl.args(["--verbose", "--max-time", "20", "--proxy-cacert"]).arg(ca(&lab));
    let header = format!("X-Api-Key: {}", lab.placeholder("api_key"));
    curl.args(["--header", &header, "https://api.acme.test/a"]);
    let output = run(curl).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn requests_is_served() {
    python_is_served(REQUESTS).await;
}

#[tokio::test]
async fn httpx_is_served() {
    python_is_served(HTTPX).await;
}

/// Roots that are not Keyward's.
fn pki_file(lab: &Lab) -> std::path::PathBuf {
    lab.gateway.folder().join("origin-ca.pem")
}
