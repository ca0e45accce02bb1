//! `keyward login-link`: a link that signs a user in once. `keyward login` and `keyward whoami`: the browsers in
//! which users are signed in, and the identity of commands.

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::resource::{Column, Columns, ResourceContext};
use super::settings::Global;
use super::terminal::table::{fields, moment};
use keyward_api::wire::{CallerView, LoginLinkRequest, LoginLinkView};
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

/// Prints the caller.
pub(super) async fn am_i(global: &Global) -> Result<(), Failure> {
    let client = Client::open(global).await?;
    let caller: CallerView = client.get("/api/v1/caller").await?;
    let status = client.status().await;
    output::show(global.json, &caller, |caller| {
        let user = match &caller.user {
            Some(user) => user.clone(),
            None => "the operator: the user that owns the data directory, or root".to_owned(),
        };
        let gateway = match &status {
            Some(status) => format!("{} (admin {})", status.proxy.join(", "), status.admin),
            None if client.host().is_some() => {
                "elsewhere; this token may not read its status".to_owned()
            }
            None => "none runs: commands open the store themselves".to_owned(),
        };
        fields(&[
            ("user", user),
            ("role", caller.role.clone().unwrap_or_default()),
            ("scopes", caller.scopes.join(", ")),
            ("organisation", caller.org.clone()),
            ("gateway", gateway),
        ])
    })
}

/// Commands need no login; says what leads on.
pub(super) fn login(global: &Global) -> Result<(), Failure> {
    let keyward = global.keyward();
    output::print(&format!(
        "Commands on this machine need no login: the gateway recognises your user id.\n\n\
         connect an account for an agent:  {keyward} connect\n\
         act as another user:              {keyward} token add USER\n\
         \u{20}                                 KEYWARD_TOKEN=kwp_... {keyward} whoami\n\
         see who you are:                  {keyward} whoami\n\
         sign in to the console:           {keyward} login-link\n\
         see who is signed in:             {keyward} login list\n\n\
         For a gateway elsewhere, commands take its URL and a token from the environment:\n\n\
         use it:                           export KEYWARD_URL=https://keyward.example.com\n\
         \u{20}                                 export KEYWARD_TOKEN=kwp_...\n"
    ))
}
