//! `keyward user`: people, and what they may do in their organisation.

use clap::{Args, Subcommand, ValueEnum};

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::personal;
use super::settings::Global;
use super::table::{Table, fields, moment};
use keyward_api::wire::{List, NewUser, UserPatch, UserView};
use keyward_state::directory::Role;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add one; give them a token with `keyward token add`
    #[command(after_help = "roles: an admin may do everything in the organisation; a member has \
        their own agents and\nconnections, and uses what is shared; an auditor reads everything\n\n\
        examples:\n  keyward user add ann --role admin --email ann@example.com\n  \
        keyward user add bob\n  keyward token add bob --ttl 90d")]
    Add(Add),
    /// list them
    List {
        /// part of a name, id or address
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one, with their tokens
    Show {
        /// name or id
        name: String,
    },
    /// change role or address, pause or resume
    #[command(after_help = "The tokens and agents of who is paused open nothing.\n\nexamples:\n  \
        keyward user set bob --role auditor\n  keyward user set bob --pause")]
    Set(Set),
    /// remove one who owns nothing any more
    Remove {
        /// name or id
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// letters, digits, - _ .
    name: String,
    /// what they may do
    #[arg(long, value_enum, default_value = "member")]
    role: RoleWord,
    /// their e-mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// name or id
    name: String,
    /// what they may do
    #[arg(long, value_enum)]
    role: Option<RoleWord>,
    /// another e-mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// take the address away
    #[arg(long, conflicts_with = "email")]
    no_email: bool,
    /// their tokens and agents open nothing from now on
    #[arg(long)]
    pause: bool,
    /// end the pause
    #[arg(long, conflicts_with = "pause")]
    resume: bool,
}

/// A role among the arguments.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleWord {
    Admin,
    Member,
    Auditor,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Admin => Self::Admin,
            RoleWord::Member => Self::Member,
            RoleWord::Auditor => Self::Auditor,
        }
    }
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        match self {
            Self::Add(Add { name, role, email }) => {
                let new = NewUser { name, email, role: role.into() };
                let user: UserView = client.post("/api/v1/users", &new).await?;
                output::show(global.json, &user, |user| {
                    format!("user {} added as {} ({})\n", user.name, user.role.as_str(), user.id)
                })
            }
            Self::List { q } => {
                let query: Vec<_> = q.as_deref().map(|q| ("q", q)).into_iter().collect();
                let all: List<UserView> = client.list("/api/v1/users", &query).await?;
                output::show(global.json, &all, |all| list(&all.items))
            }
            Self::Show { name } => {
                let user: UserView = client.get(&path(&name)).await?;
                output::show(global.json, &user, show)
            }
            Self::Set(set) => set.run(global, &client).await,
            Self::Remove { name } => {
                client.delete(&path(&name)).await?;
                let text = format!("user {name} removed\n");
                output::removed(global.json, &[name], &text)
            }
        }
    }
}

impl Set {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let paused = (self.pause || self.resume).then_some(self.pause);
        let email = self.email.map(Some).or(self.no_email.then_some(None));
        let patch = UserPatch { email, role: self.role.map(Role::from), paused };
        if patch == UserPatch::default() {
            let failure = Failure::usage("nothing to change is given");
            return Err(failure.hint("name a --role or an --email, or --pause or --resume"));
        }
        let user: UserView = client.patch(&path(&self.name), &patch).await?;
        output::show(global.json, &user, show)
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/users/{}", segment(name))
}

fn list(users: &[UserView]) -> String {
    let mut table = Table::new(["NAME", "ROLE", "E-MAIL", "TOKENS", "STATE"]);
    for user in users {
        table.row([
            user.name.clone(),
            user.role.as_str().to_owned(),
            user.email.clone().unwrap_or_default(),
            user.tokens.len().to_string(),
            state(user).to_owned(),
        ]);
    }
    table.render("no users", output::colours())
}

fn show(user: &UserView) -> String {
    let told = fields(&[
        ("name", user.name.clone()),
        ("id", user.id.to_string()),
        ("role", user.role.as_str().to_owned()),
        ("e-mail", user.email.clone().unwrap_or_default()),
        ("state", state(user).to_owned()),
        ("created", moment(user.created)),
    ]);
    format!("{told}\n{}", personal::table(&user.tokens))
}

fn state(user: &UserView) -> &'static str {
    if user.paused { "paused" } else { "active" }
}
