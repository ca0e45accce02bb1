//! What `serve --take-over` checks while the gateway before it serves. With the embedded store, that gateway ends before
//! this process can compare the configuration with the store, so a start that is refused then leaves no gateway.

use std::fs;
use std::path::PathBuf;

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use keyward_api::wire::{PlanAsk, PlanView};
use keyward_app::Services;
use keyward_app::config::{Config, StoreChoice};

/// Refuses a configuration that the start would refuse. Names that the file does not declare may be in the store, so
/// the gateway that serves is asked for them. Its other problems do not count: it may be of an older version, and have
/// other variables.
pub(super) async fn check(global: &Global, config: &Config) -> Result<(), Failure> {
    if !config.is_file_named()
        && let Some(file) = other_file_of_running(global, config).await
    {
        let message = format!("the gateway has the configuration file {}", file.display());
        let keyward = Global { config: Some(file), ..global.clone() }.keyward();
        let hint = format!("nothing was taken over; name it: `{keyward} serve --take-over`");
        return Err(Failure::new(Exit::Failed, message).hint(hint));
    }
    // With a database, the gateway before ends when this one is ready.
    if let StoreChoice::Postgres(_) = config.store {
        return Ok(());
    }
    let checked = Services::check(config).await?;
    let mut refused: Vec<_> = checked.problems.iter().map(|it| it.text.clone()).collect();
    if !checked.not_in_file().is_empty()
        && let Some(plan) = plan_of_running(global, config).await
    {
        refused.extend(checked.missing_in(&plan));
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Failure::several(refused).hint("nothing was taken over")),
    }
}

/// The gateway of this data directory; `None` if none answers.
async fn running(global: &Global) -> Option<Client> {
    Client::running(global).await.ok().filter(|client| client.host().is_none())
}

/// Its configuration file, if it is there and is not that of `config`.
async fn other_file_of_running(global: &Global, config: &Config) -> Option<PathBuf> {
    let file = PathBuf::from(running(global).await?.status().await?.config);
    let found = fs::canonicalize(&file).ok()?;
    (fs::canonicalize(config.file()).ok() != Some(found)).then_some(file)
}

/// Its plan of the configuration file.
async fn plan_of_running(global: &Global, config: &Config) -> Option<PlanView> {
    let client = running(global).await?;
    let file = std::path::absolute(config.file()).ok();
    client.post("/api/v1/plan", &PlanAsk { file }).await.ok()
}
