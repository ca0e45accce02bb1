//! `keyward session`: short-lived tokens with which an agent acts for one end user, or with named connections only.

use clap::{ArgGroup, Args, Subcommand};

use super::client::Client;
use super::derive::{Adding, MemberArgs};
use super::failure::Failure;
use super::output;
use super::resource::{Column, Columns, ResourceContext, details};
use super::settings::Global;
use super::terminal::table::moment;
use keyward_model::{Session, SessionIssued};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// make one and show its token once
    #[command(
        override_usage = "keyward session add [OPTIONS] --agent <NAME>",
        after_help = "In a session, the agent uses the connections of the end user: those at its user\n\
        providers (`keyward agent set A --user-provider github`) and those that are\n\
        bound to it. With --connection, it uses exactly the named ones. Its rules and\n\
        other hosts stay.\n\n\
        examples:\n  \
        keyward session add --agent support --user 'auth0|5f7c8ec7' --ttl 30m\n  \
        keyward session add --agent support --user 42 --connection github-of-42\n  \
        keyward session add --agent nightly --connection work-github --label report"
    )]
    Add(Add),
    /// list those that have not ended
    List {
        /// part of an id, a label, or the name of an agent or end user
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one, with the connections that it may use
    Show {
        /// the session's id
        id: String,
    },
    /// end one; open streams end
    Revoke {
        /// the session's id
        id: String,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("used").required(true).multiple(true).args(["user", "connection"])))]
pub(crate) struct Add {
    #[command(flatten)]
    members: MemberArgs<Session, Adding>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(add) => add.run(global, &asked.client).await,
            Self::List { q } => asked.list::<Session>(q.as_deref()).await,
            Self::Show { id } => asked.show::<Session>(&id).await,
            Self::Revoke { id } => asked.revoke::<Session>(id).await,
        }
    }
}

impl Add {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let made: SessionIssued = client.post("/api/v1/sessions", &self.members.body()?).await?;
        let proxy = global.proxy_at(client).await;
        // JSON has them as a member.
        for warning in made.warnings.iter().filter(|_| !global.json) {
            output::note(&format!("warning: {}", global.remedy(warning)));
        }
        output::show(global.json, &made, |SessionIssued { session, token, .. }| {
            let url = proxy.url(&session.facts.agent_name, token);
            format!(
                "{}\nits token, shown only now:\n  {token}\n\nfor the agent's program:\n  \
                 HTTPS_PROXY={url}\n",
                details(session)
            )
        })
    }
}

impl Columns for Session {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("ID", "id", |it| it.id.to_string()),
        Column::both("AGENT", "agent", |it| it.facts.agent_name.clone()),
        Column::both("USER", "end user", |it| it.facts.user_name.clone().unwrap_or_default()),
        Column::both("LABEL", "label", |it| it.label.clone().unwrap_or_default()),
        Column::shown("environment", |it| it.environment.clone().unwrap_or_default()),
        Column::shown("connections", |it| match it.facts.connection_names.as_slice() {
            [] => "none now".to_owned(),
            names => names.join(", "),
        }),
        Column::in_full("CREATED", |it| moment(it.created)),
        Column::time("EXPIRES", "expires", |it| Some(it.facts.expires)),
    ];

    const HINT: &str = ": make one with `keyward session add --agent NAME --user USER`";
}
