//! What commands of several resources share: `list`, `show` and `remove`, made of a resource's columns; and
//! `KEY=VALUE` arguments. The options of `add` and `set` are made in `derive`.

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::table::{Table, TableCell, TableLayout, fields};
use keyward_api::wire::List;
use keyward_model::{Resource, Shown};

/// A member of a resource on the screen.
pub(crate) struct Column<R: Resource> {
    /// Its heading in a list; `None`: lists omit it.
    listed: Option<&'static str>,
    /// Its word where one is shown; `None`: it is omitted there.
    shown: Option<&'static str>,
    /// Only lists in full have it.
    in_full: bool,
    content: ColumnContent<R>,
}

/// How a column reads its member.
enum ColumnContent<R: Resource> {
    Text(fn(&Shown<R>) -> String),
    List(fn(&Shown<R>) -> Vec<String>),
    Time(fn(&Shown<R>) -> Option<Timestamp>),
}

impl<R: Resource> Column<R> {
    /// In lists and where one is shown.
    pub(crate) const fn both(
        heading: &'static str,
        word: &'static str,
        text: fn(&Shown<R>) -> String,
    ) -> Self {
        Self { listed: Some(heading), shown: Some(word), ..Self::text(text) }
    }

    /// Only in lists.
    pub(crate) const fn listed(heading: &'static str, text: fn(&Shown<R>) -> String) -> Self {
        Self { listed: Some(heading), ..Self::text(text) }
    }

    /// Only in full lists.
    pub(crate) const fn in_full(heading: &'static str, text: fn(&Shown<R>) -> String) -> Self {
        Self { listed: Some(heading), in_full: true, ..Self::text(text) }
    }

    /// Several texts, in lists alone.
    pub(crate) const fn list(heading: &'static str, texts: fn(&Shown<R>) -> Vec<String>) -> Self {
        let content = ColumnContent::List(texts);
        Self { listed: Some(heading), shown: None, in_full: false, content }
    }

    /// A time, in lists and where one is shown.
    pub(crate) const fn time(
        heading: &'static str,
        word: &'static str,
        time: fn(&Shown<R>) -> Option<Timestamp>,
    ) -> Self {
        let content = ColumnContent::Time(time);
        Self { listed: Some(heading), shown: Some(word), in_full: false, content }
    }

    pub(crate) const fn shown(word: &'static str, text: fn(&Shown<R>) -> String) -> Self {
        Self { shown: Some(word), ..Self::text(text) }
    }

    const fn text(text: fn(&Shown<R>) -> String) -> Self {
        Self { listed: None, shown: None, in_full: false, content: ColumnContent::Text(text) }
    }

    fn cell(&self, one: &Shown<R>) -> TableCell {
        match self.content {
            ColumnContent::Text(text) => TableCell::Text(text(one)),
            ColumnContent::List(texts) => TableCell::List(texts(one)),
            ColumnContent::Time(time) => TableCell::Time(time(one)),
        }
    }
}

/// A resource with a command of its own.
pub(crate) trait Columns: Resource {
    /// The columns, in this order.
    const COLUMNS: &[Column<Self>];

    /// Several, where it is not the last word of the path: `organisations`.
    const MANY: &str = Self::KIND.many;

    /// One, likewise.
    const ONE: &str = Self::KIND.one;

    /// What an empty list says behind `no apps`.
    const HINT: &str = "";

    /// Other consequences of a removal, for the confirmation.
    fn losses(_: &Shown<Self>) -> Vec<String> {
        Vec::new()
    }
}

/// The argument of a command about one of them.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// name or id
    pub(crate) name: String,
}

/// A command of a resource, as a person gave it.
pub(crate) struct ResourceContext<'a> {
    pub(crate) global: &'a Global,
    pub(crate) client: Client,
}

impl ResourceContext<'_> {
    /// Adds one and prints the answer.
    pub(crate) async fn add<R: Resource, A: Serialize + DeserializeOwned>(
        &self,
        new: &impl Serialize,
        text: impl FnOnce(&A) -> String,
    ) -> Result<(), Failure> {
        let made: A = self.client.post(&format!("/api/v1/{}", R::KIND.many), new).await?;
        output::show(self.global.json, &made, text)
    }

    /// Prints all that `q` finds.
    pub(crate) async fn list<R: Columns>(&self, q: Option<&str>) -> Result<(), Failure> {
        self.search::<R>(&[("q", q)]).await
    }

    /// Prints all that the filters find.
    pub(crate) async fn search<R: Columns>(
        &self,
        filters: &[(&str, Option<&str>)],
    ) -> Result<(), Failure> {
        let all: List<Shown<R>> =
            self.client.list(&format!("/api/v1/{}", R::KIND.many), filters).await?;
        let is_filtered = filters.iter().any(|(_, filter)| filter.is_some());
        output::show(self.global.json, &all, |all| match is_filtered && all.items.is_empty() {
            true => format!("no {} match: omit the filter to list all\n", R::MANY),
            false => table(&all.items, &output::layout(self.global)),
        })
    }

    /// Prints one.
    pub(crate) async fn show<R: Columns>(&self, name: &str) -> Result<(), Failure> {
        let one: Shown<R> = self.client.get(&path::<R>(name)).await?;
        output::show(self.global.json, &one, details)
    }

    /// Sends a merge patch and prints what it makes.
    pub(crate) async fn set<R: Columns>(
        &self,
        name: &str,
        patch: &impl Serialize,
    ) -> Result<(), Failure> {
        let one: Shown<R> = self.client.patch(&path::<R>(name), patch).await?;
        output::show(self.global.json, &one, details)
    }

    /// Ends one that has no name but its id.
    pub(crate) async fn revoke<R: Columns>(&self, id: String) -> Result<(), Failure> {
        self.client.delete(&path::<R>(&id)).await?;
        let text = format!("{} {id} ended\n", R::ONE);
        output::removed(self.global.json, &[id], &text)
    }

    pub(crate) async fn remove<R: Columns>(
        &self,
        Removal { name, confirm }: Removal,
    ) -> Result<(), Failure> {
        if confirm.asks() {
            let one: Shown<R> = self.client.get(&path::<R>(&name)).await?;
            confirm.ask(format!("remove {} {}", R::ONE, one.name()), &R::losses(&one))?;
        }
        self.client.delete(&path::<R>(&name)).await?;
        let text = format!("{} {name} removed\n", R::ONE);
        output::removed(self.global.json, &[name], &text)
    }
}

/// The path of one, by name or id.
pub(crate) fn path<R: Resource>(name: impl Display) -> String {
    format!("/api/v1/{}/{}", R::KIND.many, segment(&name.to_string()))
}

/// A list for people.
pub(crate) fn table<R: Columns>(all: &[Shown<R>], layout: &TableLayout) -> String {
    let columns: Vec<_> = R::COLUMNS.iter().filter(|column| column.listed.is_some()).collect();
    let in_full = columns.iter().filter(|column| column.in_full);
    let in_full: Vec<_> = in_full.filter_map(|column| column.listed).collect();
    let headings = columns.iter().filter_map(|column| column.listed);
    let mut table = Table::new(headings).only_in_full(&in_full);
    for one in all {
        table.row(columns.iter().map(|column| column.cell(one)));
    }
    table.render(&format!("no {}{}", R::MANY, R::HINT), layout)
}

/// One for people, a line for each column.
pub(crate) fn details<R: Columns>(one: &Shown<R>) -> String {
    let texts = R::COLUMNS.iter().filter_map(|column| Some((column.shown?, column.cell(one))));
    fields(&texts.map(|(word, cell)| (word, cell.in_full())).collect::<Vec<_>>())
}

/// `KEY=VALUE` of an argument.
pub(in crate::cli) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        // The text is not repeated: it may be a secret in the wrong place.
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// A map of pairs; a key given twice is a mistake.
pub(in crate::cli) fn unique(
    pairs: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.contains_key(&key) {
            return Err(Failure::usage(format!("`{key}` is given twice")));
        }
        map.insert(key, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_pairs_are_refused_without_their_text_and_doubled_keys_are_refused() {
        for bad in ["canary", "=canary", ""] {
            let error = pair(bad).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        assert_eq!(pair("k=a=b"), Ok(("k".to_owned(), "a=b".to_owned())));
        let twice = vec![("k".to_owned(), String::new()), ("k".to_owned(), String::new())];
        assert!(unique(twice).is_err());
    }
}
