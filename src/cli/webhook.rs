//! `keyward webhook`: who is told what happens. Signing keys are shown once, or read and never shown.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::secret::Typed;
use super::settings::Global;
use super::table::{Table, fields, moment};
use keyward_api::wire::{EventType, List, WebhookPatch, WebhookShown, WebhookTry, WebhookView};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// tell a URL what happens; its signing key is shown once
    #[command(after_help = "Requests are signed as Standard Webhooks says, so that its libraries \
        verify them.\n\nexamples:\n  \
        keyward webhook add https://example.com/hooks/keyward\n  \
        keyward webhook add https://example.com/k --name ops --event connection.broken\n  \
        keyward webhook add https://example.com/k --key-stdin < key.txt")]
    Add(Add),
    /// list them
    List {
        /// part of a name, id or URL
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one: what it is told of, what waits, how the last try went
    Show {
        /// name or id
        name: String,
    },
    /// change one, pause or resume it
    #[command(after_help = "examples:\n  \
        keyward webhook set ops --event connection.broken --event plugin.blocked\n  \
        keyward webhook set ops --all-events\n  keyward webhook set ops --resume")]
    Set(Set),
    /// post an event of type webhook.test now, and tell how it went
    Test {
        /// name or id
        name: String,
    },
    /// sign with another key; for a day the one before signs as well
    Rotate {
        /// name or id
        name: String,
        /// read the key, `whsec_...`, from standard input
        #[arg(long)]
        key_stdin: bool,
    },
    /// remove one, with what it has not been told yet
    Remove {
        /// name or id
        name: String,
    },
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
    /// a type of events; several times; default: all of them
    #[arg(long = "event", value_name = "TYPE")]
    events: Vec<String>,
    /// read the signing key, `whsec_...`, from standard input; default: a new one
    #[arg(long)]
    key_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// name or id
    name: String,
    /// another URL
    #[arg(long)]
    url: Option<String>,
    /// a type of events, instead of those before; several times
    #[arg(long = "event", value_name = "TYPE")]
    events: Vec<String>,
    /// tell it of everything
    #[arg(long, conflicts_with = "events")]
    all_events: bool,
    /// what happens from now on is not told
    #[arg(long)]
    pause: bool,
    /// end the pause, or try again with one that failed
    #[arg(long, conflicts_with = "pause")]
    resume: bool,
}

/// What is posted to make one.
#[derive(Serialize)]
struct New {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    url: String,
    events: Vec<String>,
    #[serde(flatten)]
    key: NewKey,
}

#[derive(Serialize)]
struct NewKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_key: Option<Typed>,
}

impl NewKey {
    fn read(stdin: bool) -> Result<Self, Failure> {
        Ok(Self { signing_key: stdin.then(Typed::from_stdin).transpose()? })
    }
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open_to_send(global).await?;
        match self {
            Self::Add(Add { url, name, events, key_stdin }) => {
                let new = New { name, url, events, key: NewKey::read(key_stdin)? };
                let made: WebhookShown = client.post("/api/v1/webhooks", &new).await?;
                output::show(global.json, &made, |made| shown(made, "added"))
            }
            Self::List { q } => {
                let query: Vec<_> = q.as_deref().map(|q| ("q", q)).into_iter().collect();
                let all: List<WebhookView> = client.list("/api/v1/webhooks", &query).await?;
                output::show(global.json, &all, |all| list(&all.items))
            }
            Self::Show { name } => {
                let hook: WebhookView = client.get(&path(&name)).await?;
                output::show(global.json, &hook, show)
            }
            Self::Set(set) => set.run(global, &client).await,
            Self::Test { name } => test(global, &client, &name).await,
            Self::Rotate { name, key_stdin } => {
                let at = format!("{}/rotate", path(&name));
                let made: WebhookShown = client.post(&at, &NewKey::read(key_stdin)?).await?;
                output::show(global.json, &made, |made| shown(made, "signs with another key"))
            }
            Self::Remove { name } => {
                client.delete(&path(&name)).await?;
                let text = format!("webhook {name} removed\n");
                output::removed(global.json, &[name], &text)
            }
            Self::Events => {
                let all: List<EventType> = client.get("/api/v1/events").await?;
                output::show(global.json, &all, |all| {
                    let mut table = Table::new(["TYPE", "WHEN", "TOLD TO"]);
                    for event in &all.items {
                        let told = event.webhooks.join(" ");
                        table.row([event.r#type.clone(), event.meaning.clone(), told]);
                    }
                    table.render("no events", output::colours())
                })
            }
        }
    }
}

impl Set {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let events = (self.all_events || !self.events.is_empty()).then_some(self.events);
        let paused = (self.pause || self.resume).then_some(self.pause);
        let patch = WebhookPatch { url: self.url, events, paused };
        if patch == WebhookPatch::default() {
            let failure = Failure::usage("nothing to change is given");
            return Err(failure.hint("name a --url or an --event, or --pause or --resume"));
        }
        let hook: WebhookView = client.patch(&path(&self.name), &patch).await?;
        output::show(global.json, &hook, show)
    }
}

/// Fails when the webhook did not take it.
async fn test(global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
    let at = format!("{}/test", path(name));
    let tried: WebhookTry = client.post(&at, &serde_json::json!({})).await?;
    output::show(global.json, &tried, |tried| {
        let taken = if tried.taken { "took the event" } else { "did not take the event" };
        format!("webhook {name} {taken}: {}\n", tried.what)
    })?;
    match tried.taken {
        true => Ok(()),
        false => Err(Failure::silent(super::failure::Exit::Failed)),
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/webhooks/{}", segment(name))
}

fn shown(made: &WebhookShown, what: &str) -> String {
    let WebhookView { name, id, .. } = &made.webhook;
    match &made.signing_key {
        None => format!("webhook {name} {what} ({id})\n"),
        Some(key) => {
            format!("webhook {name} {what} ({id})\nsigning key, shown only now:\n  {key}\n")
        }
    }
}

fn list(hooks: &[WebhookView]) -> String {
    let mut table = Table::new(["NAME", "URL", "EVENTS", "STATE", "WAITING", "LAST TRY"]);
    for hook in hooks {
        table.row([
            hook.name.clone(),
            hook.url.clone(),
            events(hook),
            hook.state.code().to_owned(),
            hook.waiting.to_string(),
            hook.last.as_ref().map(|last| last.what.clone()).unwrap_or_default(),
        ]);
    }
    table.render("no webhooks", output::colours())
}

fn events(hook: &WebhookView) -> String {
    let codes: Vec<_> = hook.events.iter().map(|kind| kind.code()).collect();
    if codes.is_empty() { "all".to_owned() } else { codes.join(" ") }
}

fn show(hook: &WebhookView) -> String {
    let last = hook.last.as_ref().map(|last| format!("{}, {}", last.what, moment(last.at)));
    fields(&[
        ("name", hook.name.clone()),
        ("id", hook.id.to_string()),
        ("URL", hook.url.clone()),
        ("events", events(hook)),
        ("state", hook.state.code().to_owned()),
        ("waiting", hook.waiting.to_string()),
        ("told", hook.told.to_string()),
        ("not told", hook.dropped.to_string()),
        ("last try", last.unwrap_or_default()),
        ("created", moment(hook.created)),
    ])
}
