//! `keyward honeytoken`: bait that raises an alarm when a program sends it.

use clap::Subcommand;

use super::client::Client;
use super::derive::{Adding, MemberArgs};
use super::failure::Failure;
use super::resource::{Column, Columns, Named, ResourceContext};
use super::settings::Global;
use super::terminal::confirm::Removal;
use keyward_model::{Honeytoken, Shown};

/// Characters of a text in a list; `--json` tells all of it.
const TEXT_CHARS_SHOWN: usize = 40;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// make one: leave it where a program should not look
    #[command(
        after_help = "An agent that sends it raises honeytoken.used: in the audit log and at \
        webhooks.\n\nexamples:\n  keyward honeytoken add readme --provider openai\n  \
        keyward honeytoken add env-file --provider github --revoke"
    )]
    Add {
        /// its name, such as where it is left: letters, digits, - _ .
        name: String,
        #[command(flatten)]
        members: MemberArgs<Honeytoken, Adding>,
    },
    /// list them
    List {
        /// part of a name or id
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one, with its text
    Show(Named),
    /// remove one: it raises no alarm any more
    Remove(Removal),
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add { name, members } => {
                let mut new = members.body()?;
                new.insert("name".to_owned(), name.into());
                asked.add::<Honeytoken, Shown<Honeytoken>>(&new, added).await
            }
            Self::List { q } => asked.list::<Honeytoken>(q.as_deref()).await,
            Self::Show(Named { name }) => asked.show::<Honeytoken>(&name).await,
            Self::Remove(removal) => asked.remove::<Honeytoken>(removal).await,
        }
    }
}

impl Columns for Honeytoken {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |it| it.name().to_owned()),
        Column::shown("id", |it| it.id.to_string()),
        Column::listed("TEXT", |it| shortened(&it.facts.text)),
        Column::shown("text", |it| it.facts.text.clone()),
        Column::shown("shape of", |it| it.spec.provider.clone().unwrap_or_default()),
        Column::both("REVOKES", "revokes", |it| yes_or_no(it.spec.revokes).to_owned()),
        Column::both("MANAGED BY", "managed by", |it| it.managed_by().to_owned()),
        Column::time("CREATED", "created", |it| Some(it.created)),
    ];
}

fn added(made: &Shown<Honeytoken>) -> String {
    format!(
        "honeytoken {} added; leave it where a program should not look:\n  {}\n",
        made.name(),
        made.facts.text
    )
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Enough of a text to know it again: it is filled up to the length of its provider's keys.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
