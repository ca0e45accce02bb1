//! `keyward connection consents`: consents that are open, and how one is ended.

use clap::{Args, Subcommand};

use crate::cli::client::{Client, segment};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::table::{Table, TableLayout};
use keyward_api::wire::OpenConsent;
use keyward_vault::oauth::{FlowState, FlowView};

pub(super) const EXAMPLES: &str = "\
examples:
  keyward connection consents
  keyward connection consents --connection work
  keyward connection consents cancel flw_0123456789abcdef

A consent ends by itself after ten minutes (`oauth.flow_lifetime`). Cancelling
one changes nothing for a connection that works; a grant that waits for a
decision about another account is declined.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Consents {
    #[command(subcommand)]
    end: Option<ConsentEnd>,
    /// those of one connection: name or id
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ConsentEnd {
    /// cancel unfinished consents
    Cancel {
        /// ids, as `keyward connection consents` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

impl Consents {
    pub(super) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let Some(ConsentEnd::Cancel { ids }) = self.end else {
            let named = ("connection", self.connection.as_deref());
            let all = client.list("/api/v1/flows", &[named]).await?;
            return output::show(global.json, &all, |all| {
                table(&all.items, &output::layout(global))
            });
        };
        let mut cancelled: Vec<FlowView> = Vec::new();
        for id in &ids {
            let at = format!("/api/v1/flows/{}/cancel", segment(id));
            cancelled.push(client.post(&at, &serde_json::json!({})).await?);
        }
        output::show(global.json, &cancelled, |all| {
            let line = |flow: &FlowView| match &flow.state {
                FlowState::Failed { why } => format!("consent {}: {why}\n", flow.id),
                _ => format!("consent {} is cancelled\n", flow.id),
            };
            all.iter().map(line).collect()
        })
    }
}

fn table(consents: &[OpenConsent], layout: &TableLayout) -> String {
    let mut table =
        Table::new(["ID", "CONNECTION", "STARTED BY", "STARTED", "EXPIRES", "WAITS FOR"]);
    for OpenConsent { name, flow } in consents {
        let waits = match &flow.state {
            FlowState::Confirm { .. } => "a decision about another account",
            FlowState::Held { .. } => "its platform",
            _ => "a consent",
        };
        table.row([
            flow.id.to_string().into(),
            name.clone().into(),
            flow.person.clone().into(),
            flow.created.into(),
            flow.expires.into(),
            waits.into(),
        ]);
    }
    table.render("no consent is open", layout)
}
