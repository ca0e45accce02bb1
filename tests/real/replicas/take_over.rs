//! `serve --take-over` where PostgreSQL is the store: both processes serve for a moment, and curl notices nothing.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::task::JoinSet;

use super::*;
use test_support::process::Served;

const TOKEN: &str = "kwa_token-of-curl-that-does-not-retry";
const CLIENTS: usize = 3;
const TAKEOVERS: usize = 2;
const REQUESTS: usize = 20;

/// One request of a new curl; its status, or what curl says.
async fn curl(proxy: SocketAddr, roots: &std::path::Path) -> String {
    let mut command = tokio::process::Command::new("curl");
    command.env_clear().args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--retry", "0"]);
    command.arg("--proxy").arg(format!("http://{proxy}")).arg("--cacert").arg(roots);
    command.arg("--proxy-header").arg(format!("Proxy-Authorization: Bearer {TOKEN}"));
    command.arg(format!("https://{HOST}/a")).stdin(Stdio::null());
    said(&command.output().await.expect("curl is installed")).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_notices_no_takeover_of_a_replica() {
    let (database, asked) = (Database::start(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let origin = Origin::answering(move |_: &Message| {
        count.fetch_add(1, SeqCst);
        ok("fine")
    });
    let plan = Plan::api_key().top(STORE).top("master_key: { env: MASTER_KEY }");
    let url = database.url();
    let variables = [
        ("DATABASE_URL", &*url),
        ("DATABASE_PASSWORD", &database.password.text),
        ("MASTER_KEY", MASTER_KEY),
        ("CANARY", &plan.canary().text),
        ("TOKEN_CI", TOKEN),
    ];
    let mut served = Served::start_quietly(&plan, &origin, &variables);
    let (at, roots) = (served.proxy, served.data().join("ca/ca.pem"));
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (done, answered, roots) = (Arc::clone(&done), Arc::clone(&answered), roots.clone());
        clients.spawn(async move {
            while !done.load(SeqCst) {
                assert_eq!(curl(at, &roots).await, "200");
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    for _ in 0..TAKEOVERS {
        let enough = answered.load(SeqCst) + REQUESTS;
        until("requests", async || answered.load(SeqCst) >= enough).await;
        assert_eq!(served.taken_over().await, Some(0), "{}", served.output());
    }
    done.store(true, SeqCst);
    while let Some(client) = clients.join_next().await {
        client.expect("no request failed");
    }
    assert_eq!(served.terminate(), Some(0));
    let records = served.audit();
    let forwarded = records.iter().filter(|record| record["outcome"] == "completed").count();
    assert_eq!(forwarded, asked.load(SeqCst), "each request once");
    let seqs: Vec<_> = records.iter().map(|record| record["seq"].as_u64()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "one chain of both processes");
}
