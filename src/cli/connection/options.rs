//! The options that a new connection is made from, its arguments, and the refusal of secrets among them.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::secrets::{FieldSource, SecretArgs};
use crate::cli::agent::{pair, unique};
use crate::cli::failure::Failure;
use crate::cli::ownership::OwnershipArgs;
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::ProviderView;
use keyward_model::References;

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
    /// environment: agents of another one cannot bind it
    #[arg(long = "env", value_name = "ENV")]
    pub(in crate::cli) environment: Option<String>,
    /// the app that requests its tokens: see `keyward app list`
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) app: Option<String>,
    /// a scope to request; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(in crate::cli) scopes: Vec<String>,
    /// the authorization server to use, if an MCP server has several
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) issuer: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) whose: OwnershipArgs,
}

#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct New {
    pub(in crate::cli) provider: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::cli) auth: String,
    pub(in crate::cli) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) app: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) scopes: Vec<String>,
    /// Of an MCP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) issuer: Option<String>,
    pub(in crate::cli) device: bool,
    pub(in crate::cli) test: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) environment: Option<String>,
    pub(in crate::cli) variables: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) settings: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) visibility: Option<&'static str>,
    pub(in crate::cli) fields: BTreeMap<String, Typed>,
    #[serde(skip_serializing_if = "References::is_empty")]
    pub(in crate::cli) references: References,
    /// For people, and of the secret.
    #[serde(flatten)]
    pub(in crate::cli) said: serde_json::Map<String, serde_json::Value>,
}

impl Options {
    /// The way to authenticate that is given; beside an app, the first that takes one.
    pub(in crate::cli) fn auth_of(&self, provider: &ProviderView) -> Option<String> {
        let takes_app = || provider.auth.iter().find(|auth| auth.needs_app);
        let of_app = || self.app.as_ref().and_then(|_| takes_app()).map(|auth| auth.id.clone());
        self.auth.clone().or_else(of_app)
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
