//! `keyward login-link`: a link that signs a user in once. `keyward login`: the browsers in which users are signed in.

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::resource::{Column, Columns, ResourceContext};
use super::settings::Global;
use super::table::moment;
use keyward_api::wire::{LoginLinkRequest, LoginLinkView};
use keyward_model::Login;

pub(crate) const EXAMPLES: &str = "\
The link signs in once, within 10 minutes. Anyone who has it can use it: open it
at once, or send it in private. Without --user it is for the only admin; if
there is no admin, the user `admin` is added.

examples:
  keyward login-link
  keyward login-link --user ann";

#[derive(Debug, Args)]
pub(crate) struct LoginLinkArgs {
    /// who signs in with it; default: the only admin, or the user of the token
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// list those that have not ended
    List {
        /// part of an id, of a user's name, browser or address
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// end one: its browser is signed out
    Revoke {
        /// the login's id
        id: String,
    },
}

impl LoginLinkArgs {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        // The link leads to a running gateway.
        let client = Client::running(global).await?;
        let ask = LoginLinkRequest { user: self.user };
        let link: LoginLinkView = client.post("/api/v1/login-links", &ask).await?;
        output::show(global.json, &link, link_text)
    }
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::List { q } => asked.list::<Login>(q.as_deref()).await,
            Self::Revoke { id } => asked.revoke::<Login>(id).await,
        }
    }
}

fn link_text(link: &LoginLinkView) -> String {
    let added = match link.added {
        true => format!("user {} added as admin\n", link.user),
        false => String::new(),
    };
    let user = &link.user;
    format!("{added}sign in as {user}, once and within 10 minutes:\n  {}\n", link.url)
}

impl Columns for Login {
    const COLUMNS: &[Column<Self>] = &[
        Column::listed("ID", |it| it.id.to_string()),
        Column::listed("USER", |it| it.facts.user_name.clone()),
        Column::listed("BROWSER", |it| {
            let current = if it.facts.current { " (this one)" } else { "" };
            format!("{}{current}", it.browser.as_deref().unwrap_or("unknown"))
        }),
        Column::listed("ADDRESS", |it| it.address.clone().unwrap_or_default()),
        Column::in_full("BY", |it| it.method.as_str().to_owned()),
        Column::in_full("CREATED", |it| moment(it.created)),
        Column::time("LAST USED", "last used", |it| Some(it.facts.last_used)),
        Column::time("ENDS UNUSED", "ends unused", |it| Some(it.facts.idle_until)),
        Column::in_full("EXPIRES", |it| moment(it.facts.expires)),
    ];

    const HINT: &str = ": `keyward login-link` prints a link to sign in with";
}
