//! `keyward webhook`: manages the receivers of events. Signing keys are shown once, or read and never shown.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};

use super::client::Client;
use super::derive::{Adding, MemberArgs, SetArgs};
use super::failure::Failure;
use super::output;
use super::resource::{Column, Columns, Named, ResourceContext, path};
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::secret::Typed;
use super::terminal::table::{Table, TableLayout, moment};
use keyward_api::wire::{EventType, List, WebhookCreated};
use keyward_model::{DeliveryAttempt, Shown, Webhook};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// report events to a URL; its signing key is shown once
    #[command(
        after_help = "Requests are signed as Standard Webhooks says, so that its libraries verify\n\
        them.\n\n\
        examples:\n  \
        keyward webhook add https://example.com/hooks/keyward\n  \
        keyward webhook add https://example.com/k --name ops --event connection.broken\n  \
        keyward webhook add https://example.com/k --key-stdin < key.txt"
    )]
    Add(Add),
    /// list them
    List {
        /// part of a name, id or URL
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one: its types of events, undelivered events, the last attempt
    Show(Named),
    /// change one, pause or resume it
    #[command(after_help = "examples:\n  \
        keyward webhook set ops --event connection.broken --event plugin.blocked\n  \
        keyward webhook set ops --all-events\n  keyward webhook set ops --resume")]
    Set(SetArgs<Webhook>),
    /// post an event of type webhook.test now, and print the result
    Test(Named),
    /// sign with another key; for a day the one before signs as well
    Rotate {
        /// name or id
        name: String,
        /// read the key, `whsec_...`, from standard input
        #[arg(long)]
        key_stdin: bool,
    },
    /// remove one, with its undelivered events
    Remove(Removal),
    /// list the types of events
    Events,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// where events are posted: https, or http on this machine
    url: String,
    /// letters, digits, - _ .; default: the URL's host
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    members: MemberArgs<Webhook, Adding>,
    /// read the signing key, `whsec_...`, from standard input; default: a new one
    #[arg(long)]
    key_stdin: bool,
}

/// What is posted to make one.
#[derive(Serialize)]
struct New {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    url: String,
    #[serde(flatten)]
    members: Map<String, Value>,
    #[serde(flatten)]
    key: SigningKeyRequest,
}

#[derive(Serialize)]
struct SigningKeyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_key: Option<Typed>,
}

impl SigningKeyRequest {
    fn read(stdin: bool) -> Result<Self, Failure> {
        Ok(Self { signing_key: stdin.then(Typed::from_stdin).transpose()? })
    }
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(Add { url, name, members, key_stdin }) => {
                let (members, key) = (members.body()?, SigningKeyRequest::read(key_stdin)?);
                let new = New { name, url, members, key };
                asked.add::<Webhook, _>(&new, |made| shown(made, "added")).await
            }
            Self::List { q } => asked.list::<Webhook>(q.as_deref()).await,
            Self::Show(Named { name }) => asked.show::<Webhook>(&name).await,
            Self::Set(set) => asked.set::<Webhook>(&set.name, &set.members.patch()?).await,
            Self::Test(Named { name }) => test(global, &asked.client, &name).await,
            Self::Rotate { name, key_stdin } => {
                let at = format!("{}/rotate", path::<Webhook>(&name));
                let made: WebhookCreated =
                    asked.client.post(&at, &SigningKeyRequest::read(key_stdin)?).await?;
                output::show(global.json, &made, |made| shown(made, "signs with another key"))
            }
            Self::Remove(removal) => asked.remove::<Webhook>(removal).await,
            Self::Events => {
                let all: List<EventType> = asked.client.get("/api/v1/events").await?;
                output::show(global.json, &all, |all| types(&all.items, &output::layout(global)))
            }
        }
    }
}

impl Columns for Webhook {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |it| it.name().to_owned()),
        Column::shown("id", |it| it.id.to_string()),
        Column::both("URL", "URL", |it| it.spec.url.clone()),
        Column::both("EVENTS", "events", events),
        Column::both("STATE", "state", |it| it.facts.state.code().to_owned()),
        Column::both("WAITING", "waiting", |it| it.facts.waiting.to_string()),
        Column::shown("accepted", |it| it.facts.told.to_string()),
        Column::shown("not delivered", |it| it.facts.dropped.to_string()),
        Column::listed("LAST TRY", |it| {
            it.facts.last.as_ref().map(|last| last.what.clone()).unwrap_or_default()
        }),
        Column::shown("last try", |it| {
            let last = it.facts.last.as_ref();
            last.map(|last| format!("{}, {}", last.what, moment(last.at))).unwrap_or_default()
        }),
        Column::shown("created", |it| moment(it.created)),
    ];
}

/// Fails when the webhook did not take it.
async fn test(global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
    let at = format!("{}/test", path::<Webhook>(name));
    let tried: DeliveryAttempt = client.post(&at, &serde_json::json!({})).await?;
    output::show(global.json, &tried, |tried| {
        let taken = if tried.taken { "accepted the event" } else { "did not accept the event" };
        format!("webhook {name} {taken}: {}\n", tried.what)
    })?;
    if tried.taken { Ok(()) } else { Err(Failure::silent(super::failure::Exit::Failed)) }
}

fn shown(made: &WebhookCreated, what: &str) -> String {
    let (name, id) = (made.webhook.name(), &made.webhook.id);
    match &made.signing_key {
        None => format!("webhook {name} {what} ({id})\n"),
        Some(key) => {
            format!("webhook {name} {what} ({id})\nsigning key, shown only now:\n  {key}\n")
        }
    }
}

fn types(all: &[EventType], layout: &TableLayout) -> String {
    let mut table = Table::new(["TYPE", "WHEN", "WEBHOOKS"]);
    for event in all {
        table.row([
            event.r#type.clone().into(),
            event.meaning.clone().into(),
            event.webhooks[..].into(),
        ]);
    }
    table.render("no events", layout)
}

fn events(hook: &Shown<Webhook>) -> String {
    let codes: Vec<_> = hook.spec.events.iter().map(|kind| kind.code()).collect();
    if codes.is_empty() { "all".to_owned() } else { codes.join(" ") }
}
