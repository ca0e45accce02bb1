//! `keyward connect-link`: links by which a person connects an account for a user, in a browser.

use clap::{Args, Subcommand};

use super::client::Client;
use super::derive::{Adding, MemberArgs};
use super::failure::Failure;
use super::output;
use super::resource::{Column, Columns, ResourceContext, details};
use super::settings::Global;
use super::terminal::table::moment;
use keyward_model::{ConnectSession, ConnectSessionIssued};

pub(crate) const EXAMPLES: &str = "\
examples:
  keyward connect-link --user 42 --provider github --provider slack
  keyward connect-link --user 42 --provider github \\
      --return-url https://app.example.com/connected
  keyward connect-link --connection github-of-42
  keyward connect-link list

The link works once, for 30 minutes, in the browser that opens it first. The
connection belongs to the user.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    new: MemberArgs<ConnectSession, Adding>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// list the links of the last day
    List {
        /// part of an id, a label, or the name of a user
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one, with its result
    Show {
        /// the connect session's id
        id: String,
    },
    /// end one: its link is no longer valid
    Revoke {
        /// the connect session's id
        id: String,
    },
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self.verb {
            None => make(&self.new, global, &asked.client).await,
            Some(Verb::List { q }) => asked.list::<ConnectSession>(q.as_deref()).await,
            Some(Verb::Show { id }) => asked.show::<ConnectSession>(&id).await,
            Some(Verb::Revoke { id }) => asked.revoke::<ConnectSession>(id).await,
        }
    }
}

async fn make(
    new: &MemberArgs<ConnectSession, Adding>,
    global: &Global,
    client: &Client,
) -> Result<(), Failure> {
    let made: ConnectSessionIssued = client.post("/api/v1/connect-sessions", &new.body()?).await?;
    let keyward = global.keyward();
    let gateway = match client.is_private() {
        true => format!("\n\nno gateway runs here; the link needs it: {keyward} serve"),
        false => String::new(),
    };
    output::show(global.json, &made, |ConnectSessionIssued { session, url }| {
        format!(
            "{}\nthe link, shown only now; it works once, for 30 minutes:\n  {url}\n\nits result: {keyward} \
                 connect-link show {}{gateway}\n",
            details(session),
            session.id
        )
    })
}

impl Columns for ConnectSession {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("ID", "id", |it| it.id.to_string()),
        Column::both("USER", "user", |it| it.facts.user_name.clone()),
        Column::both("STATE", "state", |it| output::word(&it.facts.state)),
        Column::both("LABEL", "label", |it| it.label.clone().unwrap_or_default()),
        Column::both("CONNECTION", "connection", |it| {
            it.facts.connected.as_ref().map_or_else(String::new, |made| made.name.clone())
        }),
        Column::shown("providers", |it| match (&it.providers, &it.connection) {
            (Some(providers), _) => providers.join(", "),
            (None, None) => "all".to_owned(),
            (None, Some(_)) => String::new(),
        }),
        Column::shown("made by", |it| match &it.facts.for_refusal {
            Some(refused) => format!("the gateway, for a request in session {}", refused.session),
            None => String::new(),
        }),
        Column::shown("reason", |it| it.facts.reason.clone().unwrap_or_default()),
        Column::shown("returns to", |it| it.return_url.clone().unwrap_or_default()),
        Column::in_full("CREATED", |it| moment(it.created)),
        Column::time("EXPIRES", "expires", |it| Some(it.facts.expires)),
    ];

    const MANY: &str = "links";

    const ONE: &str = "link";

    const HINT: &str = ": make one with `keyward connect-link --user USER --provider PROVIDER`";
}
