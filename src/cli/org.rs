//! `keyward org`: organisations. No resource of one is visible in another.

use clap::Subcommand;

use super::client::Client;
use super::failure::Failure;
use super::resource::{Column, Columns, Named, ResourceContext};
use super::settings::Global;
use super::terminal::confirm::Removal;
use keyward_model::{Org, OrgSpec, Shown};

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
    /// show one
    Show(Named),
    /// remove one that is empty
    Remove(Removal),
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add { name } => {
                let added = |org: &Shown<Org>| {
                    format!("organisation {} added; work in it with --org {0}\n", org.name())
                };
                asked.add::<Org, _>(&OrgSpec { name }, added).await
            }
            Self::List => asked.list::<Org>(None).await,
            Self::Show(Named { name }) => asked.show::<Org>(&name).await,
            Self::Remove(removal) => asked.remove::<Org>(removal).await,
        }
    }
}

impl Columns for Org {
    const MANY: &str = "organisations";
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |org| org.name().to_owned()),
        // The default one was never made.
        Column::time("CREATED", "created", |org| (org.name() != "default").then_some(org.created)),
    ];
}
