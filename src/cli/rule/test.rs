//! `keyward rule test`: compares the decisions on requests with those that a file expects.

use std::path::Path;

use serde::Serialize;

use super::words::written_name;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::read_text;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::table::{Table, TableLayout};
use keyward_api::wire::{RuleTestReport, RuleTestRequest, RuleTested};
use keyward_app::config::{self, PlacedCase};

/// Cases asked about at once.
const CASES: usize = 100;

/// No file of cases is as long as this.
const FILE_MIB_MAX: u64 = 4;

/// What `test --json` prints.
#[derive(Debug, Serialize)]
struct TestSummary {
    rules: String,
    passed: usize,
    failed: usize,
    cases: Vec<ShownCase>,
}

/// A case with its result.
#[derive(Debug, Serialize)]
struct ShownCase {
    place: String,
    agent: String,
    request: String,
    #[serde(flatten)]
    tested: RuleTested,
}

pub(super) async fn test(global: &Global, file: &Path) -> Result<(), Failure> {
    let cases = read(file)?;
    let (client, rules) = rules(global).await?;
    let mut results = Vec::with_capacity(cases.len());
    for some in cases.chunks(CASES) {
        let ask =
            RuleTestRequest { cases: some.iter().map(|placed| placed.case.clone()).collect() };
        let report: RuleTestReport = client.post("/api/v1/rules/test", &ask).await?;
        results.extend(report.results);
    }
    let report = TestSummary::new(rules, cases, results);
    output::show(global.json, &report, |report| report.text(&output::layout(global)))?;
    match report.failed {
        0 => Ok(()),
        _ => Err(Failure::silent(Exit::Failed)),
    }
}

fn read(file: &Path) -> Result<Vec<PlacedCase>, Failure> {
    let name = file.display().to_string();
    let text = read_text(file, FILE_MIB_MAX, &name)?;
    config::rule_cases(&name, &text).map_err(|problems| Failure::problems(&problems))
}

/// The client that evaluates the rules, and their origin: the named file, else the running gateway,
/// else the file that a gateway would read.
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

impl TestSummary {
    fn new(rules: String, cases: Vec<PlacedCase>, results: Vec<RuleTested>) -> Self {
        let shown = |(placed, tested): (PlacedCase, RuleTested)| {
            let PlacedCase { place, case } = placed;
            ShownCase { place, agent: case.agent, request: case.request, tested }
        };
        let cases: Vec<_> = cases.into_iter().zip(results).map(shown).collect();
        let passed = cases.iter().filter(|case| case.tested.passed).count();
        Self { rules, passed, failed: cases.len() - passed, cases }
    }

    fn text(&self, layout: &TableLayout) -> String {
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
    let by =
        became.rule.as_ref().map(|rule| format!(" by {}", written_name(rule))).unwrap_or_default();
    format!("{}{what}{by}", became.action.as_str())
}
