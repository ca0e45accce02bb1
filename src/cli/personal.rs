//! `keyward token`: personal access tokens, for people's scripts and for the command line elsewhere.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::terminal::table::{Table, TableCell, TableLayout};
use keyward_api::wire::{List, TokenIssued};
use keyward_model::PersonalTokenShown;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// make one and show it once
    #[command(
        after_help = "scopes: `all` (the default: what its owner may do), `read`, or connections,\n\
        agents, apps, providers, rules, audit, webhooks, users or install with `:read`\n\
        or `:write`\n\n\
        examples:\n  \
        keyward token add ann --ttl 90d\n  \
        keyward token add bob --label ci --scope connections:read --scope agents:write\n  \
        KEYWARD_TOKEN=kwp_... keyward agent list"
    )]
    Add(Add),
    /// list them, without their text
    List {
        /// part of a user's name, of a label or id
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// revoke one
    Revoke {
        /// the token's id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// the user, by name or id; default: the user of KEYWARD_TOKEN
    user: Option<String>,
    /// what it is for
    #[arg(long)]
    label: Option<String>,
    /// what it may be used for; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// how long it lives, such as 90d; default: until it is revoked
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
}

/// What is posted to make one. Scopes are judged by the API.
#[derive(Serialize)]
struct New {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    label: Option<String>,
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        match self {
            Self::Add(Add { user, label, scopes, ttl }) => {
                let new = New { user, label, scopes, ttl };
                let token: TokenIssued = client.post("/api/v1/tokens", &new).await?;
                output::show(global.json, &token, |token| {
                    format!("token {}, shown only now:\n  {}\n", token.id, token.token)
                })
            }
            Self::List { q } => {
                let all: List<PersonalTokenShown> =
                    client.list("/api/v1/tokens", &[("q", q.as_deref())]).await?;
                output::show(global.json, &all, |all| table(&all.items, &output::layout(global)))
            }
            Self::Revoke { id } => {
                client.delete(&format!("/api/v1/tokens/{}", segment(&id))).await?;
                let text = format!("token {id} revoked\n");
                output::removed(global.json, &[id], &text)
            }
        }
    }
}

/// Tokens for people.
pub(super) fn table(tokens: &[PersonalTokenShown], layout: &TableLayout) -> String {
    let mut table =
        Table::new(["ID", "USER", "LABEL", "SCOPES", "CREATED", "EXPIRES", "LAST USED"]);
    for token in tokens {
        let scopes: Vec<_> = token.spec.scopes.iter().map(ToString::to_string).collect();
        table.row([
            token.id.to_string().into(),
            token.name.clone().into(),
            token.spec.label.clone().unwrap_or_default().into(),
            scopes[..].into(),
            token.created.into(),
            token.expires.map_or_else(|| "never".into(), TableCell::from),
            token.last_used.into(),
        ]);
    }
    table.render("no tokens", layout)
}
