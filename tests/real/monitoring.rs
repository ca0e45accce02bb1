//! The dashboard and the alert rules of `deploy/`: promtool accepts and tests them, and everything that they use exists
//! in the `/metrics` of a gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use test_support::*;

const RULES: &str = include_str!("../../deploy/prometheus/keyward.rules.yaml");
const RULES_TEST: &str = include_str!("../../deploy/prometheus/keyward.rules.test.yaml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/keyward.json");

/// Labels that Prometheus adds, or that the text of `/metrics` has in another form.
const OF_PROMETHEUS: [&str; 3] = ["job", "instance", "alertname"];

/// The metrics of a gateway, by the names of their samples: the values of each label.
struct Exposed(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

/// A use of a metric in an expression.
#[derive(Debug, Eq, PartialEq)]
struct Selector {
    name: String,
    /// Labels and the values that they must have.
    matchers: Vec<(String, Vec<String>)>,
}

impl Exposed {
    fn parse(text: &str) -> Self {
        let mut metrics: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let sample = line.split_once(' ').map_or(line, |(sample, _)| sample);
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let metric = metrics.entry(name.to_owned()).or_default();
            for (label, value) in matchers(labels.trim_end_matches('}')) {
                metric.entry(label).or_default().extend(value);
            }
        }
        Self(metrics)
    }

    /// What a query uses that no sample has. `labels`: those that its result must have.
    fn missing(&self, query: &str, labels: &[String]) -> Vec<String> {
        let selectors = selectors(query);
        let mut missing = Vec::new();
        for Selector { name, matchers } in &selectors {
            let Some(of_metric) = self.0.get(name) else {
                missing.push(name.clone());
                continue;
            };
            for (label, values) in matchers.iter().filter(|(label, _)| !is_of_prometheus(label)) {
                let known = of_metric.get(label);
                let unknown = values.iter().filter(|it| known.is_none_or(|all| !all.contains(*it)));
                missing.extend(unknown.map(|value| format!("{name}{{{label}=\"{value}\"}}")));
            }
        }
        let has = |label: &String| {
            let mut metrics = selectors.iter().filter_map(|it| self.0.get(&it.name));
            is_of_prometheus(label) || metrics.any(|metric| metric.contains_key(label))
        };
        missing.extend(labels.iter().filter(|label| !has(label)).cloned());
        missing
    }
}

fn is_of_prometheus(label: &str) -> bool {
    OF_PROMETHEUS.contains(&label)
}

/// The uses of `keyward_…` in an expression.
fn selectors(query: &str) -> Vec<Selector> {
    let uses = query.match_indices("keyward_").map(|(start, _)| {
        let rest = &query[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let braces = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = braces.map(|(inner, _)| matchers(inner).collect()).unwrap_or_default();
        Selector { name: rest[..end].to_owned(), matchers }
    });
    uses.collect()
}

/// `label="value", label=~"a|b"`.
fn matchers(text: &str) -> impl Iterator<Item = (String, Vec<String>)> + '_ {
    let mut quoted = text.split('"');
    std::iter::from_fn(move || {
        let label = quoted.next()?.trim_matches([',', ' ', '=', '~']).to_owned();
        let values = quoted.next()?.split('|').map(str::to_owned).collect();
        Some((label, values))
    })
}

/// The labels that a query groups by, and those that a text names as `before LABEL after`.
fn labels(query: &str, text: &str, [before, after]: [&str; 2]) -> Vec<String> {
    let between = |text: &str, [before, after]: [&str; 2]| {
        let parts = text.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0));
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let grouped = between(query, [" by (", ")"]);
    let grouped = grouped.iter().flat_map(|list| list.split(',')).map(|it| it.trim().to_owned());
    grouped.chain(between(text, [before, after])).collect()
}

/// A listener with a certificate, so that its expiry is a metric too.
async fn exposed() -> Exposed {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let cert = params.self_signed(&key).expect("a certificate").pem();
    let folder = tempfile::tempdir().expect("a folder");
    let [cert_at, key_at] = ["proxy.pem", "proxy.key"].map(|name| folder.path().join(name));
    fs::write(&cert_at, cert).expect("written");
    fs::write(&key_at, key.serialize_pem()).expect("written");
    fs::set_permissions(&key_at, fs::Permissions::from_mode(0o600)).expect("ours");
    let listener = format!(
        "[{{ at: \"127.0.0.1:0\", tls: {{ cert: {}, key: {} }} }}]",
        cert_at.display(),
        key_at.display()
    );
    let source = format!(
        "sources:\n  - {{ name: vault, file: {{ folder: '{}' }} }}",
        folder.path().display()
    );
    let plan = Plan::api_key().proxy(&listener).top(&source);
    let lab = plan.start(Origin::saying("fine")).await;
    // A source that gave no value yet has no age.
    lab.gateway.api("POST", "/sources/vault/test", r#"{"ref":"proxy.key"}"#).await.is(200);
    let exposed = Exposed::parse(&lab.gateway.metrics().await);
    lab.finish().await;
    exposed
}

fn promtool(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(folder).output().expect("tests/run installs promtool")
}

/// Both files in a folder.
fn rules_in(folder: &Path, rules: &str) -> PathBuf {
    fs::write(folder.join("keyward.rules.yaml"), rules).expect("written");
    let test = folder.join("keyward.rules.test.yaml");
    fs::write(&test, RULES_TEST).expect("written");
    test
}

/// The queries of the dashboard with the legends of their series.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let text = |target: &Value, key: &str| target[key].as_str().expect("text").to_owned();
    targets.map(|target| (text(target, "expr"), text(target, "legendFormat"))).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("JSON")
}

#[test]
fn a_renamed_metric_label_or_value_is_noticed() {
    let exposed = Exposed::parse("a 1\nkeyward_b_total{class=\"2xx\"} 1\nkeyward_c 0\n# EOF\n");
    let is_missing = |query: &str| exposed.missing(query, &labels(query, "", ["{{", "}}"]));
    for (query, missing) in [
        ("keyward_a", vec!["keyward_a"]),
        ("keyward_b", vec!["keyward_b"]),
        ("keyward_b_total{class=\"3xx\"}", vec!["keyward_b_total{class=\"3xx\"}"]),
        ("keyward_b_total{class=~\"2xx|9xx\"}", vec!["keyward_b_total{class=\"9xx\"}"]),
        ("keyward_c{class=\"2xx\"} > 0", vec!["keyward_c{class=\"2xx\"}"]),
        ("sum by (state) (keyward_b_total)", vec!["state"]),
        ("sum by (job, class) (keyward_b_total{job=\"x\", class=\"2xx\"})", vec![]),
        ("rate(keyward_b_total[5m]) / keyward_c", vec![]),
    ] {
        assert_eq!(is_missing(query), missing, "{query}");
    }
    assert_eq!(labels("", "{{ $labels.x }} of {{y}}", ["{{", "}}"]), [" $labels.x ", "y"]);
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_the_alerts_is_exposed_by_a_gateway() {
    let exposed = exposed().await;
    let mut missing = Vec::new();
    let queries = queries(&dashboard());
    assert!(queries.len() > 30, "{}", queries.len());
    for (query, legend) in &queries {
        missing.extend(exposed.missing(query, &labels(query, legend, ["{{", "}}"])));
    }
    let alerts: Vec<_> = RULES.split("- alert:").skip(1).collect();
    assert!(alerts.len() > 15, "{}", alerts.len());
    for alert in alerts {
        missing.extend(exposed.missing(alert, &labels(alert, alert, ["$labels.", " }}"])));
    }
    let in_tests = RULES_TEST.lines().filter(|line| line.contains("series:"));
    in_tests.for_each(|line| missing.extend(exposed.missing(line, &[])));
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn each_alert_fires_for_its_cause_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let test = rules_in(folder.path(), RULES);
    let test = test.to_str().expect("a path");
    let checked = promtool(&["check", "rules", "keyward.rules.yaml"], folder.path());
    assert!(checked.status.success(), "{checked:?}");
    let tested = promtool(&["test", "rules", test], folder.path());
    assert!(tested.status.success(), "{tested:?}");
    let tested = RULES.matches("- alert:").count();
    assert_eq!(RULES_TEST.matches("labels: '{alertname=").count(), tested, "an alert has no test");
    for (was, is) in
        [("\"broken\"} > 0", "\"broken\"} > 9"), ("14 * 86400", "1"), ("for: 2m", "for: 2h")]
    {
        assert!(RULES.contains(was), "{was}");
        rules_in(folder.path(), &RULES.replacen(was, is, 1));
        let broken = promtool(&["test", "rules", test], folder.path());
        assert!(!broken.status.success(), "{is}: {broken:?}");
    }
}

#[test]
fn the_dashboard_has_valid_queries_and_no_panel_covers_another() {
    let dashboard = dashboard();
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (query, _) in queries(&dashboard) {
        let query = query.replace("$__rate_interval", "5m").replace('\'', "''");
        rules += &format!("      - {{ record: 'dashboard:query', expr: '{query}' }}\n");
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("dashboard.yaml"), rules).expect("written");
    // Several rules of one name are only a warning.
    let checked = promtool(&["check", "rules", "--lint=none", "dashboard.yaml"], folder.path());
    assert!(checked.status.success(), "{checked:?}");
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{}: wider than the screen", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{}: covers another", panel["title"]);
            }
        }
    }
}
