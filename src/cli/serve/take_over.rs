//! What `serve --take-over` checks while the gateway before it serves. With the embedded store, that gateway ends before
//! this process can compare the configuration with the store, so a start that is refused then leaves no gateway.

use crate::app::Services;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::settings::Global;
use crate::config::{Config, StoreChoice};
use keyward_api::wire::{PlanAsk, PlanView};

/// Refuses a configuration that the start would refuse. Names that the file does not declare may be in the store, so
/// the gateway that serves is asked for them. Its other problems do not count: it may be of an older version, and have
/// other variables.
pub(super) async fn check(global: &Global, config: &Config) -> Result<(), Failure> {
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

/// The plan of the gateway of this data directory; `None` if none answers.
async fn plan_of_running(global: &Global, config: &Config) -> Option<PlanView> {
    let client = Client::running(global).await.ok().filter(|client| client.host().is_none())?;
    let file = std::path::absolute(config.file()).ok();
    client.post("/api/v1/plan", &PlanAsk { file }).await.ok()
}
