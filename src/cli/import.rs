//! `keyward import`: finds keys in files of variables, the environment and the files of tools, connects their accounts,
//! and replaces the values in files of variables with placeholders.

mod aws;
mod candidate;
mod dotenv;
mod logins;
mod recognise;
mod source;
mod vaults;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use zeroize::Zeroizing;

use self::candidate::{ImportCandidate, SourceContent};
use self::recognise::{FoundAccount, RecognisedKeys, recognise};
use self::source::ImportPlace;
use super::client::{Client, segment};
use super::confirm::Confirm;
use super::connection::api_path::path;
use super::connection::options::New;
use super::connection::shape::Shapes;
use super::environment::DEFAULT_AGENT;
use super::failure::{Exit, Failure};
use super::replace_file::replace_file;
use super::settings::Global;
use super::{connect, output, secret};
use keyward_api::wire::{ConnectionMade, TestOutcome};
use keyward_model::{Agent, BindingShown, Connection, Shown};

pub(crate) const EXAMPLES: &str = "\
examples:
  keyward import --dry-run          # what .env has
  keyward import .env
  keyward import env aws gh --agent ci
  keyward import codex --agent codex
  keyward import onecli export.json
  keyward import agent-vault services.yaml credentials.json

In a file of variables and in Codex's auth.json, each imported value becomes a placeholder. The file as it was is
kept beside it, as FILE.keyward-backup.";

/// What is appended to the name of a file whose values are replaced.
const BACKUP: &str = ".keyward-backup";
/// The source without arguments.
const USUAL: &str = ".env";
/// The field of what is minted.
const MINTED: &str = "access_token";
/// What to do where the configuration file manages the agent.
const IN_ITS_USE: &str = "declare the connections there, or name another agent with --agent";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// env, aws, gh, gcloud, netrc, npm, pip, codex, onecli, agent-vault, or a file
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
    #[command(flatten)]
    confirm: Confirm,
}

/// A file whose values become placeholders, as it was read.
struct File {
    path: PathBuf,
    text: Zeroizing<String>,
    source: ImportPlace,
}

/// What was found and done, for `--json`.
#[derive(Debug, Serialize)]
struct ImportReport {
    accounts: Vec<AccountReport>,
    /// Values that look like keys, and were not imported.
    skipped: Vec<Skipped>,
    /// Files whose values are placeholders now; in a dry run, those whose values would be.
    replaced: Vec<String>,
}

#[derive(Debug, Serialize)]
struct AccountReport {
    name: String,
    provider: String,
    /// Its name, for people.
    #[serde(skip)]
    title: String,
    auth: String,
    /// Where its fields were found.
    places: Vec<String>,
    /// Absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<AccountResult>,
}

/// What became of an account.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum AccountResult {
    /// It is connected; with what the test found.
    Connected(String),
    /// It was not connected; with the reason.
    Refused(String),
}

#[derive(Debug, Serialize)]
struct Skipped {
    place: String,
    why: String,
}

/// Everything that was read and recognised.
struct Findings {
    candidates: Vec<ImportCandidate>,
    accounts: Vec<FoundAccount>,
    files: Vec<File>,
    report: ImportReport,
}

impl Findings {
    /// The files that get placeholders if all accounts are connected.
    fn replaceable(&self) -> Vec<String> {
        let places = self.accounts.iter().flat_map(|account| account.fields.values());
        let all: BTreeMap<_, _> = places.map(|(at, _)| (*at, String::new())).collect();
        let files = self.files.iter().filter(|file| file.with(&all, &self.candidates).is_some());
        files.map(|file| file.path.display().to_string()).collect()
    }
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let sources = self.read()?;
        let client = match self.dry_run {
            true => Client::for_providers(global).await?,
            false => Client::open_to_send(global).await?,
        };
        let mut findings = self.findings(&client, sources).await?;
        if self.dry_run && !self.keep_values {
            findings.report.replaced = findings.replaceable();
        }
        if self.dry_run || findings.accounts.is_empty() {
            return output::show(global.json, &findings.report, |report| {
                report.text(self.dry_run) + &self.next(report)
            });
        }
        client.can_store()?;
        let agent = connect::agent(&client, &self.agent, IN_ITS_USE).await?;
        self.ask(&findings.report)?;
        if agent.is_none() {
            let new = serde_json::json!({ "name": self.agent });
            client.post::<Shown<Agent>>("/api/v1/agents", &new).await?;
        }
        self.apply(&client, &mut findings).await?;
        let report = findings.report;
        let refused = report.accounts.iter().filter(|it| it.is_refused()).count();
        output::show(global.json, &report, |report| report.text(false) + &self.next(report))?;
        match refused {
            0 => Ok(()),
            _ => Err(Failure::new(Exit::Failed, format!("{refused} accounts were not connected"))
                .hint(
                    "correct their keys, or take them untested with --no-test; then import again",
                )),
        }
    }

    /// What to type next.
    fn next(&self, report: &ImportReport) -> String {
        let is_connected =
            |it: &AccountReport| matches!(it.result, Some(AccountResult::Connected(_)));
        match (report.accounts.iter().any(is_connected), report.accounts.is_empty()) {
            (true, _) => format!("\nrun your program: keyward run --agent {} -- CMD\n", self.agent),
            (false, false) if self.dry_run => {
                format!(
                    "import them for agent {}: the same command without --dry-run\n",
                    self.agent
                )
            }
            (false, _) => String::new(),
        }
    }

    /// Reads all sources before anything is sent.
    fn read(&self) -> Result<Vec<(ImportPlace, SourceContent)>, Failure> {
        let usual = [USUAL.to_owned()];
        let names = if self.sources.is_empty() { &usual[..] } else { &self.sources[..] };
        let sources = ImportPlace::parse_all(names.iter().map(String::as_str))?;
        sources.into_iter().map(|source| Ok((source.clone(), source.read()?))).collect()
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
                let path = match &source {
                    ImportPlace::File(path) => path.clone(),
                    tool => tool.file()?,
                };
                files.push(File { path, text, source });
            }
        }
        let RecognisedKeys { accounts, unknown } = recognise(&candidates, shapes.providers());
        skipped.extend(unknown.into_iter().map(|(at, why)| {
            let place = candidates[at].place.clone();
            Skipped { place, why }
        }));
        let taken = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await?.items;
        let mut taken: HashSet<String> = taken.into_iter().map(|one| one.spec.name).collect();
        let reports = accounts.iter().map(|account| {
            let places = account.fields.values().map(|(at, _)| candidates[*at].place.clone());
            AccountReport {
                name: name_of(account, &mut taken),
                provider: account.provider.clone(),
                title: account.title.clone(),
                auth: account.auth.clone(),
                places: places.collect(),
                result: None,
            }
        });
        let report = ImportReport { accounts: reports.collect(), skipped, replaced: Vec::new() };
        Ok(Findings { candidates, accounts, files, report })
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
        let lines: Vec<_> = report.accounts.iter().map(AccountReport::line).collect();
        let question = format!("connect these accounts for agent {}", self.agent);
        self.confirm.ask(question, &lines)
    }

    async fn apply(&self, client: &Client, findings: &mut Findings) -> Result<(), Failure> {
        let mut placeholders: BTreeMap<usize, String> = BTreeMap::new();
        for (account, report) in findings.accounts.iter().zip(&mut findings.report.accounts) {
            report.result = Some(match self.connected(client, account, &report.name).await {
                Ok((binding, found)) => {
                    placeholders.extend(account.fields.iter().filter_map(|(field, (at, _))| {
                        let own = binding.placeholders.get(field);
                        // What is minted of the field is sent in its place.
                        let sent = own.or_else(|| binding.placeholders.get(MINTED))?;
                        Some((*at, sent.clone()))
                    }));
                    AccountResult::Connected(found)
                }
                Err(failure) => AccountResult::Refused(failure.to_string()),
            });
        }
        if self.keep_values {
            return Ok(());
        }
        for file in &findings.files {
            if let Some(text) = file.with(&placeholders, &findings.candidates) {
                replace(&file.path, &file.text, &text)?;
                findings.report.replaced.push(file.path.display().to_string());
            }
        }
        Ok(())
    }

    /// Connects one account and binds it. A key that the provider refuses is not kept.
    async fn connected(
        &self,
        client: &Client,
        account: &FoundAccount,
        name: &str,
    ) -> Result<(BindingShown, String), Failure> {
        let fields =
            account.fields.iter().map(|(field, (_, value))| (field.clone(), value.clone()));
        let new = New {
            provider: account.provider.clone(),
            auth: account.auth.clone(),
            name: name.to_owned(),
            test: !self.no_test,
            fields: fields.collect(),
            ..New::default()
        };
        let made: ConnectionMade = client.post("/api/v1/connections", &new).await?;
        let id = made.connection.id.to_string();
        if let Some(test) = &made.test
            && test.outcome != TestOutcome::Ok
        {
            client.delete(&path(&id)).await?;
            return Err(Failure::new(Exit::Failed, test.message.clone()));
        }
        let at = format!("/api/v1/agents/{}/bindings", segment(&self.agent));
        let binding = client.post(&at, &serde_json::json!({ "connection": id })).await?;
        Ok((binding, made.test.map(|test| test.message).unwrap_or_default()))
    }
}

impl File {
    /// The text with placeholders of the candidates that are connected; `None` if there are none in it.
    fn with(
        &self,
        placeholders: &BTreeMap<usize, String>,
        candidates: &[ImportCandidate],
    ) -> Option<Zeroizing<String>> {
        let group = match self.source {
            ImportPlace::Codex => logins::CODEX.to_owned(),
            _ => self.path.display().to_string(),
        };
        let mut of_file =
            placeholders.iter().filter(|(index, _)| candidates[**index].group == group);
        if self.source == ImportPlace::Codex {
            return logins::codex_with(&self.text, of_file.next()?.1);
        }
        let places: Vec<_> = of_file
            .filter_map(|(index, placeholder)| {
                Some((candidates[*index].at.clone()?, placeholder.clone()))
            })
            .collect();
        (!places.is_empty()).then(|| dotenv::replaced(&self.text, &places))
    }
}

/// A name that no connection has: the provider, with the group where it is a profile.
fn name_of(account: &FoundAccount, taken: &mut HashSet<String>) -> String {
    let is_plain = |group: &str| group.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let base = match account.group.as_str() {
        "default" | "environment" | "gh" | "gcloud" | logins::CODEX => account.provider.clone(),
        profile if is_plain(profile) => format!("{}-{profile}", account.provider),
        _ => account.provider.clone(),
    };
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let free = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name));
    let name = free.unwrap_or(base);
    taken.insert(name.clone());
    name
}

/// Keeps the file as it was, and writes the other text in its place, with its mode.
fn replace(path: &Path, before: &str, after: &str) -> Result<(), Failure> {
    let mut backup = path.as_os_str().to_owned();
    backup.push(BACKUP);
    let backup = PathBuf::from(backup);
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::failed(&format!("cannot write {}", path.display()), error)
            .hint("the accounts are connected; the file is as it was")
    };
    // A link is followed, so that the file that it leads to is replaced.
    let target = path.canonicalize().map_err(|error| failed(path, &error))?;
    let mode =
        std::fs::metadata(&target).map_err(|error| failed(path, &error))?.permissions().mode();
    let written = create(&backup, before, 0o600);
    written.map_err(|error| failed(&backup, &error))?;
    replace_file(&target, after.as_bytes(), mode & 0o777).map_err(|error| failed(path, &error))
}

/// A new file: an earlier backup has keys that may be nowhere else.
fn create(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl AccountReport {
    fn is_refused(&self) -> bool {
        matches!(self.result, Some(AccountResult::Refused(_)))
    }

    /// `github: GitHub, from .env:3 GITHUB_TOKEN`.
    fn line(&self) -> String {
        format!("{}: {}, from {}", self.name, self.title, self.places.join(", "))
    }
}

impl ImportReport {
    fn text(&self, is_dry: bool) -> String {
        let mut text = String::new();
        for account in &self.accounts {
            let result = match &account.result {
                Some(AccountResult::Connected(found)) if found.is_empty() => {
                    "  connected".to_owned()
                }
                Some(AccountResult::Connected(found)) => format!("  {found}"),
                Some(AccountResult::Refused(why)) => format!("  not connected: {}", why.trim_end()),
                None => String::new(),
            };
            text += &format!("{}\n", account.line());
            if !result.is_empty() {
                text += &format!("{result}\n");
            }
        }
        if !self.skipped.is_empty() {
            text += "\nnot imported:\n";
        }
        let each: BTreeSet<_> = self.skipped.iter().map(|it| (&it.place, &it.why)).collect();
        for (place, why) in each {
            text += &format!("  {place}: {why}\n");
        }
        for file in &self.replaced {
            text += &match is_dry {
                true => format!("\n{file} would get placeholders, and {file}{BACKUP} the keys\n"),
                false => format!(
                    "\n{file} has placeholders now. {file}{BACKUP} has the keys: delete it when your programs work.\n"
                ),
            };
        }
        let has_some = !self.accounts.is_empty();
        match (has_some, is_dry, self.replaced.is_empty()) {
            (false, ..) => text += "no key of a known provider was found\n",
            (true, true, _) => text += "\nnothing was changed: this was a dry run\n",
            (true, false, true) => text += "\nthe keys stay where they were found as well\n",
            (true, false, false) => {}
        }
        text
    }
}
