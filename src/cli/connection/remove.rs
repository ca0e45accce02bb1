//! `keyward connection remove`: it ends here at once, and at the provider where that is asked for.

use serde::Serialize;

use super::path;
use crate::cli::client::Client;
use crate::cli::confirm::Removal;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::table::moment;
use keyward_api::wire::{ConnectionRemoved, List};
use keyward_model::{Agent, Connection, PluginAffected, Shown};

/// Removes the connection; `revoke`: has the provider take the access back, and tells what came of it.
pub(super) async fn run(
    global: &Global,
    client: &Client,
    Removal { name, confirm }: Removal,
    revoke: bool,
) -> Result<(), Failure> {
    let name = name.as_str();
    if confirm.asks() {
        let connection: Shown<Connection> = client.get(&path(name)).await?;
        let losses = losses(client, &connection).await?;
        confirm.ask(format!("remove connection {}", connection.name), &losses)?;
    }
    let at = format!("{}{}", path(name), if revoke { "?revoke=true" } else { "" });
    let told: ConnectionRemoved = client.delete_for(&at).await?;
    let plugins = told.plugins.clone();
    let told = revoke.then_some(ConnectionRemoved { plugins: Vec::new(), ..told });
    let removed = Removed { removed: [name], told, plugins };
    output::show(global.json, &removed, |removed| {
        let told = removed.told.as_ref().map(revoked).unwrap_or_default();
        let told = told + &removed.plugins.iter().map(without).collect::<String>();
        format!("connection {name} removed\n{told}")
    })
}

/// What ends with the connection.
async fn losses(client: &Client, connection: &Shown<Connection>) -> Result<Vec<String>, Failure> {
    let agents: List<Shown<Agent>> = client.list("/api/v1/agents", &[]).await?;
    let has = |agent: &&Shown<Agent>| {
        agent.facts.bindings.iter().any(|binding| binding.connection == connection.id)
    };
    let names: Vec<_> = agents.items.iter().filter(has).map(|agent| agent.name()).collect();
    let mut losses = vec!["its secret is wiped".to_owned()];
    if !names.is_empty() {
        losses.push(format!("agents that lose it, with their open streams: {}", names.join(", ")));
    }
    Ok(losses)
}

/// As every command that removes says it, and what came of `--revoke`.
#[derive(Serialize)]
struct Removed<'a> {
    removed: [&'a str; 1],
    #[serde(flatten)]
    told: Option<ConnectionRemoved>,
    /// What used it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<PluginAffected>,
}

/// What a plugin is now.
fn without(plugin: &PluginAffected) -> String {
    let PluginAffected { plugin: name, agent, slots, state, .. } = plugin;
    let (slots, state) = (slots.join(", "), state.code());
    format!("plugin {name} of agent {agent} is {state} now: slot {slots} is empty\n")
}

/// The truth about the provider.
fn revoked(removed: &ConnectionRemoved) -> String {
    match (removed.revoked_upstream, &removed.until, &removed.why, &removed.by_hand) {
        (Some(true), ..) => "the provider has taken the access back\n".to_owned(),
        (_, Some(until), ..) => format!(
            "the provider cannot be told now: it is tried until {}, while the gateway runs\n",
            moment(*until)
        ),
        (_, _, Some(why), _) => format!("the provider did not take the access back: {why}\n"),
        (.., Some(page)) => format!("the provider has no way to be told: take it away at {page}\n"),
        _ => "the provider has no way to be told: take the access away there by hand\n".to_owned(),
    }
}
