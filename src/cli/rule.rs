//! `keyward rule`: the rules in force, and whether they do what is expected of them.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use super::table::{Cell, Layout, Table};
use crate::config::{self, PlacedCase};
use keyward_api::wire::{List, RuleTestAsk, RuleTestReport, RuleTested};
use keyward_model::RuleShown;
use keyward_rules::policy::explain::ActionKind;

/// Cases asked about at once.
const CASES: usize = 100;

/// No file of cases is as long as this.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// list rules, bindings and the default, in the order in which they decide
    List {
        /// part of a name
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// check what becomes of requests against a file of expectations
    #[command(after_help = "\
        FILE is a list of cases:\n  \
        - { agent: ci, request: \"DELETE https://api.github.com/repos/a/b\", expect: deny, rule: no-deletes }\n  \
        - { agent: ci, request: https://api.github.com/user, expect: inject, connection: work }\n  \
        - { agent: ci, request: https://example.com/, expect: deny, code: default_deny }\n\n\
        With --config, or where no gateway runs, the rules are those of the configuration file. It is\n\
        read without store, keys and secrets, so that this works anywhere.\n\n\
        exit code: 0 when all is as expected, 1 when not")]
    Test {
        /// the cases, in YAML
        file: PathBuf,
    },
}

/// What `test --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Where the rules are from.
    rules: String,
    passed: usize,
    failed: usize,
    cases: Vec<Shown>,
}

/// A case with its result.
#[derive(Debug, Serialize)]
struct Shown {
    place: String,
    agent: String,
    request: String,
    #[serde(flatten)]
    tested: RuleTested,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List { q } => {
                let client = Client::open(global).await?;
                let query: Vec<_> = q.as_deref().map(|q| ("q", q)).into_iter().collect();
                let all = client.list("/api/v1/rules", &query).await?;
                output::show(global.json, &all, |all: &List<RuleShown>| {
                    list(&all.items, &output::layout(global))
                })
            }
            Self::Test { file } => test(global, &file).await,
        }
    }
}

fn list(rules: &[RuleShown], layout: &Layout) -> String {
    let mut table = Table::new([
        "RULE",
        "ACTION",
        "AGENTS",
        "HOSTS",
        "METHODS",
        "PATHS",
        "CONNECTION",
        "WRITTEN IN",
    ]);
    let or_all = |texts: &[String]| match texts {
        [] => Cell::from("all"),
        texts => texts.into(),
    };
    for RuleShown { id, spec, place } in rules {
        table.row([
            name(id).into(),
            spec.action.map(ActionKind::as_str).unwrap_or_default().into(),
            or_all(spec.agents.as_deref().unwrap_or_default()),
            or_all(&spec.hosts),
            or_all(&spec.methods),
            or_all(&spec.paths),
            spec.use_connection.clone().unwrap_or_default().into(),
            place.as_deref().map(file_and_line).unwrap_or_default().into(),
        ]);
    }
    table.render("no rules", layout)
}

/// What people call it: its place when it has no name stands in another column.
fn name(id: &str) -> &str {
    match id.split_once(':') {
        Some(("file", name)) if name.contains(':') => "(no name)",
        Some(("file", name)) => name,
        Some(("binding", _)) => "binding",
        _ => id,
    }
}

/// `keyward.yaml:12` of a long path.
fn file_and_line(place: &str) -> &str {
    place.rsplit('/').next().unwrap_or(place)
}

async fn test(global: &Global, file: &Path) -> Result<(), Failure> {
    let cases = read(file)?;
    let (client, rules) = rules(global).await?;
    let mut results = Vec::with_capacity(cases.len());
    for some in cases.chunks(CASES) {
        let ask = RuleTestAsk { cases: some.iter().map(|placed| placed.case.clone()).collect() };
        let report: RuleTestReport = client.post("/api/v1/rules/test", &ask).await?;
        results.extend(report.results);
    }
    let report = Report::new(rules, cases, results);
    output::show(global.json, &report, |report| report.text(&output::layout(global)))?;
    match report.failed {
        0 => Ok(()),
        _ => Err(Failure::silent(Exit::Failed)),
    }
}

fn read(file: &Path) -> Result<Vec<PlacedCase>, Failure> {
    let name = file.display().to_string();
    let failed = |error: std::io::Error| Failure::failed(&name, &error);
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(Failure::new(Exit::Failed, format!("{name} is longer than 4 MiB")));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    config::rule_cases(&name, &text)
        .map_err(|problems| Failure::several(problems.iter().map(ToString::to_string).collect()))
}

/// Who knows the rules, and where they are from: what was named, else the running gateway, else the
/// file that a gateway would read.
async fn rules(global: &Global) -> Result<(Client, String), Failure> {
    if global.config.is_none() {
        match Client::running(global).await {
            Ok(client) => return Ok((client, "the running gateway".to_owned())),
            Err(failure) if failure.exit() != Exit::Unreachable => return Err(failure),
            Err(_) => {}
        }
    }
    let config = global.load()?;
    Ok((Client::of_file(&config).await?, config.file().display().to_string()))
}

impl Report {
    fn new(rules: String, cases: Vec<PlacedCase>, results: Vec<RuleTested>) -> Self {
        let shown = |(placed, tested): (PlacedCase, RuleTested)| {
            let PlacedCase { place, case } = placed;
            Shown { place, agent: case.agent, request: case.request, tested }
        };
        let cases: Vec<_> = cases.into_iter().zip(results).map(shown).collect();
        let passed = cases.iter().filter(|case| case.tested.passed).count();
        Self { rules, passed, failed: cases.len() - passed, cases }
    }

    fn text(&self, layout: &Layout) -> String {
        let mut table = Table::new(["RESULT", "CASE", "AGENT", "REQUEST", ""]);
        for case in &self.cases {
            let what = match case.tested.passed {
                true => became(&case.tested),
                false => case.tested.wrong.join("; "),
            };
            table.row([
                if case.tested.passed { "ok" } else { "FAILED" }.into(),
                case.place.clone().into(),
                case.agent.clone().into(),
                case.request.clone().into(),
                what.into(),
            ]);
        }
        let (passed, failed, rules) = (self.passed, self.failed, &self.rules);
        let table = table.render("no cases", layout);
        format!("{table}{passed} passed, {failed} failed, by the rules of {rules}\n")
    }
}

/// `inject (work) by gh-read`.
fn became(tested: &RuleTested) -> String {
    let Some(became) = &tested.became else { return String::new() };
    let what = became.connection.as_ref().or(became.code.as_ref());
    let what = what.map(|what| format!(" ({what})")).unwrap_or_default();
    let by = became.rule.as_ref().map(|rule| format!(" by {}", name(rule))).unwrap_or_default();
    format!("{}{what}{by}", became.action.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: serde_json::Value) -> RuleShown {
        let mut whole = serde_json::json!({
            "id": "default", "agents": null, "hosts": [], "methods": [], "paths": [],
            "action": "deny", "use": null, "allow_plaintext": false, "place": null,
        });
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn rules_are_listed_as_they_decide_with_where_they_are_written() {
        insta::assert_snapshot!(list(
            &[
                rule(serde_json::json!({
                    "id": "file:no-deletes", "hosts": ["api.github.com"], "methods": ["DELETE"],
                    "place": "/etc/keyward/keyward.yaml:12",
                })),
                rule(serde_json::json!({
                    "id": "file:/etc/keyward.yaml:20: rules[1]", "agents": ["ci", "dev"],
                    "hosts": ["*.a.test", "b.test:8443"], "paths": ["/v1/**"], "action": "inject",
                    "use": "work", "place": "/etc/keyward.yaml:20",
                })),
                rule(serde_json::json!({
                    "id": "binding:con_1", "agents": ["ci"], "hosts": ["api.github.com"],
                    "action": "inject", "use": "work",
                })),
                rule(serde_json::json!({})),
            ],
            &Layout::FULL
        ));
    }
}
