//! `/plugins`: what agents have installed, the connection in each slot, and whether it works.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::Caller;
use super::body::{Params, Segments};
use super::connections::connection_view;
use super::context::Context;
use super::error::ApiError;
use super::etag::{Etag, IfMatch, TaggedAnswer};
use super::input::{Input, InputChange};
use super::openapi::Routes;
use super::page::Page;
use super::resource::{self, remove_stored};
use super::state::Admin;
use super::wire::{List, PluginNumbers};
use keyward_base::id::{ConnectionId, OrgId, PluginId};
use keyward_model::{
    Agent, Missing, MissingSlotView, Plugin, PluginAffected, PluginRemoved, PluginSpec,
    PluginState, PluginView, Reference, RemainingConnectionView, SlotConnectionView, SlotView,
    check_fixed,
};
use keyward_state::directory::{
    ConnectionRecord, ConnectionState, Fault, ManagedBy, Manifest, PluginRecord, Remedies,
    RemedyCause, Slot, View,
};

/// The agent of a plugin, where several agents have one of that name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AgentQuery {
    /// The agent's name or id.
    #[serde(default)]
    agent: Option<String>,
}

/// A plugin and its cursor: names are unique for one agent only.
struct PlacedPlugin {
    cursor: String,
    view: PluginView,
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/plugins", ["listPlugins", "List plugins"], list)
        .post("/plugins", ["installPlugin", "Install a plugin for an agent"], install)
        .get("/plugins/{plugin}", ["getPlugin", "Show a plugin"], show)
        .patch("/plugins/{plugin}", ["changePlugin", "Change a plugin"], change)
        .delete("/plugins/{plugin}", ["removePlugin", "Remove a plugin"], remove)
}

async fn list(
    context: Context,
    Params(page): Params<Page>,
) -> Result<Json<List<PluginView>>, ApiError> {
    let (admin, directory) = (&context.admin, context.view());
    let of_org = directory
        .all::<Plugin>(context.caller.org())
        .filter(|plugin| sees(&context.caller, &directory, plugin));
    let views = of_org.map(|plugin| view(admin, &directory, plugin));
    let wanted = views.filter(|it| page.wants(&[&it.name, &it.agent, it.id.as_str()]));
    let placed = wanted.map(|view| {
        // A space comes before all that names are made of.
        PlacedPlugin { cursor: format!("{} {}", view.name, view.agent), view }
    });
    let List { items, next } =
        page.cut(placed.collect(), |placed: &PlacedPlugin| &placed.cursor)?;
    Ok(Json(List { items: items.into_iter().map(|placed| placed.view).collect(), next }))
}

async fn show(
    context: Context,
    Segments(name): Segments<String>,
    Params(whose): Params<AgentQuery>,
) -> Result<TaggedAnswer<PluginView>, ApiError> {
    let plugin = find(&context, &name, &whose)?;
    let etag = Some(Etag::of(&plugin));
    Ok(TaggedAnswer { etag, body: view(&context.admin, &context.view(), &plugin) })
}

async fn install(
    context: Context,
    Input { mut spec, .. }: Input<Plugin>,
) -> Result<(StatusCode, Json<PluginView>), ApiError> {
    let Context { admin, caller } = &context;
    check(admin, caller.org(), &spec.manifest)?;
    let agent = resource::found::<Agent>(&context, spec.agent.as_str())?;
    spec.agent = Reference::Id(agent.id.clone());
    for (slot, connection) in &mut spec.slots {
        *connection = chosen(&context, &spec.manifest, slot, connection.as_str())?;
    }
    are_filled(&context, &spec)?;
    let vault = &admin.deps().vault;
    let plugin = vault.lifecycle().add_plugin(caller.org(), spec, ManagedBy::Store).await?;
    caller.record_changed("plugin", &plugin.id, plugin.name());
    admin.enforce().await?;
    Ok((StatusCode::CREATED, Json(view(admin, &context.view(), &plugin))))
}

async fn change(
    context: Context,
    Segments(name): Segments<String>,
    Params(whose): Params<AgentQuery>,
    change: InputChange<Plugin>,
) -> Result<Json<PluginView>, ApiError> {
    let admin = &context.admin;
    let plugin = find(&context, &name, &whose)?;
    change.if_match.check(&plugin)?;
    if let Some(manifest) = &change.options.manifest {
        check(admin, context.caller.org(), manifest)?;
    }
    // Judged on the record that is written: others may change it meanwhile.
    let edit = |plugin: &PluginRecord| changed(&context, plugin, &change);
    let (lifecycle, by) = (admin.deps().vault.lifecycle(), ManagedBy::Store);
    let plugin = lifecycle.change_plugin::<ApiError>(&plugin.org, &plugin.id, by, &edit).await?;
    admin.enforce().await?;
    Ok(Json(view(admin, &context.view(), &plugin)))
}

/// The spec of a plugin after a change, whose manifest was checked. With another manifest, all required slots must be
/// filled; without one, slots may be filled one by one.
fn changed(
    context: &Context,
    plugin: &PluginRecord,
    change: &InputChange<Plugin>,
) -> Result<PluginSpec, ApiError> {
    change.if_match.check(plugin)?;
    let mut spec = change.of(&plugin.spec)?;
    check_fixed::<Plugin>(&plugin.spec, &spec)?;
    if let Some(manifest) = &change.options.manifest {
        is_not_older(&plugin.manifest, manifest)?;
        spec.slots = kept_slots(plugin, manifest);
        spec.manifest = manifest.clone();
    }
    for (slot, connection) in &change.options.slots {
        match connection {
            Some(connection) => {
                let id = chosen(context, &spec.manifest, slot, connection.as_str())?;
                spec.slots.insert(slot.clone(), id);
            }
            None => empty(&mut spec, slot)?,
        }
    }
    if change.options.manifest.is_some() {
        are_filled(context, &spec)?;
    }
    Ok(spec)
}

async fn remove(
    context: Context,
    Segments(name): Segments<String>,
    Params(whose): Params<AgentQuery>,
    if_match: IfMatch,
) -> Result<Json<PluginRemoved>, ApiError> {
    let plugin = find(&context, &name, &whose)?;
    remove_stored(&context, &plugin, if_match).await?;
    context.admin.enforce().await?;
    let directory = context.view();
    let mut ids: Vec<_> = plugin.connections().collect();
    ids.sort();
    ids.dedup();
    let left = ids.into_iter().filter_map(|id| directory.connection(&plugin.org, id));
    let connections = left.map(|connection| RemainingConnectionView {
        id: connection.id.clone(),
        name: connection.name.clone(),
        provider: connection.provider.clone(),
        used_by: users(&context.caller, &directory, connection),
    });
    Ok(Json(PluginRemoved { removed: plugin.id.clone(), connections: connections.collect() }))
}

/// The plugins that a connection is in, and what they are without it.
pub(super) fn affected(context: &Context, connection: &ConnectionRecord) -> Vec<PluginAffected> {
    let (directory, caller) = (context.view(), &context.caller);
    let of_org =
        directory.all::<Plugin>(caller.org()).filter(|plugin| sees(caller, &directory, plugin));
    let affected = of_org.filter(|plugin| !plugin.facts.paused).filter_map(|plugin| {
        let slots: Vec<_> =
            plugin.slots_with(&connection.id).map(|slot| slot.slot.clone()).collect();
        let others = |id: &ConnectionId| {
            let found = directory.connection(&plugin.org, id).filter(|_| *id != connection.id);
            found.map(|found| &**found)
        };
        (!slots.is_empty()).then(|| PluginAffected {
            id: plugin.id.clone(),
            plugin: plugin.name().to_owned(),
            agent: agent_of(&directory, plugin),
            slots,
            state: plugin.state(&plugin.missing(others)),
        })
    });
    let mut affected: Vec<_> = affected.collect();
    affected.sort_by(|a, b| (&a.plugin, &a.agent).cmp(&(&b.plugin, &b.agent)));
    affected
}

/// The caller's plugins by state.
pub(super) fn numbers(context: &Context) -> PluginNumbers {
    let directory = context.view();
    let seen = directory
        .all::<Plugin>(context.caller.org())
        .filter(|plugin| sees(&context.caller, &directory, plugin));
    seen.fold(PluginNumbers::default(), |sum, plugin| {
        let found = |id: &ConnectionId| directory.connection(&plugin.org, id).map(|it| &**it);
        let state = plugin.state(&plugin.missing(found));
        PluginNumbers {
            total: sum.total + 1,
            blocked: sum.blocked + usize::from(state == PluginState::Blocked),
            degraded: sum.degraded + usize::from(state == PluginState::Degraded),
        }
    })
}

/// A plugin is its agent's owner's.
fn sees(caller: &Caller, directory: &View, plugin: &PluginRecord) -> bool {
    directory.agent_of(plugin).is_some_and(|agent| caller.sees_agent(agent))
}

fn find(context: &Context, name: &str, whose: &AgentQuery) -> Result<Arc<PluginRecord>, ApiError> {
    let (directory, caller) = (context.view(), &context.caller);
    let found = |agent| resource::found::<Agent>(context, agent);
    let agent = whose.agent.as_deref().map(found).transpose()?;
    let candidates = || {
        let of_org =
            directory.all::<Plugin>(caller.org()).filter(|plugin| sees(caller, &directory, plugin));
        of_org.filter(|it| agent.as_ref().is_none_or(|agent| it.agent.id() == Some(&agent.id)))
    };
    let found: Vec<_> = match PluginId::parse(name) {
        Ok(id) => candidates().filter(|plugin| plugin.id == id).collect(),
        Err(_) => candidates().filter(|plugin| plugin.name() == name).collect(),
    };
    match found[..] {
        [] => Err(ApiError::not_found_among("plugin", name, candidates().map(|it| it.name()))),
        [plugin] => {
            caller.record_changed("plugin", &plugin.id, plugin.name());
            Ok(Arc::clone(plugin))
        }
        _ => {
            let mut agents: Vec<_> =
                found.iter().map(|plugin| agent_of(&directory, plugin)).collect();
            agents.sort();
            Err(ApiError::refused(format!(
                "several agents have plugin `{name}`: {}",
                agents.join(", ")
            ))
            .hint("name the agent with --agent, or give the plugin's id"))
        }
    }
}

/// All that is wrong with a manifest.
fn check(admin: &Admin, org: &OrgId, manifest: &Manifest) -> Result<(), ApiError> {
    let catalogue = admin.deps().vault.catalogue(org);
    let providers: Vec<&str> = catalogue.ids().collect();
    let mut faults = manifest.faults(&providers);
    faults.extend(manifest.unknown_actions(&catalogue));
    let Some(first) = faults.first() else { return Ok(()) };
    let line = |fault: &Fault| match fault.remedy.is_empty() {
        true => format!("{}: {}", fault.path, fault.message),
        false => format!("{}: {}; {}", fault.path, fault.message, fault.remedy),
    };
    let lines: Vec<_> = faults.iter().map(line).collect();
    Err(ApiError::field(format!("manifest.{}", first.path), lines.join(" | ")))
}

fn is_not_older(installed: &Manifest, given: &Manifest) -> Result<(), ApiError> {
    if given.cmp_version(installed).is_ge() {
        return Ok(());
    }
    Err(ApiError::refused(format!(
        "version {} of plugin `{}` is installed, which is newer than {}",
        installed.version, installed.plugin, given.version
    ))
    .hint(format!("to go back, remove it first: keyward plugin remove {}", installed.plugin)))
}

/// The connections that stay: their slots exist in the new manifest, with the same provider.
fn kept_slots(
    plugin: &PluginRecord,
    manifest: &Manifest,
) -> BTreeMap<String, Reference<ConnectionId>> {
    let same = |name: &str| {
        let (before, after) = (plugin.manifest.slot(name), manifest.slot(name));
        before.zip(after).is_some_and(|(before, after)| before.provider == after.provider)
    };
    let slots = plugin.slots.iter().filter(|(name, _)| same(name));
    slots.map(|(name, id)| (name.clone(), id.clone())).collect()
}

/// The connection that is to be in a slot.
fn chosen(
    context: &Context,
    manifest: &Manifest,
    name: &str,
    connection: &str,
) -> Result<Reference<ConnectionId>, ApiError> {
    let field = || format!("slots.{}", super::error::shown(name));
    let slot = manifest.slot(name).ok_or_else(|| {
        let slots: Vec<_> =
            manifest.connections.iter().map(|slot| format!("`{}`", slot.slot)).collect();
        ApiError::field(field(), format!("is no slot of this plugin: it has {}", slots.join(", ")))
    })?;
    let connection = context.connection(connection)?;
    match connection.provider == slot.provider {
        true => Ok(Reference::Id(connection.id.clone())),
        false => Err(ApiError::field(
            field(),
            format!(
                "slot `{}` requires an account at `{}`, and connection `{}` is one at `{}`",
                slot.slot, slot.provider, connection.name, connection.provider
            ),
        )
        .hint(format!("connect one: keyward connect {}", slot.provider))),
    }
}

fn empty(spec: &mut PluginSpec, name: &str) -> Result<(), ApiError> {
    match spec.manifest.slot(name) {
        Some(slot) if slot.required => Err(ApiError::field(
            format!("slots.{name}"),
            "is required: give it another connection, or remove the plugin",
        )),
        _ => {
            spec.slots.remove(name);
            Ok(())
        }
    }
}

/// Every required slot has a connection; those that have none are all named.
fn are_filled(context: &Context, spec: &PluginSpec) -> Result<(), ApiError> {
    let (directory, org) = (context.view(), context.caller.org());
    let is_empty = |slot: &&Slot| {
        let filled = spec.connection_in(&slot.slot).and_then(|id| directory.connection(org, id));
        slot.required && filled.is_none()
    };
    let missing: Vec<_> = spec.manifest.connections.iter().filter(is_empty).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let names: Vec<_> =
        missing.iter().map(|slot| format!("`{}` ({})", slot.slot, slot.provider)).collect();
    Err(ApiError::field("slots", format!("lacks a connection for {}", names.join(", ")))
        .hint(format!("choose one for each: --slot {}=CONNECTION", first.slot)))
}

fn view(admin: &Admin, directory: &View, plugin: &PluginRecord) -> PluginView {
    let find =
        |id: &ConnectionId| directory.connection(&plugin.org, id).map(|connection| &**connection);
    let missing = plugin.missing(find);
    let manifest = &plugin.manifest;
    PluginView {
        id: plugin.id.clone(),
        name: plugin.name().to_owned(),
        version: manifest.version.clone(),
        summary: manifest.summary.clone(),
        agent: agent_of(directory, plugin),
        agent_id: plugin.agent.clone(),
        state: plugin.state(&missing),
        missing: missing.iter().map(|missing| lack(admin, plugin, missing)).collect(),
        slots: manifest
            .connections
            .iter()
            .map(|slot| slot_view(admin, directory, plugin, slot))
            .collect(),
        managed_by: plugin.managed_by,
        created: plugin.created,
        updated: plugin.updated.unwrap_or(plugin.created),
    }
}

fn slot_view(admin: &Admin, directory: &View, plugin: &PluginRecord, slot: &Slot) -> SlotView {
    let id = plugin.connection_in(&slot.slot);
    let connection = id.and_then(|id| directory.connection(&plugin.org, id));
    let agent = directory.agent_of(plugin);
    let plugged = |connection: &Arc<ConnectionRecord>| {
        let catalogue = admin.deps().vault.catalogue(&connection.org);
        let scopes_missing = connection_view::not_granted(&slot.scopes, &connection.facts.granted);
        let remedies = Remedies::in_view(connection, &catalogue, directory);
        let wider = || remedies.remedy(RemedyCause::Scopes(&scopes_missing));
        let wider = || wider().filter(|_| !scopes_missing.is_empty());
        let binding = agent.and_then(|agent| agent.facts.binding(&connection.id));
        SlotConnectionView {
            id: connection.id.clone(),
            name: connection.name.clone(),
            account: connection.facts.account.clone(),
            hosts: connection_view::hosts(&catalogue, connection),
            remedy: remedies.remedy(RemedyCause::Use).or_else(wider),
            renewal: Some(remedies.renewal()),
            unlimited: binding.is_some_and(|it| it.direct && it.limits.is_empty()),
            state: connection.facts.state.clone(),
            scopes_missing,
        }
    };
    let catalogue = admin.deps().vault.catalogue(&plugin.org);
    let provider = catalogue.get(&slot.provider);
    let scope_words = provider.map(|it| it.words_for(&slot.scopes)).unwrap_or_default();
    SlotView { scope_words, ..SlotView::new(slot, connection.map(plugged)) }
}

fn lack(admin: &Admin, plugin: &PluginRecord, missing: &Missing<'_>) -> MissingSlotView {
    let (slot, name) = (&missing.slot.slot, plugin.name());
    let connection = missing.connection.map(|connection| connection.name.clone());
    let of = connection.as_deref().unwrap_or_default();
    let vault = &admin.deps().vault;
    let remedy = || missing.connection.and_then(|it| vault.remedy(it, RemedyCause::Use));
    let remedy = || remedy().unwrap_or_default();
    let (message, hint) = match missing.state() {
        None | Some(ConnectionState::Active | ConnectionState::Testing) => {
            let hint = match plugin.managed_by {
                ManagedBy::Store => {
                    format!("fill it: `keyward plugin set {name} --slot {slot}=CONNECTION`")
                }
                ManagedBy::File => {
                    "name another connection under `plugins:` of the configuration file".to_owned()
                }
            };
            (format!("slot `{slot}` is empty"), hint)
        }
        Some(ConnectionState::Draft { .. }) => {
            (format!("connection `{of}` is not connected yet"), remedy())
        }
        Some(ConnectionState::Paused) => (format!("connection `{of}` is paused"), remedy()),
        Some(ConnectionState::Broken { reason, .. }) => {
            (format!("connection `{of}` is broken: {}", reason.code()), remedy())
        }
    };
    MissingSlotView {
        slot: slot.clone(),
        required: missing.slot.required,
        connection,
        message,
        hint,
    }
}

/// The agents and plugins that use the connection, as far as the caller sees them.
fn users(caller: &Caller, directory: &View, connection: &ConnectionRecord) -> Vec<String> {
    let agents = directory.all::<Agent>(caller.org()).filter(|agent| caller.sees_agent(agent));
    let direct = agents
        .filter(|agent| agent.facts.binding(&connection.id).is_some_and(|binding| binding.direct));
    let mut users: Vec<_> = direct.map(|agent| agent.name.clone()).collect();
    let plugins =
        directory.all::<Plugin>(caller.org()).filter(|plugin| sees(caller, directory, plugin));
    let using = plugins.filter(|plugin| plugin.slots_with(&connection.id).next().is_some());
    users.extend(using.map(|it| format!("{} of {}", it.name(), agent_of(directory, it))));
    users.sort();
    users
}

fn agent_of(directory: &View, plugin: &PluginRecord) -> String {
    let agent = directory.agent_of(plugin);
    agent.map_or_else(|| plugin.agent.to_string(), |agent| agent.name.clone())
}
