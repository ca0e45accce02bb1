//! `keyward org`: organisations. Nothing of one exists for another.

use clap::Subcommand;

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::table::{Table, moment};
use keyward_api::wire::{List, NewOrg, OrgView};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// make one, empty
    #[command(after_help = "examples:\n  keyward org add acme\n  \
                            keyward --org acme user add ann --role admin")]
    Add {
        /// 2 to 40 lower-case letters, digits and inner hyphens
        name: String,
    },
    /// list them
    List,
    /// remove one that has nothing any more
    Remove {
        /// its name
        name: String,
    },
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        match self {
            Self::Add { name } => {
                let org: OrgView = client.post("/api/v1/orgs", &NewOrg { name }).await?;
                output::show(global.json, &org, |org| {
                    format!("organisation {} added; work in it with --org {0}\n", org.name)
                })
            }
            Self::List => {
                let all: List<OrgView> = client.list("/api/v1/orgs", &[]).await?;
                output::show(global.json, &all, |all| list(&all.items))
            }
            Self::Remove { name } => {
                client.delete(&format!("/api/v1/orgs/{}", segment(&name))).await?;
                let text = format!("organisation {name} removed\n");
                output::removed(global.json, &[name], &text)
            }
        }
    }
}

fn list(orgs: &[OrgView]) -> String {
    let mut table = Table::new(["NAME", "CREATED"]);
    for org in orgs {
        // The one that is always there was never made.
        let made = if org.name == "default" { String::new() } else { moment(org.created) };
        table.row([org.name.clone(), made]);
    }
    table.render("no organisations", output::colours())
}
