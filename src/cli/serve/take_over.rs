//! What `serve --take-over` checks while the gateway before it serves. With the embedded store, that gateway ends before
//! this process can compare the configuration with the store, so a start that is refused then leaves no gateway.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use keyward_api::wire::{PlanRequest, PlanView};
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
        let hint = format!(
            "nothing was taken over; name it: `{keyward} serve --take-over`, or name the file that replaces it with \
             --config"
        );
        return Err(Failure::new(Exit::Failed, message).hint(hint));
    }
    // With a database, the gateway before ends when this one is ready.
    if let StoreChoice::Postgres(_) = config.store {
        return Ok(());
    }
    if !config.has_file() && (config.rules_missing() > 0 || would_end_declared(global).await) {
        let message = "the configuration file of the gateway is gone, and what it declared would be paused or removed";
        let hint =
            "nothing was taken over; name a file with --config, an empty one if that is intended";
        return Err(Failure::new(Exit::Failed, message).hint(hint));
    }
    let checked = Services::check(config).await?;
    let mut refused: Vec<_> = checked.problems.iter().map(|it| it.text.clone()).collect();
    if !checked.not_in_file().is_empty()
        && let Some(plan) = plan_of_running(global, config.file()).await
    {
        refused.extend(checked.missing_in(&plan));
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Failure::several(refused).hint("nothing was taken over")),
    }
}

/// Its configuration file, if it is there and is not that of `config`.
async fn other_file_of_running(global: &Global, config: &Config) -> Option<PathBuf> {
    let file = PathBuf::from(Client::running_here(global).await?.status().await?.config);
    let found = fs::canonicalize(&file).ok()?;
    (fs::canonicalize(config.file()).ok() != Some(found)).then_some(file)
}

/// Whether an empty file would end what its configuration declares.
async fn would_end_declared(global: &Global) -> bool {
    let Some(plan) = plan_of_running(global, Path::new("/dev/null")).await else { return false };
    plan.steps.iter().any(|step| matches!(&*step.action, "pause" | "remove"))
}

/// Its plan of a configuration file.
async fn plan_of_running(global: &Global, file: &Path) -> Option<PlanView> {
    let client = Client::running_here(global).await?;
    let file = std::path::absolute(file).ok();
    client.post("/api/v1/plan", &PlanRequest { file }).await.ok()
}
