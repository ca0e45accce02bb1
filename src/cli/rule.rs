//! `keyward rule`: the rules in force, changes of the stored ones, and whether rules do what is expected of them.

mod test;
mod words;
mod write;

pub(super) use write::{ACTIONS, is_methods};

use std::path::PathBuf;

use clap::Subcommand;

use super::client::Client;
use super::confirm::Removal;
use super::failure::Failure;
use super::output;
use super::resource::ResourceContext;
use super::resource::{Column, Columns, path};
use super::settings::Global;
use keyward_api::wire::List;
use keyward_model::{Rule, RuleShown};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add a rule; it is in force at once
    #[command(
        override_usage = "keyward rule add [OPTIONS] <ACTION> [METHOD[,METHOD]] <HOST[/PATH]>",
        after_help = "Rules are decided in order, and the first one that matches a request decides:\n\
        those of the configuration file, then the stored ones, then bindings, then the\n\
        default. A new rule is the last one of the stored rules unless a place is given.\n\n\
        examples:\n  \
        keyward rule add deny DELETE api.github.com --agent ci\n  \
        keyward rule add inject GET,HEAD 'api.github.com/repos/**' \\\n      \
        --use work --agent ci\n  \
        keyward rule add pass '*.docs.example' --name docs --first\n  \
        keyward rule add deny '*' --agent trial\n  \
        keyward rule add inject '*' --use work --agent ci --named-action clone \\\n      \
        --named-action push --branch 'agent/*'"
    )]
    Add(Box<write::Add>),
    /// list rules, bindings and the default, in the order in which they decide
    List {
        /// part of a name, host, agent or connection
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show a rule, and whether an earlier rule leaves it without effect
    Show {
        /// name or id
        rule: String,
    },
    /// change a stored rule
    #[command(after_help = "A list replaces the one before.\n\nexamples:\n  \
        keyward rule edit no-deletes --method DELETE --method PATCH\n  \
        keyward rule edit no-deletes --all-agents\n  \
        keyward rule edit no-deletes --name read-only")]
    Edit(Box<write::Edit>),
    /// move a stored rule before or after another one
    #[command(after_help = "examples:\n  \
        keyward rule move no-deletes --first\n  \
        keyward rule move no-deletes --before docs")]
    Move(write::Move),
    /// remove a stored rule
    Remove(Removal),
    /// test the rules with a file of requests and expected decisions
    #[command(after_help = "FILE is a list of cases:\n  \
        - { agent: ci, request: \"DELETE https://api.github.com/repos/a/b\",\n      \
        expect: deny, rule: no-deletes }\n  \
        - { agent: ci, request: https://api.github.com/user,\n      \
        expect: inject, connection: work }\n  \
        - { agent: ci, request: https://example.com/,\n      \
        expect: deny, code: default_deny }\n\n\
        With --config, or where no gateway runs, the rules are those of the\n\
        configuration file, without stored rules. It is read without store, keys and\n\
        secrets, so that this works anywhere.\n\n\
        exit code: 0 when all is as expected, 1 when not")]
    Test {
        /// the cases, in YAML
        file: PathBuf,
    },
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if let Self::Test { file } = self {
            return test::test(global, &file).await;
        }
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(add) => add.run(&asked).await,
            Self::List { q } => {
                let all = asked.client.list("/api/v1/rules", &[("q", q.as_deref())]).await?;
                output::show(global.json, &all, |all: &List<RuleShown>| {
                    words::table(&all.items, &output::layout(global))
                })
            }
            Self::Show { rule } => {
                let rule: RuleShown = asked.client.get(&path::<Rule>(rule)).await?;
                output::show(global.json, &rule, words::details)
            }
            Self::Edit(edit) => edit.run(&asked).await,
            Self::Move(place) => place.run(&asked).await,
            Self::Remove(removal) => remove(&asked, removal).await,
            Self::Test { .. } => Ok(()),
        }
    }
}

async fn remove(asked: &ResourceContext<'_>, removal: Removal) -> Result<(), Failure> {
    if removal.confirm.asks() {
        let rule: RuleShown = asked.client.get(&path::<Rule>(&removal.name)).await?;
        let lost = format!("{}; the rules after it decide", words::sentence(&rule));
        removal.confirm.ask(format!("remove rule {}", removal.name), &[lost])?;
    }
    asked.remove::<Rule>(removal.confirmed()).await
}

/// Lists have columns of their own, because they show bindings and the default as well.
impl Columns for Rule {
    const COLUMNS: &[Column<Self>] = &[];
}
