//! Services in memory with nothing but the declared resources: rules can be tested without the store, its
//! keys and its secrets.

use std::sync::Arc;

use super::{Inputs, OpenedServices, Services, ServingInputs, all, plan};
use crate::app::error::refused;
use crate::config::Config;
use keyward_api::wire::PlanView;
use keyward_proxy::ca::authority::Authority;

impl Services {
    /// The agents, connections, bindings and rules of `config`. The connections have no grants: decisions
    /// do not need them, and nothing can be sent.
    ///
    /// # Errors
    /// All problems of the declared resources; resources of the store do not exist.
    pub async fn declared_only(config: &Config) -> anyhow::Result<Arc<Self>> {
        let inputs = Inputs::without_secrets(config).map_err(refused)?;
        let opened = OpenedServices::in_memory(config, Authority::ephemeral()).await?;
        opened.bring_in_line(config, inputs).await?;
        let rulebook = opened.rulebook(config, config.rules.clone()).map_err(all)?;
        opened.finish(config, ServingInputs::at_rest(config), rulebook)
    }

    /// The plan of `config` for an empty store, without secrets: it has the problems of the file alone.
    ///
    /// # Errors
    /// When the services in memory cannot be made.
    pub async fn check(config: &Config) -> anyhow::Result<PlanView> {
        let inputs = match Inputs::without_secrets(config) {
            Ok(inputs) => inputs,
            Err(problems) => return Ok(plan::view(&Err(problems), Vec::new())),
        };
        let opened = OpenedServices::in_memory(config, Authority::ephemeral()).await?;
        Ok(plan::view(&opened.plan(config, inputs), Vec::new()))
    }
}
