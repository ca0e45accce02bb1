//! [`ConfigReading`]: what the readers of all sections share: the document, the problems so far, the folders that
//! relative paths begin at, the providers that items may name, and checks of names, whose line is known here.
//! `directory/` checks them again.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use keyward_base::agent::is_unreserved;
use keyward_base::id::{OrgId, is_like_an_id};
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::checked::CheckedProvider;
use keyward_rules::provider::decode::decode;
use keyward_rules::provider::document::{Document, Problems, item_of, key_of};

/// Where relative paths begin.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The configuration file's folder: for what is read.
    pub(super) config: PathBuf,
    /// The data directory: for what is written.
    pub(super) data: PathBuf,
}

/// A configuration being read.
#[derive(Debug)]
pub struct ConfigReading<'d> {
    pub(super) folders: Folders,
    /// `insecure_inline: true`.
    pub(super) inline: bool,
    pub(super) problems: Problems<'d>,
    document: &'d Document,
    /// Providers that were found sound before, instead of those of the document.
    pub(super) checked: &'d [Arc<CheckedProvider>],
}

impl<'d> ConfigReading<'d> {
    pub(super) fn new(document: &'d Document, folders: Folders) -> Self {
        Self { folders, inline: false, problems: document.problems(), document, checked: &[] }
    }

    /// Decodes a section; nothing when it is absent or wrong.
    pub(super) fn section<T: DeserializeOwned>(
        &mut self,
        value: Option<&Value>,
        path: &str,
    ) -> Option<T> {
        decode(value?, path, &mut self.problems)
    }

    /// A list section, item by item; items with problems are omitted, and each keeps its index.
    pub(super) fn items<'v>(&mut self, value: Option<&'v Value>, path: &str) -> &'v [Value] {
        match value {
            None => &[],
            Some(Value::Sequence(items)) => items,
            Some(_) => {
                self.problems.add(path, "this is not a list", "write `- …` items");
                &[]
            }
        }
    }

    /// What the texts of a list mean; one that means nothing is reported with `remedy`.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        texts: &[String],
        path: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        remedy: &str,
    ) -> Vec<T> {
        let each = texts.iter().enumerate().filter_map(|(index, text)| {
            let report = |error| self.problems.add(&item_of(path, index), error, remedy);
            parse(text).map_err(report).ok()
        });
        each.collect()
    }

    /// Reports lists of `item` without an entry, also where all entries are commented out, which YAML reads as `null`. They
    /// read as "none", and would mean "all".
    pub(super) fn no_empty_lists(&mut self, item: &Value, keys: &[&str], path: &str) {
        for key in keys {
            let is_empty = match item.get(key) {
                Some(Value::Sequence(entries)) => entries.is_empty(),
                Some(value) => value.is_null(),
                None => false,
            };
            if is_empty {
                let remedy = format!("name one, or omit `{key}`");
                self.problems.add(&key_of(path, key), "the list is empty", remedy);
            }
        }
    }

    /// A key that must be there; empty when it is not.
    pub(super) fn required(&mut self, text: Option<String>, key: &str, path: &str) -> String {
        if text.is_none() {
            let remedy = format!("add `{key}:`");
            self.problems.add(path, format!("`{key}` is missing"), remedy);
        }
        text.unwrap_or_default()
    }

    /// The organisation; there are those that are named.
    pub(super) fn org(&mut self, org: Option<&str>, path: &str) -> OrgId {
        let Some(name) = org else { return OrgId::default_org() };
        OrgId::named(name).unwrap_or_else(|_| {
            let remedy = "write 2 to 40 lower-case letters, digits or inner hyphens";
            self.problems.add(path, "this is not the name of an organisation", remedy);
            OrgId::default_org()
        })
    }

    /// A path that is read, relative to the configuration file's folder.
    pub(super) fn input(&mut self, text: &str, path: &str) -> Option<PathBuf> {
        self.is_path(text, path).then(|| self.folders.config.join(text))
    }

    /// A path that is written, relative to the data directory.
    pub(super) fn state(&mut self, text: &str, path: &str) -> Option<PathBuf> {
        self.is_path(text, path).then(|| self.folders.data.join(text))
    }

    fn is_path(&mut self, text: &str, path: &str) -> bool {
        if text.is_empty() {
            self.problems.add(path, "the path is empty", "name a file");
        } else if text == "~" || text.starts_with("~/") {
            self.problems.add(path, "`~` is not expanded", "write the whole path");
        } else if text.contains('\0') {
            self.problems.add(path, "the path holds a NUL", "name a file");
        } else {
            return true;
        }
        false
    }

    /// Where something stands, for later errors: `keyward.yaml:12: rules[0]`.
    pub(super) fn place(&self, path: &str) -> String {
        format!("{}: {path}", self.document.origin(path))
    }

    /// A default below the data directory.
    pub(super) fn default_state(&self, path: &str) -> PathBuf {
        self.folders.data.join(path)
    }
}

const LEN_MAX: usize = 64;

/// Of tokens: agents are found by name or token, so no name may look like one.
const TOKEN_PREFIXES: [&str; 2] = ["kwa_", "kwp_"];

/// Checks the name of an agent that a listener is for. `path`: of its key, which may be missing.
pub(super) fn agent(name: &str, path: &str, reading: &mut ConfigReading<'_>) {
    if name.is_empty() {
        reading.problems.add(path, "the name is missing", "name an agent");
    } else if !is_unreserved(name) || name.len() > LEN_MAX || name.bytes().all(|b| b == b'.') {
        let remedy = "write 1 to 64 letters, digits or `-._~`, and not only dots";
        reading.problems.add(path, "this is not the name of an agent", remedy);
    } else if is_like_an_id(name) || is_like_a_token(name) {
        let message = "the name looks like an id or a token";
        reading.problems.add(path, message, "choose another beginning");
    }
}

/// Checks that a name does not look like an id or a token. The resource checks its other rules.
pub(super) fn check_not_token(name: &str, path: &str, reading: &mut ConfigReading<'_>) {
    if is_like_a_token(name) {
        let message = "the name looks like an id or a token";
        reading.problems.add(&key_of(path, "name"), message, "choose another beginning");
    }
}

fn is_like_a_token(name: &str) -> bool {
    TOKEN_PREFIXES.iter().any(|it| name.starts_with(it))
}

/// The names of a section so far.
#[derive(Default)]
pub(super) struct EarlierNames(HashSet<(OrgId, String)>);

impl EarlierNames {
    /// Checks that no earlier item of the organisation has the name, and adds it.
    pub(super) fn add(
        &mut self,
        org: &OrgId,
        name: &str,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) {
        if !name.is_empty() && !self.0.insert((org.clone(), name.to_owned())) {
            let message = format!("the name `{name}` is used twice");
            reading.problems.add(&key_of(path, "name"), message, "rename or remove one");
        }
    }
}

/// What connections are checked against.
pub(super) struct KnownProviders<'a> {
    /// All that are sound.
    pub(super) catalogue: &'a Catalogue,
    /// Ids that `providers:` defines, sound or not.
    pub(super) declared: Vec<&'a str>,
}
