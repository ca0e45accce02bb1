//! `keyward source`: secret sources, where values of connections' fields are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::connection::secrets::file;
use super::failure::{Exit, Failure};
use super::output;
use super::resource::pair;
use super::resource::{Column, Columns, Named, ResourceContext, path};
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::secret::Typed;
use super::terminal::table::{Table, TableLayout};
use keyward_api::wire::{SourceTest, SourceTested};
use keyward_model::{Shown, Source, source_kinds};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add one that is asked over HTTPS
    #[command(
        after_help = "The kinds env, file, command and keychain read the gateway's own machine: only\n\
        the configuration file declares them, under `sources:`. Settings and credentials\n\
        of each kind: docs/guides/secret-sources.md\n\n\
        examples:\n  \
        keyward source add vault vault address=https://vault.example.com \\\n      \
        --credential-file token=token.txt\n  \
        keyward source add aws aws region=eu-west-1 \\\n      \
        --credential-env access_key_id=ID --credential-env secret_access_key=KEY\n  \
        keyward connection add openai --secret-from api_key=vault:apps/openai#key"
    )]
    Add(Add),
    /// list them
    List {
        /// part of a name, id or kind
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one: its connections, when a value was last fetched, failures
    Show(Named),
    /// fetch a value, or all that connections have there, without showing them
    Test {
        /// name or id
        name: String,
        /// what to fetch; default: all that connections have there
        reference: Option<String>,
    },
    /// change settings, or give other credentials
    Set(Set),
    /// remove one that no connection names
    Remove(Removal),
}

/// The kinds that can be added.
fn kinds() -> PossibleValuesParser {
    let kinds = source_kinds().iter().filter(|kind| kind.local.is_none());
    PossibleValuesParser::new(kinds.map(|kind| kind.id.as_str()))
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// letters, digits, - _ .
    name: String,
    /// what it is
    #[arg(value_parser = kinds())]
    kind: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// name or id
    name: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct Settings {
    /// settings of the kind, such as address=https://vault.example.com
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
    /// how long a value is used before it is fetched again, such as 5m
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// how long the last value is used while the source cannot be asked, such as 1h
    #[arg(long, value_name = "TIME")]
    keep: Option<String>,
    /// read a credential from a file; may be given several times
    #[arg(long = "credential-file", value_name = "NAME=PATH", value_parser = file)]
    files: Vec<(String, PathBuf)>,
    /// read a credential from an environment variable; several times
    #[arg(long = "credential-env", value_name = "NAME=VARIABLE", value_parser = pair)]
    variables: Vec<(String, String)>,
    /// read a credential from standard input
    #[arg(long = "credential-stdin", value_name = "NAME")]
    stdin: Option<String>,
}

/// The body of a request.
#[derive(Serialize)]
struct SourceBody {
    #[serde(flatten)]
    spec: Map<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    credentials: BTreeMap<String, Typed>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(Add { name, kind, settings }) => {
                let mut body = settings.body(&kind)?;
                body.spec.insert("name".to_owned(), name.into());
                // The refusal names the setting that is missing.
                body.spec.entry(kind).or_insert_with(|| json!({}));
                asked.add::<Source, Shown<Source>>(&body, added).await.map_err(with_setting)
            }
            Self::List { q } => asked.list::<Source>(q.as_deref()).await,
            Self::Show(Named { name }) => asked.show::<Source>(&name).await,
            Self::Test { name, reference } => test(&asked, &name, reference).await,
            Self::Set(Set { name, settings }) => {
                let now: Shown<Source> = asked.client.get(&path::<Source>(&name)).await?;
                let body = settings.body(&now.facts.kind)?;
                if body.spec.is_empty() && body.credentials.is_empty() {
                    return Err(Failure::usage("nothing to change")
                        .hint("name settings, --ttl, --keep or credentials"));
                }
                asked.set::<Source>(&name, &body).await
            }
            Self::Remove(removal) => asked.remove::<Source>(removal).await,
        }
    }
}

impl Settings {
    fn body(self, kind: &str) -> Result<SourceBody, Failure> {
        let mut spec = Map::new();
        let settings = self.settings.into_iter().map(|(key, value)| (key, json!(value)));
        let settings: Map<_, _> = settings.collect();
        if !settings.is_empty() {
            spec.insert(kind.to_owned(), settings.into());
        }
        for (key, value) in [("ttl", self.ttl), ("keep", self.keep)] {
            spec.extend(value.map(|value| (key.to_owned(), json!(value))));
        }
        let mut credentials = BTreeMap::new();
        for (name, file) in &self.files {
            credentials.insert(name.clone(), Typed::from_file(file)?);
        }
        for (name, variable) in &self.variables {
            credentials.insert(name.clone(), Typed::from_variable(variable)?);
        }
        if let Some(name) = self.stdin {
            credentials.insert(name, Typed::from_stdin()?);
        }
        Ok(SourceBody { spec, credentials })
    }
}

/// Names the argument that gives a missing setting.
fn with_setting(failure: Failure) -> Failure {
    let message = failure.message();
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(key) => failure.hint(format!("add {key}=VALUE")),
        None => failure,
    }
}

async fn test(
    asked: &ResourceContext<'_>,
    name: &str,
    reference: Option<String>,
) -> Result<(), Failure> {
    let at = format!("{}/test", path::<Source>(name));
    let tested: SourceTested = asked.client.post(&at, &SourceTest { reference }).await?;
    let layout = output::layout(asked.global);
    output::show(asked.global.json, &tested, |tested| table(tested, &layout))?;
    if tested.ok { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn table(tested: &SourceTested, layout: &TableLayout) -> String {
    let mut table = Table::new(["REFERENCE", "RESULT", "HINT"]);
    for it in &tested.tested {
        let result = it.error.clone().unwrap_or_else(|| "fetched".to_owned());
        let hint = it.hint.clone().unwrap_or_default();
        table.row([it.reference.clone().into(), result.into(), hint.into()]);
    }
    table.render("no values", layout)
}

fn added(made: &Shown<Source>) -> String {
    let (name, id) = (made.name(), &made.id);
    format!("source {name} added ({id})\nfetch a value: keyward source test {name} REFERENCE\n")
}

fn state(of: &Shown<Source>) -> String {
    match (&of.facts.failing, of.facts.fetched) {
        (Some(failing), _) => format!("fails since {:.0}", failing.since),
        (None, Some(_)) => "works".to_owned(),
        (None, None) => "not asked yet".to_owned(),
    }
}

/// The settings of its kind.
fn settings(of: &Shown<Source>) -> String {
    let spec = serde_json::to_value(&of.spec).unwrap_or_default();
    let Some(Value::Object(settings)) = spec.get(&of.facts.kind) else { return String::new() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let pairs = settings.iter().map(|(key, value)| format!("{key}={}", text(value)));
    pairs.collect::<Vec<_>>().join(" ")
}

impl Columns for Source {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |it| it.name().to_owned()),
        Column::shown("id", |it| it.id.to_string()),
        Column::both("KIND", "kind", |it| it.facts.kind.clone()),
        Column::shown("settings", settings),
        Column::shown("credentials", |it| it.facts.credentials.join(", ")),
        Column::shown("ttl", |it| keyward_model::in_days(it.spec.ttl())),
        Column::shown("keep", |it| keyward_model::in_days(it.spec.keep())),
        Column::both("STATE", "state", state),
        Column::shown("last failure", |it| {
            let failing = it.facts.failing.as_ref();
            failing.map(|it| format!("{} ({} in a row)", it.message, it.count)).unwrap_or_default()
        }),
        Column::time("FETCHED", "last fetched", |it| -> Option<Timestamp> { it.facts.fetched }),
        Column::shown("used until, if it fails", |it| {
            let kept = it.facts.kept_until.filter(|_| it.facts.failing.is_some());
            kept.map(super::terminal::table::moment).unwrap_or_default()
        }),
        Column::list("CONNECTIONS", |it| it.facts.connections.clone()),
        Column::shown("connections", |it| it.facts.connections.join(", ")),
        Column::shown("apps", |it| it.facts.apps.join(", ")),
        Column::both("MANAGED BY", "managed by", |it| it.managed_by().to_owned()),
        Column::shown("created", |it| super::terminal::table::moment(it.created)),
    ];
}
