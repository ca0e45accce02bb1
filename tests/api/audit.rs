//! Each exchange leaves exactly one correct record in the hash chain, however the exchange ends.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::admin_network::admin_lab;
use test_support::*;

/// Records of requests with this path.
fn of<'a>(records: &'a [Value], path: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["path"] == path).collect()
}

#[tokio::test]
async fn an_exchange_leaves_one_record_that_says_what_happened() {
    let lab = Lab::simple().await;
    let mut wire = lab.sent("POST /v1/items?key=hidden\r\nContent-Length: 5").await;
    wire.send("hello").await;
    wire.answer("POST").await;
    drop(wire);
    let records = lab.finish().await;
    let [record] = of(&records, "/v1/items")[..] else { panic!("{records:#?}") };
    assert_eq!(record["agent"], "ci");
    assert_eq!(record["org"], "org_default");
    assert_eq!(record["connection"], "acme");
    assert_eq!(record["method"], "POST");
    assert_eq!(record["target"], format!("https://{HOST}"));
    assert_eq!(record["status"], 200);
    assert_eq!(record["bytes_in"], 5);
    assert_eq!(record["bytes_out"], 4);
    assert!(record["exchange"].as_str().is_some_and(|id| id.starts_with("exc_")), "{record}");
    assert!(record["duration_ms"].is_number() && record["time"].is_string(), "{record}");
    for key in ["v", "seq", "prev", "token", "rule", "generation", "code", "outcome"] {
        assert!(record.get(key).is_some(), "{key}: {record}");
    }
    assert!(!record.to_string().contains("hidden"), "no query: {record}");
}

#[tokio::test]
async fn refusals_are_recorded_with_their_code() {
    let lab = Lab::simple().await;
    lab.connect(&format!("{STRANGER}:443")).await;
    lab.ask("GET /a/../b").await;
    let mut wire = lab.client().await;
    wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    drop(wire);
    let records = lab.finish().await;
    let codes: Vec<&str> = records.iter().filter_map(|record| record["code"].as_str()).collect();
    for code in ["default_deny", "bad_target", "agent_unauthenticated"] {
        assert_eq!(codes.iter().filter(|c| **c == code).count(), 1, "{code}: {codes:?}");
    }
}

#[tokio::test]
async fn each_request_of_a_tunnel_has_a_record_and_the_tunnel_none_of_its_own() {
    let lab = Lab::simple().await;
    let mut wire = lab.tunnel(HOST).await;
    for _ in 0..10 {
        wire.ask(request_text("GET /many", HOST)).await;
    }
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(of(&records, "/many").len(), 10);
    assert_eq!(records.len(), 10, "{records:#?}");
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_one_record_with_true_counts() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhell\n").await;
        stream.rest().await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("GET /cut").await;
    wire.head().await.expect("a head");
    assert_eq!(wire.exactly(5).await, b"hell\n");
    wire.abort();
    let records = lab.finish().await;
    let [record] = of(&records, "/cut")[..] else { panic!("{records:#?}") };
    assert_eq!(record["bytes_out"], 5, "{record}");
    assert_ne!(record["outcome"], "ok", "{record}");
}

#[tokio::test]
async fn an_origin_that_breaks_off_leaves_one_record() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").await;
        stream.into_wire().abort();
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("GET /cut").await;
    wire.try_answer("GET").await;
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(of(&records, "/cut").len(), 1, "{records:#?}");
}

#[tokio::test]
async fn a_request_head_that_cannot_be_parsed_is_recorded() {
    let lab = Lab::simple().await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send("GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX A: 1\r\n\r\n").await;
    wire.rest().await;
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["status"], 400, "{records:#?}");
}

#[tokio::test]
async fn a_tunnel_without_interception_leaves_one_record_with_its_byte_count() {
    let rule = format!("{{ name: blind, hosts: [{STRANGER}], action: tunnel }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let (answer, mut wire) = lab.connect(&format!("{STRANGER}:443")).await;
    assert_eq!(answer.head.status(), 200);
    wire.send("not a ClientHello").await;
    wire.rest().await;
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["method"], "CONNECT");
    assert_eq!(records[0]["bytes_in"], 17);
}

#[tokio::test]
async fn records_are_numbered_without_gaps_and_chained_by_hash() {
    let mut lab = Lab::simple().await;
    for _ in 0..5 {
        lab.ask("GET /a").await;
    }
    let records = lab.gateway.stop_with_changes().await;
    let text = std::fs::read_to_string(lab.gateway.data().join("audit/audit.jsonl"));
    let text = text.expect("the audit file");
    let mut previous: Option<(u64, String)> = None;
    for (line, record) in text.lines().zip(&records) {
        let seq = record["seq"].as_u64().expect("a number");
        if let Some((before, hash)) = previous {
            assert_eq!(seq, before + 1);
            assert_eq!(record["prev"], hash, "{line}");
        }
        let digest = Sha256::digest(line.as_bytes());
        previous = Some((seq, digest.iter().map(|b| format!("{b:02x}")).collect()));
    }
    assert_eq!(records.iter().filter(|record| record.get("change").is_none()).count(), 5);
    lab.finish().await;
}

#[tokio::test]
async fn two_hundred_exchanges_at_once_leave_two_hundred_records() {
    let lab = Lab::simple().await;
    let asks = (0..200).map(|_| lab.ask("GET /together"));
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.head.status() == 200));
    let records = lab.finish().await;
    assert_eq!(of(&records, "/together").len(), 200);
    let ids: std::collections::HashSet<String> =
        records.iter().map(|record| record["exchange"].to_string()).collect();
    assert_eq!(ids.len(), 200, "every exchange has its own id");
}

#[tokio::test]
async fn a_reader_finds_the_change_that_it_has_just_made() {
    let lab = Lab::simple().await;
    for name in (0..30).map(|number| format!("agent-{number}")) {
        lab.gateway.api("POST", "/agents", &format!("{{\"name\":\"{name}\"}}")).await.is(201);
        let page = lab.gateway.api("GET", "/audit?changes=true&limit=1", "").await.json();
        assert_eq!(page["items"][0]["change"]["name"], name, "{page}");
    }
    lab.finish().await;
}

/// A browser connects again at the same address, and says which record it has.
#[tokio::test]
async fn a_follower_that_connects_again_gets_no_record_twice() {
    let (lab, login) = admin_lab().await;
    for path in ["/a", "/b", "/c"] {
        lab.ask(&format!("GET {path}")).await;
    }
    let numbers = until_some("three records", async || {
        let page = lab.gateway.api("GET", "/audit?requests=true", "").await.json();
        let all: Vec<u64> =
            page["items"].as_array()?.iter().filter_map(|it| it["seq"].as_u64()).collect();
        (all.len() == 3).then_some(all)
    })
    .await;
    let (newest, oldest) = (numbers[0], numbers[2]);
    let first = async |more: &str, last: &str| {
        let own = lab.gateway.admin;
        let mut wire = lab.client_at(own).await;
        let line = format!("GET /api/v1/audit?follow=true&requests=true&after=0{more} HTTP/1.1");
        let fields = format!("Host: {own}\r\nLast-Event-ID: {last}\r\n{}", login.cookie());
        wire.send(format!("{line}\r\n{fields}\r\n")).await;
        assert_eq!(wire.head().await.expect("an answer").status(), 200);
        loop {
            let chunk = patiently("an event", wire.chunk()).await.expect("a chunk");
            let text = String::from_utf8(chunk).expect("text");
            // Between events there may be comments, which keep the stream open.
            if let Some(id) = text.lines().find_map(|line| line.strip_prefix("id: ")) {
                return id.to_owned();
            }
        }
    };
    let before = (newest - 1).to_string();
    assert_eq!(first("", &before).await, newest.to_string());
    assert_eq!(first("&limit=3", &before).await, newest.to_string(), "no older ones again");
    assert_eq!(first("", "no-number").await, oldest.to_string());
    lab.finish().await;
}
