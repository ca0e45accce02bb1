//! `keyward honeytoken`: bait that raises an alarm when a program sends it.

use clap::Subcommand;

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::table::{Table, fields, moment};
use keyward_api::wire::List;
use keyward_model::{Honeytoken, HoneytokenSpec, ManagedBy, Shown};

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
        /// where it is left: letters, digits, - _ .
        name: String,
        /// in the shape of this provider's keys
        #[arg(long, value_name = "ID")]
        provider: Option<String>,
        /// revoke the token of the agent that sends it
        #[arg(long)]
        revoke: bool,
    },
    /// list them
    List {
        /// part of a name or id
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one, with its text
    Show {
        /// name or id
        name: String,
    },
    /// remove one: it raises no alarm any more
    Remove {
        /// name or id
        name: String,
    },
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        match self {
            Self::Add { name, provider, revoke } => {
                let new = HoneytokenSpec { name, provider, revokes: revoke };
                let made: Shown<Honeytoken> = client.post("/api/v1/honeytokens", &new).await?;
                output::show(global.json, &made, |made| {
                    let (name, text) = (made.name(), &made.facts.text);
                    format!("honeytoken {name}, to be left somewhere:\n  {text}\n")
                })
            }
            Self::List { q } => {
                let query: Vec<_> = q.as_deref().map(|q| ("q", q)).into_iter().collect();
                let all: List<Shown<Honeytoken>> =
                    client.list("/api/v1/honeytokens", &query).await?;
                output::show(global.json, &all, |all| list(&all.items))
            }
            Self::Show { name } => {
                let at = format!("/api/v1/honeytokens/{}", segment(&name));
                let one: Shown<Honeytoken> = client.get(&at).await?;
                output::show(global.json, &one, show)
            }
            Self::Remove { name } => {
                client.delete(&format!("/api/v1/honeytokens/{}", segment(&name))).await?;
                let text = format!("honeytoken {name} removed\n");
                output::removed(global.json, &[name], &text)
            }
        }
    }
}

/// Enough of a text to know it again: it is filled up to the length of its provider's keys.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

fn list(all: &[Shown<Honeytoken>]) -> String {
    let mut table = Table::new(["NAME", "TEXT", "REVOKES", "MANAGED BY", "CREATED"]);
    for one in all {
        table.row([
            one.name().to_owned(),
            shortened(&one.facts.text),
            revokes(one).to_owned(),
            managed_by(one).to_owned(),
            moment(one.created),
        ]);
    }
    table.render("no honeytokens", output::colours())
}

fn show(one: &Shown<Honeytoken>) -> String {
    fields(&[
        ("name", one.name().to_owned()),
        ("id", one.id.to_string()),
        ("text", one.facts.text.clone()),
        ("shape of", one.spec.provider.clone().unwrap_or_default()),
        ("revokes", revokes(one).to_owned()),
        ("managed by", managed_by(one).to_owned()),
        ("created", moment(one.created)),
    ])
}

fn revokes(one: &Shown<Honeytoken>) -> &'static str {
    if one.spec.revokes { "yes" } else { "no" }
}

fn managed_by(one: &Shown<Honeytoken>) -> &'static str {
    match one.managed_by {
        ManagedBy::File => "file",
        ManagedBy::Store => "store",
    }
}
