//! `keyward plugin reconnect`: reconnects the broken connections in a plugin's slots.

use clap::Args;

use super::summary::PluginArgument;
use super::summary::state_of;
use crate::cli::client::Client;
use crate::cli::connection::state::path;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use crate::cli::{consent, output};
use keyward_api::wire::{self, ConnectionCreated};
use keyward_model::{PluginView, SlotConnectionView, SlotView};
use keyward_state::directory::{ConnectionState, PluginState, Renewal};

#[derive(Debug, Args)]
pub(crate) struct Reconnect {
    #[command(flatten)]
    named: PluginArgument,
    #[command(flatten)]
    how: consent::ConsentOptions,
}

impl Reconnect {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        let plugin: PluginView = client.get(&self.named.path()).await?;
        let mut done: Vec<&str> = Vec::new();
        for slot in &plugin.slots {
            let Some(connection) = &slot.connection else { continue };
            if needs_consent(connection) && !done.contains(&connection.id.as_str()) {
                output::note(&format!("slot {}: connection {}", slot.slot, connection.name));
                let scopes = scopes(&plugin.slots, connection);
                reconnect(global, &client, &connection.name, scopes, &self.how).await?;
                done.push(connection.id.as_str());
            }
        }
        let now: PluginView = client.get(&self.named.path()).await?;
        output::show(global.json, &now, |now| {
            format!("plugin {} of agent {} is {}\n", now.name, now.agent, state_of(now))
        })?;
        // A slot that a consent cannot repair is named with its remedy.
        let left = now.missing.iter().find(|missing| missing.required || done.is_empty());
        match (now.state, left) {
            (PluginState::Blocked, Some(left)) => {
                Err(Failure::new(Exit::Failed, format!("slot `{}`: {}", left.slot, left.message))
                    .hint(left.hint.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// Starts a new consent and waits for its result.
///
/// # Errors
/// When it gave no grant.
pub(super) async fn reconnect(
    global: &Global,
    client: &Client,
    connection: &str,
    scopes: Vec<String>,
    how: &consent::ConsentOptions,
) -> Result<(), Failure> {
    let at = format!("{}/reconnect", path(connection));
    let ask = wire::Reconnect { device: how.device, scopes, register: false };
    let made: ConnectionCreated = client.post(&at, &ask).await?;
    consent::follow(global, client, &made, how).await.map(drop)
}

/// Whether the connection needs a new consent. A paused one does not: a person must resume it.
fn needs_consent(connection: &SlotConnectionView) -> bool {
    // Older gateways do not report the kind of renewal.
    if connection.renewal.is_some_and(|renewal| renewal != Renewal::Consent) {
        return false;
    }
    match connection.state {
        ConnectionState::Broken { .. } | ConnectionState::Draft { .. } => true,
        ConnectionState::Paused => false,
        ConnectionState::Active | ConnectionState::Testing => !connection.scopes_missing.is_empty(),
    }
}

/// What the slots that a connection is in ask for.
fn scopes(slots: &[SlotView], connection: &SlotConnectionView) -> Vec<String> {
    let its = slots.iter().filter_map(|slot| slot.connection.as_ref());
    let mut scopes: Vec<_> = its
        .filter(|other| other.id == connection.id)
        .flat_map(|other| other.scopes_missing.clone())
        .collect();
    scopes.sort();
    scopes.dedup();
    scopes
}
