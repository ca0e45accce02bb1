//! `keyward hook`: URLs to which services post their webhooks, and the events that wait there. `listen.rs` gives each event
//! to a program.

mod listen;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::client::{Client, segment};
use super::derive::{Adding, MemberArgs, SetArgs};
use super::failure::Failure;
use super::output;
use super::resource::{Column, Columns, Named, ResourceContext, path};
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::secret::{Typed, can_ask};
use super::terminal::table::{Table, TableLayout, moment};
use keyward_api::wire::{HookCreated, HookEventView, HookScheme, HookSecret, List};
use keyward_model::{Hook, Shown};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// receive the webhooks of a service; prints the URL for the service
    #[command(
        after_help = "The service shows its signing secret where its webhook is set up. Without a\n\
        terminal, give it by --secret-stdin. Asana and Notion send it themselves. For\n\
        Meta, a verify token is printed beside the URL.\n\n\
        examples:\n  \
        keyward hook add ci --connection github --to http://127.0.0.1:9000/hooks\n  \
        keyward hook add payments --scheme stripe --secret-stdin < secret.txt\n  \
        keyward hook listen payments --exec ./handle-event"
    )]
    Add(Add),
    /// list them
    List {
        /// part of a name, id, URL or scheme
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one: its URL, what waits, the last delivery and refusal
    Show(Named),
    /// change one, pause or resume its deliveries
    Set(SetArgs<Hook>),
    /// set another secret of the service, or sign deliveries with another key
    #[command(
        after_help = "The previous secret or key is valid for one more day, unless --no-overlap is given."
    )]
    Rotate {
        /// name or id
        name: String,
        /// read the secret of the service from standard input
        #[arg(long)]
        secret_stdin: bool,
        /// end the previous one at once: others may have it
        #[arg(long)]
        no_overlap: bool,
    },
    /// print the secret that a service sent, to enter it there; until its first event
    #[command(
        after_help = "Notion sends its verification token when a webhook is set up, and sends events\n\
        after the token was entered there. The command is recorded in the audit log.\n\n\
        example:\n  \
        keyward hook reveal pages"
    )]
    Reveal(Named),
    /// remove one, with the events that wait
    Remove(Removal),
    /// list how services sign
    Schemes,
    /// list the events that wait, the oldest first
    Events {
        /// name or id
        name: String,
        /// those whose deliveries all failed
        #[arg(long)]
        dead: bool,
        /// those that were delivered and are kept, the newest first
        #[arg(long, conflicts_with = "dead")]
        delivered: bool,
        /// those after the event with this id
        #[arg(long, value_name = "EVENT")]
        after: Option<String>,
    },
    /// deliver an event again
    Resend {
        /// name or id
        name: String,
        /// the event's id
        event: String,
    },
    /// run a program for each event, in order; for agents that cannot be reached
    #[command(after_help = listen::HELP)]
    Listen(listen::ListenCommand),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("signed").required(true).multiple(true).args(["connection", "scheme"])))]
pub(crate) struct Add {
    /// letters, digits, - _ .
    name: String,
    #[command(flatten)]
    members: MemberArgs<Hook, Adding>,
    /// post nowhere: events wait for `keyward hook listen`; the default without --to
    #[arg(long, conflicts_with = "to")]
    queue: bool,
    /// read the secret of the service from standard input
    #[arg(long)]
    secret_stdin: bool,
    /// read the secret of the service from a file
    #[arg(long, value_name = "FILE", conflicts_with = "secret_stdin")]
    secret_file: Option<PathBuf>,
}

/// What is posted to make one.
#[derive(Serialize)]
struct New {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Typed>,
    #[serde(flatten)]
    members: Map<String, Value>,
}

#[derive(Serialize)]
struct NewSecret {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Typed>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_overlap: bool,
}

impl Command {
    /// Whether it runs a program of the user.
    pub(crate) fn has_program(&self) -> bool {
        matches!(self, Self::Listen(command) if command.has_program())
    }

    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if let Self::Listen(listen) = self {
            return listen.run(global).await;
        }
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(add) => {
                let new = add.read()?;
                let made = asked.add::<Hook, _>(&new, |made| added(made, "added")).await;
                made.map_err(|failure| new.with_options(failure))
            }
            Self::List { q } => asked.list::<Hook>(q.as_deref()).await,
            Self::Show(Named { name }) => asked.show::<Hook>(&name).await,
            Self::Set(SetArgs { name, members }) => {
                let mut patch = members.patch()?;
                if patch.contains_key("to") {
                    patch.insert("queue".to_owned(), Value::Null);
                }
                asked.set::<Hook>(&name, &patch).await
            }
            Self::Rotate { name, secret_stdin, no_overlap } => {
                let secret = secret_stdin.then(Typed::from_stdin).transpose()?;
                let what =
                    if secret.is_some() { "has another secret" } else { "signs with another key" };
                let at = format!("{}/rotate", path::<Hook>(&name));
                let new = NewSecret { secret, no_overlap };
                let made: HookCreated = asked.client.post(&at, &new).await?;
                output::show(global.json, &made, |made| added(made, what))
            }
            Self::Reveal(Named { name }) => {
                let at = format!("{}/reveal", path::<Hook>(&name));
                let shown: HookSecret = asked.client.post(&at, &json!({})).await?;
                output::show(global.json, &shown, |shown| format!("{}\n", shown.secret))
            }
            Self::Remove(removal) => asked.remove::<Hook>(removal).await,
            Self::Schemes => {
                let all: List<HookScheme> = asked.client.get("/api/v1/hook-schemes").await?;
                output::show(global.json, &all, |all| schemes(&all.items, &output::layout(global)))
            }
            Self::Events { name, dead, delivered, after } => {
                let after = after.map(|id| format!("&after={}", segment(&id))).unwrap_or_default();
                let which = format!("limit=100&dead={dead}&delivered={delivered}{after}");
                let at = format!("{}/events?{which}", path::<Hook>(&name));
                let all: List<HookEventView> = asked.client.get(&at).await?;
                output::show(global.json, &all, |all| events(all, &output::layout(global)))
            }
            Self::Resend { name, event } => {
                let at = format!("{}/events/{}/resend", path::<Hook>(&name), segment(&event));
                let sent: HookEventView = asked.client.post(&at, &json!({})).await?;
                output::show(global.json, &sent, |sent| {
                    format!("event {} is delivered again\n", sent.id)
                })
            }
            Self::Listen(_) => Ok(()),
        }
    }
}

impl Add {
    /// Asks for the secret on a terminal. A service that hands it over needs none: then an empty line is right.
    fn read(self) -> Result<New, Failure> {
        let secret = match &self.secret_file {
            Some(file) => Some(Typed::from_file(file)?),
            None if self.secret_stdin => Some(Typed::from_stdin()?),
            None if can_ask() => Typed::maybe_from_prompt(
                "signing secret of the service (not shown; Enter if it sends one)",
            )?,
            None => None,
        };
        Ok(New { members: self.members.body()?, name: self.name, secret })
    }
}

impl New {
    /// The failure, with the options that give a secret if it is missing.
    fn with_options(&self, failure: Failure) -> Failure {
        if self.secret.is_some() || !failure.has_field("secret") {
            return failure;
        }
        let own = failure.advice().map(|hint| format!("{hint}; ")).unwrap_or_default();
        failure.hint(format!("{own}give it with --secret-stdin or --secret-file FILE"))
    }
}

impl Columns for Hook {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |it| it.name().to_owned()),
        Column::shown("id", |it| it.id.to_string()),
        Column::shown("URL", |it| it.facts.url.clone()),
        Column::both("SIGNED BY", "signed by", |it| it.facts.signed_by.clone()),
        Column::shown("secret", secret_state),
        Column::shown("verify token", |it| it.facts.verify_token.clone().unwrap_or_default()),
        Column::both("TO", "to", |it| it.to.clone().unwrap_or_else(|| "queue".to_owned())),
        Column::both("STATE", "state", |it| {
            if it.facts.paused { "paused" } else { "active" }.to_owned()
        }),
        Column::both("WAITING", "waiting", |it| it.facts.waiting.to_string()),
        Column::both("DEAD", "dead", |it| it.facts.dead.to_string()),
        Column::shown("delivered and kept", |it| it.facts.delivered.to_string()),
        Column::shown("last delivery", |it| {
            let last = it.facts.last.as_ref();
            last.map(|last| format!("{}, {}", last.what, moment(last.at))).unwrap_or_default()
        }),
        Column::shown("last refusal", |it| {
            let last = it.facts.refused.as_ref();
            last.map(|last| format!("{}, {}", last.reason, moment(last.at))).unwrap_or_default()
        }),
        Column::shown("created", |it| moment(it.created)),
    ];
}

fn secret_state(hook: &Shown<Hook>) -> String {
    match (hook.facts.has_secret, hook.facts.can_reveal) {
        (_, true) => format!("enter it at the service: keyward hook reveal {}", hook.name()),
        (true, false) => "known".to_owned(),
        (false, false) => "missing".to_owned(),
    }
}

fn added(made: &HookCreated, what: &str) -> String {
    let Shown { id, facts, .. } = &made.hook;
    let name = made.hook.name();
    let mut text = format!("hook {name} {what} ({id})\nURL for the service:\n  {}\n", facts.url);
    if let Some(token) = &facts.verify_token {
        text += &format!("verify token for the service:\n  {token}\n");
    }
    if !facts.has_secret {
        text +=
            &format!("the service sends its secret to this URL; then: keyward hook show {name}\n");
    }
    if let Some(key) = &made.signing_key {
        text += &format!("\nsigning key of deliveries, shown only now:\n  {key}\n");
    }
    text
}

fn schemes(all: &[HookScheme], layout: &TableLayout) -> String {
    let mut table = Table::new(["SCHEME", "SERVICE", "SECRET"]);
    for scheme in all {
        let row = [&scheme.id, &scheme.name, &scheme.secret];
        table.row(row.map(|text| text.clone().into()));
    }
    table.render("no schemes", layout)
}

fn events(all: &List<HookEventView>, layout: &TableLayout) -> String {
    let mut table = Table::new(["ID", "RECEIVED", "STATE", "TRIES", "WHY"]);
    for event in &all.items {
        table.row([
            event.id.clone().into(),
            event.received.into(),
            event.state.clone().into(),
            event.tries.to_string().into(),
            event.why.clone().unwrap_or_default().into(),
        ]);
    }
    let next = all.next.as_ref().map(|id| format!("more: add --after {id}\n"));
    table.render("no events", layout) + &next.unwrap_or_default()
}
