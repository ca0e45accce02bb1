//! The behaviour of the directory for every resource: unique names, renames, conflicting changes.

use super::*;
use keyward_model::{NoMembers, OwnProvider, OwnProviderSpec};

fn renamed(to: &str) -> impl Fn(&mut Record<Honeytoken>) + Sync {
    let to = to.to_owned();
    move |record| record.spec.name.clone_from(&to)
}

#[tokio::test]
async fn a_taken_or_invalid_name_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let one = add_honeytoken(&world.directory, "one").await.unwrap();
    add_honeytoken(&world.directory, "two").await.unwrap();
    let rows = world.all_rows().await;
    let taken = add_honeytoken(&world.directory, "one").await;
    assert!(matches!(taken, Err(DirectoryError::NameTaken { .. })), "{taken:?}");
    let taken = world.change(&one.id, renamed("two")).await;
    assert!(matches!(taken, Err(DirectoryError::NameTaken { .. })), "{taken:?}");
    let refused = world.change(&one.id, renamed("..")).await;
    assert!(matches!(refused, Err(DirectoryError::Refused(_))), "{refused:?}");
    assert_eq!(world.all_rows().await, rows);
    world.reopen().await.unwrap();
    assert_eq!(world.all_rows().await, rows, "nothing is to be repaired");
}

#[tokio::test]
async fn the_old_name_of_a_renamed_record_is_free() {
    let world = World::new().await;
    let one = add_honeytoken(&world.directory, "one").await.unwrap();
    world.change(&one.id, renamed("two")).await.unwrap();
    let view = world.directory.view();
    assert!(view.find::<Honeytoken>(&world.org, "one").is_none());
    assert_eq!(view.find::<Honeytoken>(&world.org, "two").unwrap().id, one.id);
    let core = one.facts.placeholder.core();
    assert_eq!(view.honeytoken(&world.org, &core).unwrap().name(), "two");
    add_honeytoken(&world.directory, "one").await.unwrap();
    let reopened = world.reopen().await.unwrap().view();
    assert_eq!(reopened.find::<Honeytoken>(&world.org, "two").unwrap().id, one.id);
}

#[tokio::test]
async fn fixed_fields_stay_and_a_refusal_changes_nothing() {
    let world = World::new().await;
    let ann = world.user("ann", Role::Member).await;
    let rows = world.all_rows().await;
    let rename = |user: &mut Record<User>| user.spec.name = "bob".to_owned();
    let refused = world.change(&ann.id, rename).await.unwrap_err();
    assert_eq!(refused.to_string(), "`name` of a user cannot be changed: add another one");
    let refuse = |_: &mut Record<User>| Err(DirectoryError::TokenRefused);
    let refused = world.directory.edit::<User, DirectoryError>(&world.org, &ann.id, &refuse).await;
    assert!(matches!(refused, Err(DirectoryError::TokenRefused)));
    let nothing = world.change(&ann.id, |_: &mut Record<User>| {}).await;
    assert_eq!(nothing.unwrap().updated, ann.updated);
    assert_eq!(world.all_rows().await, rows);
    world.pass(60);
    let pause = |user: &mut Record<User>| user.spec.paused = true;
    let paused = world.change(&ann.id, pause).await.unwrap();
    assert_eq!((paused.created, paused.updated), (ann.created, Some(world.now())));
}

/// Another replica has removed the provider and added it again, and its changes are read in any order.
#[tokio::test]
async fn a_provider_that_replaces_another_is_in_the_catalogue_in_any_order_of_the_changes() {
    let world = World::new().await;
    let add = async |name: &str| {
        let definition = serde_json::json!({
            "id": "corp",
            "name": name,
            "hosts": ["api.corp.example"],
            "auth": [{ "id": "bearer", "kind": "bearer" }],
        });
        let spec = OwnProviderSpec::new(definition.as_object().unwrap().clone());
        world.add::<OwnProvider>(spec, NoMembers {}).await.unwrap()
    };
    let old = add("Old").await;
    world.remove::<OwnProvider>(&old.id).await.unwrap();
    let new = add("New").await;
    let all = Arc::<Catalogue>::default();
    for order in [[&old, &new], [&new, &old]] {
        let mut view = order.into_iter().cloned().fold(View::default(), View::with);
        view.take_out::<OwnProvider>(&world.org, &old.id);
        let catalogue = view.catalogue(&world.org, &all);
        assert_eq!(catalogue.get("corp").map(|it| &*it.name), Some("New"));
        view.take_out::<OwnProvider>(&world.org, &new.id);
        assert!(view.catalogue(&world.org, &all).get("corp").is_none());
    }
}
