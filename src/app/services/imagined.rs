//! Services that hold what a configuration declares and nothing else, in memory: rules can be judged
//! wherever the file is, without its store, its keys and its secrets.

use std::sync::Arc;

use super::{Inputs, Opened, Services, all, refused};
use crate::config::Config;
use keyward_proxy::ca::authority::Authority;

impl Services {
    /// The agents, connections, bindings and rules of `config`. The connections have no grants:
    /// what a request gets is decided without them, and nothing can be sent.
    ///
    /// # Errors
    /// Everything that is declared and cannot be; what only the store has does not exist.
    pub async fn imagined(config: &Config) -> anyhow::Result<Arc<Self>> {
        let inputs = Inputs::without_secrets(config).map_err(refused)?;
        let opened = Opened::in_memory(config, Authority::ephemeral()).await?;
        opened.bring_in_line(config, inputs).await?;
        let rulebook = opened.rulebook(config, config.rules.clone()).map_err(all)?;
        opened.finish(config, Vec::new(), config.public_url.clone(), rulebook)
    }
}
