//! `keyward import`: finds keys in files of variables, the environment and the files of tools, connects their accounts,
//! and replaces the values in files of variables with placeholders.

mod candidate;
mod dotenv;
mod files;
mod held;
mod known;
mod logins;
mod recognise;
mod report;
mod source;
mod tool_files;
mod vaults;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::candidate::{ImportCandidate, SourceContent};
use self::files::{File, replace};
use self::held::held_placeholders;
use self::known::{Existing, Relation, relations};
use self::recognise::{FoundAccount, FoundField, RecognisedKeys, recognise};
use self::report::{AccountReport, AccountResult, FoundAs, ImportReport, Skipped};
use self::source::{ImportPlace, known_sources};
use super::client::{Client, segment};
use super::connection::options::New;
use super::connection::rotate::RotateRequest;
use super::connection::shape::Shapes;
use super::connection::state::path;
use super::environment::DEFAULT_AGENT;
use super::failure::{Exit, Failure};
use super::settings::Global;
use super::terminal::confirm::Confirm;
use super::terminal::secret;
use super::{connect, output};
use keyward_api::wire::{ConnectionCreated, Rotated, TestOutcome};
use keyward_model::{Agent, BindingShown, Shown};

pub(crate) const EXAMPLES: &str = "\
examples:
  keyward import --dry-run          # what .env has
  keyward import .env
  keyward import env aws gh --agent ci
  keyward import .env --rotate      # connections get the changed values
  keyward import codex --agent codex
  keyward import onecli export.json
  keyward import agent-vault services.yaml credentials.json

In a file of variables, in .pypirc and in Codex's auth.json, each imported value
becomes a placeholder. The original file is kept beside it, in the folder
.keyward-backup, which git ignores. A value that is connected already is not
connected again.";

/// The source without arguments.
const USUAL: &str = ".env";
/// The field of what is minted.
const MINTED: &str = "access_token";
/// What to do about a value that its connection does not have.
const REMEDY_OF_CHANGE: &str = "--rotate stores the new values in these connections, and --another connects them as more accounts";
/// What to do where the configuration file manages the agent.
const IN_ITS_USE: &str = "declare the connections there, or name another agent with --agent";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// env, aws, gh, gcloud, netrc, npm, pip, pypirc, codex, onecli, agent-vault, FILE
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// show what was found, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// the agent that may use the accounts; created if it does not exist
    #[arg(long, default_value = DEFAULT_AGENT, value_name = "NAME")]
    pub(super) agent: String,
    /// do not test the keys at the providers
    #[arg(long)]
    no_test: bool,
    /// leave files as they are
    #[arg(long)]
    keep_values: bool,
    /// replace the secret of a connection whose value changed
    #[arg(long, conflicts_with = "another")]
    rotate: bool,
    /// connect a changed value as one more account
    #[arg(long)]
    another: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// Everything that was read and recognised.
struct Findings {
    candidates: Vec<ImportCandidate>,
    accounts: Vec<FoundAccount>,
    /// Of each account, in their order.
    relations: Vec<Relation>,
    files: Vec<File>,
    report: ImportReport,
}

impl Findings {
    /// The values that get placeholders if all accounts are connected, without those that stay `unchanged`.
    fn replaceable(&self, unchanged: bool) -> BTreeMap<usize, String> {
        let stays = |relation: &Relation| unchanged && matches!(relation, Relation::Changed(_));
        let accounts = self.accounts.iter().zip(&self.relations);
        let accounts = accounts.filter(|(_, relation)| !stays(relation));
        let places = accounts.flat_map(|(account, _)| account.places());
        places.map(|at| (at, String::new())).collect()
    }

    /// Whether there is a login of Codex, whose refresh token is spent by its import.
    fn has_login_of_codex(&self) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|it| it.group == logins::CODEX && it.provider == logins::CHATGPT)
    }
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let sources = self.read()?;
        let client = match self.dry_run {
            true => Client::open(global).await?,
            false => Client::open_to_add(global).await?,
        };
        let mut findings = self.findings(&client, sources).await?;
        if self.dry_run && !self.keep_values {
            let all = findings.replaceable(!self.rotate);
            for file in &findings.files {
                if file.with(&all, &findings.candidates).is_some() {
                    let has_keys = file.has_keys(&all, &findings.candidates);
                    findings.report.add_file(file.name(), has_keys);
                }
            }
        }
        if self.dry_run || findings.accounts.is_empty() {
            return output::show(global.json, &findings.report, |report| {
                report.text(self.dry_run) + &self.next(report)
            });
        }
        self.files_permit(&findings)?;
        let agent = connect::agent(&client, &self.agent, IN_ITS_USE).await?;
        self.ask(&findings.report)?;
        if agent.is_none() {
            let new = serde_json::json!({ "name": self.agent });
            client.post::<Shown<Agent>>("/api/v1/agents", &new).await?;
        }
        let applied = self.apply(&client, &mut findings).await;
        let report = findings.report;
        output::show(global.json, &report, |report| report.text(false) + &self.next(report))?;
        applied?;
        is_complete(&report)
    }

    /// What to type next.
    fn next(&self, report: &ImportReport) -> String {
        let mut text = String::new();
        if report.accounts.iter().any(AccountReport::is_usable) {
            text += &format!("\nrun your program: keyward run --agent {} -- CMD\n", self.agent);
        } else if self.dry_run && !report.accounts.is_empty() {
            text += &format!(
                "import them for agent {}: the same command without --dry-run\n",
                self.agent
            );
        }
        let has_changed = report.accounts.iter().any(|it| it.found == FoundAs::Changed);
        if self.dry_run && has_changed && !self.rotate {
            text += &format!("for values that changed: {REMEDY_OF_CHANGE}\n");
        }
        text
    }

    /// Reads all sources before anything is sent.
    fn read(&self) -> Result<Vec<(ImportPlace, SourceContent)>, Failure> {
        let usual = [USUAL.to_owned()];
        let names = if self.sources.is_empty() { &usual[..] } else { &self.sources[..] };
        let sources = ImportPlace::parse_all(names.iter().map(String::as_str))?;
        // Another failure has its own remedy.
        let is_absent = self.sources.is_empty() && !Path::new(USUAL).exists();
        let has_others = sources.len() > 1;
        let hinted = |failure: Failure, source: &ImportPlace| match (is_absent, has_others) {
            (true, _) => failure.hint(known_sources()),
            (false, true) => without(source, failure),
            (false, false) => failure,
        };
        let read = |source: ImportPlace| match source.read() {
            Ok(content) => Ok((source, content)),
            Err(failure) => Err(hinted(failure, &source)),
        };
        sources.into_iter().map(read).collect()
    }

    async fn findings(
        &self,
        client: &Client,
        sources: Vec<(ImportPlace, SourceContent)>,
    ) -> Result<Findings, Failure> {
        let shapes = Shapes::load(client).await?;
        let (mut candidates, mut files, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (source, read) in sources {
            candidates.extend(read.candidates);
            skipped.extend(read.unusable.into_iter().map(|(place, why)| Skipped { place, why }));
            if let Some(text) = read.text {
                files.push(File { path: source.file()?, text, source });
            }
        }
        let RecognisedKeys { mut accounts, unknown } = recognise(&candidates, shapes.providers());
        skipped.extend(unknown.into_iter().map(|(at, why)| {
            let place = candidates[at].place.clone();
            Skipped { place, why }
        }));
        let mut relations = relations(client, &accounts, &self.agent, self.another).await?;
        let held = held_placeholders(client, &candidates, shapes.providers(), &self.agent).await?;
        skipped.extend(held.skipped);
        for (account, relation) in held.accounts {
            accounts.push(account);
            relations.push(relation);
        }
        let reports = accounts.iter().zip(&relations);
        let report = ImportReport {
            accounts: reports.map(|(it, relation)| reported(it, relation, &candidates)).collect(),
            skipped,
            replaced: Vec::new(),
            switched: Vec::new(),
            left: Vec::new(),
            has_placeholders: candidates.iter().any(ImportCandidate::has_placeholder),
        };
        Ok(Findings { candidates, accounts, relations, files, report })
    }

    /// Whether the files can get placeholders. This is checked before anything is sent: the import spends a login
    /// of Codex, and a file must not keep it.
    fn files_permit(&self, findings: &Findings) -> Result<(), Failure> {
        if !self.keep_values {
            let all = findings.replaceable(!self.rotate);
            let has_keys = |file: &&File| file.has_keys(&all, &findings.candidates);
            return findings.files.iter().filter(has_keys).try_for_each(File::may_be_replaced);
        }
        match findings.has_login_of_codex() {
            true => Err(Failure::usage(
                "the import invalidates the login of Codex, so its file cannot stay as it is",
            )
            .hint("omit --keep-values")),
            false => Ok(()),
        }
    }

    /// Shows what will be stored, and asks.
    fn ask(&self, report: &ImportReport) -> Result<(), Failure> {
        if self.confirm.is_given() {
            return Ok(());
        }
        if !secret::can_ask() {
            return Err(Failure::usage("nothing is imported without a confirmation")
                .hint("look at `keyward import --dry-run`, then add --yes"));
        }
        let line = |it: &AccountReport| match it.outcome() {
            Some(outcome) if self.rotate && it.found == FoundAs::Changed => {
                format!("{}; {outcome}, which is replaced", it.line())
            }
            Some(outcome) => format!("{}; {outcome}", it.line()),
            None => it.line(),
        };
        let lines: Vec<_> = report.accounts.iter().map(line).collect();
        let question = format!("connect these accounts for agent {}", self.agent);
        self.confirm.ask(question, &lines)
    }

    async fn apply(&self, client: &Client, findings: &mut Findings) -> Result<(), Failure> {
        let mut placeholders: BTreeMap<usize, String> = BTreeMap::new();
        let found = findings.accounts.iter().zip(&findings.relations);
        for ((account, relation), report) in found.zip(&mut findings.report.accounts) {
            report.result = Some(match self.imported(client, account, relation).await {
                Ok((Some(binding), result)) => {
                    placeholders.extend(placeholders_of(account, &binding));
                    result
                }
                Ok((None, result)) => result,
                Err(failure) => AccountResult::Refused(reason(&failure)),
            });
        }
        if self.keep_values {
            return Ok(());
        }
        let keys = keys_of(&findings.accounts, &placeholders);
        let mut done = Ok(());
        for file in &findings.files {
            let Some(text) = file.with(&placeholders, &findings.candidates) else { continue };
            let has_keys = file.has_keys(&placeholders, &findings.candidates);
            match replace(&file.path, &file.text, &text, has_keys) {
                Ok(()) => {
                    findings.report.add_file(file.name(), has_keys);
                    findings.report.left.extend(file.lines_with(&text, &keys));
                }
                // The other files still get their placeholders.
                Err(failure) => done = done.and(Err(failure)),
            }
        }
        done
    }

    /// Connects one account, or finds its connection, and binds it.
    async fn imported(
        &self,
        client: &Client,
        account: &FoundAccount,
        relation: &Relation,
    ) -> Result<(Option<BindingShown>, AccountResult), Failure> {
        let (id, result) = match relation {
            Relation::New(name) => {
                let (id, found) = self.connected(client, account, name).await?;
                (id, AccountResult::Connected(found))
            }
            Relation::Same(existing) | Relation::Placeholder { existing, .. } => {
                (existing.id.clone(), AccountResult::Known)
            }
            Relation::Changed(_) if !self.rotate => return Ok((None, AccountResult::Unchanged)),
            Relation::Changed(existing) => {
                let found = self.rotated(client, account, existing).await?;
                (existing.id.clone(), AccountResult::Rotated(found))
            }
        };
        let at = format!("/api/v1/agents/{}/bindings", segment(&self.agent));
        let binding = client.post(&at, &serde_json::json!({ "connection": id })).await?;
        Ok((Some(binding), result))
    }

    /// Connects one account. A key that the provider refuses is not kept.
    async fn connected(
        &self,
        client: &Client,
        account: &FoundAccount,
        name: &str,
    ) -> Result<(String, String), Failure> {
        let new = New {
            provider: account.provider.clone(),
            auth: account.auth.clone(),
            name: name.to_owned(),
            test: !self.no_test,
            fields: account.values(),
            ..New::default()
        };
        let made: ConnectionCreated = client.post("/api/v1/connections", &new).await?;
        let id = made.connection.id.to_string();
        if let Some(test) = &made.test
            && test.outcome != TestOutcome::Ok
        {
            client.delete(&path(&id)).await?;
            let refused = Failure::new(Exit::Failed, test.message.trim_end());
            return Err(match remedy(test.outcome, account) {
                Some(remedy) => refused.hint(remedy),
                None => refused,
            });
        }
        Ok((id, made.test.map(|test| test.message).unwrap_or_default()))
    }

    /// Puts the values in force in the connection. A key that the provider refuses changes nothing.
    async fn rotated(
        &self,
        client: &Client,
        account: &FoundAccount,
        existing: &Existing,
    ) -> Result<String, Failure> {
        let new = RotateRequest {
            fields: account.values(),
            test: !self.no_test,
            ..RotateRequest::default()
        };
        let at = format!("{}/rotate", path(&existing.id));
        let done: Rotated = client.post(&at, &new).await?;
        Ok(done.test.map(|test| test.message).unwrap_or_default())
    }
}

/// The failure of one of several sources, with what to omit for the import of the others.
fn without(source: &ImportPlace, failure: Failure) -> Failure {
    let own = failure.advice().map(|hint| format!("{hint}; or ")).unwrap_or_default();
    failure.hint(format!("{own}omit `{}` to import from the others", source.words()))
}

/// What is known of an account before the import.
fn reported(
    account: &FoundAccount,
    relation: &Relation,
    candidates: &[ImportCandidate],
) -> AccountReport {
    let agent = match relation {
        Relation::Placeholder { agent, .. } => Some(agent.clone()),
        _ => None,
    };
    AccountReport {
        name: relation.name().to_owned(),
        provider: account.provider.clone(),
        title: account.title.clone(),
        auth: account.auth.clone(),
        found: FoundAs::from(relation),
        agent,
        places: account.places().map(|at| candidates[at].place.clone()).collect(),
        result: None,
    }
}

/// Whether each account is connected with the value that was found.
fn is_complete(report: &ImportReport) -> Result<(), Failure> {
    let count = |is_it: fn(&AccountReport) -> bool| {
        report.accounts.iter().filter(|account| is_it(account)).count()
    };
    let (refused, unchanged) =
        (count(AccountReport::is_refused), count(AccountReport::is_unchanged));
    match (refused, unchanged) {
        (0, 0) => Ok(()),
        (0, _) => {
            let message = format!("{unchanged} values differ from those of their connections");
            Err(Failure::new(Exit::Failed, message).hint(REMEDY_OF_CHANGE))
        }
        _ => Err(Failure::new(Exit::Failed, format!("{refused} accounts were not connected"))
            .hint("correct the cause of each, then import again")),
    }
}

/// The failure and its remedy, for the line of an account.
fn reason(failure: &Failure) -> String {
    let remedy = failure.advice().map(|advice| format!("; {advice}"));
    failure.message() + &remedy.unwrap_or_default()
}

/// What helps if a test did not accept the account. A key that was refused must not be taken untested.
fn remedy(outcome: TestOutcome, account: &FoundAccount) -> Option<&'static str> {
    use TestOutcome as O;
    match outcome {
        O::NoTest
        | O::RateLimited
        | O::ProviderDown
        | O::Unresolved
        | O::AddressRefused
        | O::Unreachable
        | O::TlsUntrusted
        | O::Timeout
        | O::ClockWrong => Some("--no-test stores it untested"),
        O::NotSent | O::WrongKey if account.provider == logins::CHATGPT => {
            Some("if its login was refused: run `codex login`, then import again")
        }
        _ => None,
    }
}

/// The keys that have placeholders now.
fn keys_of<'a>(
    accounts: &'a [FoundAccount],
    placeholders: &BTreeMap<usize, String>,
) -> BTreeSet<&'a str> {
    let has_placeholder =
        |field: &&FoundField| field.at.iter().any(|at| placeholders.contains_key(at));
    let fields = accounts.iter().flat_map(|account| account.fields.values());
    fields.filter(has_placeholder).filter_map(FoundField::key).collect()
}

/// The placeholder of each candidate of the account.
fn placeholders_of(account: &FoundAccount, binding: &BindingShown) -> BTreeMap<usize, String> {
    let mut all = BTreeMap::new();
    for (name, field) in &account.fields {
        let own = binding.placeholders.get(name);
        // What is minted of the field is sent in its place.
        if let Some(sent) = own.or_else(|| binding.placeholders.get(MINTED)) {
            all.extend(field.at.iter().map(|at| (*at, sent.clone())));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use keyward_api::wire::TestOutcome as O;

    use super::*;

    #[test]
    fn import_without_a_test_is_offered_only_if_the_test_got_no_answer() {
        let of = |provider: &str, outcome: O| {
            let (auth, title, group) = (String::new(), String::new(), String::new());
            let (provider, fields) = (provider.to_owned(), BTreeMap::new());
            let account = FoundAccount { provider, title, auth, group, fields };
            remedy(outcome, &account).unwrap_or_default()
        };
        for refused in [O::WrongKey, O::NotSent, O::MissingPermission, O::UnexpectedAnswer] {
            assert_eq!(of("aws", refused), "", "{refused:?}");
            assert!(!of(logins::CHATGPT, refused).contains("--no-test"), "{refused:?}");
        }
        for unanswered in [O::Unresolved, O::Unreachable, O::Timeout, O::NoTest] {
            assert!(of("aws", unanswered).contains("--no-test"), "{unanswered:?}");
        }
        assert!(of(logins::CHATGPT, O::NotSent).contains("codex login"));
    }

    #[test]
    fn the_line_of_a_refused_account_has_the_remedy_and_no_prefix() {
        let failure = Failure::new(Exit::Failed, "it was refused");
        assert_eq!(reason(&failure), "it was refused");
        assert_eq!(reason(&failure.hint("do this")), "it was refused; do this");
    }
}
