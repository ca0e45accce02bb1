//! `keyward connection set`: changes the description and the settings of a connection.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Map, Value, json};

use super::state::path;
use super::{secrets, settings};
use crate::cli::client::Client;
use crate::cli::derive::{SetArgs, something};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::wait;
use keyward_model::{Connection, FieldReference, References, Shown};

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// another name
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// remove a tag; may be given several times
    #[arg(long = "untag", value_name = "TAG")]
    untagged: Vec<String>,
    /// set another reference for a field that has one; may be given several times
    #[arg(long = "secret-from", value_name = "FIELD=SOURCE:REF", value_parser = secrets::reference_argument)]
    references: Vec<(String, FieldReference)>,
    /// test the change at the provider first, and keep it only if the test succeeds
    #[arg(long, conflicts_with = "references")]
    test: bool,
    #[command(flatten)]
    given: SetArgs<Connection>,
}

impl Set {
    pub(super) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let mut patch = self.given.members.body()?;
        // A role is known to the server alone. References cannot be tested.
        let sets_role = patch.get("settings").is_some_and(|settings| settings["role"].is_string());
        let test = self.test || (sets_role && self.references.is_empty());
        self.tag(client, &mut patch).await?;
        patch.extend(self.new_name.as_ref().map(|name| ("name".to_owned(), json!(name))));
        if !self.references.is_empty() {
            let references: References = self.references.iter().cloned().collect();
            patch.insert("references".to_owned(), json!(references));
        }
        let mut patch = something(patch)?;
        patch.insert("test".to_owned(), json!(test));
        let at = path(&self.given.name);
        let asked = client.patch(&at, &patch);
        let now: Shown<Connection> = match test {
            true => wait::during(&format!("testing {}", self.given.name), asked).await?,
            false => asked.await?,
        };
        output::show(global.json, &now, |now| {
            let settings = settings::shown(&now.settings);
            format!("connection {} is changed\n{settings}", now.name)
        })
    }

    /// Adds the tags that are given to those it has, and takes others away.
    async fn tag(&self, client: &Client, patch: &mut Map<String, Value>) -> Result<(), Failure> {
        let given = patch.get("tags").and_then(Value::as_array);
        if given.is_none() && self.untagged.is_empty() {
            return Ok(());
        }
        let given = given.into_iter().flatten().filter_map(Value::as_str);
        let mut tags: BTreeSet<String> = given.map(str::to_owned).collect();
        if !self.given.members.clears("tags") {
            let now: Shown<Connection> = client.get(&path(&self.given.name)).await?;
            tags.extend(now.spec.tags);
        }
        tags.retain(|tag| !self.untagged.contains(tag));
        patch.insert("tags".to_owned(), json!(tags));
        Ok(())
    }
}
