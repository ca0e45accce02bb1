//! [`NamesOfKind`]: the kinds of names that an argument accepts, and their sources. Names that do not arrive in time
//! are not offered.

use std::time::Duration;

use clap::Arg;
use serde::Deserialize;

use crate::cli::client::{Client, segment};
use crate::cli::rule::ACTIONS;
use crate::cli::settings::Global;
use keyward_api::wire::List;
use keyward_base::codes::Code;
use keyward_model::NoticeKind;
use keyward_rules::provider::{Catalogue, CatalogueEntry};

/// A person waits for the completion.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// The resources of a kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NamesOfKind {
    /// The last word of their path in the API.
    path: &'static str,
    word: OfferedWord,
}

/// What of a resource is offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OfferedWord {
    Name,
    /// The names of these resources are not unique, or they have none.
    Id,
    /// The name, unless the file manages it.
    StoredName,
}

const fn names(path: &'static str) -> NamesOfKind {
    NamesOfKind { path, word: OfferedWord::Name }
}

const fn ids(path: &'static str) -> NamesOfKind {
    NamesOfKind { path, word: OfferedWord::Id }
}

/// The kinds, by the word of commands, options and values for one resource.
const KINDS: &[(&str, NamesOfKind)] = &[
    ("agent", names("agents")),
    ("app", names("apps")),
    ("connect-link", ids("connect-sessions")),
    ("connection", names("connections")),
    ("database-listener", names("database-listeners")),
    ("honeytoken", names("honeytokens")),
    ("hook", names("hooks")),
    ("login", ids("logins")),
    ("org", names("orgs")),
    ("plugin", names("plugins")),
    ("provider", ids("providers")),
    ("rule", NamesOfKind { path: "rules", word: OfferedWord::StoredName }),
    ("session", ids("sessions")),
    ("source", names("sources")),
    ("stream", ids("streams")),
    ("user", names("users")),
    ("webhook", names("webhooks")),
];

/// A resource of any kind, as far as it is offered.
#[derive(Deserialize)]
struct NamedItem {
    id: String,
    name: Option<String>,
    provider: Option<String>,
    managed_by: Option<String>,
}

/// What an argument of a command takes.
pub(super) fn source(path: &[&str], argument: &Arg) -> CompletionValues {
    let called = argument.get_value_names().and_then(|names| names.first());
    let called = called.map(|name| name.as_str()).unwrap_or_default();
    let kind = |one: &str| KINDS.iter().find(|(known, _)| *known == one).map(|(_, kind)| *kind);
    let names = match (argument.get_long(), path) {
        (Some("event"), _) => return words(NoticeKind::ALL.iter().map(|kind| kind.code())),
        (Some("code"), _) => return words(Code::rows().into_keys()),
        (Some("action"), ["rule", ..]) | (None, ["rule", "add"]) if called == "ACTION" => {
            return words(ACTIONS.iter().map(|action| action.as_str()));
        }
        // A user of the system.
        (Some("user"), ["service", ..]) => None,
        // Of other commands, a URL or a file.
        (Some("to"), [.., "assign"]) | (Some("owner"), _) => kind("user"),
        (Some("after" | "before"), _) => kind("rule"),
        (Some("resume" | "use"), _) => kind("connection"),
        (Some("user-provider"), _) => kind("provider"),
        (
            Some(one @ ("agent" | "app" | "connection" | "org" | "provider" | "session" | "user")),
            _,
        ) => kind(one),
        (Some(_), _) => None,
        (None, ["rule", "show"]) => Some(names("rules")),
        // A new one.
        (None, [_, "add"]) if called == "NAME" => None,
        (None, [one @ ("session" | "stream" | "connect-link" | "login"), ..]) => kind(one),
        (None, [one, ..]) if matches!(called, "NAME" | "RULE") => kind(one),
        (None, _) if matches!(called, "CONNECTION" | "PROVIDER" | "USER") => {
            kind(&called.to_ascii_lowercase())
        }
        (None, _) => None,
    };
    match (names, called) {
        (Some(names), _) => CompletionValues::Names(names),
        (None, "FILE" | "DIR") => CompletionValues::Files,
        (None, _) => CompletionValues::Unknown,
    }
}

fn words(words: impl Iterator<Item = &'static str>) -> CompletionValues {
    CompletionValues::Words(
        words.map(|word| CompletionWord { word: word.to_owned(), about: String::new() }).collect(),
    )
}

impl NamesOfKind {
    /// The names that begin with `typed`; those that are known without a gateway if none answers in time.
    pub(super) fn known(self, global: &Global, typed: &str) -> Vec<CompletionWord> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let found = runtime.ok().and_then(|runtime| {
            let asked =
                async { tokio::time::timeout(ANSWER_WITHIN, self.asked(global, typed)).await };
            runtime.block_on(asked).ok().flatten()
        });
        let mut offers = match (found, self) {
            (Some(items), _) => items.into_iter().filter_map(|item| self.offer(item)).collect(),
            (None, Self { path: "providers", .. }) => built_in(),
            (None, _) => Vec::new(),
        };
        offers.sort();
        offers.dedup();
        offers
    }

    /// The first page of the running gateway's answer.
    async fn asked(self, global: &Global, typed: &str) -> Option<Vec<NamedItem>> {
        let client = Client::running(global).await.ok()?;
        let query = format!("/api/v1/{}?limit=500&q={}", self.path, segment(typed));
        client.get::<List<NamedItem>>(&query).await.ok().map(|list| list.items)
    }

    fn offer(self, item: NamedItem) -> Option<CompletionWord> {
        let NamedItem { id, name, provider, managed_by } = item;
        match self.word {
            OfferedWord::Id => Some(CompletionWord { word: id, about: name.unwrap_or_default() }),
            OfferedWord::StoredName if managed_by.as_deref() != Some("store") => None,
            _ => Some(CompletionWord { word: name?, about: provider.unwrap_or_default() }),
        }
    }
}

fn built_in() -> Vec<CompletionWord> {
    let offer = |entry: CatalogueEntry<'_>| CompletionWord {
        word: entry.id().to_string(),
        about: entry.name().to_owned(),
    };
    Catalogue::built_in().entries().map(offer).collect()
}

/// What may stand at a place.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum CompletionValues {
    Words(Vec<CompletionWord>),
    /// A name that the gateway knows.
    Names(NamesOfKind),
    /// The name of a file or directory.
    Files,
    /// A program.
    Commands,
    /// Anything else.
    Unknown,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct CompletionWord {
    pub(super) word: String,
    pub(super) about: String,
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;
    use crate::cli::definition;

    /// Each argument that is called a name, with its command; those that take one from a gateway are omitted.
    fn unknown(command: &Command, path: &[&str], all: &mut Vec<String>) {
        for argument in command.get_arguments() {
            let called = argument.get_value_names().and_then(|names| names.first());
            let is_name = called.is_some_and(|name| {
                ["NAME", "RULE", "CONNECTION", "PROVIDER", "USER", "AGENT", "APP"]
                    .contains(&name.as_str())
            });
            if is_name && source(path, argument) == CompletionValues::Unknown {
                all.push(format!("{} {}", path.join(" "), argument.get_id()));
            }
        }
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            unknown(below, &[path, &[below.get_name()]].concat(), all);
        }
    }

    #[test]
    fn every_argument_that_takes_the_name_of_a_resource_is_completed() {
        let mut all = Vec::new();
        unknown(&definition(), &[], &mut all);
        insta::assert_snapshot!(all.join("\n"));
    }
}
