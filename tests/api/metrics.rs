//! Metrics over TCP: the listener that has nothing else, and the admin listener for a token.

use std::net::SocketAddr;

use serde_json::json;

use test_support::http2::{Offer, Reply};
use test_support::*;

/// Its listener has a port that the system chose.
fn plan() -> Plan {
    Plan::api_key().listen("metrics: \"127.0.0.1:0\"")
}

fn metrics_addr(lab: &Lab) -> SocketAddr {
    let at = lab.gateway.running().locations().metrics.clone();
    at.expect("a listener").parse().expect("an address")
}

/// Asks a TCP listener: the request line without version, and further fields.
async fn ask(at: SocketAddr, line: &str, fields: &str) -> Message {
    let mut wire = Wire::to(at).await;
    let method = line.split(' ').next().expect("a method");
    wire.send(format!("{line} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n")).await;
    wire.answer(method).await
}

async fn metrics(lab: &Lab) -> String {
    let at = metrics_addr(lab);
    let answer = ask(at, "GET /metrics", &format!("Host: {at}\r\n")).await.is(200);
    let kind = answer.head.one("content-type").expect("a type");
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    answer.text()
}

#[tokio::test]
async fn the_metrics_listener_has_no_path_but_metrics_and_probes_and_changes_nothing() {
    let lab = plan().start(Origin::saying("fine")).await;
    let at = metrics_addr(&lab);
    let host = format!("Host: {at}\r\n");
    for path in
        ["/", "/ca.pem", "/api/v1/status", "/readyz/", "/api/v1/agents", "/metrics/", "//metrics"]
    {
        assert_eq!(ask(at, &format!("GET {path}"), &host).await.head.status(), 404, "{path}");
    }
    for method in ["POST", "DELETE", "PUT"] {
        let answer = ask(at, &format!("{method} /metrics"), &host).await;
        assert_eq!(answer.head.status(), 405, "{method}");
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(ask(at, &format!("HEAD {path}"), &host).await.head.status(), 200, "{path}");
    }
    lab.finish().await;
}

/// A page of another site whose name points at loopback would read them.
#[tokio::test]
async fn a_foreign_name_for_loopback_gets_no_metrics() {
    let lab = plan().start(Origin::saying("fine")).await;
    let at = metrics_addr(&lab);
    for foreign in ["Host: evil.example\r\n", "Host: localhost.evil.example:9464\r\n", ""] {
        let answer = ask(at, "GET /metrics", foreign).await;
        assert_eq!(answer.head.status(), 421, "{foreign}: {}", answer.text());
    }
    ask(at, "GET /metrics", "Host: localhost\r\nHost: localhost\r\n").await.is(421);
    for own in ["Host: localhost:9464\r\n", "Host: 127.0.0.1\r\n"] {
        assert_eq!(ask(at, "GET /metrics", own).await.head.status(), 200, "{own}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn no_agent_reaches_the_metrics_through_the_proxy() {
    // A rule and the guard allow the address, but it is Keyward's own.
    let at = process::reserved_address();
    let lab = Plan::api_key()
        .listen(&format!("metrics: \"{at}\""))
        .rule(&format!("{{ name: own, hosts: [\"{at}\"], action: pass }}"))
        .allow(&at.to_string())
        .start(Origin::saying("fine"))
        .await;
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    let head = format!("GET http://{at}/metrics HTTP/1.1\r\nHost: {at}\r\n{authorization}\r\n");
    let answer = wire.ask(head).await.is(403);
    assert_eq!(answer.head.one("keyward-error"), Some("address_refused"));
    lab.finish().await;
}

#[tokio::test]
async fn answers_of_the_upstream_are_counted_by_class_and_their_time_is_a_histogram() {
    let lab = plan()
        .start(Origin::speaking(Offer::Both, |seen| match seen.head.target().contains("/no") {
            true => Reply { status: 401, ..Reply::ok("no") },
            false => Reply::ok("fine"),
        }))
        .await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 200);
    assert_eq!(lab.ask("GET /no").await.head.status(), 401);
    // Refused: no upstream answers.
    lab.connect(&format!("{STRANGER}:443")).await;
    let text = until_some("the records", async || {
        let text = metrics(&lab).await;
        text.contains("keyward_upstream_answer_seconds_count 2\n").then_some(text)
    })
    .await;
    for line in [
        "keyward_upstream_answers_total{class=\"2xx\"} 1\n",
        "keyward_upstream_answers_total{class=\"4xx\"} 1\n",
        "keyward_upstream_answers_total{class=\"5xx\"} 0\n",
        "keyward_config_last_reload_successful 1\n",
        "# UNIT keyward_upstream_answer_seconds seconds\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    for named in ["acme", "ci", HOST, STRANGER] {
        let is_named = |line: &str| line.split(['"', '{', '}', ',']).any(|word| word == named);
        assert!(!text.lines().any(is_named), "no label names what an agent or a person chose");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_refused_reload_is_seen_in_the_metrics_until_one_succeeds() {
    let lab = plan().start(Origin::saying("fine")).await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let good = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{good}\nnonsense: 1\n")).expect("a file");
    let errors = lab.gateway.running().reloads().reload().await.expect("it runs").errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    let text = metrics(&lab).await;
    assert!(text.contains("keyward_config_last_reload_successful 0\n"), "{text}");
    assert!(text.contains("keyward_config_reloads_total{result=\"failure\"} "), "{text}");
    std::fs::write(&file, good).expect("a file");
    let errors = lab.gateway.running().reloads().reload().await.expect("it runs").errors;
    assert!(errors.is_empty(), "{errors:?}");
    let text = metrics(&lab).await;
    assert!(text.contains("keyward_config_last_reload_successful 1\n"), "{text}");
    lab.finish().await;
}

#[tokio::test]
async fn the_admin_listener_has_metrics_only_for_a_token_that_reads_the_installation() {
    let lab = plan().start(Origin::saying("fine")).await;
    let at = lab.gateway.admin;
    let user = json!({"name": "ann", "role": "admin"}).to_string();
    lab.gateway.api("POST", "/users", &user).await.is(201);
    let token = async |scopes: &[&str]| {
        let asked = json!({"user": "ann", "scopes": scopes, "ttl": "1h"}).to_string();
        let made = lab.gateway.api("POST", "/tokens", &asked).await.is(201);
        made.json()["token"].as_str().expect("a token").to_owned()
    };
    let get = async |authorization: &str| {
        let fields = format!("Host: {at}\r\n{authorization}");
        ask(at, "GET /metrics", &fields).await
    };
    let (reads, agents) = (token(&["read"]).await, token(&["agents:read"]).await);
    for (authorization, status) in [
        (String::new(), 401),
        ("Authorization: Bearer kwp_nonsense\r\n".to_owned(), 401),
        (format!("Authorization: Basic {reads}\r\n"), 401),
        (format!("Authorization: Bearer {agents}\r\n"), 403),
    ] {
        let answer = get(&authorization).await;
        assert_eq!(answer.head.status(), status, "{authorization}");
        assert!(!answer.text().contains("keyward_"), "{}", answer.text());
    }
    let answer = get(&format!("Authorization: Bearer {reads}\r\n")).await.is(200);
    assert!(answer.text().contains("keyward_exchanges_total"), "{}", answer.text());
    let foreign = format!("Host: evil.example\r\nAuthorization: Bearer {reads}\r\n");
    assert_eq!(ask(at, "GET /metrics", &foreign).await.head.status(), 421);
    lab.finish().await;
}

/// A page of another site must not read them all the same.
#[tokio::test]
async fn the_admin_listener_has_open_metrics_only_if_the_configuration_says_so() {
    let closed = plan().top("telemetry: { metrics: token }").start(Origin::saying("fine")).await;
    let get = async |lab: &Lab, fields: &str| ask(lab.gateway.admin, "GET /metrics", fields).await;
    let own = |lab: &Lab| format!("Host: {}\r\n", lab.gateway.admin);
    assert_eq!(get(&closed, &own(&closed)).await.head.status(), 401);
    closed.finish().await;

    let open = plan().top("telemetry: { metrics: open }").start(Origin::saying("fine")).await;
    assert_eq!(get(&open, "Host: evil.example\r\n").await.head.status(), 421);
    let foreign = get(&open, &format!("{}Origin: http://evil.example\r\n", own(&open))).await;
    assert_eq!(foreign.head.one("access-control-allow-origin"), None);
    get(&open, &own(&open)).await.is(200).says("keyward_exchanges_total");
    let api = ask(open.gateway.admin, "GET /api/v1/status", &own(&open)).await;
    assert_eq!(api.head.status(), 401, "the API is not open");
    open.finish().await;
}

#[tokio::test]
async fn a_port_in_use_stops_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let at = taken.local_addr().expect("an address");
    let plan = Plan::api_key().listen(&format!("metrics: \"{at}\""));
    let error = plan.refused(&Origin::saying("fine")).await;
    assert!(error.contains(&format!("cannot listen on {at}")), "{error}");
}
