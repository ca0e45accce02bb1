//! `keyward connection set`: changes the description and the settings of a connection.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use super::settings::{self, Cleared};
use super::state::path;
use super::{description, secrets};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::wait;
use keyward_model::{Connection, FieldReference, References, Shown};

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// name or id
    name: String,
    /// another name
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// environment: agents of another one cannot bind it
    #[arg(long = "env", value_name = "ENV")]
    environment: Option<String>,
    /// remove a tag; may be given several times
    #[arg(long = "untag", value_name = "TAG")]
    untagged: Vec<String>,
    /// remove a setting or description, as named here, header=NAME, or all
    #[arg(long, value_name = "WHAT", value_parser = cleared)]
    clear: Vec<RemovedSetting>,
    /// set another reference for a field that has one; may be given several times
    #[arg(long = "secret-from", value_name = "FIELD=SOURCE:REF", value_parser = secrets::reference_argument)]
    references: Vec<(String, FieldReference)>,
    /// test the change at the provider first, and keep it only if the test succeeds
    #[arg(long, conflicts_with = "references")]
    test: bool,
    #[command(flatten)]
    said: description::DescriptionArgs,
    #[command(flatten)]
    settings: settings::SettingArguments,
}

/// What is taken away.
#[derive(Clone, Debug)]
enum RemovedSetting {
    Said(&'static str),
    Setting(Cleared),
}

fn cleared(text: &str) -> Result<RemovedSetting, String> {
    match description::CLEARED.iter().find(|(name, _)| *name == text) {
        Some((_, name)) => Ok(RemovedSetting::Said(name)),
        None => settings::cleared(text).map(RemovedSetting::Setting),
    }
}

impl Set {
    pub(super) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let test = self.tests();
        let patch = self.patch(client).await?;
        let at = path(&self.name);
        let asked = client.patch(&at, &patch);
        let now: Shown<Connection> = match test {
            true => wait::during(&format!("testing {}", self.name), asked).await?,
            false => asked.await?,
        };
        output::show(global.json, &now, |now| {
            let settings = settings::shown(&now.settings);
            format!("connection {} is changed\n{settings}", now.name)
        })
    }

    /// A role is known to the server alone. References cannot be tested.
    fn tests(&self) -> bool {
        self.test || (self.settings.sets_role() && self.references.is_empty())
    }

    async fn patch(&self, client: &Client) -> Result<Value, Failure> {
        let (mut said, mut settings) = (Vec::new(), Vec::new());
        for what in self.clear.clone() {
            match what {
                RemovedSetting::Said(name) => said.push(name.to_owned()),
                RemovedSetting::Setting(setting) => settings.push(setting),
            }
        }
        let tags = match self.said.has_tags() || !self.untagged.is_empty() {
            true => client.get::<Shown<Connection>>(&path(&self.name)).await?.spec.tags,
            false => BTreeSet::new(),
        };
        let mut patch = self.said.patch(&tags, &self.untagged, &said)?;
        if !settings.is_empty() || !self.settings.to_json()?.is_empty() {
            patch.insert("settings".to_owned(), self.settings.patch(&settings)?);
        }
        if let Some(name) = &self.new_name {
            patch.insert("name".to_owned(), json!(name));
        }
        if let Some(environment) = &self.environment
            && patch.insert("environment".to_owned(), json!(environment)).is_some()
        {
            return Err(Failure::usage("env is both set and cleared"));
        }
        if !self.references.is_empty() {
            let references: References = self.references.iter().cloned().collect();
            patch.insert("references".to_owned(), json!(references));
        }
        if patch.is_empty() {
            return Err(Failure::usage("nothing to change: see --help for the options"));
        }
        patch.insert("test".to_owned(), json!(self.tests()));
        Ok(patch.into())
    }
}
