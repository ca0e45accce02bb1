//! `keyward connection remove`: removes a connection here at once, and revokes its tokens at the provider with
//! `--revoke`.

use serde::Serialize;

use super::state::path;
use crate::cli::client::{Client, segment};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::confirm::Removal;
use crate::cli::terminal::table::moment;
use keyward_api::wire::{ConnectionRemoved, List, ProviderSource};
use keyward_model::{Agent, Connection, PluginAffected, Shown};

/// Removes the connection; `revoke`: also revokes its access at the provider, and reports the result.
pub(super) async fn run(
    global: &Global,
    client: &Client,
    Removal { name, confirm }: Removal,
    revoke: bool,
) -> Result<(), Failure> {
    let name = name.as_str();
    let connection: Result<Shown<Connection>, Failure> = client.get(&path(name)).await;
    let provider = connection.as_ref().ok().map(|it| it.spec.provider.clone());
    if confirm.asks() {
        let connection = connection?;
        let losses = losses(client, &connection).await?;
        confirm.ask(format!("remove connection {}", connection.name), &losses)?;
    }
    let at = format!("{}{}", path(name), if revoke { "?revoke=true" } else { "" });
    let told: ConnectionRemoved = client.delete_for(&at).await?;
    if let Some(provider) = provider {
        note_unused(client, &provider).await;
    }
    let plugins = told.plugins.clone();
    let told = revoke.then_some(ConnectionRemoved { plugins: Vec::new(), ..told });
    let removed = ConnectionRemoval { removed: [name], told, plugins };
    output::show(global.json, &removed, |removed| {
        let told = removed.told.as_ref().map(revoked).unwrap_or_default();
        let told = told + &removed.plugins.iter().map(without).collect::<String>();
        format!("connection {name} removed\n{told}")
    })
}

/// Notes that an own provider is unused now: it still reserves its hosts.
async fn note_unused(client: &Client, id: &str) {
    let Ok(provider) = crate::cli::provider::of(client, id).await else { return };
    let others = format!("/api/v1/connections?limit=1&provider={}", segment(id));
    let others: Result<List<Shown<Connection>>, _> = client.get(&others).await;
    let is_unused = others.is_ok_and(|others| others.items.is_empty());
    if is_unused && provider.managed_by == Some(ProviderSource::Store) {
        output::note(&format!(
            "note: no connection uses your provider {id} now; if you no longer need it: keyward provider remove {id}"
        ));
    }
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
struct ConnectionRemoval<'a> {
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
        (Some(true), ..) => "the access is revoked at the provider\n".to_owned(),
        (_, Some(until), None, _) => format!(
            "the provider cannot be reached now: the revocation is retried until {} while the gateway runs\n",
            moment(*until)
        ),
        (_, Some(until), Some(why), _) => format!(
            "the provider has not revoked the access yet: {why}; the revocation is retried until {} while the \
             gateway runs\n",
            moment(*until)
        ),
        (_, _, Some(why), _) => format!("the provider did not revoke the access: {why}\n"),
        (.., Some(page)) => {
            format!("the provider offers no revocation: revoke the access at {page}\n")
        }
        _ => "the provider offers no revocation: revoke the access there by hand\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn only_a_provider_that_does_not_answer_is_said_to_be_out_of_reach() {
        let told = |until: bool, why: Option<&str>| {
            let until = until.then_some(Timestamp::UNIX_EPOCH);
            let why = why.map(str::to_owned);
            revoked(&ConnectionRemoved {
                revoked_upstream: Some(false),
                until,
                why,
                ..Default::default()
            })
        };
        let refused = "the authorization server refused (strange)";
        for (told, begins) in [
            (
                told(true, None),
                "the provider cannot be reached now: the revocation is retried until ",
            ),
            (
                told(true, Some(refused)),
                "the provider has not revoked the access yet: the authorization server refused (strange); \
                 the revocation is retried until ",
            ),
            (
                told(false, Some(refused)),
                "the provider did not revoke the access: the authorization server refused (strange)\n",
            ),
        ] {
            assert!(told.starts_with(begins), "{told}");
        }
    }
}
