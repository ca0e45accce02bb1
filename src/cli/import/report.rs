//! [`ImportReport`]: what an import found and did, as JSON and as text.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::files::backup_of;
use super::known::Relation;

/// What was found and done, for `--json`.
#[derive(Debug, Serialize)]
pub(super) struct ImportReport {
    pub(super) accounts: Vec<AccountReport>,
    /// Values that look like keys, and were not imported.
    pub(super) skipped: Vec<Skipped>,
    /// Files whose values are placeholders now; in a dry run, those whose values would be.
    pub(super) replaced: Vec<String>,
    /// Files that had placeholders of another agent only, likewise.
    pub(super) switched: Vec<String>,
    /// Lines of these files that still have an imported key: in a comment, or within a longer value.
    pub(super) left: Vec<String>,
    /// Whether placeholders were found.
    #[serde(skip)]
    pub(super) has_placeholders: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct AccountReport {
    pub(super) name: String,
    pub(super) provider: String,
    /// Its name, for people.
    #[serde(skip)]
    pub(super) title: String,
    pub(super) auth: String,
    /// Whether it is connected already.
    pub(super) found: FoundAs,
    /// The agent whose placeholders were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<String>,
    /// Where its fields were found.
    pub(super) places: Vec<String>,
    /// Absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<AccountResult>,
}

/// How an account relates to the connection of its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FoundAs {
    /// The connection does not exist.
    New,
    /// The connection has the same values.
    Same,
    /// The connection has other values.
    Changed,
    /// The values are placeholders of the connection, of another agent.
    Placeholder,
}

/// What became of an account.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AccountResult {
    /// It is connected; with what the test found.
    Connected(String),
    /// It was connected already.
    Known,
    /// Its connection has the new values; with what the test found.
    Rotated(String),
    /// Its connection has other values and keeps them.
    Unchanged,
    /// It was not connected; with the reason.
    Refused(String),
}

#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) place: String,
    pub(super) why: String,
}

impl From<&Relation> for FoundAs {
    fn from(relation: &Relation) -> Self {
        match relation {
            Relation::New(_) => Self::New,
            Relation::Same(_) => Self::Same,
            Relation::Changed(_) => Self::Changed,
            Relation::Placeholder { .. } => Self::Placeholder,
        }
    }
}

impl AccountReport {
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.result, Some(AccountResult::Refused(_)))
    }

    pub(super) fn is_unchanged(&self) -> bool {
        matches!(self.result, Some(AccountResult::Unchanged))
    }

    /// Whether the agent can use it now.
    pub(super) fn is_usable(&self) -> bool {
        use AccountResult::{Connected, Known, Rotated};
        matches!(self.result, Some(Connected(_) | Known | Rotated(_)))
    }

    /// `github: GitHub, from .env:3 GITHUB_TOKEN`.
    pub(super) fn line(&self) -> String {
        format!("{}: {}, from {}", self.name, self.title, self.places.join(", "))
    }

    /// What was done; in a dry run, what is known.
    pub(super) fn outcome(&self) -> Option<String> {
        let name = &self.name;
        Some(match (&self.result, self.found) {
            (Some(AccountResult::Connected(found)), _) if found.is_empty() => {
                "connected".to_owned()
            }
            (Some(AccountResult::Connected(found)), _) => found.clone(),
            (Some(AccountResult::Rotated(found)), _) => {
                let found = found.trim_end();
                let found = if found.is_empty() { "untested" } else { found };
                format!("connection {name} has the new value: {found}")
            }
            (Some(AccountResult::Refused(why)), _) => format!("not connected: {}", why.trim_end()),
            (Some(AccountResult::Known) | None, FoundAs::Placeholder) => {
                let agent = self.agent.as_deref().unwrap_or_default();
                format!("a placeholder of agent {agent} for this connection")
            }
            (Some(AccountResult::Known), _) | (None, FoundAs::Same) => {
                "connected already, with the same value".to_owned()
            }
            (Some(AccountResult::Unchanged), _) | (None, FoundAs::Changed) => {
                format!("connection {name} has another value")
            }
            (None, FoundAs::New) => return None,
        })
    }
}

impl ImportReport {
    pub(super) fn text(&self, is_dry: bool) -> String {
        let mut text = String::new();
        for account in &self.accounts {
            text += &format!("{}\n", account.line());
            if let Some(outcome) = account.outcome() {
                text += &format!("  {outcome}\n");
            }
        }
        if !self.skipped.is_empty() {
            text += "\nnot imported:\n";
        }
        let each: BTreeSet<_> = self.skipped.iter().map(|it| (&it.place, &it.why)).collect();
        for (place, why) in each {
            text += &format!("  {place}: {why}\n");
        }
        for file in &self.replaced {
            let backup = backup_of(Path::new(file));
            let backup = backup.display();
            text += &match is_dry {
                true => format!("\n{file} would get placeholders, and {backup} the keys\n"),
                false => format!(
                    "\n{file} has placeholders now. {backup} has the keys: delete it when your programs work.\n"
                ),
            };
        }
        for line in &self.left {
            text += &format!("{line} still has an imported key: delete it there\n");
        }
        for file in &self.switched {
            text += &match is_dry {
                true => format!("\n{file} would get the placeholders of the agent\n"),
                false => format!("\n{file} has the placeholders of the agent now\n"),
            };
        }
        let has_keys = self.accounts.iter().any(|it| it.found != FoundAs::Placeholder);
        text += match (self.accounts.is_empty(), is_dry) {
            (true, _) if self.has_placeholders => "",
            (true, _) => "no key of a known provider was found\n",
            (false, true) => "\nnothing was changed: this was a dry run\n",
            (false, false) if has_keys && self.replaced.is_empty() => {
                "\nthe keys also stay where they were found\n"
            }
            (false, false) => "",
        };
        text
    }

    /// Adds a file that has placeholders now.
    pub(super) fn add_file(&mut self, name: String, had_keys: bool) {
        if had_keys { self.replaced.push(name) } else { self.switched.push(name) }
    }
}
