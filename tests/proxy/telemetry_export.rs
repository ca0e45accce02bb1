//! The export: what a collector that fails costs, how it is asked again, what is lost, and what a reload and a
//! shutdown do. Also the log, of the program itself.

use std::fs;

use test_support::canary::Canary;
use test_support::collector::{Collector, Item, SERVER, spans};
use test_support::hooks::status;
use test_support::process::Served;
use test_support::*;

/// Its requests need no credential, so each leaves two spans: its own and that of its attempt.
fn plan() -> Plan {
    Plan::api_key().rule(&format!("{{ name: open, hosts: [{STRANGER}], action: pass }}"))
}

async fn lab(collector: &Collector, more: &str) -> Lab {
    collector.reached(plan(), more).start(Origin::saying("fine")).await
}

async fn fine(lab: &Lab, path: &str) {
    let mut wire = lab.tunnel(STRANGER).await;
    assert_eq!(wire.ask(request_text(&format!("GET {path}"), STRANGER)).await.text(), "fine");
}

/// Waits until the metrics have a line.
async fn counted(lab: &Lab, line: &str) {
    until(line, async || {
        lab.gateway.metrics().await.contains(&format!("keyward_telemetry_{line}\n"))
    })
    .await;
}

#[tokio::test]
async fn a_silent_collector_blocks_no_request_and_dropped_spans_are_counted() {
    let mut collector = Collector::start().await;
    collector.answers(std::iter::repeat_n(String::new(), 99));
    let sizes = "max_queue_size: 16, max_export_batch_size: 2, timeout: 100ms";
    let lab = lab(&collector, sizes).await;
    fine(&lab, "/on-its-way").await;
    collector.origin.arrival().await;
    for _ in 0..8 {
        fine(&lab, "/queued").await;
    }
    for path in ["/dropped", "/dropped-too"] {
        fine(&lab, path).await;
    }
    counted(&lab, "dropped_total{signal=\"traces\"} 4").await;
    let records = lab.finish().await;
    assert_eq!(records.len(), 11, "the audit log has them all");
    let paths: Vec<_> = collector.spans().iter().filter_map(path).collect();
    assert!(paths.iter().all(|path| !path.contains("dropped")), "{paths:?}");
}

fn path(span: &Item) -> Option<String> {
    span.attributes.get("url.path").cloned()
}

#[tokio::test]
async fn an_unreachable_collector_blocks_no_request_and_status_shows_the_failure() {
    let collector = Collector::start().await;
    let section =
        collector.section("schedule_delay: 10ms, max_queue_size: 16, max_export_batch_size: 2");
    drop(collector);
    let lab = plan().top(&section).start(Origin::saying("fine")).await;
    for _ in 0..4 {
        fine(&lab, "/a").await;
    }
    let told = until_some("a failure", async || {
        let status = lab.gateway.api("GET", "/status", "").await.json();
        status["telemetry"]["failure"]["why"].is_string().then(|| status["telemetry"].clone())
    })
    .await;
    assert!(told["endpoint"].as_str().is_some_and(|at| at.starts_with("http://127.0.0.1:")));
    assert_eq!((&told["traces"], &told["logs"]), (&true.into(), &true.into()));
    lab.finish().await;
}

#[tokio::test]
async fn a_503_of_the_collector_is_retried_with_the_same_bytes_and_400_and_307_are_not() {
    let mut collector = Collector::start().await;
    let later = "HTTP/1.1 503 x\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_owned();
    collector.answers([later, status(200), status(400)]);
    let lab = lab(&collector, "").await;
    fine(&lab, "/again").await;
    let first = collector.origin.arrival().await;
    let second = collector.origin.arrival().await;
    assert_eq!(first.body, second.body);
    counted(&lab, "exported_total{signal=\"traces\"} 2").await;
    fine(&lab, "/refused").await;
    counted(&lab, "dropped_total{signal=\"traces\"} 2").await;
    let told = lab.gateway.api("GET", "/status", "").await.json();
    assert_eq!(told["telemetry"]["failure"]["why"], "answered 400");
    // Of two spans, it does not take one: `partial_success { rejected_spans: 1 }`.
    let partial = "HTTP/1.1 200 x\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x01".to_owned();
    collector.answers([partial]);
    fine(&lab, "/partial").await;
    counted(&lab, "exported_total{signal=\"traces\"} 3").await;
    counted(&lab, "dropped_total{signal=\"traces\"} 3").await;
    // A redirect could lead anywhere.
    collector.answers([
        "HTTP/1.1 307 x\r\nLocation: https://other.acme.test/\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
    ]);
    fine(&lab, "/redirected").await;
    counted(&lab, "dropped_total{signal=\"traces\"} 5").await;
    fine(&lab, "/last").await;
    counted(&lab, "exported_total{signal=\"traces\"} 5").await;
    let told = lab.gateway.api("GET", "/status", "").await.json();
    assert!(told["telemetry"].get("failure").is_none(), "{told}");
    lab.finish().await;
}

#[tokio::test]
async fn queued_spans_are_sent_at_shutdown() {
    let collector = Collector::start().await;
    let plan = plan().top(&collector.section("schedule_delay: 60s"));
    let lab = plan.start(Origin::saying("fine")).await;
    for _ in 0..3 {
        fine(&lab, "/a").await;
    }
    assert_eq!(collector.origin.received().len(), 0);
    lab.finish().await;
    assert_eq!(collector.origin.received().len(), 1, "in one request");
    assert_eq!(collector.spans().iter().filter(|span| span.kind == SERVER).count(), 3);
}

#[tokio::test]
async fn the_collector_s_header_fields_are_secrets_and_are_sent_to_the_collector_only() {
    let mut collector = Collector::secure().await;
    let key = Canary::new("otel-");
    let plan = plan().secret("COLLECTOR_KEY", &key);
    let plan = collector.reached(plan, "headers: { X-Otel-Key: { env: COLLECTOR_KEY } }");
    let lab = plan.start(Origin::saying("fine")).await;
    fine(&lab, "/a").await;
    let export = collector.origin.arrival().await;
    assert_eq!(export.head.all("x-otel-key"), [&*key.text]);
    assert_eq!(spans(&export).len(), 2);
    key.assert_absent("what the origin received", &lab.origin.bytes());
    lab.finish().await;
    let missing = Plan::api_key();
    let missing = collector.reached(missing, "headers: { X-Otel-Key: { env: UNSET } }");
    let refused = missing.refused(&Origin::saying("fine")).await;
    assert!(
        refused
            .contains("telemetry.otlp.headers.x-otel-key: environment variable UNSET is not set"),
        "{refused}"
    );
    assert!(refused.starts_with("keyward.yaml:") || refused.contains("keyward.yaml:"), "{refused}");
}

#[tokio::test]
async fn a_reload_enables_moves_and_disables_the_export() {
    let (mut first, mut second) = (Collector::start().await, Collector::start().await);
    let lab = plan().start(Origin::saying("fine")).await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let plain = fs::read_to_string(&file).expect("the configuration");
    let becomes = async |section: &str| {
        fs::write(&file, format!("{plain}{section}\n")).expect("a file");
        let view = patiently("reloading", lab.gateway.running().reloads().reload()).await;
        assert_eq!(view.expect("it runs").errors, [""; 0]);
    };
    fine(&lab, "/off").await;
    becomes(&first.section("schedule_delay: 60s")).await;
    fine(&lab, "/first").await;
    becomes(&second.section("schedule_delay: 10ms")).await;
    assert_eq!(spans(&first.origin.arrival().await)[0].attributes["url.path"], "/first");
    fine(&lab, "/second").await;
    assert_eq!(spans(&second.origin.arrival().await)[0].attributes["url.path"], "/second");
    becomes("").await;
    fine(&lab, "/off-again").await;
    lab.finish().await;
    assert_eq!((first.origin.received().len(), second.origin.received().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_the_program_is_exported_with_its_fields_and_without_secrets() {
    let collector = Collector::start().await;
    let origin = Origin::saying("fine");
    let token = Canary::new("kwa_");
    let plan = collector.reached(Plan::api_key(), "traces: false");
    let canary = plan.canary().clone();
    let mut served = Served::start(&plan, &origin, &[("TOKEN_CI", &*token.text)]);
    drop(served.tunnel(HOST, &token.text).await);
    assert_eq!(served.terminate(), Some(0));
    let bytes = collector.origin.bytes();
    canary.assert_absent("what the collector got", &bytes);
    token.assert_absent("what the collector got", &bytes);
    assert_eq!(collector.spans().len(), 0);
    let records = collector.records();
    let draining = records.iter().find(|record| record.name == "draining");
    let draining = draining.unwrap_or_else(|| panic!("{records:#?}"));
    assert_eq!((draining.level, &*draining.attributes["id"]), (9, "draining"));
    assert_eq!(draining.resource["service.name"], "keyward");
    assert!(draining.times.0 > 1_600_000_000_000_000_000);
    let output = served.output();
    for record in &records {
        assert!(output.contains(&record.name), "the log does not show it: {record:?}");
    }
}
