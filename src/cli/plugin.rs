//! `keyward plugin`: software that declares the connections it needs: installed for an agent, looked at,
//! repaired and removed.

mod install;
mod reconnect;
pub(in crate::cli) mod run;
pub(super) mod summary;
mod wizard;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::summary::PluginArgument;
use self::summary::references;
use self::summary::state_of;
use super::client::Client;
use super::failure::Failure;
use super::output;
use super::resource::{pair, unique};
use super::settings::Global;
use super::terminal::confirm::Confirm;
use super::terminal::table::{Table, TableCell, TableLayout, fields, moment};
use keyward_api::wire::List;
use keyward_model::{PluginChangeOptions, PluginRemoved, PluginView};
use keyward_rules::provider::Catalogue;
use keyward_state::directory::{ManagedBy, Manifest, PluginState};

/// In the message about a slot of an unknown provider.
const LACKS_PROVIDER: &str = "there is no provider `";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// install a plugin for an agent, or a newer version of it: asks for what is new
    #[command(after_help = install::EXAMPLES)]
    Install(Box<install::Install>),
    /// list them
    List {
        /// part of a name, an id or an agent's name
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one: its slots, what is in them, what is missing
    Show(PluginArgument),
    /// read a manifest and report its errors
    Check {
        /// the manifest, keyward-plugin.yaml
        file: PathBuf,
    },
    /// put another connection into a slot
    #[command(
        after_help = "examples:\n  keyward plugin set crm-digest --slot crm=work-hubspot\n  \
                            keyward plugin set crm-digest --agent ci --clear chat"
    )]
    Set(Set),
    /// reconnect the broken connections in its slots
    Reconnect(reconnect::Reconnect),
    /// remove one; its connections stay
    Remove {
        #[command(flatten)]
        named: PluginArgument,
        #[command(flatten)]
        confirm: Confirm,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    named: PluginArgument,
    /// the connection for a slot; may be given several times
    #[arg(long = "slot", value_name = "SLOT=CONNECTION", value_parser = pair)]
    slots: Vec<(String, String)>,
    /// empty an optional slot; may be given several times
    #[arg(long, value_name = "SLOT")]
    clear: Vec<String>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Install(install) => Box::pin(install.run(global)).await,
            Self::Reconnect(reconnect) => Box::pin(reconnect.run(global)).await,
            Self::Check { file } => check(global, &file),
            Self::List { q } => {
                let client = Client::open(global).await?;
                let all = client.list("/api/v1/plugins", &[("q", q.as_deref())]).await?;
                output::show(global.json, &all, |all: &List<PluginView>| {
                    list(&all.items, &output::layout(global))
                })
            }
            Self::Show(named) => {
                let client = Client::open(global).await?;
                let plugin = client.get(&named.path()).await?;
                output::show(global.json, &plugin, |plugin| show(plugin, global))
            }
            Self::Set(set) => set.run(global).await,
            Self::Remove { named, confirm } => {
                let client = Client::open(global).await?;
                if confirm.asks() {
                    let PluginView { name, agent, .. } = client.get(&named.path()).await?;
                    let losses = ["its slots; their connections stay".to_owned()];
                    confirm.ask(format!("remove plugin {name} of agent {agent}"), &losses)?;
                }
                let left: PluginRemoved = client.delete_for(&named.path()).await?;
                output::show(global.json, &left, |left| removed(&named.name, left))
            }
        }
    }
}

impl Set {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let filled = unique(self.slots)?.into_iter().map(|(slot, name)| (slot, Some(name)));
        let mut slots: BTreeMap<_, _> = filled.collect();
        for slot in self.clear {
            if slots.insert(slot.clone(), None).is_some() {
                return Err(Failure::usage(format!("slot `{slot}` is given twice")));
            }
        }
        if slots.is_empty() {
            let hint = "--slot SLOT=CONNECTION, or --clear SLOT";
            return Err(Failure::usage("nothing to change").hint(hint));
        }
        let client = Client::open(global).await?;
        let patch = PluginChangeOptions { manifest: None, slots: references(slots) };
        let plugin: PluginView = client.patch(&self.named.path(), &patch).await?;
        output::show(global.json, &plugin, |plugin| {
            format!("plugin {} of agent {} is {}\n", plugin.name, plugin.agent, state_of(plugin))
        })
    }
}

/// Reads the file as the gateway would. Needs no gateway and no store.
fn check(global: &Global, path: &std::path::Path) -> Result<(), Failure> {
    let own = match global.load() {
        Ok(config) => config.providers,
        Err(_) => {
            output::note("note: the configuration cannot be read: own providers are not known");
            Vec::new()
        }
    };
    let catalogue = Catalogue::built_in().with(own);
    let providers: Vec<_> = catalogue.ids().collect();
    let manifest = summary::read_manifest(path, &providers).map_err(|failure| {
        let lacks_provider = failure.messages().iter().any(|it| it.contains(LACKS_PROVIDER));
        match lacks_provider {
            true => failure.hint(
                "only built-in providers and those of the configuration file are known here; \
                 `keyward plugin install` also knows those of the store",
            ),
            false => failure,
        }
    })?;
    output::show(global.json, &manifest, |manifest| {
        let Manifest { plugin, version, .. } = manifest;
        format!("{plugin} {version} is valid\n")
    })
}

/// What to do about a plugin that is paused.
pub(in crate::cli) fn paused_remedy(name: &str) -> String {
    format!("declare it under `plugins:` again, or remove it: `keyward plugin remove {name}`")
}

/// Who may edit it, as in JSON.
fn managed_by(plugin: &PluginView) -> String {
    match plugin.managed_by {
        ManagedBy::Store => "store".to_owned(),
        ManagedBy::File => "file".to_owned(),
    }
}

fn list(plugins: &[PluginView], layout: &TableLayout) -> String {
    let mut table = Table::new(["NAME", "VERSION", "AGENT", "STATE", "MANAGED BY", "CONNECTIONS"]);
    for plugin in plugins {
        let filled = plugin
            .slots
            .iter()
            .filter_map(|slot| Some(format!("{}={}", slot.slot, slot.connection.as_ref()?.name)));
        table.row([
            plugin.name.clone().into(),
            plugin.version.clone().into(),
            plugin.agent.clone().into(),
            state_of(plugin).into(),
            managed_by(plugin).into(),
            TableCell::List(filled.collect()),
        ]);
    }
    table.render("no plugins: install one with `keyward plugin install FILE`", layout)
}

fn show(plugin: &PluginView, global: &Global) -> String {
    let mut text = fields(&[
        ("name", plugin.name.clone()),
        ("id", plugin.id.to_string()),
        ("version", plugin.version.clone()),
        ("summary", plugin.summary.clone().unwrap_or_default()),
        ("agent", plugin.agent.clone()),
        ("state", state_of(plugin)),
        ("managed by", managed_by(plugin)),
        ("installed", moment(plugin.created)),
    ]);
    match plugin.state {
        PluginState::Paused => {
            text += &format!("hint: {}\n", global.remedy(&paused_remedy(&plugin.name)));
        }
        _ => {
            let hints = plugin.missing.iter().map(|missing| global.remedy(&missing.hint));
            text.extend(hints.map(|hint| format!("hint: {hint}\n")));
        }
    }
    text.push('\n');
    text + &summary::text(&plugin.slots)
}

fn removed(name: &str, left: &PluginRemoved) -> String {
    let mut text = format!("plugin {name} removed\n");
    if left.connections.is_empty() {
        return text;
    }
    text += "its connections stay, and nothing was revoked at their providers:\n";
    for connection in &left.connections {
        let used = match &connection.used_by[..] {
            [] => format!("unused: keyward connection remove {} --revoke", connection.name),
            some => format!("used by {}", some.join(", ")),
        };
        text += &format!("  {} ({}): {used}\n", connection.name, connection.provider);
    }
    text
}
