//! What commands on plugins share: the manifest's file, the plugin that a command names, its state and its slots,
//! and what it will reach, before a person agrees to it and whenever it is shown.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;

use crate::cli::client::{Client, segment};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::terminal::table::fields;
use keyward_api::wire::List;
use keyward_app::config::{ManifestError, manifest_file};
use keyward_base::id::ConnectionId;
use keyward_model::{MissingSlotView, PluginView, Reference, SlotConnectionView, SlotView};
use keyward_rules::provider::scope_words::worded_scopes;
use keyward_state::directory::{Manifest, PluginState};

/// Slots, one paragraph each: lists of hosts and paths are too long for the columns of a table.
pub(super) fn text(slots: &[SlotView]) -> String {
    if slots.is_empty() {
        return "no slots\n".to_owned();
    }
    let mut text = String::new();
    for slot in slots {
        text += &match &slot.connection {
            Some(connection) => filled(slot, connection),
            None if slot.required => format!("{}: empty\n", slot.slot),
            None => format!("{}: empty, optional\n", slot.slot),
        };
    }
    for slot in slots {
        let Some(connection) = &slot.connection else { continue };
        let name = &connection.name;
        if connection.unlimited
            && !(slot.methods.is_empty() && slot.paths.is_empty() && slot.allow.is_empty())
        {
            text += &format!(
                "note: the agent may use {name} without the plugin as well: the limits of slot {} apply\n\
                 only after: keyward agent unbind AGENT {name}\n",
                slot.slot
            );
        }
        if !connection.scopes_missing.is_empty() {
            let remedy = connection.remedy.as_deref();
            text += &format!(
                "note: {name} was not granted {}: {}\n",
                worded_scopes(&connection.scopes_missing, &slot.scope_words),
                remedy.unwrap_or("`keyward plugin reconnect` requests it")
            );
        }
    }
    text
}

/// `repo: work (octocat)`, and what the slot allows.
fn filled(slot: &SlotView, connection: &SlotConnectionView) -> String {
    let account = connection.account.as_ref().map(|account| format!(" ({account})"));
    let allowed = |texts: &[String]| match texts {
        [] => "all".to_owned(),
        _ if connection.unlimited => "all".to_owned(),
        texts => texts.join(", "),
    };
    let actions = if connection.unlimited { String::new() } else { slot.allow.join(", ") };
    let rows = fields(&[
        ("  hosts", connection.hosts.join(", ")),
        ("  methods", allowed(&slot.methods)),
        ("  paths", allowed(&slot.paths)),
        ("  actions", actions),
        ("  own authorization", slot.own_authorization.text().to_owned()),
        ("  scopes", worded_scopes(&slot.scopes, &slot.scope_words)),
    ]);
    format!("{}: {}{}\n{rows}", slot.slot, connection.name, account.unwrap_or_default())
}

/// Reads it; `providers` are the ids of the known ones.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub(super) fn read_manifest(path: &Path, providers: &[&str]) -> Result<Manifest, Failure> {
    manifest_file(path, providers).map_err(|error| match error {
        ManifestError::Unreadable { path, source } => {
            Failure::failed(&path.display().to_string(), &source)
        }
        ManifestError::TooLong(_) => Failure::new(Exit::Failed, error.to_string()),
        ManifestError::Problems(problems) => Failure::problems(&problems),
    })
}

/// Which plugin.
#[derive(Clone, Debug, Args)]
pub(crate) struct PluginArgument {
    /// name or id
    pub(super) name: String,
    /// its agent, if several have a plugin of that name
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

impl PluginArgument {
    /// Its path in the API.
    pub(super) fn path(&self) -> String {
        let query = self.agent.as_deref().map(|agent| format!("?agent={}", segment(agent)));
        format!("/api/v1/plugins/{}{}", segment(&self.name), query.unwrap_or_default())
    }
}

/// Names or ids of connections by slot; `None` empties one.
pub(super) fn references(
    slots: BTreeMap<String, Option<String>>,
) -> BTreeMap<String, Option<Reference<ConnectionId>>> {
    let reference = |name: String| Reference::new(&name);
    slots.into_iter().map(|(slot, name)| (slot, name.map(reference))).collect()
}

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
