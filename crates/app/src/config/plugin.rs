//! `plugins:`: manifests that are installed for agents, with the connection in each slot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_yaml::Value;

use super::manifest;
use super::reading::ConfigReading;
use super::reading::KnownProviders;
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::directory::Manifest;

/// A plugin of the configuration.
#[derive(Clone, Debug)]
pub struct DeclaredPlugin {
    /// Its org: its agent's and its connections'.
    pub org: OrgId,
    /// The name of the agent that it is installed for, of the configuration or of the store.
    pub agent: String,
    /// What its author declares.
    pub manifest: ManifestSource,
    /// Names of connections by slot, of the configuration or of the store, each with where it stands.
    pub slots: BTreeMap<String, (String, String)>,
    /// Where it stands, for errors: `keyward.yaml:12: plugins[0]`.
    pub place: String,
}

#[derive(Clone, Debug)]
pub enum ManifestSource {
    /// In the configuration.
    Inline(Box<Manifest>),
    /// In a file, which is read when it is needed.
    File(PathBuf),
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct PluginText {
        /// What its author declares: the path of a `keyward-plugin.yaml`, or its content.
        #[key("path, or [manifest](../guides/plugins.md#the-manifest)", required)]
        manifest: Option<Value>,
        /// Its organisation, which is its agent's and its connections'.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// The agent that it is installed for, of this file or of the store. An agent has one plugin of a
        /// name.
        #[key("name of an agent", required)]
        agent: Option<String>,
        /// The connection in each slot, of this file or of the store. Required slots need one.
        #[key("map of slots to names of connections", "{}")]
        #[serde(default)]
        slots: BTreeMap<String, String>,
    }
}

impl DeclaredPlugin {
    /// The file with its manifest.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        match &self.manifest {
            ManifestSource::File(path) => Some(path),
            ManifestSource::Inline(_) => None,
        }
    }
}

/// Reads `plugins:`. What a manifest asks for and what its slots are given is compared once manifests in
/// files are read.
pub(super) fn plugins(
    value: Option<&Value>,
    providers: &KnownProviders<'_>,
    reading: &mut ConfigReading<'_>,
) -> Vec<DeclaredPlugin> {
    let items = reading.items(value, "plugins").iter().enumerate();
    let each = items.filter_map(|(index, item)| {
        let path = item_of("plugins", index);
        let text = reading.section::<PluginText>(Some(item), &path)?;
        plugin(text, &path, providers, reading)
    });
    each.collect()
}

fn plugin(
    text: PluginText,
    path: &str,
    providers: &KnownProviders<'_>,
    reading: &mut ConfigReading<'_>,
) -> Option<DeclaredPlugin> {
    let org = reading.org(text.org.as_deref(), &key_of(path, "org"));
    let agent = reading.required(text.agent, "agent", path);
    let slots = text.slots.into_iter().map(|(slot, connection)| {
        let at = key_of(&key_of(path, "slots"), &slot);
        if connection.is_empty() {
            let remedy = "name a connection, or remove the key of an optional slot";
            reading.problems.add(&at, "the name is empty", remedy);
        }
        (slot, (connection, reading.place(&at)))
    });
    let slots = slots.collect();
    let manifest = source(text.manifest.as_ref(), path, providers, reading)?;
    Some(DeclaredPlugin { org, agent, manifest, slots, place: reading.place(path) })
}

fn source(
    value: Option<&Value>,
    path: &str,
    providers: &KnownProviders<'_>,
    reading: &mut ConfigReading<'_>,
) -> Option<ManifestSource> {
    let at = key_of(path, "manifest");
    match value {
        Some(Value::String(file)) => reading.input(file, &at).map(ManifestSource::File),
        Some(value @ Value::Mapping(_)) => {
            // One that is defined and wrong has its own problems reported.
            let sound = providers.catalogue.ids();
            let ids: Vec<_> = sound.chain(providers.declared.iter().copied()).collect();
            let manifest = manifest::read(value, &at, &ids, &mut reading.problems);
            Some(ManifestSource::Inline(Box::new(manifest)))
        }
        Some(_) => {
            let remedy = "write the path of a `keyward-plugin.yaml`, or its content";
            reading.problems.add(&at, "this is not a manifest", remedy);
            None
        }
        None => {
            let remedy = "add `manifest:` with the path of a `keyward-plugin.yaml`";
            reading.problems.add(path, "`manifest` is missing", remedy);
            None
        }
    }
}
