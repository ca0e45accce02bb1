//! `keyward run --plugin FILE`: checks that the plugin works before its program starts.

use std::path::Path;

use super::summary;
use super::summary::state_of;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use keyward_api::wire::{List, ProviderView};
use keyward_model::{Agent, PluginView, Shown};
use keyward_state::directory::{ManagedBy, PluginState};

/// Leaves of the agent's bindings those that are in slots of the plugin: their placeholders are set.
///
/// # Errors
/// When it is not installed for the agent, in another version, or blocked.
pub(in crate::cli) async fn check_and_select(
    client: &Client,
    path: &Path,
    agent: &mut Shown<Agent>,
) -> Result<(), Failure> {
    let all: List<ProviderView> = client.list("/api/v1/providers", &[]).await?;
    let providers: Vec<_> = all.items.iter().map(|provider| provider.id.as_str()).collect();
    let manifest = summary::read_manifest(path, &providers)?;
    let plugins: List<PluginView> = client.list("/api/v1/plugins", &[]).await?;
    let mut of_agent =
        plugins.items.iter().filter(|plugin| plugin.agent_id.id() == Some(&agent.id));
    let install = format!("keyward plugin install {} --agent {}", path.display(), agent.name);
    let Some(plugin) = of_agent.find(|plugin| plugin.name == manifest.plugin) else {
        let (plugin, agent) = (&manifest.plugin, &agent.name);
        let message = format!("plugin `{plugin}` is not installed for agent `{agent}`");
        return Err(Failure::new(Exit::Failed, message).hint(install));
    };
    if plugin.version != manifest.version {
        let (name, installed, file) = (&plugin.name, &plugin.version, &manifest.version);
        let message =
            format!("version {installed} of plugin `{name}` is installed, and the file is {file}");
        let hint = match plugin.managed_by {
            ManagedBy::Store => install,
            ManagedBy::File => {
                "the configuration file installs it from a manifest that `plugins:` \
                                names there: bring that up to date"
                    .to_owned()
            }
        };
        return Err(Failure::new(Exit::Failed, message).hint(hint));
    }
    if plugin.state == PluginState::Paused {
        let failure = format!("plugin `{}` is {}", plugin.name, state_of(plugin));
        return Err(Failure::new(Exit::Failed, failure).hint(super::paused_remedy(&plugin.name)));
    }
    if plugin.state == PluginState::Blocked {
        let hint = plugin.missing.iter().find(|missing| missing.required).map(|it| &it.hint);
        let failure = format!("plugin `{}` is {}", plugin.name, state_of(plugin));
        let failure = Failure::new(Exit::Failed, failure);
        return Err(match hint {
            Some(hint) => failure.hint(hint.clone()),
            None => failure,
        });
    }
    agent
        .facts
        .bindings
        .retain(|binding| binding.slots.iter().any(|slot| slot.plugin == plugin.name));
    Ok(())
}
