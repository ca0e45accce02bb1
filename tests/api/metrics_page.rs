//! The page about metrics: it is generated from the registered metrics, their types, labels and help.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use keyward_state::observe::event::Event;
use keyward_state::observe::metrics::{Metrics, SourceSample};

use crate::generated_page::GeneratedPage;

const PAGE: GeneratedPage = GeneratedPage {
    file: "metrics.md",
    text: include_str!("../../docs/reference/metrics.md"),
    marks: ["<!-- made from the code: begin -->\n", "<!-- end -->\n"],
};

/// A family of the text.
#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    /// The label of its samples.
    label: String,
}

/// The families, by the name of their samples. A family without a sample is not in the text, so each has one.
fn families() -> BTreeMap<String, Family> {
    let metrics = Metrics::default();
    let refused: Event = serde_json::from_value(serde_json::json!({
        "v": 1, "seq": 1, "prev": "", "time": "2026-11-21T00:00:00Z", "exchange": "", "bytes_in": 0,
        "bytes_out": 0, "duration_ms": 0, "outcome": "refused", "code": "default_deny",
    }))
    .expect("a record");
    metrics.count(&refused);
    metrics.evicted("proxy");
    metrics.answered(200);
    metrics.waited(Duration::from_millis(1));
    metrics.reloaded(true, Timestamp::UNIX_EPOCH);
    metrics.refreshed("brought");
    metrics.refresh_failed("unresolved");
    metrics.count_event("connection.broken");
    metrics.count_webhook_delivery("taken");
    metrics.secrets_due(&Default::default());
    metrics.connections(|_| 0);
    metrics.hooks.refused("bad_signature");
    let (name, failing) = ("default/vault".to_owned(), Duration::ZERO);
    metrics.sources.set(std::iter::once(SourceSample { name, age: Some(failing), failing }));
    metrics.health.certificate_ends("proxy", Timestamp::UNIX_EPOCH);
    let text = metrics.render();
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and its help");
            found.entry(name.to_owned()).or_default().help = help.trim_end_matches('.').to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and its type");
            found.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let sample = line.split([' ', '{']).next().unwrap_or_default();
            let ending = ["_total", "_info", "_bucket", "_sum", "_count"];
            let name =
                ending.iter().find_map(|ending| sample.strip_suffix(ending)).unwrap_or(sample);
            let name = if found.contains_key(name) { name } else { sample };
            let label = line.split_once('{').and_then(|(_, rest)| rest.split_once('='));
            let family = found.get_mut(name).unwrap_or_else(|| panic!("{line}: no family"));
            family.label = label.map(|(label, _)| label.to_owned()).unwrap_or_default();
        }
    }
    let sampled = |(name, family): (String, Family)| match &*family.kind {
        "counter" => (format!("{name}_total"), family),
        _ => (name, family),
    };
    found.into_iter().map(sampled).collect()
}

fn table() -> String {
    let mut text = String::from("| metric | type | label | meaning |\n|---|---|---|---|\n");
    for (name, Family { help, kind, label }) in families() {
        let label = if label.is_empty() { label } else { format!("`{label}`") };
        let _ = writeln!(text, "| `{name}` | {kind} | {label} | {help} |");
    }
    text
}

#[test]
fn the_page_has_every_metric_and_nothing_else() {
    PAGE.check(&table());
}

/// Before the name of a metric, where it is registered.
const REGISTRATIONS: [&str; 6] = [
    "metric(registry, \"",
    "Unit::Seconds, \"",
    "Unit::Bytes, \"",
    "register(\"",
    "register_with_unit(\"",
    "let name = \"",
];

/// A registered metric without a sample in [`families`] would be missing on the page.
#[test]
fn every_registered_metric_has_a_sample_for_the_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/state/src/observe");
    let parts = std::fs::read_dir(folder.join("metrics")).expect("the metrics");
    let parts = parts.map(|part| part.expect("a file").path());
    let files = parts.chain([folder.join("metrics.rs")]);
    let source: String = files.map(|it| std::fs::read_to_string(it).expect("a source")).collect();
    let names: Vec<_> = families().into_keys().collect();
    let mut registered = 0;
    for before in REGISTRATIONS {
        for rest in source.split(before).skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            assert!(names.iter().any(|it| it.contains(name)), "{name} is not among {names:?}");
            registered += 1;
        }
    }
    assert!(registered > 40, "{registered}");
}

/// Documents name only metrics that exist.
#[test]
fn metrics_that_documents_name_exist() {
    let names: Vec<_> = families().into_keys().collect();
    for page in ["docs/guides/operations.md", "docs/guides/oauth.md", "docs/guides/webhooks.md"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = std::fs::read_to_string(file).expect("the page");
        for span in text.split('`').skip(1).step_by(2).filter(|it| it.starts_with("keyward_")) {
            let name = span.split('{').next().unwrap_or_default();
            assert!(names.iter().any(|it| it == name), "{page}: {name} is not among {names:?}");
        }
    }
}
