//! What a refusal says is true, and the same in its body and in the audit log.

use std::sync::Arc;

use keyward_app::Services;
use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;
use serde_json::Value;

use test_support::http2::{Offer, Reply};
use test_support::*;

const AUTH: &str = "{ id: key, kind: api_key, placement: { header: X-Api-Key } }";

fn origin() -> Origin {
    Origin::speaking(Offer::Both, |_| Reply::ok("fine"))
}

// === the rule that refuses ===

fn denying() -> Plan {
    Plan::api_key()
        .rule("{ name: no-deletes, hosts: [api.acme.test], methods: [DELETE], action: deny }")
        .rule("{ name: no-third, hosts: [\"third.acme.test\"], action: deny }")
        .rule("{ name: no-wild, hosts: [\"*.wild.test\"], action: deny }")
}

/// The only record, whose rule is the one that `words` name.
async fn named(lab: Lab, words: &str, rule: &str) {
    assert!(words.contains(&format!("rule `{rule}` denies this")), "{words}");
    let records = lab.finish().await;
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!((&record["rule"], &record["code"]), (&rule.into(), &"denied".into()), "{record}");
    assert_eq!((&record["status"], &record["outcome"]), (&403.into(), &"refused".into()));
}

#[tokio::test]
async fn the_rule_that_denies_a_request_is_in_its_record() {
    for http2 in [false, true] {
        let lab = denying().start(origin()).await;
        let answer = match http2 {
            true => lab.h2(HOST).await.ask("DELETE /a").await,
            false => lab.ask("DELETE /a").await,
        };
        let words = answer.json()["error"]["message"].to_string();
        named(lab, &words, "file:no-deletes").await;
    }
}

#[tokio::test]
async fn the_rule_that_denies_a_grpc_call_is_in_its_record() {
    let lab = denying().start(origin()).await;
    let answer = lab.ask("DELETE /a\r\nContent-Type: application/grpc").await;
    let words = answer.head.one("grpc-message").expect("words").to_owned();
    named(lab, &words, "file:no-deletes").await;
}

#[tokio::test]
async fn the_rule_that_denies_a_host_is_in_the_record_of_a_request_to_it() {
    let lab = denying().start(origin()).await;
    let mut wire = lab.tunnel("third.acme.test").await;
    wire.send(request_text("GET /a", "third.acme.test")).await;
    let words = wire.answer("GET").await.json()["error"]["message"].to_string();
    named(lab, &words, "file:no-third").await;
}

#[tokio::test]
async fn the_rule_that_refuses_a_connect_is_in_its_record() {
    let lab = denying().start(origin()).await;
    let (answer, _wire) = lab.connect("x.wild.test:443").await;
    assert_eq!(answer.head.status(), 403);
    let words = answer.json()["error"]["message"].to_string();
    named(lab, &words, "file:no-wild").await;
}

#[tokio::test]
async fn the_rule_that_denies_a_cleartext_request_is_in_its_record() {
    let lab = denying().start(origin()).await;
    let mut wire = lab.client().await;
    let (authorization, host) = (lab.authorization("ci"), "third.acme.test");
    let head = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n");
    let words = wire.ask(head).await.json()["error"]["message"].to_string();
    named(lab, &words, "file:no-third").await;
}

#[tokio::test]
async fn the_rule_that_denies_a_websocket_is_in_its_record() {
    let rule = "{ name: no-chat, hosts: [api.acme.test], paths: [/chat], action: deny }";
    let lab = Plan::api_key().rule(rule).start(origin()).await;
    let client = lab.h2(HOST).await;
    let answer = client.extended("websocket", "/chat\r\nsec-websocket-version: 13").await;
    let words = answer.answer().await.json()["error"]["message"].to_string();
    named(lab, &words, "file:no-chat").await;
}

#[tokio::test]
async fn a_request_that_no_rule_names_is_denied_by_the_default_in_its_record() {
    let lab = denying().start(origin()).await;
    let (answer, _wire) = lab.connect("nowhere.test:443").await;
    assert_eq!(answer.json()["error"]["code"], "default_deny");
    let records = lab.finish().await;
    assert_eq!((&records[0]["rule"], records.len()), (&Value::from("default"), 1));
}

#[tokio::test]
async fn the_binding_and_the_connection_that_a_refusal_is_about_are_in_its_record() {
    let lab = denying().start(origin()).await;
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    let head = format!("GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n");
    let words = wire.ask(head).await.json();
    assert_eq!(words["error"]["code"], "plaintext_refused", "{words}");
    let records = lab.finish().await;
    let rule = records[0]["rule"].as_str().expect("a rule");
    assert!(rule.starts_with("binding:con_"), "{rule}");
    assert_eq!((&records[0]["connection"], records.len()), (&"acme".into(), 1));
    assert_eq!(records[0]["generation"], Value::Null, "nothing was injected");
}

// === the message ===

#[tokio::test]
async fn every_refusal_repeats_its_message_at_the_top_level_of_its_json_body() {
    let lab = denying().start(origin()).await;
    let (refused_connect, _wire) = lab.connect("nowhere.test:443").await;
    let mut unauthenticated = lab.client().await;
    unauthenticated.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await;
    let mut lost = lab.client().await;
    lost.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    for (answer, code) in [
        (refused_connect, "default_deny"),
        (unauthenticated.answer("CONNECT").await, "agent_unauthenticated"),
        (lost.answer("GET").await, "bad_request"),
        (lab.ask("DELETE /a").await, "denied"),
        (lab.ask("GET /a\r\nExpect: nonsense").await, "expectation_failed"),
        (lab.h2(HOST).await.ask("DELETE /a").await, "denied"),
    ] {
        let body = answer.json();
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["message"].as_str().is_some_and(|words| !words.is_empty()), "{body}");
        assert_eq!(body["message"], body["error"]["message"]);
    }
    lab.finish().await;
}

// === ports ===

/// What is taken from the agent.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Binding,
    Connection,
}

async fn take_away(gone: Gone, services: &Arc<Services>) {
    let (org, by) = (OrgId::default_org(), ManagedBy::File);
    let view = services.directory.view();
    let agent = view.find_agent(&org, "ci").expect("the agent").id.clone();
    let connection = view.find_connection(&org, "odd").expect("the connection").id.clone();
    match gone {
        Gone::Binding => {
            services.directory.unbind_by(&org, &agent, &connection, by).await.expect("unbound");
        }
        Gone::Connection => {
            services.vault.lifecycle().remove_by(&org, &connection, by).await.expect("removed");
        }
    }
}

/// The client shows only the body.
#[tokio::test]
async fn a_host_that_cannot_be_reached_is_named_with_a_remedy() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = nowhere.local_addr().expect("an address").port();
    drop(nowhere);
    let plan = Plan::api_key()
        .rule("{ name: closed, hosts: [closed.test], action: pass }")
        .rule("{ name: lost, hosts: [lost.invalid], action: pass }")
        .resolve(&format!("closed.test: 127.0.0.1:{port}"))
        .allow(&format!("127.0.0.1:{port}"));
    let lab = plan.start(origin()).await;
    for host in ["closed.test", "lost.invalid"] {
        let (answer, wire) = lab.connect(&format!("{host}:443")).await;
        assert_eq!(answer.head.status(), 200, "{answer:?}");
        let mut wire = lab.secure(wire, host).await;
        let body = wire.ask(request_text("GET /a", host)).await.json();
        assert_eq!(body["error"]["code"], "upstream_unreachable", "{body}");
        assert!(body["message"].as_str().is_some_and(|it| it.contains(host)), "{body}");
        assert!(body["error"]["hint"].as_str().is_some_and(|it| it.contains("DNS")), "{body}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_refusal_after_a_binding_or_connection_is_removed_names_the_true_reason() {
    // One whose provider names host and port, and one whose port stands in the connection alone.
    for (hosts, variables, words) in [
        ("[\"odd.test:8443\"]", "", "no rule or binding allows this host"),
        (
            "[\"{host}\"]",
            ", variables: [{ name: host, kind: host, label: Host }]",
            "no rule or binding of this agent is for port 8443 of this host",
        ),
    ] {
        for gone in [Gone::Binding, Gone::Connection] {
            let filled =
                if variables.is_empty() { "" } else { ", variables: { host: \"odd.test:8443\" }" };
            let plan = Plan::api_key()
                .provider(&format!("{{ id: odd, name: Odd, hosts: {hosts}, auth: [{AUTH}]{variables} }}"))
                .connection(&format!(
                    "{{ name: odd, provider: odd, fields: {{ api_key: {{ env: CANARY }} }}{filled} }}"
                ))
                .no_agents()
                .agent("ci", "acme, odd");
            let lab = plan.start(origin()).await;
            take_away(gone, lab.gateway.running().services()).await;
            let (answer, wire) = lab.connect("odd.test:8443").await;
            let answer = match answer.head.status() {
                200 => {
                    let mut wire = lab.secure(wire, "odd.test").await;
                    wire.ask(request_text("GET /a", "odd.test:8443")).await
                }
                _ => answer,
            };
            let (status, words) = match gone {
                Gone::Binding => (403, words),
                Gone::Connection => (424, "connection `odd` was removed"),
            };
            assert_eq!(answer.head.status(), status, "{gone:?}");
            let body = answer.json();
            assert_eq!(body["message"], words, "{gone:?} of {hosts}: {body}");
            let hint = body["error"]["hint"].as_str().expect("a hint");
            let is_command = |begin: &str, end: &str| hint.contains(begin) && hint.contains(end);
            let has_remedy = is_command("`keyward agent bind ci ", "`")
                || is_command("`keyward ", " --agent ci`");
            assert!(has_remedy, "{hint}");
            lab.finish().await;
        }
    }
}

// === floods ===

/// With default settings, requests with long paths removed the records of others within half a minute.
#[tokio::test]
async fn refusals_of_one_agent_remove_no_records_of_another() {
    let rotation = "audit: { file_bytes_max: 65536, files_max: 2 }";
    let plan = denying().top(rotation).limit("refusal_records_per_minute_max: 5");
    let lab = plan.agent("other", "acme").start(origin()).await;
    assert_eq!(lab.ask_as("other", HOST, "GET /of-other").await.text(), "fine");
    let refused = async |path: &str| {
        let mut wire = lab.tunnel(HOST).await;
        for _ in 0..100 {
            wire.send(request_text(&format!("DELETE {path}"), HOST)).await;
            assert_eq!(wire.answer("DELETE").await.head.status(), 403);
        }
    };
    let long = format!("/{}", "x".repeat(15_700));
    tokio::join!(refused(&long), refused("/a"), refused("/b"));
    let metrics = lab.gateway.metrics().await;
    let counted = "keyward_refusals_total{code=\"denied\"} 300";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    let records = lab.finish().await;
    let of = |agent: &str| -> Vec<&Value> {
        records.iter().filter(|record| record["agent"] == agent).collect()
    };
    assert_eq!(of("other").len(), 1, "{records:?}");
    // The minute may end meanwhile.
    let (counts, own): (Vec<_>, Vec<_>) = of("ci").into_iter().partition(|it| it["count"].is_u64());
    let more: u64 = counts.iter().filter_map(|record| record["count"].as_u64()).sum();
    assert_eq!(more + own.len() as u64, 300, "{records:?}");
    assert!((5..=10).contains(&own.len()), "{records:?}");
    for record in counts {
        assert_eq!((&record["code"], &record["outcome"]), (&"denied".into(), &"refused".into()));
        let (time, until) = (record["time"].as_str(), record["until"].as_str());
        assert!(time.is_some() && time <= until, "{record}");
        assert_eq!((&record["path"], &record["method"]), (&Value::Null, &Value::Null));
    }
    for record in own {
        let path = record["path"].as_str().expect("a path");
        assert!(path.len() < 1200, "{path}");
        assert_eq!(path.len() > 100, path.contains("(15701 bytes, SHA-256 "), "{path}");
    }
}

/// Also one that is refused because the upstream closed its stream.
#[tokio::test]
async fn a_request_that_has_sent_a_credential_has_a_record_of_its_own() {
    let limit = "refusal_records_per_minute_max: 1";
    let closing = Origin::scripted(|mut stream| async move {
        stream.request().await;
    });
    let lab = Plan::api_key().limit(limit).start(closing).await;
    for _ in 0..3 {
        assert_eq!(lab.ask("POST /sent").await.head.status(), 502);
    }
    let records = lab.finish().await;
    assert_eq!(records.iter().filter(|record| record["path"] == "/sent").count(), 3, "{records:?}");
}

#[tokio::test]
async fn clients_that_have_not_authenticated_share_the_records_of_one_agent() {
    let limit = "refusal_records_per_minute_max: 2";
    let lab = denying().limit(limit).start(origin()).await;
    for _ in 0..6 {
        let mut wire = lab.client().await;
        wire.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 407);
    }
    assert_eq!(lab.ask("DELETE /a").await.head.status(), 403);
    let records = lab.finish().await;
    let of_agent = records.iter().filter(|record| record["agent"] == "ci").count();
    assert_eq!(of_agent, 1, "{records:?}");
    let counted: u64 = records.iter().filter_map(|record| record["count"].as_u64()).sum();
    let own = records.iter().filter(|record| record["count"].is_null()).count();
    assert_eq!(counted + own as u64, 7, "{records:?}");
    assert!(counted >= 2, "{records:?}");
}
