//! `keyward rule`: the rules in force, changes of the stored ones, and whether rules do what is expected of them.

mod words;
mod write;

pub(super) use write::{ACTIONS, is_methods};

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::resource::ResourceContext;
use super::resource::{Column, Columns, path};
use super::settings::Global;
use super::terminal::confirm::Removal;
use crate::cli::failure::Exit;
use crate::cli::files::read_text;
use crate::cli::terminal::table::{Table, TableLayout};
use keyward_api::wire::{List, RuleTestReport, RuleTestRequest, RuleTested};
use keyward_app::config::{self, PlacedCase};
use keyward_model::{Rule, RuleShown};
use words::written_name;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add a rule; it is in force at once
    #[command(
        override_usage = "keyward rule add [OPTIONS] <ACTION> [METHOD[,METHOD]] <HOST[/PATH]>",
        after_help = "Rules are decided in order, and the first one that matches a request decides:\n\
        those of the configuration file, then the stored ones, then bindings, then the\n\
        default. A new rule is the last one of the stored rules unless a place is given.\n\n\
        examples:\n  \
        keyward rule add deny DELETE api.github.com --agent ci\n  \
        keyward rule add inject GET,HEAD 'api.github.com/repos/**' \\\n      \
        --use work --agent ci\n  \
        keyward rule add pass '*.docs.example' --name docs --first\n  \
        keyward rule add deny '*' --agent trial\n  \
        keyward rule add inject '*' --use work --agent ci --named-action clone \\\n      \
        --named-action push --branch 'agent/*'"
    )]
    Add(Box<write::Add>),
    /// list rules, bindings and the default, in the order in which they decide
    List {
        /// part of a name, host, agent or connection
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show a rule, and whether an earlier rule leaves it without effect
    Show {
        /// name or id
        rule: String,
    },
    /// change a stored rule
    #[command(after_help = "A list replaces the one before.\n\nexamples:\n  \
        keyward rule edit no-deletes --method DELETE --method PATCH\n  \
        keyward rule edit no-deletes --all-agents\n  \
        keyward rule edit no-deletes --name read-only")]
    Edit(Box<write::Edit>),
    /// move a stored rule before or after another one
    #[command(after_help = "examples:\n  \
        keyward rule move no-deletes --first\n  \
        keyward rule move no-deletes --before docs")]
    Move(write::Move),
    /// remove a stored rule
    Remove(Removal),
    /// test the rules with a file of requests and expected decisions
    #[command(after_help = "FILE is a list of cases:\n  \
        - { agent: ci, request: \"DELETE https://api.github.com/repos/a/b\",\n      \
        expect: deny, rule: no-deletes }\n  \
        - { agent: ci, request: https://api.github.com/user,\n      \
        expect: inject, connection: work }\n  \
        - { agent: ci, request: https://example.com/,\n      \
        expect: deny, code: default_deny }\n\n\
        With --config, or where no gateway runs, the rules are those of the\n\
        configuration file, without stored rules. It is read without store, keys and\n\
        secrets, so that this works anywhere.\n\n\
        exit code: 0 when all is as expected, 1 when not")]
    Test {
        /// the cases, in YAML
        file: PathBuf,
    },
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if let Self::Test { file } = self {
            return test(global, &file).await;
        }
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(add) => add.run(&asked).await,
            Self::List { q } => {
                let all = asked.client.list("/api/v1/rules", &[("q", q.as_deref())]).await?;
                output::show(global.json, &all, |all: &List<RuleShown>| {
                    words::table(&all.items, &output::layout(global))
                })
            }
            Self::Show { rule } => {
                let rule: RuleShown = asked.client.get(&path::<Rule>(rule)).await?;
                output::show(global.json, &rule, words::details)
            }
            Self::Edit(edit) => edit.run(&asked).await,
            Self::Move(place) => place.run(&asked).await,
            Self::Remove(removal) => remove(&asked, removal).await,
            Self::Test { .. } => Ok(()),
        }
    }
}

async fn remove(asked: &ResourceContext<'_>, removal: Removal) -> Result<(), Failure> {
    if removal.confirm.asks() {
        let rule: RuleShown = asked.client.get(&path::<Rule>(&removal.name)).await?;
        let lost = format!("{}; the rules after it decide", words::sentence(&rule));
        removal.confirm.ask(format!("remove rule {}", removal.name), &[lost])?;
    }
    asked.remove::<Rule>(removal.confirmed()).await
}

/// Lists have columns of their own, because they show bindings and the default as well.
impl Columns for Rule {
    const COLUMNS: &[Column<Self>] = &[];
}

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

async fn test(global: &Global, file: &Path) -> Result<(), Failure> {
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
    if global.config.is_none()
        && let Some(client) = Client::if_running(global).await?
    {
        return Ok((client, "the running gateway".to_owned()));
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
