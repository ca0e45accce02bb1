//! The state of a plugin in words, and notes on plugins of a connection that do not work.

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use keyward_api::wire::List;
use keyward_base::id::ConnectionId;
use keyward_model::{MissingSlotView, PluginView, SlotView};
use keyward_state::directory::PluginState;

/// Tells of the plugins that a connection is in and that do not work as they should.
pub(in crate::cli) async fn note_states(
    client: &Client,
    connection: &ConnectionId,
) -> Result<(), Failure> {
    let all: List<PluginView> = client.list("/api/v1/plugins", &[]).await?;
    let has = |slot: &SlotView| slot.connection.as_ref().is_some_and(|it| it.id == *connection);
    let works = all.items.iter().filter(|plugin| plugin.state != PluginState::Paused);
    let using = works.filter(|plugin| plugin.slots.iter().any(has));
    for plugin in using {
        let PluginView { name, agent, .. } = plugin;
        output::note(&format!("note: plugin {name} of agent {agent} is {}", state_of(plugin)));
    }
    Ok(())
}

/// `blocked: slot crm: connection `work` is paused`.
pub(in crate::cli) fn state_of(plugin: &PluginView) -> String {
    let state = plugin.state.code();
    let lacks = plugin.missing.iter().map(|missing| {
        let MissingSlotView { slot, connection, message, .. } = missing;
        match connection {
            Some(_) => format!("slot {slot}: {message}"),
            None => message.clone(),
        }
    });
    let lacks: Vec<_> = lacks.collect();
    match plugin.state {
        PluginState::Ready => state.to_owned(),
        PluginState::Paused => format!("{state}: it is no longer in the configuration"),
        _ => format!("{state}: {}", lacks.join("; ")),
    }
}
