//! A connection that a hook names cannot be removed; hooks and database listeners whose connection is missing can be
//! changed.

use super::*;
use keyward_model::{
    Connection, DatabaseListener, DatabaseListenerSpec, Hook, HookFacts, HookSpec, ListenerPlace,
    NoMembers, Reference,
};

async fn hook(world: &World, name: &str, connection: &ConnectionId) -> Arc<Record<Hook>> {
    let connection = Some(Reference::Id(connection.clone()));
    let spec = HookSpec { name: name.to_owned(), connection, ..HookSpec::default() };
    world.add::<Hook>(spec, HookFacts::default()).await.unwrap()
}

async fn listener(world: &World, connection: &ConnectionId) -> Arc<Record<DatabaseListener>> {
    let spec = serde_json::json!({ "name": "l", "at": "127.0.0.1:0", "connection": connection });
    let spec: DatabaseListenerSpec = serde_json::from_value(spec).unwrap();
    world.add::<DatabaseListener>(spec, NoMembers {}).await.unwrap()
}

#[tokio::test]
async fn a_connection_that_a_hook_names_is_kept_unless_the_hook_left_the_file() {
    let world = World::new().await;
    let (directory, org) = (&world.directory, &world.org);
    let a = world.connection("a").await;
    let ci = hook(&world, "ci", &a.id).await;
    let rows = world.all_rows().await;
    for by in [ManagedBy::Store, ManagedBy::File] {
        let refused = directory.remove::<Connection>(org, &a.id, by).await.unwrap_err();
        assert_eq!(refused.to_string(), "connection `a` is named by hook `ci`, which needs it");
    }
    assert_eq!(world.all_rows().await, rows);
    // A hook that was removed from the configuration cannot be changed by others.
    let pause = |hook: &mut Record<Hook>| {
        (hook.managed_by, hook.facts.paused) = (ManagedBy::File, true);
    };
    directory.change::<Hook>(org, &ci.id, pause).await.unwrap();
    directory.remove::<Connection>(org, &a.id, ManagedBy::Store).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_a_hook_of_the_file_names_is_removed_only_by_the_file() {
    let world = World::new().await;
    let (directory, org) = (&world.directory, &world.org);
    let a = world.connection("a").await;
    let ci = hook(&world, "ci", &a.id).await;
    let declare = |hook: &mut Record<Hook>| hook.managed_by = ManagedBy::File;
    directory.change::<Hook>(org, &ci.id, declare).await.unwrap();
    let refused = directory.remove::<Connection>(org, &a.id, ManagedBy::Store).await;
    assert!(matches!(refused, Err(DirectoryError::NamedByHook { .. })), "{refused:?}");
    // The configuration may replace a connection, and then changes its hooks to the new one.
    directory.remove::<Connection>(org, &a.id, ManagedBy::File).await.unwrap();
}

#[tokio::test]
async fn a_hook_or_listener_whose_connection_is_gone_can_be_changed() {
    let world = World::new().await;
    let a = world.connection("a").await;
    let (ci, local) = (hook(&world, "ci", &a.id).await, listener(&world, &a.id).await);
    // Removes the connection as earlier versions did.
    let key = format!("{}/{}", world.org, a.id);
    world.store.delete(Table::Connections, &key, Expect::Any).await.unwrap();
    let (directory, org) = (world.reopen().await.unwrap(), &world.org);
    assert!(directory.view().connection(org, &a.id).is_none());
    let other = Some(Reference::Id(ConnectionId::random()));
    let name_other = |hook: &mut Record<Hook>| hook.spec.connection.clone_from(&other);
    let refused = directory.change::<Hook>(org, &ci.id, name_other).await;
    assert!(matches!(refused, Err(DirectoryError::NotFound { .. })), "{refused:?}");
    let name_other =
        |listener: &mut Record<DatabaseListener>| listener.spec.connection.clone_from(&other);
    let refused = directory.change::<DatabaseListener>(org, &local.id, name_other).await;
    assert!(matches!(refused, Err(DirectoryError::NotFound { .. })), "{refused:?}");
    let pause = |hook: &mut Record<Hook>| hook.facts.paused = true;
    assert!(directory.change::<Hook>(org, &ci.id, pause).await.unwrap().facts.paused);
    let place: ListenerPlace = "127.0.0.1:6432".parse().unwrap();
    let move_it = |listener: &mut Record<DatabaseListener>| listener.spec.at = place.clone();
    let moved = directory.change::<DatabaseListener>(org, &local.id, move_it).await.unwrap();
    assert_eq!(moved.spec.at, place);
}
