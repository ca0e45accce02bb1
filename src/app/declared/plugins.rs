//! Plugins that the configuration declares: their manifests are read and compared with what their slots are
//! given before anything is written.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::AppError;
use crate::config::{Config, DeclaredPlugin, ManifestError, ManifestSource, manifest_file};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_rules::provider::decode::nearest;
use keyward_state::directory::{
    AgentRecord, ConnectionRecord, ManagedBy, Manifest, PluginRecord, View, may_be_used_by,
};
use keyward_vault::Vault;

/// Plugins of one agent.
const PLUGINS_MAX: usize = 100;

/// Who and what there is, as it will be when the plugins are brought in line.
pub(in crate::app) struct World<'a> {
    pub(in crate::app) agents: &'a [Arc<AgentRecord>],
    pub(in crate::app) connections: &'a [Arc<ConnectionRecord>],
}

/// An agent, and the connections for the slots of a plugin of it.
pub(in crate::app) struct Fitted<'a> {
    pub(in crate::app) agent: &'a AgentRecord,
    pub(in crate::app) slots: BTreeMap<String, ConnectionId>,
}

/// The manifests of all declared plugins, in the configuration's order.
pub(in crate::app) fn manifests(config: &Config, problems: &mut Vec<String>) -> Vec<Manifest> {
    let before = problems.len();
    let catalogue = config.catalogue();
    let providers: Vec<&str> = catalogue.all().map(|provider| &*provider.id).collect();
    let mut found: Vec<Manifest> = Vec::new();
    for declared in &config.plugins {
        match read(declared, &providers) {
            Ok(manifest) => {
                problems.extend(lacking(declared, &manifest));
                found.push(manifest);
            }
            Err(more) => problems.extend(more),
        }
    }
    // Only where each manifest stands at its plugin's place.
    if problems.len() == before {
        problems.extend(twice(config, &found));
    }
    found
}

fn read(declared: &DeclaredPlugin, providers: &[&str]) -> Result<Manifest, Vec<String>> {
    let path = match &declared.manifest {
        ManifestSource::Inline(manifest) => return Ok((**manifest).clone()),
        ManifestSource::File(path) => path,
    };
    manifest_file(path, providers).map_err(|error| match error {
        // Each names the file and its line.
        ManifestError::Problems(problems) => problems.iter().map(ToString::to_string).collect(),
        error => vec![format!("{}.manifest: {error}", declared.place)],
    })
}

/// What the slots are given that the manifest does not ask for, and what they are not.
fn lacking(declared: &DeclaredPlugin, manifest: &Manifest) -> Vec<String> {
    let (name, mut problems) = (&manifest.plugin, Vec::new());
    let slots = || manifest.connections.iter().map(|slot| slot.slot.as_str());
    for (slot, (_, place)) in &declared.slots {
        if manifest.slot(slot).is_none() {
            let remedy = match nearest(slot, slots()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", slots().collect::<Vec<_>>().join(", ")),
            };
            problems.push(format!("{place}: plugin `{name}` has no slot `{slot}`; {remedy}"));
        }
    }
    for slot in manifest.connections.iter().filter(|slot| slot.required) {
        if !declared.slots.contains_key(&slot.slot) {
            let (place, slot, provider) = (&declared.place, &slot.slot, &slot.provider);
            problems.push(format!(
                "{place}.slots: slot `{slot}` of plugin `{name}` is required; add `{slot}: ` with the \
                 name of a connection of `{provider}`"
            ));
        }
    }
    problems
}

/// Plugins of one name, and too many plugins, of one agent.
fn twice(config: &Config, manifests: &[Manifest]) -> Vec<String> {
    let mut problems = Vec::new();
    let all = || config.plugins.iter().zip(manifests);
    for (index, (declared, manifest)) in all().enumerate() {
        let earlier = all().take(index);
        let of_agent: Vec<_> = earlier
            .filter(|(other, _)| (&other.org, &other.agent) == (&declared.org, &declared.agent))
            .collect();
        let (place, name, agent) = (&declared.place, &manifest.plugin, &declared.agent);
        if of_agent.iter().any(|(_, other)| other.plugin == *name) {
            problems.push(format!(
                "{place}: plugin `{name}` is declared for agent `{agent}` twice; remove one"
            ));
        } else if of_agent.len() == PLUGINS_MAX {
            problems.push(format!(
                "{place}: agent `{agent}` has more than {PLUGINS_MAX} plugins; declare another agent"
            ));
        }
    }
    problems
}

impl<'a> World<'a> {
    /// The agent and the connections that a plugin names, or why it cannot have them. What the file
    /// manages and names no more does not count: another machine would not have it.
    pub(in crate::app) fn fit(
        &self,
        (config, view): (&Config, &View),
        (declared, manifest): (&DeclaredPlugin, &Manifest),
    ) -> Result<Fitted<'a>, Vec<String>> {
        let agent = self.agent(config, declared).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let mut plugins = view.plugins_of(&declared.org, &agent.id);
        let same = plugins.find(|plugin| plugin.name() == manifest.plugin);
        if same.is_some_and(|same| same.managed_by == ManagedBy::Store) {
            let (place, name, agent) = (&declared.place, &manifest.plugin, agent.name());
            problems.push(format!(
                "{place}: a stored plugin has this name: remove it with `keyward plugin remove {name} \
                 --agent {agent}`"
            ));
        }
        let mut slots = BTreeMap::new();
        for (slot, (name, place)) in &declared.slots {
            let provider = manifest.slot(slot).map(|slot| slot.provider.as_str());
            match self.connection(config, (&declared.org, name), (agent, provider)) {
                Ok(id) => drop(slots.insert(slot.clone(), id)),
                Err(why) => problems.push(format!("{place}: {why}")),
            }
        }
        match problems.is_empty() {
            true => Ok(Fitted { agent, slots }),
            false => Err(problems),
        }
    }

    fn agent(&self, config: &Config, declared: &DeclaredPlugin) -> Result<&'a AgentRecord, String> {
        let named: HashSet<_> = config.agents.iter().map(|it| (&it.org, it.name())).collect();
        let of_org = || {
            let of_org = self.agents.iter().filter(|agent| agent.org == declared.org);
            of_org.filter(|agent| {
                agent.managed_by == ManagedBy::Store || named.contains(&(&agent.org, agent.name()))
            })
        };
        let name = &declared.agent;
        let found = of_org().find(|agent| agent.name() == name || agent.id.as_str() == name);
        found.map(|agent| &**agent).ok_or_else(|| {
            let near = nearest(name, of_org().map(|agent| agent.name()));
            let remedy = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it under `agents:`, or add it with `keyward agent add`".to_owned(),
            };
            format!("{}.agent: there is no agent `{name}`; {remedy}", declared.place)
        })
    }

    fn connection(
        &self,
        config: &Config,
        (org, name): (&OrgId, &String),
        (agent, provider): (&AgentRecord, Option<&str>),
    ) -> Result<ConnectionId, String> {
        let named: HashSet<_> = config.connections.iter().map(|it| (&it.org, &it.name)).collect();
        let of_org = || {
            self.connections.iter().filter(|it| {
                it.org == *org
                    && (it.managed_by == ManagedBy::Store || named.contains(&(&it.org, &it.name)))
            })
        };
        let found = of_org().find(|it| it.name == *name || it.id.as_str() == name);
        let Some(found) = found else {
            let near = nearest(name, of_org().map(|it| it.name.as_str()));
            let remedy = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it under `connections:`, or add it with `keyward connection add`"
                    .into(),
            };
            return Err(format!("there is no connection `{name}`; {remedy}"));
        };
        match (provider, &agent.spec.environment, &found.environment) {
            (Some(wanted), ..) if found.provider != wanted => Err(format!(
                "the slot asks for an account at `{wanted}`, and connection `{name}` is one at `{}`; name \
                 another",
                found.provider
            )),
            (_, Some(own), Some(other)) if own != other => Err(format!(
                "agent `{}` is in environment `{own}`, connection `{name}` in `{other}`; use one of its \
                 own",
                agent.name()
            )),
            _ if !may_be_used_by(found, agent) => Err(format!(
                "connection `{name}` is private, and agent `{}` is not its owner's; share it, or name \
                 another",
                agent.name()
            )),
            _ => Ok(found.id.clone()),
        }
    }
}

/// Takes out of slots what will not be in them, and what another environment of the agent would not let it
/// keep: agents are changed next, and must fit what they are bound to.
pub(super) async fn make_way(
    config: &Config,
    manifests: &[Manifest],
    vault: &Vault,
) -> anyhow::Result<()> {
    let view = vault.directory().view();
    for plugin in view.plugins().filter(|plugin| plugin.managed_by == ManagedBy::File) {
        let Some(agent) = view.agent(&plugin.org, &plugin.agent) else { continue };
        let is_it = |(declared, manifest): &(&DeclaredPlugin, &Manifest)| {
            (&declared.org, &*declared.agent, &*manifest.plugin)
                == (&plugin.org, agent.name(), plugin.name())
        };
        let declared = config.plugins.iter().zip(manifests).find(is_it);
        let described =
            config.agents.iter().find(|it| (&it.org, it.name()) == (&agent.org, agent.name()));
        let stays = |slot: &String, id: &ConnectionId| {
            let Some(connection) = view.connection(&plugin.org, id) else { return false };
            let wanted = declared.is_none_or(|(declared, _)| {
                declared.slots.get(slot).is_some_and(|(name, _)| {
                    *name == connection.name || name == connection.id.as_str()
                })
            });
            let own = described.and_then(|it| it.spec.environment.as_ref());
            let fits = own.zip(connection.environment.as_ref()).is_none_or(|(a, b)| a == b);
            wanted && fits
        };
        let mut slots = plugin.slots.clone();
        slots.retain(|slot, id| stays(slot, id));
        if slots != plugin.slots {
            let (at, manifest) = ((&plugin.org, &plugin.id), plugin.manifest.clone());
            vault.change_plugin(at, (manifest, ManagedBy::File), slots).await?;
            if plugin.paused {
                vault.directory().pause_plugin(at.0, at.1).await?;
            }
        }
    }
    Ok(())
}

/// Installs what is declared, brings it in line, and pauses what is declared no more.
pub(in crate::app) async fn plugins(
    config: &Config,
    manifests: &[Manifest],
    vault: &Vault,
) -> anyhow::Result<()> {
    let directory = vault.directory();
    let view = directory.view();
    let agents: Vec<_> = view.agents().cloned().collect();
    let connections: Vec<_> = view.connections().cloned().collect();
    let world = World { agents: &agents, connections: &connections };
    let (mut fitted, mut problems) = (Vec::new(), Vec::new());
    for (declared, manifest) in config.plugins.iter().zip(manifests) {
        match world.fit((config, &view), (declared, manifest)) {
            Ok(fits) => fitted.push((manifest, fits)),
            Err(more) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        return Err(AppError::Declared(problems).into());
    }
    let mut kept = HashSet::new();
    for (manifest, Fitted { agent, slots }) in fitted {
        let mut of_agent = view.plugins_of(&agent.org, &agent.id);
        let found = of_agent.find(|plugin| plugin.name() == manifest.plugin);
        let given = (manifest.clone(), ManagedBy::File);
        kept.extend(found.map(|found| &found.id));
        match found {
            None => drop(vault.add_plugin((&agent.org, &agent.id), given, slots).await?),
            Some(found) if is_same(found, manifest, &slots) => {}
            Some(found) => {
                drop(vault.change_plugin((&found.org, &found.id), given, slots).await?);
            }
        }
    }
    for plugin in view.plugins() {
        let gone = plugin.managed_by == ManagedBy::File && !kept.contains(&plugin.id);
        if gone && !plugin.paused {
            directory.pause_plugin(&plugin.org, &plugin.id).await?;
            tracing::info!(name = plugin.name(), "paused: the configuration names it no more");
        }
    }
    Ok(())
}

fn is_same(
    found: &PluginRecord,
    manifest: &Manifest,
    slots: &BTreeMap<String, ConnectionId>,
) -> bool {
    found.manifest == *manifest && found.slots == *slots && !found.paused
}
