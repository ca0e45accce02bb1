//! `keyward store`: checks a store, moves an installation to another one, and lists the gateways that share one.

mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use http_body_util::BodyExt;
use serde::Serialize;

use super::backup;
use super::client::{Client, streamed};
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use super::terminal::table::{Table, TableLayout};
use keyward_api::wire::{List, ReplicaState, ReplicaView};
use keyward_app::config::{Config, ConfigError};
use keyward_app::{copy_backup, copy_store, is_locked};
use keyward_backup::{AgeIdentity, BackupKey};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// check all rows and indexes of the store
    #[command(after_help = check::HELP)]
    Check(check::Check),
    /// copy all rows into the empty store of another configuration, and compare
    #[command(after_help = COPY_HELP)]
    Copy(Copy),
    /// list the gateways that use the store, with their versions and states
    Replicas,
}

const COPY_HELP: &str = "\
Each FILE is a configuration, as for `keyward serve --config`, and not a store: its
`store` is read, or filled. That of --to must be empty.

Rows are copied as they are sealed, so both configurations need the same master
keys. A running gateway of this machine that has the store sends its rows, and
continues; so does a database that is in use. Later changes are not copied: stop
the gateway first for a complete copy. The source is not changed.

examples:
  keyward store copy --to postgres.yaml
  keyward store copy --from postgres.yaml --to sled.yaml";

/// What to do if there is no file for `--to`.
const NO_TARGET: &str = "write the configuration of the new store there, with its `store`, and give its path as --to; see \
                         docs/guides/replicas.md";
/// The same for `--from`.
const NO_SOURCE: &str =
    "--from is the configuration of the present store; without it, the one in use is copied";

#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// the configuration of the present store; the one in use by default
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// the configuration of the new store
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Serialize)]
struct Copied {
    rows: usize,
    /// Whether a gateway still uses the source.
    in_use: bool,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Check(check) => check.run(global).await,
            Self::Copy(copy) => copy.run(global).await,
            Self::Replicas => replicas(global).await,
        }
    }

    /// The name, if it works with the files of this machine.
    pub(crate) fn of_this_machine(&self) -> Option<&'static str> {
        match self {
            Self::Check(check) if check.is_of_this_machine() => Some("store check --repair"),
            Self::Copy(_) => Some("store copy"),
            Self::Check(_) | Self::Replicas => None,
        }
    }
}

impl Copy {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self { from, to } = self;
        let data = global.data_dir()?;
        let is_own = from.is_none();
        let from = match from {
            Some(path) => named(&path, &data, NO_SOURCE)?,
            None => global.load()?,
        };
        let to = named(&to, &data, NO_TARGET)?;
        let copied = match Box::pin(copy_store(&from, &to)).await {
            Ok(rows) => Copied { rows, in_use: false },
            Err(error) if is_own && is_locked(&error) => {
                let rows = Box::pin(copy_of_running(global, &to)).await?;
                Copied { rows, in_use: true }
            }
            Err(error) => return Err(error.into()),
        };
        output::show(global.json, &copied, Copied::text)
    }
}

/// The configuration in a file that must exist: `keyward init` would write one for another installation.
fn named(path: &Path, data: &Path, missing: &str) -> Result<Config, Failure> {
    Config::load(Some(path), Some(data)).map_err(|error| {
        let is_missing = matches!(&error, ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound);
        let failure = Failure::from(error);
        if is_missing { failure.hint(missing) } else { failure }
    })
}

impl Copied {
    fn text(&self) -> String {
        let rows = self.rows;
        match self.in_use {
            true => format!(
                "copied {rows} rows of the running gateway; its later changes are not copied\n"
            ),
            false => format!("copied {rows} rows; both stores are equal\n"),
        }
    }
}

/// Copies what the running gateway sends, for a key that this process alone has.
async fn copy_of_running(global: &Global, to: &Config) -> Result<usize, Failure> {
    let client = Client::running(global).await?;
    let identity = AgeIdentity::generate();
    let ask = backup::BackupRequest::of(vec![identity.recipient().to_string()]);
    let incomplete = |error: axum::Error| {
        Failure::new(Exit::Failed, format!("the copy is not complete: {error}"))
            .hint("the log of the gateway says why; nothing was written")
    };
    let sent = streamed(client.begin("/api/v1/backup", &ask).await?).await?;
    let sent = sent.collect().await.map_err(incomplete)?.to_bytes();
    let opening = BackupKey::Identities(vec![identity]);
    Ok(copy_backup(&sent, &opening, to).await?)
}

async fn replicas(global: &Global) -> Result<(), Failure> {
    let client = Client::open(global).await?;
    let all: List<ReplicaView> = client.list("/api/v1/replicas", &[]).await?;
    let own = all.items.iter().find(|one| one.own);
    if let Some(own) = own.filter(|one| one.state == ReplicaState::Gone) {
        output::note(&format!(
            "warning: this gateway has announced itself to no replica since {:.0}: which others run is not known; check that the database can be written",
            own.seen
        ));
    }
    output::show(global.json, &all, |all| table(&all.items, &output::layout(global)))
}

fn table(all: &[ReplicaView], layout: &TableLayout) -> String {
    let mut table =
        Table::new(["HOST", "PROXY", "STATE", "VERSION", "SEEN", "LAG", "CLOCK", "CONFIGURATION"]);
    for replica in all {
        let host = if replica.own { "* " } else { "" }.to_owned() + &replica.host;
        table.row([
            host.into(),
            replica.proxy.as_str().into(),
            replica.state.name().into(),
            replica.version.as_str().into(),
            replica.seen.into(),
            format!("{:.1}s", Duration::from_millis(replica.lag_ms).as_secs_f64()).into(),
            clock(replica).into(),
            if replica.config_differs { "differs" } else { "same" }.into(),
        ]);
    }
    let mut text = table.render("no replicas: no other gateway uses the store", layout);
    for replica in all {
        for listener in &replica.database_listeners {
            let state = listener.problem.as_deref().unwrap_or("open");
            let (host, name, at) = (&replica.host, &listener.name, &listener.at);
            text += &format!("database listener {name} on {host} at {at}: {state}\n");
        }
    }
    text
}

/// `+12s`: the replica's clock is ahead of the database.
fn clock(replica: &ReplicaView) -> String {
    match replica.clock_differs() {
        Some(ahead) => format!("{:+}s", ahead / 1_000),
        None => "same".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replicas_fit_a_terminal() {
        let replica = |host: &str, state: &str, own: bool| {
            serde_json::from_value(json!({
                "host": host, "proxy": "0.0.0.0:8080", "admin": "127.0.0.1:8081", "version": "0.1.0",
                "started": "2025-01-02T09:00:00Z", "seen": "2025-01-02T11:59:57Z", "lag_ms": 210,
                "state": state, "own": own, "config_differs": !own,
                "clock_ahead_ms": if own { -12 } else { 61_000 },
            }))
            .unwrap()
        };
        let all = [replica("keyward-1", "ready", true), replica("keyward-2", "gone", false)];
        insta::assert_snapshot!(table(&all, &TableLayout::narrow()));
        insta::assert_snapshot!(table(&[], &TableLayout::narrow()), @"no replicas: no other gateway uses the store");
    }
}
