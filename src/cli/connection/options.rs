//! The options that a new connection is made from, its arguments, and the refusal of secrets among them.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::secrets::{FieldSource, SecretArgs};
use crate::cli::derive::{AddingPlain, MemberArgs};
use crate::cli::failure::Failure;
use crate::cli::ownership::VisibilityArgs;
use crate::cli::resource::{pair, unique};
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::ProviderView;
use keyward_model::{Connection, References};

/// What a new connection is made of.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct Options {
    /// way to authenticate; default: the first, with --app the first for apps
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) auth: Option<String>,
    /// its name; default: the provider's id
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,
    /// a field that is no secret; may be given several times
    #[arg(long = "field", value_name = "KEY=VALUE", value_parser = pair)]
    fields: Vec<(String, String)>,
    #[command(flatten)]
    pub(in crate::cli) secrets: SecretArgs,
    /// a variable of the provider's hosts; may be given several times
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = pair)]
    variables: Vec<(String, String)>,
    #[command(flatten)]
    pub(in crate::cli) members: MemberArgs<Connection, AddingPlain>,
    /// Members that a plugin requests.
    #[arg(skip)]
    pub(in crate::cli) requested: Map<String, Value>,
    #[command(flatten)]
    pub(in crate::cli) seen: VisibilityArgs,
}

#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct New {
    pub(in crate::cli) provider: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::cli) auth: String,
    pub(in crate::cli) name: String,
    /// Of an MCP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) url: Option<String>,
    pub(in crate::cli) device: bool,
    pub(in crate::cli) test: bool,
    pub(in crate::cli) variables: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) visibility: Option<&'static str>,
    pub(in crate::cli) fields: BTreeMap<String, Typed>,
    #[serde(skip_serializing_if = "References::is_empty")]
    pub(in crate::cli) references: References,
    #[serde(flatten)]
    pub(in crate::cli) members: Map<String, Value>,
}

impl Options {
    /// The way to authenticate that is given; beside an app, the first that takes one.
    pub(in crate::cli) fn auth_of(&self, provider: &ProviderView) -> Option<String> {
        let takes_app = || provider.auth.iter().find(|auth| auth.needs_app);
        let of_app = || self.app().and_then(|_| takes_app()).map(|auth| auth.id.clone());
        self.auth.clone().or_else(of_app)
    }

    /// The app that requests its tokens.
    pub(in crate::cli) fn app(&self) -> Option<&str> {
        self.members.text("app")
    }

    /// The members of its spec.
    ///
    /// # Errors
    /// When something is given twice.
    pub(in crate::cli) fn members(&self) -> Result<Map<String, Value>, Failure> {
        let mut members = self.requested.clone();
        members.extend(self.members.body()?);
        Ok(members)
    }

    /// The form, as far as it was filled in.
    ///
    /// # Errors
    /// When something is given twice.
    pub(in crate::cli) fn given(&self) -> Result<ConnectionArguments, Failure> {
        Ok(ConnectionArguments {
            auth: self.auth.clone(),
            fields: unique(self.fields.clone())?,
            references: References::new(),
            secrets: self.secrets.sources(),
            variables: unique(self.variables.clone())?,
        })
    }
}

#[derive(Debug, Default)]
pub(in crate::cli) struct ConnectionArguments {
    pub(in crate::cli) auth: Option<String>,
    pub(in crate::cli) fields: BTreeMap<String, String>,
    pub(in crate::cli) secrets: Vec<FieldSource>,
    pub(in crate::cli) references: References,
    pub(in crate::cli) variables: BTreeMap<String, String>,
}

pub(super) fn exposed(name: &str) -> Failure {
    Failure::usage(format!("`{name}` is a secret: arguments can be read by other processes"))
        .hint(format!(
            "--secret-stdin {name}, --secret-file {name}=PATH, --secret-env {name}=VARIABLE, or type it \
             when asked"
        ))
}
