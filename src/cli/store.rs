//! `keyward store copy`: moves an installation to another store.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::failure::Failure;
use super::output;
use super::settings::Global;
use crate::app::copy_store;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// copy all rows into the empty store of another configuration, and compare
    #[command(after_help = COPY_HELP)]
    Copy(Copy),
}

const COPY_HELP: &str = "\
Rows are copied as they are sealed, so both configurations need the same master keys. Stop the gateway
first: what it changes after the copy stays behind. The source is not changed.

examples:
  keyward store copy --to postgres.yaml
  keyward store copy --from postgres.yaml --to sled.yaml";

#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// the configuration of the present store; the one in use by default
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// the configuration of the new store
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// What was copied.
#[derive(Serialize)]
struct Copied {
    rows: usize,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self::Copy(Copy { from, to }) = self;
        let data = global.data_dir()?;
        let from = match from {
            Some(path) => Config::load(Some(&path), Some(&data))?,
            None => global.load()?,
        };
        let to = Config::load(Some(&to), Some(&data))?;
        let rows = Box::pin(copy_store(&from, &to)).await?;
        let told =
            |copied: &Copied| format!("copied {} rows; both stores are equal\n", copied.rows);
        output::show(global.json, &Copied { rows }, told)
    }
}
