//! The token of a run: it opens what its agent may use while the program lives, and nothing after.

use std::net::SocketAddr;

use crate::support::install::Install;
use crate::support::*;

const SCRIPT: &str = "echo \"$HTTPS_PROXY\"; while read line; do :; done";

/// The proxy and the token of a proxy URL.
fn parts(url: &str) -> (SocketAddr, String) {
    let (user, proxy) = url.split_once('@').expect("a user");
    let (_, token) = user.rsplit_once(':').expect("a token");
    (proxy.parse().expect("an address"), token.to_owned())
}

async fn status(proxy: SocketAddr, token: &str) -> u16 {
    let mut wire = Wire::plain(tokio::net::TcpStream::connect(proxy).await.expect("it listens"));
    wire.send(format!(
        "GET https://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
    ))
    .await;
    wire.answer("GET").await.head.status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_opens_nothing_once_the_program_has_ended() {
    let origin = Origin::saying("fine").await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_opens_nothing_once_the_run_was_killed() {
    let origin = Origin::saying("fine").await;
    let install = Install::new(&Plan::api_key(), &origin);
    let _gateway = install.serve();
    let mut ran = install.script(SCRIPT);
    let (proxy, token) = parts(&ran.line());
    assert_eq!(status(proxy, &token).await, 200);
    ran.kill();
    install.until("the token is gone", || install.runs().is_empty());
    assert_eq!(status(proxy, &token).await, 407);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_expires_soon_should_the_gateway_be_killed() {
    let origin = Origin::saying("fine").await;
    let install = Install::new(&Plan::api_key(), &origin);
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
async fn it_works_again_after_the_gateway_was_restarted_and_not_after_it_was_revoked() {
    let origin = Origin::saying("fine").await;
    // The same address before and after.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let proxy = port.local_addr().expect("an address");
    drop(port);
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
        crate::cli_runner::over_socket(&socket, get).1.contains("\"runs\":1")
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
