//! `keyward connection rotate`: another secret for a connection, tested before it is in force. `keyward connection
//! refresh`: a newer token, now.

use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::BTreeMap;

use super::options::ConnectionArguments;
use super::secrets::SecretArgs;
use super::shape::Shapes;
use super::state::note_warnings;
use super::state::path;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::resource::Named;
use crate::cli::resource::{pair, unique};
use crate::cli::settings::Global;
use crate::cli::terminal::secret::Typed;
use crate::cli::terminal::table::moment;
use crate::cli::terminal::wait;
use crate::cli::{output, provider};
use keyward_api::wire::{Rotated, TokenRefreshed};
use keyward_model::{Connection, ManagedBy, References, Shown};
use keyward_state::directory::RotationState;

pub(super) const EXAMPLES: &str = "\
examples:
  keyward connection rotate work
  keyward connection rotate work --secret-stdin token < new-token.txt
  keyward connection rotate confirm work      # wipe the old secret
  keyward connection rotate rollback work     # use the old secret again

The new secret is sealed beside the old one and tested with the provider's own
request; only if that succeeds it comes into force, between two requests. The
old one is kept for a rollback, for a day or as `rotation.keep_old` says. Revoke
it at the provider when the rotation is confirmed.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Rotate {
    #[command(subcommand)]
    end: Option<RotationEnd>,
    /// name or id
    #[arg(required = true)]
    name: Option<String>,
    /// a field that is no secret; may be given several times
    #[arg(long = "field", value_name = "KEY=VALUE", value_parser = pair)]
    fields: Vec<(String, String)>,
    #[command(flatten)]
    secrets: SecretArgs,
    /// do not test the new secret at the provider
    #[arg(long)]
    no_test: bool,
    /// keep the old secret this long for a rollback, such as 2h; 0s wipes it
    #[arg(long, value_name = "TIME")]
    keep_old: Option<String>,
    /// wipe the old secret at once: no rollback is possible
    #[arg(long, conflicts_with = "keep_old")]
    confirm: bool,
    /// when the new secret ends, such as 90d or 2026-01-31
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

#[derive(Debug, Subcommand)]
enum RotationEnd {
    /// the new secret is good: wipe the old one
    Confirm(Named),
    /// use the old secret again, and wipe the new one
    Rollback(Named),
}

/// The body of a rotation.
#[derive(Default, Serialize)]
pub(in crate::cli) struct RotateRequest {
    pub(in crate::cli) fields: BTreeMap<String, Typed>,
    pub(in crate::cli) test: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) keep_old: Option<String>,
    pub(in crate::cli) confirm: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) expires: Option<String>,
}

impl Rotate {
    pub(super) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let (name, verb) = match (&self.end, &self.name) {
            (Some(RotationEnd::Confirm(Named { name })), _) => (name, "confirm"),
            (Some(RotationEnd::Rollback(Named { name })), _) => (name, "rollback"),
            (None, Some(name)) => {
                let name = name.clone();
                return self.another(global, client, &name).await;
            }
            (None, None) => return Err(Failure::usage("name a connection")),
        };
        let at = format!("{}/rotate/{verb}", path(name));
        let now: Shown<Connection> = client.post(&at, &serde_json::json!({})).await?;
        output::show(global.json, &now, |now| match verb {
            "confirm" => format!(
                "connection {}: the old secret is wiped\nrevoke it at the provider, if that is not \
                 done yet\n",
                now.name
            ),
            _ => {
                format!("connection {} uses the old secret again; the new one is wiped\n", now.name)
            }
        })
    }

    async fn another(self, global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
        let connection: Shown<Connection> = client.get(&path(name)).await?;
        let fields = match connection.managed_by {
            // The gateway refuses it with the remedy, whatever is given.
            Some(ManagedBy::File) => BTreeMap::new(),
            _ => self.filled(client, &connection).await?,
        };
        let ask = RotateRequest {
            fields,
            test: !self.no_test,
            keep_old: self.keep_old,
            confirm: self.confirm,
            expires: self.expires,
        };
        if self.no_test {
            output::note("note: the new secret is not tested");
        }
        let at = format!("{}/rotate", path(name));
        let asked = client.post(&at, &ask);
        let now: Rotated = wait::during(&format!("rotating {name}"), asked).await?;
        note_warnings(&now.connection);
        output::show(global.json, &now, |now| told(now, &global.keyward()))
    }

    /// The fields of the new secret.
    async fn filled(
        &self,
        client: &Client,
        connection: &Shown<Connection>,
    ) -> Result<BTreeMap<String, Typed>, Failure> {
        let provider = provider::of(client, &connection.provider).await?;
        let given = ConnectionArguments {
            auth: connection.auth.clone(),
            fields: unique(self.fields.clone())?,
            secrets: self.secrets.sources(),
            references: References::new(),
            // They stay as they are.
            variables: connection.variables.clone(),
        };
        let filled = given.complete(&provider)?;
        if !self.secrets.any_shape {
            let shapes = Shapes::load(client).await?;
            filled.check(&provider, &shapes)?.iter().for_each(|remark| output::note(remark));
        }
        Ok(filled.fields)
    }
}

fn told(now: &Rotated, keyward: &str) -> String {
    let name = &now.connection.name;
    let mut text = format!("connection {name} uses the new secret\n");
    if let Some(test) = &now.test {
        text += &format!("{}\n", test.message);
    }
    if let (Some(before), Some(test)) = (&now.account_before, &now.test) {
        let account = test.account.as_deref().unwrap_or_default();
        text += &format!("note: it is of account {account}, the old one was of {before}\n");
    }
    let kept = now.connection.facts.rotation.as_ref();
    match kept.filter(|kept| kept.state == RotationState::Unconfirmed) {
        Some(kept) => {
            text + &format!(
                "the old one is kept until {}\n  it works: {keyward} connection rotate confirm {name}\n  \
                 it does not: {keyward} connection rotate rollback {name}\n",
                moment(kept.until)
            )
        }
        None => text + "the old one is wiped: revoke it at the provider\n",
    }
}

pub(super) async fn refresh(global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
    let at = format!("{}/refresh", path(name));
    let now: TokenRefreshed = client.post(&at, &serde_json::json!({})).await?;
    output::show(global.json, &now, |now| {
        let ends = now.token.as_ref().and_then(|token| token.expires);
        let ends = ends.map_or_else(String::new, |ends| format!(", good until {}", moment(ends)));
        format!("connection {} has a new token{ends}\n", now.name)
    })
}
