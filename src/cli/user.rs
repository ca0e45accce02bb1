//! `keyward user`: people, and what they may do in their organisation.

mod means;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use serde_json::json;

use super::client::Client;
use super::derive::{Adding, MemberArgs, SetArgs};
use super::failure::Failure;
use super::output;
use super::personal;
use super::resource::{Column, Columns, Named, ResourceContext, details, path};
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::table::{TableLayout, moment};
use keyward_model::{Role, Shown, User};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add one; give them a token with `keyward token add`
    #[command(
        after_help = "roles: an admin may do everything in the organisation; a member has their own\n\
        agents and connections, and uses what is shared; an auditor reads everything; an\n\
        end_user is a customer of your platform, named by its own id, whose connections\n\
        agents use in sessions\n\n\
        examples:\n  \
        keyward user add ann --role admin --email ann@example.com\n  \
        keyward user add bob\n  \
        keyward token add bob --ttl 90d\n  \
        keyward user add 'auth0|5f7c8ec7' --role end_user"
    )]
    Add(Add),
    /// list them
    List {
        /// part of a name, id or address
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
        /// those with this role
        #[arg(long, value_parser = role())]
        role: Option<Role>,
    },
    /// show one, with their tokens
    Show(Named),
    /// change role or address, pause or resume
    #[command(
        after_help = "The tokens of a paused user and of their agents are not valid.\n\nexamples:\n  \
        keyward user set bob --role auditor\n  keyward user set bob --pause"
    )]
    Set(SetArgs<User>),
    /// set or remove the password that a user signs in to the console with
    #[command(after_help = means::PASSWORD_EXAMPLES)]
    Password(means::Password),
    /// require a one-time code beside the password (TOTP), or stop requiring it
    #[command(after_help = means::TOTP_EXAMPLES)]
    Totp(means::Totp),
    /// list the passkeys of a user, or remove them
    #[command(after_help = means::PASSKEYS_EXAMPLES)]
    Passkeys(means::Passkeys),
    /// remove one who owns nothing
    Remove(Removal),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// letters, digits, - _ . ; of an end user: your platform's id
    name: String,
    /// what they may do
    #[arg(long, value_parser = role(), default_value = "member")]
    role: Role,
    #[command(flatten)]
    members: MemberArgs<User, Adding>,
}

/// A role among the arguments.
fn role() -> impl TypedValueParser<Value = Role> {
    let words = [Role::Admin, Role::Member, Role::Auditor, Role::EndUser].map(Role::as_str);
    PossibleValuesParser::new(words).try_map(|word| serde_json::from_value(word.into()))
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(Add { name, role, members }) => {
                let mut new = members.body()?;
                new.extend([("name".to_owned(), json!(name)), ("role".to_owned(), json!(role))]);
                asked.add::<User, _>(&new, added).await
            }
            Self::List { q, role } => {
                let role = role.map(Role::as_str);
                asked.search::<User>(&[("q", q.as_deref()), ("role", role)]).await
            }
            Self::Show(Named { name }) => {
                let user = asked.client.get(&path::<User>(&name)).await?;
                output::show(global.json, &user, |user| show(user, &output::layout(global)))
            }
            Self::Set(set) => {
                let patch = set.members.patch()?;
                let user = asked.client.patch(&path::<User>(&set.name), &patch).await?;
                output::show(global.json, &user, |user| show(user, &output::layout(global)))
            }
            Self::Password(password) => password.run(global, &asked.client).await,
            Self::Totp(totp) => totp.run(global, &asked.client).await,
            Self::Passkeys(passkeys) => passkeys.run(global, &asked.client).await,
            Self::Remove(removal) => asked.remove::<User>(removal).await,
        }
    }
}

impl Columns for User {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |user| user.name().to_owned()),
        Column::shown("id", |user| user.id.to_string()),
        Column::both("ROLE", "role", |user| user.role.as_str().to_owned()),
        Column::both("E-MAIL", "e-mail", |user| user.email.clone().unwrap_or_default()),
        Column::listed("TOKENS", |user| user.facts.tokens.len().to_string()),
        Column::both("STATE", "state", |user| {
            if user.paused { "paused" } else { "active" }.to_owned()
        }),
        Column::shown("password", |user| {
            let sign_in = &user.facts.sign_in;
            match (sign_in.password, sign_in.totp) {
                (false, _) => "none",
                (true, false) => "set",
                (true, true) => "set, with one-time codes",
            }
            .to_owned()
        }),
        Column::shown("passkeys", |user| user.facts.sign_in.passkeys.len().to_string()),
        Column::shown("signs in at", |user| {
            user.facts.identity.as_ref().map(|at| at.issuer.clone()).unwrap_or_default()
        }),
        Column::shown("created", |user| moment(user.created)),
    ];

    fn losses(user: &Shown<Self>) -> Vec<String> {
        match user.facts.tokens.len() {
            0 => Vec::new(),
            count => vec![format!("personal tokens that end: {count}")],
        }
    }
}

fn added(user: &Shown<User>) -> String {
    format!("user {} added as {} ({})\n", user.name(), user.role.as_str(), user.id)
}

/// With the user's tokens.
fn show(user: &Shown<User>, layout: &TableLayout) -> String {
    format!("{}\n{}", details(user), personal::table(&user.facts.tokens, layout))
}
