//! Changes of an agent's plugins and bindings by two replicas, of which neither has seen the other's change.

use super::doubts::{FailingStore, Weakness};
use super::plugins::plugged;
use super::*;
use crate::store::memory::MemoryReplica;
use keyward_model::Plugin;

/// An agent with plugin `one`, whose slot has connection `a`. No replica follows the store.
struct Replicas {
    /// The replica that made them.
    world: World,
    rows: MemoryReplica,
    agent: Arc<AgentRecord>,
    one: Arc<PluginRecord>,
    a: Arc<ConnectionRecord>,
    b: Arc<ConnectionRecord>,
}

impl Replicas {
    async fn new() -> Self {
        let (world, rows) = (World::new().await, MemoryReplica::first());
        let world = World { directory: world.open(rows.another()).await, ..world };
        let agent = world.agent("ci").await;
        let (a, b) = (world.connection("a").await, world.connection("b").await);
        let one = plugged(&world, &agent, &[("slot", &a.id)]);
        let one = world.directory.add_plugin(&world.org, one).await.unwrap();
        Self { world, rows, agent, one, a, b }
    }

    /// A replica that has seen what is stored now.
    async fn another(&self) -> Directory {
        self.world.open(self.rows.another()).await
    }

    /// Plugin `two` with this connection in its slot.
    fn two(&self, connection: &ConnectionRecord) -> NewPlugin {
        let mut two = plugged(&self.world, &self.agent, &[("slot", &connection.id)]);
        two.spec.manifest.plugin = "two".into();
        two
    }

    async fn remove_one(&self, directory: &Directory) {
        let (org, by) = (&self.world.org, ManagedBy::Store);
        directory.remove::<Plugin>(org, &self.one.id, by).await.unwrap();
    }

    /// The stored bindings of the agent.
    async fn bindings(&self) -> Vec<BindingRecord> {
        let view = self.another().await.view();
        view.agent(&self.world.org, &self.agent.id).unwrap().facts.bindings.clone()
    }
}

#[tokio::test]
async fn a_removed_plugin_takes_no_binding_of_one_that_another_replica_has_installed() {
    for is_same_connection in [false, true] {
        let replicas = Replicas::new().await;
        let other = replicas.another().await;
        let used = if is_same_connection { &replicas.a } else { &replicas.b };
        let (world, two) = (&replicas.world, replicas.two(used));
        world.directory.add_plugin(&world.org, two).await.unwrap();
        let before = replicas.bindings().await;
        replicas.remove_one(&other).await;
        let wanted: Vec<_> = before.into_iter().filter(|it| it.connection == used.id).collect();
        assert_eq!(wanted.len(), 1);
        assert_eq!(replicas.bindings().await, wanted, "{is_same_connection}");
    }
}

/// As if the plugin was installed after the removal: its binding is a new one.
#[tokio::test]
async fn a_plugin_has_its_binding_although_another_replica_removes_it_during_the_installation() {
    let replicas = Replicas::new().await;
    let (world, rows) = (&replicas.world, Arc::new(replicas.rows.another()));
    let (store, installing) = FailingStore::open(world, rows, Table::Plugins).await;
    let remove = async {
        replicas.remove_one(&world.directory).await;
        assert_eq!(replicas.bindings().await, [], "no stored plugin uses it");
    };
    let held = store.hold_first_write(remove);
    let ((), installed) =
        tokio::join!(held, installing.add_plugin(&world.org, replicas.two(&replicas.a)));
    installed.unwrap();
    let bound: Vec<_> = replicas.bindings().await.into_iter().map(|it| it.connection).collect();
    assert_eq!(bound, std::slice::from_ref(&replicas.a.id));
}

/// A store that does not compare versions leaves the slot without its binding, after both changes were confirmed.
#[tokio::test]
async fn a_removal_keeps_a_binding_that_another_replica_has_put_into_a_slot_meanwhile() {
    for weakness in [Weakness::NoVersions, Weakness::None] {
        let replicas = Replicas::new().await;
        let (world, rows) = (&replicas.world, Arc::new(replicas.rows.another()));
        let (store, removing) = FailingStore::open(world, rows, Table::Agents).await;
        *store.weakness.lock() = weakness;
        let before = replicas.bindings().await;
        let install = async {
            let two = replicas.two(&replicas.a);
            world.directory.add_plugin(&world.org, two).await.unwrap();
        };
        let held = store.hold_first_write(install);
        tokio::join!(held, replicas.remove_one(&removing));
        let is_kept = replicas.bindings().await == before;
        assert_eq!(is_kept, weakness == Weakness::None, "{weakness:?}");
    }
}

#[tokio::test]
async fn an_unbound_connection_stays_in_the_slot_that_another_replica_has_filled() {
    let replicas = Replicas::new().await;
    let world = &replicas.world;
    world.bind(&replicas.agent.id, &replicas.b.id).await;
    let other = replicas.another().await;
    world.directory.add_plugin(&world.org, replicas.two(&replicas.b)).await.unwrap();
    let before = replicas.bindings().await;
    let bound = |it: &BindingRecord| (it.connection.clone(), it.direct);
    let (a, b) = (replicas.a.id.clone(), replicas.b.id.clone());
    let both = before.iter().map(bound).collect::<Vec<_>>();
    assert_eq!(both, [(a.clone(), false), (b.clone(), true)]);
    other.unbind(&world.org, &replicas.agent.id, &b).await.unwrap();
    let after = replicas.bindings().await;
    assert_eq!(after.iter().map(bound).collect::<Vec<_>>(), [(a, false), (b, false)]);
    assert_eq!(after[1].placeholders, before[1].placeholders);
}
