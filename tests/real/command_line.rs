//! curl and wget through the gateway.

use crate::stage::*;
use test_support::*;

const URL: &str = "https://api.acme.test/v1/items";

#[tokio::test]
async fn curl_is_served() {
    let lab = lab().await;
    let mut curl = keyed(&lab, "curl");
    let header = format!("X-Api-Key: {}", lab.placeholder("api_key"));
    curl.args(["--verbose", "--max-time", "20", "--header", &header, URL]);
    let output = run(curl).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn curl_without_a_placeholder_is_served() {
    let lab = lab().await;
    let mut curl = program(&lab, "curl");
    curl.args(["--verbose", "--max-time", "20", URL]);
    let output = run(curl).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn a_curl_upload_that_waits_for_100_is_served() {
    let lab = lab().await;
    let body = lab.gateway.folder().join("body");
    std::fs::write(&body, vec![b'x'; 3 << 20]).expect("a file");
    let mut curl = keyed(&lab, "curl");
    curl.args(["--verbose", "--max-time", "20", "--header", "Expect: 100-continue"]);
    curl.arg("--upload-file").arg(&body).arg(URL);
    let output = run(curl).await;
    assert_eq!(lab.origin.only().body.len(), 3 << 20);
    assert_served(lab, output).await;
}

#[tokio::test]
async fn curl_with_a_challenge_of_the_proxy_first_is_served() {
    let lab = lab().await;
    let mut curl = keyed(&lab, "curl");
    // Sends nothing before it is asked: the 407 must keep the connection.
    curl.args(["--verbose", "--max-time", "20", "--proxy-anyauth", URL]);
    let output = run(curl).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn curl_says_that_a_host_is_denied() {
    let lab = lab().await;
    let mut curl = program(&lab, "curl");
    curl.args(["--verbose", "--max-time", "20", &format!("https://{STRANGER}/")]);
    let output = run(curl).await;
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains(&format!("403 default_deny {STRANGER}")), "{said}");
    lab.finish_unreached().await;
}

#[tokio::test]
async fn wget_is_served() {
    let lab = lab().await;
    let mut wget = keyed(&lab, "wget");
    let header = format!("--header=X-Api-Key: {}", lab.placeholder("api_key"));
    wget.args(["--debug", "--output-document=-", "--tries=1", "--timeout=20", &header, URL]);
    let output = run(wget).await;
    assert_served(lab, output).await;
}
