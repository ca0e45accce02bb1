//! Plugins: what a crash of an earlier version left, permissions, and removals with their agents.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

use super::*;
use keyward_base::id::PluginId;
use keyward_model::{Plugin, PluginSpec, Reference};

fn manifest(slots: &[&str]) -> Manifest {
    let slot = |name: &&str| serde_json::json!({ "slot": name, "provider": "github" });
    let slots: Vec<_> = slots.iter().map(slot).collect();
    let manifest = serde_json::json!({ "plugin": "p", "version": "1", "connections": slots });
    serde_json::from_value(manifest).unwrap()
}

pub(super) fn plugged(
    world: &World,
    agent: &AgentRecord,
    slots: &[(&str, &ConnectionId)],
) -> NewPlugin {
    let names: Vec<_> = slots.iter().map(|(name, _)| *name).collect();
    let binding = |id: &ConnectionId| BindingRecord {
        connection: id.clone(),
        created: world.now(),
        managed_by: ManagedBy::Store,
        placeholders: placeholders("sk-").into(),
        direct: false,
        preferred: None,
        limits: keyward_model::BindingLimits::default(),
    };
    let reference = |(name, id): &(&str, &ConnectionId)| {
        ((*name).to_owned(), Reference::Id(ConnectionId::clone(id)))
    };
    let spec = PluginSpec {
        manifest: manifest(&names),
        agent: Reference::Id(agent.id.clone()),
        slots: slots.iter().map(reference).collect(),
    };
    NewPlugin {
        spec,
        bindings: slots.iter().map(|(_, id)| binding(id)).collect(),
        by: ManagedBy::Store,
    }
}

#[tokio::test]
async fn a_removed_plugin_removes_its_bindings_and_no_others() {
    let (world, agent) = World::with_agent().await;
    let (a, b) = (world.connection("a").await, world.connection("b").await);
    world.bind(&agent.id, &b.id).await;
    let new = plugged(&world, &agent, &[("a", &a.id), ("b", &b.id)]);
    let plugin = world.directory.add_plugin(&world.org, new).await.unwrap();
    let bound = |view: &View| {
        let agent = view.agent(&world.org, &agent.id).unwrap().clone();
        agent.facts.bindings.iter().map(|it| (it.connection.clone(), it.direct)).collect::<Vec<_>>()
    };
    assert_eq!(bound(&world.directory.view()), [(b.id.clone(), true), (a.id.clone(), false)]);
    let again = world.reopen().await.unwrap();
    assert_eq!(again.view().plugin(&world.org, &plugin.id), Some(&plugin));
    assert_eq!(bound(&again.view()), bound(&world.directory.view()));
    world.remove::<Plugin>(&plugin.id).await.unwrap();
    assert_eq!(bound(&world.directory.view()), [(b.id.clone(), true)]);
    assert!(world.rows(Table::Plugins).await.is_empty());
    assert_eq!(world.rows(Table::Names).await.len(), 3);
}

#[tokio::test]
async fn bindings_of_a_plugin_that_a_crash_of_an_earlier_version_lost_go_with_the_next_change() {
    let (world, agent) = World::with_agent().await;
    let (a, b) = (world.connection("a").await, world.connection("b").await);
    let new = plugged(&world, &agent, &[("a", &a.id)]);
    let plugin = world.directory.add_plugin(&world.org, new).await.unwrap();
    // As after a crash between the writes of the agent's row and of the plugin's.
    let key = format!("{}/{}", world.org, plugin.id);
    world.store.delete(Table::Plugins, &key, Expect::Any).await.unwrap();
    let again = world.reopen().await.unwrap();
    let new = plugged(&world, &agent, &[("b", &b.id)]);
    again.add_plugin(&world.org, new).await.expect("its name is free again");
    let agent = again.view().agent(&world.org, &agent.id).unwrap().clone();
    let bound: Vec<_> = agent.facts.bindings.iter().map(|it| &it.connection).collect();
    assert_eq!(bound, [&b.id]);
}

#[tokio::test]
async fn the_plugins_of_an_agent_are_removed_with_it_also_after_a_crash() {
    let (world, agent) = World::with_agent().await;
    let a = world.connection("a").await;
    world.directory.add_plugin(&world.org, plugged(&world, &agent, &[("a", &a.id)])).await.unwrap();
    let key = format!("{}/{}", world.org, agent.id);
    let row = world.store.get(Table::Agents, &key).await.unwrap().unwrap();
    world.store.delete(Table::Agents, &key, Expect::Version(row.version)).await.unwrap();
    let again = world.reopen().await.unwrap();
    assert_eq!(again.view().plugins().count(), 0);
    assert!(world.rows(Table::Plugins).await.is_empty());
    assert_eq!(world.rows(Table::Names).await.len(), 1, "the connection's");
}

/// Another replica has removed the plugin and installed it again, and its changes are read in any order.
#[tokio::test]
async fn a_plugin_that_replaces_another_is_listed_in_any_order_of_the_changes() {
    let (world, agent) = World::with_agent().await;
    let a = world.connection("a").await;
    let add = async || {
        let new = plugged(&world, &agent, &[("a", &a.id)]);
        world.directory.add_plugin(&world.org, new).await.unwrap()
    };
    let old = add().await;
    world.remove::<Plugin>(&old.id).await.unwrap();
    let new = add().await;
    for order in [[&old, &new], [&new, &old]] {
        let view = order.into_iter().cloned().fold(View::default(), View::with);
        let mut view = view.with(agent.clone());
        view.take_out::<Plugin>(&world.org, &old.id);
        let listed: Vec<_> = view.plugins_of(&world.org, &agent.id).collect();
        assert_eq!(listed, [&new]);
    }
}

#[tokio::test]
async fn a_plugin_with_a_foreign_or_undeclared_slot_is_refused_and_writes_nothing() {
    let (world, agent) = World::with_agent().await;
    let a = world.connection("a").await;
    let foreign = connection(&world.other_org().await, "foreign", world.now());
    let foreign = world.directory.add_record(foreign).await.unwrap();
    let mut other = connection(&world.org, "other", world.now());
    other.provider = "openai".into();
    let other = world.directory.add_record(other).await.unwrap();
    let mut undeclared = plugged(&world, &agent, &[("a", &a.id)]);
    undeclared.spec.manifest = manifest(&["x"]);
    for (new, says) in [
        (plugged(&world, &agent, &[("a", &foreign.id)]), "does not exist"),
        (plugged(&world, &agent, &[("a", &other.id)]), "requires an account at `github`"),
        (undeclared, "has no slot `a`"),
    ] {
        let error = world.directory.add_plugin(&world.org, new).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let unknown = world.remove::<Plugin>(&PluginId::random()).await;
    assert!(matches!(unknown, Err(DirectoryError::NotFound { what: "plugin", .. })));
    assert!(world.directory.view().agent(&world.org, &agent.id).unwrap().facts.bindings.is_empty());
    assert_eq!(world.rows(Table::Plugins).await.len(), 0);
    let new = plugged(&world, &agent, &[("a", &a.id)]);
    let plugin = world.directory.add_plugin(&world.org, new).await.unwrap();
    assert!(world.directory.view().plugin(&foreign.org, &plugin.id).is_none());
    let theirs = world.directory.remove::<Plugin>(&foreign.org, &plugin.id, ManagedBy::Store).await;
    assert!(matches!(theirs, Err(DirectoryError::NotFound { what: "plugin", .. })));
}

#[tokio::test]
async fn a_plugin_names_its_slots_without_a_usable_connection() {
    let (world, agent) = World::with_agent().await;
    let (a, b) = (world.connection("a").await, world.connection("b").await);
    let mut new = plugged(&world, &agent, &[("a", &a.id), ("b", &b.id)]);
    new.spec.manifest.connections[1].required = false;
    let plugin = world.directory.add_plugin(&world.org, new).await.unwrap();
    let state = || {
        let view = world.directory.view();
        let find = |id: &ConnectionId| view.connection(&world.org, id).map(|it| &**it);
        let missing = plugin.missing(find);
        let slots: Vec<_> = missing.iter().map(|missing| missing.slot.slot.clone()).collect();
        (plugin.state(&missing), slots)
    };
    assert_eq!(state(), (PluginState::Ready, vec![]));
    world.set_paused(&b.id, true).await.unwrap();
    assert_eq!(state(), (PluginState::Degraded, vec!["b".to_owned()]));
    world.remove::<Connection>(&a.id).await.unwrap();
    assert_eq!(state(), (PluginState::Blocked, vec!["a".to_owned(), "b".to_owned()]));
}

#[tokio::test]
async fn changes_at_the_same_time_do_not_undo_each_other() {
    let (world, agent) = World::with_agent().await;
    let (a, b) = (world.connection("a").await, world.connection("b").await);
    let both = plugged(&world, &agent, &[("a", &a.id), ("b", &b.id)]);
    let mut first = both.clone();
    first.spec.slots.remove("b");
    let plugin = world.directory.add_plugin(&world.org, first).await.unwrap();
    let empty = |before: &PluginRecord| -> Result<NewPlugin, DirectoryError> {
        let mut spec = before.spec.clone();
        spec.slots.remove("a");
        Ok(NewPlugin { spec, ..both.clone() })
    };
    let fill = |before: &PluginRecord| -> Result<NewPlugin, DirectoryError> {
        let mut spec = before.spec.clone();
        spec.slots.insert("b".to_owned(), Reference::Id(b.id.clone()));
        Ok(NewPlugin { spec, ..both.clone() })
    };
    let (org, id) = (&world.org, &plugin.id);
    // Both wait for the write lock.
    let turn = world.directory.turn().await.unwrap();
    let (emptied, filled, ()) = tokio::join!(
        world.directory.change_plugin(org, id, &empty),
        world.directory.change_plugin(org, id, &fill),
        async { drop(turn) },
    );
    emptied.unwrap();
    filled.unwrap();
    let view = world.directory.view();
    let slots: Vec<_> = view.plugin(org, id).unwrap().slots.keys().cloned().collect();
    assert_eq!(slots, ["b"]);
    let bound: Vec<_> = view.agent(org, &agent.id).unwrap().facts.bindings.clone();
    assert_eq!(bound.iter().map(|it| &it.connection).collect::<Vec<_>>(), [&b.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_another_replica_fills_keeps_its_binding_after_a_conflict() {
    let (world, agent) = World::with_agent().await;
    let (a, b) = (world.connection("a").await, world.connection("b").await);
    let both = plugged(&world, &agent, &[("a", &a.id), ("b", &b.id)]);
    let mut first = both.clone();
    first.spec.slots.remove("b");
    let plugin = world.directory.add_plugin(&world.org, first).await.unwrap();
    let (other, calls) = (world.reopen().await.unwrap(), AtomicUsize::new(0));
    let (org, id) = (&world.org, &plugin.id);
    let fill = |_: &PluginRecord| -> Result<NewPlugin, DirectoryError> { Ok(both.clone()) };
    let is_overtaken = |before: &PluginRecord| -> Result<NewPlugin, DirectoryError> {
        if calls.fetch_add(1, Ordering::SeqCst) > 0 {
            return Err(DirectoryError::LabelRefused);
        }
        let filled = other.change_plugin(org, id, &fill);
        tokio::task::block_in_place(|| Handle::current().block_on(filled))?;
        Ok(NewPlugin { spec: before.spec.clone(), bindings: Vec::new(), by: ManagedBy::Store })
    };
    let refused = world.directory.change_plugin(org, id, &is_overtaken).await;
    assert!(matches!(refused, Err(DirectoryError::LabelRefused)), "{refused:?}");
    assert_eq!(calls.into_inner(), 2);
    let view = world.reopen().await.unwrap().view();
    let bound: Vec<_> = view.agent(org, &agent.id).unwrap().facts.bindings.clone();
    assert_eq!(bound.iter().map(|it| &it.connection).collect::<Vec<_>>(), [&a.id, &b.id]);
}
