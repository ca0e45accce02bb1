//! Services that hold what a configuration declares and nothing else, in memory: rules can be judged
//! wherever the file is, without its store, its keys and its secrets.

use std::sync::Arc;

use super::super::foresee::to_be_made;
use super::{Opened, Services, all, declared};
use crate::app::AppError;
use crate::config::Config;
use keyward_proxy::ca::authority::Authority;
use keyward_vault::Vault;

impl Services {
    /// The agents, connections, bindings and rules of `config`. The connections have no grants:
    /// what a request gets is decided without them, and nothing can be sent.
    ///
    /// # Errors
    /// Everything that is declared and cannot be; what only the store has does not exist.
    pub async fn imagined(config: &Config) -> anyhow::Result<Arc<Self>> {
        let opened = Opened::in_memory(config, Authority::ephemeral()).await?;
        let mut problems = declare(config, &opened.vault).await;
        let rulebook = opened.rulebook(config, config.rules.clone()).map_err(all);
        match rulebook {
            Ok(rulebook) if problems.is_empty() => {
                opened.finish(config, (Vec::new(), config.public_url.clone()), rulebook)
            }
            Ok(_) => Err(AppError::Declared(problems).into()),
            Err(error) => {
                if let AppError::Declared(more) = error {
                    problems.extend(more);
                }
                Err(AppError::Declared(problems).into())
            }
        }
    }
}

async fn declare(config: &Config, vault: &Vault) -> Vec<String> {
    let (mut problems, catalogue) = (Vec::new(), vault.catalogue());
    if let Err(error) = declared::orgs(config, vault.directory()).await {
        problems.push(format!("{error:#}"));
    }
    for connection in &config.connections {
        let made = to_be_made(connection, &catalogue);
        if let Err(error) = vault.directory().add_connection(made).await {
            let (place, name) = (&connection.place, &connection.name);
            problems.push(format!("{place}: connection `{name}`: {error}"));
        }
    }
    let manifests = declared::plugins::manifests(config, &mut problems);
    for agent in &config.agents {
        if let Err(error) = declared::agent(vault, agent, None).await {
            problems.push(format!("{}: agent `{}`: {error:#}", agent.place, agent.name()));
        }
    }
    if problems.is_empty()
        && let Err(error) = declared::plugins::plugins(config, &manifests, vault).await
    {
        problems.push(format!("{error:#}"));
    }
    problems
}
