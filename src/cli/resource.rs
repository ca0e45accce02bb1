//! What every resource has on the command line: `list`, `show` and `remove`, made of its columns; `add` and `set` have
//! flags of their own.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Client, segment};
use super::confirm::Removal;
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::table::{Table, fields};
use keyward_api::wire::List;
use keyward_model::{Resource, Shown};

/// One thing that is told of a resource.
pub(crate) struct Column<R: Resource> {
    /// Its heading in a list; `None`: lists leave it out.
    listed: Option<&'static str>,
    /// Its word where one is shown; `None`: it is left out there.
    shown: Option<&'static str>,
    text: fn(&Shown<R>) -> String,
}

impl<R: Resource> Column<R> {
    /// In lists and where one is shown.
    pub(crate) const fn both(
        heading: &'static str,
        word: &'static str,
        text: fn(&Shown<R>) -> String,
    ) -> Self {
        Self { listed: Some(heading), shown: Some(word), text }
    }

    /// In lists alone.
    pub(crate) const fn listed(heading: &'static str, text: fn(&Shown<R>) -> String) -> Self {
        Self { listed: Some(heading), shown: None, text }
    }

    /// Where one is shown.
    pub(crate) const fn shown(word: &'static str, text: fn(&Shown<R>) -> String) -> Self {
        Self { listed: None, shown: Some(word), text }
    }
}

/// A resource with a command of its own.
pub(crate) trait Columns: Resource {
    /// What is told of one, in this order.
    const COLUMNS: &[Column<Self>];

    /// Several, where it is not the last word of the path: `organisations`.
    const MANY: &str = Self::KIND.many;

    /// One, likewise.
    const ONE: &str = Self::KIND.one;

    /// What an empty list says behind `no apps`.
    const HINT: &str = "";

    /// What else ends with one, for the question before it is removed.
    fn losses(_: &Shown<Self>) -> Vec<String> {
        Vec::new()
    }
}

/// A command of a resource, as a person gave it.
pub(crate) struct Asked<'a> {
    pub(crate) global: &'a Global,
    pub(crate) client: &'a Client,
}

impl Asked<'_> {
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
        let query: Vec<_> = q.map(|q| ("q", q)).into_iter().collect();
        let all: List<Shown<R>> =
            self.client.list(&format!("/api/v1/{}", R::KIND.many), &query).await?;
        output::show(self.global.json, &all, |all| table(&all.items))
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

    /// Removes one.
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
pub(crate) fn table<R: Columns>(all: &[Shown<R>]) -> String {
    let columns: Vec<_> = R::COLUMNS.iter().filter(|column| column.listed.is_some()).collect();
    let mut table = Table::with(columns.iter().filter_map(|column| column.listed));
    for one in all {
        table.add(columns.iter().map(|column| (column.text)(one)));
    }
    table.render(&format!("no {}{}", R::MANY, R::HINT), output::colours())
}

/// One for people, a line for each column.
pub(crate) fn details<R: Columns>(one: &Shown<R>) -> String {
    let told = R::COLUMNS.iter().filter_map(|column| Some((column.shown?, (column.text)(one))));
    fields(&told.collect::<Vec<_>>())
}
