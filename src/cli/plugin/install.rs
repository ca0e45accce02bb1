//! `keyward plugin install`: reads the manifest, finds a connection for each slot, and shows what the plugin will reach.
//! The plugin is stored after the person agrees. Options answer the questions where there is no terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;

use super::summary;
use super::summary::references;
use super::summary::state_of;
use super::wizard::PluginWizard;
use crate::cli::client::Client;
use crate::cli::connect::created::CreatedResources;
use crate::cli::connect::{self, ConnectContext, questions};
use crate::cli::connection::shape::Shapes;
use crate::cli::environment::DEFAULT_AGENT;
use crate::cli::failure::{Exit, Failure};
use crate::cli::resource::{pair, unique};
use crate::cli::settings::Global;
use crate::cli::terminal::secret;
use crate::cli::{consent, output};
use keyward_api::wire::List;
use keyward_model::{
    Agent, Connection, PluginChangeOptions, PluginSpec, PluginView, Reference, Shown,
    SlotConnectionView, SlotView,
};
use keyward_state::directory::{ManagedBy, Manifest, Slot};

pub(super) const EXAMPLES: &str = "\
examples:
  keyward plugin install keyward-plugin.yaml --agent digest
  keyward plugin install keyward-plugin.yaml --agent ci \\
      --slot crm=work-hubspot --skip chat --yes

On a terminal it asks for what is missing. Without one, every slot must be given
or skipped. For a newer version it asks only for new slots. Nothing is stored
before you agree, except connections that you create.";

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// the manifest, keyward-plugin.yaml
    file: PathBuf,
    /// the agent that the plugin runs as; created if it does not exist
    #[arg(long, default_value = DEFAULT_AGENT, value_name = "NAME")]
    agent: String,
    /// the connection for a slot; may be given several times
    #[arg(long = "slot", value_name = "SLOT=CONNECTION", value_parser = pair)]
    slots: Vec<(String, String)>,
    /// leave an optional slot empty; may be given several times
    #[arg(long, value_name = "SLOT")]
    skip: Vec<String>,
    /// agree to what the plugin will reach
    #[arg(long)]
    yes: bool,
    /// do not test new keys at the providers
    #[arg(long)]
    no_test: bool,
    #[command(flatten)]
    how: consent::ConsentOptions,
}

/// What to do where the configuration file manages the agent.
const IN_PLUGINS: &str =
    "declare the plugin under `plugins:` there, or name another agent with --agent";

/// State of an installation.
struct PluginInstallation {
    manifest: Manifest,
    agent: Option<Shown<Agent>>,
    /// The version that the agent has.
    installed: Option<PluginView>,
    choices: Choices,
}

/// What is to be in each slot: names or ids of connections; `None`: the slot is emptied.
type Choices = BTreeMap<String, Option<String>>;

impl Install {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open_to_add(global).await?;
        let shapes = Shapes::load(&client).await?;
        let mut installation = self.installation(&client, &shapes).await?;
        let plugin = match secret::can_ask() {
            true => Box::pin(self.ask_slots(global, &client, &mut installation, shapes)).await,
            false => self.by_options(&client, &installation).await,
        }?;
        let before = installation.installed.as_ref();
        output::show(global.json, &plugin, |plugin| told(global, plugin, before))
    }

    /// What is known before the first question.
    async fn installation(
        &self,
        client: &Client,
        shapes: &Shapes,
    ) -> Result<PluginInstallation, Failure> {
        let providers: Vec<_> = shapes.providers().iter().map(|it| it.id.as_str()).collect();
        let manifest = summary::read_manifest(&self.file, &providers)?;
        let agent = connect::agent(client, &self.agent, IN_PLUGINS).await?;
        let plugins: List<PluginView> = client.list("/api/v1/plugins", &[]).await?;
        let is_it = |plugin: &PluginView| {
            plugin.name == manifest.plugin
                && agent.as_ref().is_some_and(|agent| plugin.agent_id.id() == Some(&agent.id))
        };
        let installed = plugins.items.into_iter().find(is_it);
        if installed.as_ref().is_some_and(|installed| installed.managed_by == ManagedBy::File) {
            let message =
                format!("plugin `{}` is managed by the configuration file", manifest.plugin);
            return Err(Failure::new(Exit::Failed, message)
                .hint("change it, or its manifest, under `plugins:` there"));
        }
        let choices = self.given(&manifest)?;
        Ok(PluginInstallation { manifest, agent, installed, choices })
    }

    /// The options, as far as they fit the manifest.
    fn given(&self, manifest: &Manifest) -> Result<Choices, Failure> {
        let mut choices = Choices::default();
        for (slot, connection) in unique(self.slots.clone())? {
            known(manifest, &slot)?;
            choices.insert(slot, Some(connection));
        }
        for name in &self.skip {
            if known(manifest, name)?.required {
                let message = format!("slot `{name}` is required and cannot be skipped");
                return Err(Failure::usage(message).hint(format!("--slot {name}=CONNECTION")));
            }
            if choices.insert(name.clone(), None).is_some() {
                return Err(Failure::usage(format!("slot `{name}` is given twice")));
            }
        }
        Ok(choices)
    }

    async fn by_options(
        &self,
        client: &Client,
        installation: &PluginInstallation,
    ) -> Result<PluginView, Failure> {
        let (asked, connections) = (installation.asked(), connections(client).await?);
        if !asked.is_empty() {
            return Err(lacking(&asked, &connections));
        }
        let slots = installation.chosen(&connections)?;
        output::note(&installation.reach(&self.agent, &slots));
        if !self.yes && installation.changes() {
            return Err(Failure::usage("there is no terminal to confirm this on")
                .hint("confirm it with --yes"));
        }
        self.commit(client, installation).await
    }

    async fn ask_slots(
        &self,
        global: &Global,
        client: &Client,
        installation: &mut PluginInstallation,
        shapes: Shapes,
    ) -> Result<PluginView, Failure> {
        let asked = installation.asked();
        output::note(&installation.heading(asked.len()));
        let mut made = BTreeSet::new();
        let installed = async {
            let context = ConnectContext { global, client, how: &self.how, tests: !self.no_test };
            let environment = installation.agent.as_ref().and_then(|it| it.environment.clone());
            let mut wizard = PluginWizard::new(context, environment, shapes, &mut made);
            for (index, slot) in asked.iter().enumerate() {
                let position = format!("{} of {}", index + 1, asked.len());
                let chosen = Box::pin(wizard.slot(slot, &position)).await?;
                installation.choices.insert(slot.slot.clone(), chosen);
            }
            let slots = installation.chosen(&connections(client).await?)?;
            output::note(&installation.reach(&self.agent, &slots));
            if !self.yes && installation.changes() {
                let ways = ["install it", "stop"];
                if questions::choose("what it will reach is listed above", &ways)? == 1 {
                    return Err(Failure::new(Exit::Interrupted, "stopped"));
                }
            }
            self.commit(client, installation).await
        };
        let installed = installed.await;
        installed.map_err(|failure| kept(failure, &made))
    }

    /// Stores the plugin. If that fails, an agent that was created for it is removed again.
    async fn commit(
        &self,
        client: &Client,
        installation: &PluginInstallation,
    ) -> Result<PluginView, Failure> {
        let slots = references(installation.choices.clone());
        if let Some(installed) = &installation.installed {
            let manifest = Some(installation.manifest.clone());
            let patch = PluginChangeOptions { manifest, slots };
            return client.patch(&format!("/api/v1/plugins/{}", installed.id), &patch).await;
        }
        let mut created = CreatedResources::default();
        let agent = match &installation.agent {
            Some(agent) => agent.id.to_string(),
            None => {
                let new = serde_json::json!({ "name": self.agent });
                let agent: Shown<Agent> = client.post("/api/v1/agents", &new).await?;
                created.agent = Some(agent.id.clone());
                agent.id.to_string()
            }
        };
        let spec = PluginSpec {
            manifest: installation.manifest.clone(),
            agent: Reference::new(&agent),
            slots: slots
                .into_iter()
                .filter_map(|(slot, connection)| Some((slot, connection?)))
                .collect(),
        };
        let installed = client.post("/api/v1/plugins", &spec).await;
        if installed.is_err() {
            created.undo(client).await?;
        }
        installed
    }
}

impl PluginInstallation {
    /// The slots that still need a choice. Slots of an installed version keep their connections, or stay empty if they
    /// are optional.
    fn asked(&self) -> Vec<Slot> {
        let is_new = |slot: &&Slot| {
            let before = self.installed_slot(slot);
            before.is_none_or(|before| slot.required && before.connection.is_none())
        };
        let open = self.manifest.connections.iter().filter(is_new);
        open.filter(|slot| !self.choices.contains_key(&slot.slot)).cloned().collect()
    }

    /// The slot of the installed version, where it asks for the same kind of account.
    fn installed_slot(&self, slot: &Slot) -> Option<&SlotView> {
        let slots = self.installed.iter().flat_map(|installed| &installed.slots);
        slots.into_iter().find(|it| it.slot == slot.slot && it.provider == slot.provider)
    }

    /// Whether the manifest or the choices differ from the installed version.
    fn changes(&self) -> bool {
        let Some(installed) = &self.installed else { return true };
        let same = installed.slots.len() == self.manifest.connections.len()
            && installed.slots.iter().zip(&self.manifest.connections).all(|(a, b)| {
                (&a.slot, &a.provider, a.required) == (&b.slot, &b.provider, b.required)
                    && (&a.scopes, &a.methods) == (&b.scopes, &b.methods)
                    && (&a.paths, &a.allow) == (&b.paths, &b.allow)
                    && a.own_authorization == b.own_authorization
            });
        !same || !self.choices.is_empty()
    }

    fn chosen(&self, connections: &[Shown<Connection>]) -> Result<Vec<SlotView>, Failure> {
        let each = self.manifest.connections.iter().map(|slot| {
            let id = |it: &SlotView| it.connection.as_ref().map(|it| it.id.to_string());
            let wanted = match self.choices.get(&slot.slot) {
                Some(choice) => choice.clone(),
                None => self.installed_slot(slot).and_then(id),
            };
            let Some(wanted) = wanted else { return Ok(SlotView::new(slot, None)) };
            let found = connections.iter().find(|it| it.name == wanted || it.id.as_str() == wanted);
            let Some(found) = found else {
                let message = format!("no connection is named `{wanted}`");
                return Err(Failure::new(Exit::NotFound, message)
                    .hint("`keyward connection list` shows which exist"));
            };
            Ok(SlotView::new(slot, Some(self.plugged(slot, found))))
        });
        each.collect()
    }

    fn plugged(&self, slot: &Slot, connection: &Shown<Connection>) -> SlotConnectionView {
        let missing = |scope: &&String| {
            !connection.facts.granted.is_empty() && !connection.facts.granted.contains(scope)
        };
        let bound = self.agent.iter().flat_map(|agent| &agent.facts.bindings);
        SlotConnectionView {
            id: connection.id.clone(),
            name: connection.name.clone(),
            account: connection.facts.account.clone(),
            hosts: connection.facts.hosts.clone(),
            scopes_missing: slot.scopes.iter().filter(missing).cloned().collect(),
            unlimited: bound.into_iter().any(|it| it.connection == connection.id && it.direct),
            remedy: connection.facts.remedy.clone(),
            renewal: connection.facts.renewal,
            state: connection.facts.state.clone(),
        }
    }

    fn heading(&self, asked: usize) -> String {
        let Manifest { plugin, version, summary, .. } = &self.manifest;
        let mut text = format!("{plugin} {version}");
        if let Some(summary) = summary {
            text += &format!(": {summary}");
        }
        match (&self.installed, asked) {
            (Some(installed), 0) => {
                text += &format!(
                    "\nversion {} is installed; nothing new is requested",
                    installed.version
                );
            }
            (Some(installed), _) => {
                text += &format!(
                    "\nversion {} is installed; it requests {asked} more",
                    installed.version
                );
            }
            (None, _) => text += &format!("\nit requests connections: {asked}"),
        }
        text
    }

    /// What it will reach, and what was otherwise until now.
    fn reach(&self, agent: &str, slots: &[SlotView]) -> String {
        let Manifest { plugin, version, .. } = &self.manifest;
        let mut text = format!("\n{plugin} {version} of agent {agent} will reach:\n");
        text += &summary::text(slots);
        for slot in slots {
            text += &self.change(slot);
        }
        text
    }

    /// How a slot differs from the installed version's.
    fn change(&self, slot: &SlotView) -> String {
        let Some(installed) = &self.installed else { return String::new() };
        let before = installed.slots.iter().find(|before| before.slot == slot.slot);
        let Some(before) = before else { return format!("new: slot {}\n", slot.slot) };
        let or_all = |texts: &[String]| match texts {
            [] => "all".to_owned(),
            texts => texts.join(", "),
        };
        let mut text = String::new();
        for (what, was, is) in [
            ("methods", &before.methods, &slot.methods),
            ("paths", &before.paths, &slot.paths),
            ("actions", &before.allow, &slot.allow),
            ("scopes", &before.scopes, &slot.scopes),
        ] {
            if was != is {
                text +=
                    &format!("changed: {what} of slot {}, until now {}\n", slot.slot, or_all(was));
            }
        }
        if before.own_authorization != slot.own_authorization {
            let was = before.own_authorization.as_str();
            text += &format!("changed: own_authorization of slot {}, until now {was}\n", slot.slot);
        }
        text
    }
}

fn known<'a>(manifest: &'a Manifest, name: &str) -> Result<&'a Slot, Failure> {
    manifest.slot(name).ok_or_else(|| {
        let slots: Vec<_> = manifest.connections.iter().map(|slot| slot.slot.as_str()).collect();
        Failure::usage(format!("{} has no slot `{name}`", manifest.plugin))
            .hint(format!("its slots are {}", slots.join(", ")))
    })
}

/// Every slot without a choice, with what could be chosen.
fn lacking(asked: &[Slot], connections: &[Shown<Connection>]) -> Failure {
    let line = |slot: &Slot| {
        let fitting = connections.iter().filter(|it| it.provider == slot.provider);
        let fitting: Vec<_> = fitting.map(|it| it.name.as_str()).collect();
        let what = match fitting[..] {
            [] => format!("there is no connection of {} yet", slot.provider),
            _ => format!("connections of {}: {}", slot.provider, fitting.join(", ")),
        };
        let kind = if slot.required { "required" } else { "optional" };
        format!("slot `{}` ({}, {kind}) has no connection; {what}", slot.slot, slot.title())
    };
    let (first, skippable) = (&asked[0], asked.iter().any(|slot| !slot.required));
    let skip = if skippable { ", or leave an optional one empty: --skip SLOT" } else { "" };
    Failure::several(asked.iter().map(line).collect())
        .with(Exit::Usage)
        .hint(format!("choose for each: --slot {}=CONNECTION{skip}", first.slot))
}

async fn connections(client: &Client) -> Result<Vec<Shown<Connection>>, Failure> {
    Ok(client.list("/api/v1/connections", &[]).await?.items)
}

/// Adds a hint about connections that an aborted installation leaves.
fn kept(failure: Failure, made: &BTreeSet<String>) -> Failure {
    let failure = match failure.exit() {
        Exit::Interrupted => {
            Failure::new(Exit::Interrupted, "interrupted: the plugin was not installed")
        }
        _ => failure,
    };
    let Some(first) = made.first() else { return failure };
    let names: Vec<_> = made.iter().map(String::as_str).collect();
    output::note(&format!("kept: connections that were created: {}", names.join(", ")));
    match failure.advice() {
        Some(_) => failure,
        None => failure
            .hint(format!("install again to continue, or: keyward connection remove {first}")),
    }
}

fn told(global: &Global, plugin: &PluginView, before: Option<&PluginView>) -> String {
    let PluginView { name, version, agent, .. } = plugin;
    let did = match before {
        None => "installed".to_owned(),
        Some(before) if before.version == *version => "installed already".to_owned(),
        Some(before) => format!("installed in the place of {}", before.version),
    };
    let mut text =
        format!("plugin {name} {version} {did} for agent {agent}: {}\n", state_of(plugin));
    let of = if agent == DEFAULT_AGENT { String::new() } else { format!("--agent {agent} ") };
    text += &format!("\nrun it:\n  {} run {of}-- PROGRAM\n", global.keyward());
    text
}
