//! `keyward database-listener`: ports and sockets for sessions with databases, which are opened and closed while the
//! gateway runs.

use clap::{Args, Subcommand};

use super::client::Client;
use super::derive::{Adding, MemberArgs, SetArgs};
use super::failure::Failure;
use super::resource::{Column, Columns, Named, ResourceContext};
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::table::moment;
use keyward_model::{DatabaseListener, ListenerState, Shown};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// open one; prints what programs connect with
    #[command(
        after_help = "Only programs of this machine reach it. Agents give their tokens as the\n\
        password. `listen.databases` of the configuration file opens addresses for other\n\
        machines, with TLS.\n\n\
        examples:\n  \
        keyward database-listener add local --at 127.0.0.1:6432\n  \
        keyward database-listener add cache --at 127.0.0.1:6380 --connection cache \\\n      \
        --protocol redis\n  \
        keyward database-listener add ci --at unix:.s.PGSQL.5432 --agent ci"
    )]
    Add(Add),
    /// list them
    List {
        /// part of a name, id or protocol
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one: where it is open, or why it is not
    Show(Named),
    /// change one; its sessions end
    Set(SetArgs<DatabaseListener>),
    /// close one; its sessions end
    Remove(Removal),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// letters, digits, - _ .
    name: String,
    #[command(flatten)]
    members: MemberArgs<DatabaseListener, Adding>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(Add { name, members }) => {
                let mut new = members.body()?;
                new.insert("name".to_owned(), name.into());
                asked.add::<DatabaseListener, _>(&new, added).await
            }
            Self::List { q } => asked.list::<DatabaseListener>(q.as_deref()).await,
            Self::Show(Named { name }) => asked.show::<DatabaseListener>(&name).await,
            Self::Set(set) => asked.set::<DatabaseListener>(&set.name, &set.members.patch()?).await,
            Self::Remove(removal) => asked.remove::<DatabaseListener>(removal).await,
        }
    }
}

impl Columns for DatabaseListener {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |it| it.name().to_owned()),
        Column::shown("id", |it| it.id.to_string()),
        Column::both("AT", "at", place),
        Column::both("PROTOCOL", "protocol", |it| it.protocol.as_str().to_owned()),
        Column::shown("server version", |it| {
            it.server_version.as_ref().map(|own| own.as_str().to_owned()).unwrap_or_default()
        }),
        Column::both("CONNECTION", "connection", |it| {
            it.facts.connection_name.clone().unwrap_or_default()
        }),
        Column::both("AGENT", "agent", |it| it.facts.agent_name.clone().unwrap_or_default()),
        Column::both("STATE", "state", |it| it.facts.state.code().to_owned()),
        Column::both("PROBLEM", "problem", |it| it.facts.problem.clone().unwrap_or_default()),
        Column::shown("URL", |it| it.facts.url.clone().unwrap_or_default()),
        Column::shown("created", |it| moment(it.created)),
    ];

    const MANY: &str = "database listeners";

    fn losses(it: &Shown<Self>) -> Vec<String> {
        vec![format!("programs that connect to {} fail, and their sessions end", place(it))]
    }
}

/// Where it is open, or should be.
fn place(it: &Shown<DatabaseListener>) -> String {
    it.facts.open_at.clone().unwrap_or_else(|| it.at.to_string())
}

fn added(made: &Shown<DatabaseListener>) -> String {
    let (name, id, facts) = (made.name(), &made.id, &made.facts);
    let state = match (facts.state, &facts.problem) {
        (ListenerState::Failed, Some(problem)) => format!("it is not open: {problem}"),
        (ListenerState::Failed | ListenerState::Closed, _) => {
            "it opens when the gateway runs: `keyward serve`".to_owned()
        }
        (ListenerState::Open, _) => format!("it is open at {}", place(made)),
    };
    let url = facts.url.as_ref();
    let url = url.map(|url| format!("programs connect with:\n  {url}\n")).unwrap_or_default();
    format!("database listener {name} added ({id}); {state}\n{url}")
}
