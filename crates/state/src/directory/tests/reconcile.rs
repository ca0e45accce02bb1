//! Resources that the configuration file manages: other editors are refused, and a restart changes nothing.

use super::*;
use crate::crypto::token::TokenHash;

const TOKEN: &str = "a-token-of-the-file-1";

async fn filed(world: &World) -> (Arc<AgentRecord>, Arc<ConnectionRecord>) {
    let (by, spec) = (ManagedBy::File, AgentSpec::named("ci"));
    let agent =
        world.directory.add::<Agent>(&world.org, by, spec, AgentFacts::default()).await.unwrap();
    let mut record = connection(&world.org, "gh", world.now());
    record.managed_by = ManagedBy::File;
    let connection = world.directory.add_record(record).await.unwrap();
    let bind = world.directory.bind(&world.org, &agent.id, &connection.id, placeholders("one"), by);
    bind.await.unwrap();
    (agent, connection)
}

async fn choose(world: &World, agent: &AgentId, token: &str) -> Result<TokenId, DirectoryError> {
    world.directory.set_chosen_token(&world.org, agent, None, TokenHash::of(token)).await
}

#[tokio::test]
async fn resources_of_the_file_cannot_be_changed_by_others() {
    let world = World::new().await;
    let (agent, connection) = filed(&world).await;
    let token = choose(&world, &agent.id, TOKEN).await.unwrap();
    let (directory, org) = (&world.directory, &world.org);
    let other = world.connection("other").await;
    let (by, none) = (ManagedBy::Store, BTreeMap::new());
    for refused in [
        directory.remove::<Agent>(org, &agent.id, ManagedBy::Store).await,
        directory.remove::<Connection>(org, &connection.id, ManagedBy::Store).await,
        directory.unbind(org, &agent.id, &connection.id).await,
        directory.bind(org, &agent.id, &other.id, none, by).await.map(drop),
        directory.revoke_token(org, &agent.id, &token).await,
        directory.set_connection_paused(org, &connection.id, false, by).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, DirectoryError::ManagedByFile { .. }), "{refused}");
    }
    let view = directory.view();
    assert_eq!(view.agent(org, &agent.id).unwrap().facts.bindings.len(), 1);
    assert!(view.authenticate(TOKEN, world.now()).is_some());
}

#[tokio::test]
async fn a_person_pauses_a_connection_of_the_file_and_alone_resumes_it() {
    let world = World::new().await;
    let (_, connection) = filed(&world).await;
    let (directory, org) = (&world.directory, &world.org);
    let paused = async |is_paused, by| {
        let changed = directory.set_connection_paused(org, &connection.id, is_paused, by).await;
        changed.map(|it| (it.facts.state == ConnectionState::Paused, it.facts.held))
    };
    assert_eq!(paused(true, ManagedBy::Store).await.unwrap(), (true, true));
    let removed = directory.remove::<Connection>(org, &connection.id, ManagedBy::Store).await;
    assert!(matches!(removed, Err(DirectoryError::ManagedByFile { .. })), "it is still declared");
    assert_eq!(paused(false, ManagedBy::Store).await.unwrap(), (false, false));
    // The file no longer names it: a person may remove it, and not resume it.
    assert_eq!(paused(true, ManagedBy::Store).await.unwrap(), (true, true));
    assert_eq!(paused(true, ManagedBy::File).await.unwrap(), (true, false));
    assert!(paused(false, ManagedBy::Store).await.is_err());
    assert_eq!(paused(true, ManagedBy::Store).await.unwrap(), (true, false));
    directory.remove::<Connection>(org, &connection.id, ManagedBy::Store).await.unwrap();
}

#[tokio::test]
async fn the_file_may_change_and_remove_all_of_its_resources() {
    let world = World::new().await;
    let (agent, connection) = filed(&world).await;
    let token = choose(&world, &agent.id, TOKEN).await.unwrap();
    let (directory, org, by) = (&world.directory, &world.org, ManagedBy::File);
    directory.revoke_token_by(org, &agent.id, &token, by).await.unwrap();
    directory.unbind_by(org, &agent.id, &connection.id, by).await.unwrap();
    directory.remove::<Connection>(org, &connection.id, by).await.unwrap();
    directory.remove::<Agent>(org, &agent.id, by).await.unwrap();
    assert_eq!(world.all_rows().await.len(), 1, "the sentinel");
}

#[tokio::test]
async fn repeated_changes_of_an_unchanged_file_write_nothing() {
    let world = World::new().await;
    let (agent, connection) = filed(&world).await;
    let first = choose(&world, &agent.id, TOKEN).await.unwrap();
    let before = world.all_rows().await;
    let count = *world.directory.changes().borrow();
    let (directory, org, by) = (&world.directory, &world.org, ManagedBy::File);
    assert_eq!(choose(&world, &agent.id, TOKEN).await.unwrap(), first);
    directory.change::<Agent>(org, &agent.id, |it| it.facts.paused = false).await.unwrap();
    directory.set_connection_paused(org, &connection.id, false, by).await.unwrap();
    directory.change::<Connection>(org, &connection.id, |_| {}).await.unwrap();
    directory.bind(org, &agent.id, &connection.id, placeholders("two"), by).await.unwrap();
    assert!(world.all_rows().await == before);
    assert_eq!(*directory.changes().borrow(), count);
}

#[tokio::test]
async fn another_chosen_token_replaces_the_first() {
    let world = World::new().await;
    let (agent, _) = filed(&world).await;
    let (_, issued) = world.token(&agent.id).await;
    choose(&world, &agent.id, TOKEN).await.unwrap();
    choose(&world, &agent.id, "a-token-of-the-file-2").await.unwrap();
    let view = world.directory.view();
    assert!(view.authenticate(TOKEN, world.now()).is_none());
    assert!(view.authenticate("a-token-of-the-file-2", world.now()).is_some());
    assert!(view.authenticate(&issued, world.now()).is_some(), "issued ones stay");
    assert_eq!(world.rows(Table::Tokens).await.len(), 2);
    let other = world.agent("other").await;
    let taken = choose(&world, &other.id, "a-token-of-the-file-2").await;
    assert!(matches!(taken, Err(DirectoryError::TokenTaken)));
    choose(&world, &other.id, TOKEN).await.unwrap();
}

#[tokio::test]
async fn resources_removed_from_the_file_have_no_effect_and_may_be_removed() {
    let world = World::new().await;
    let (agent, connection) = filed(&world).await;
    choose(&world, &agent.id, TOKEN).await.unwrap();
    let (directory, org, by) = (&world.directory, &world.org, ManagedBy::File);
    let held = directory.view().authenticate(TOKEN, world.now()).unwrap();
    directory.change::<Agent>(org, &agent.id, |it| it.facts.paused = true).await.unwrap();
    directory.set_connection_paused(org, &connection.id, true, by).await.unwrap();
    let view = directory.view();
    assert!(view.authenticate(TOKEN, world.now()).is_none());
    assert!(!view.is_still_authenticated(&held, world.now()));
    directory.change::<Agent>(org, &agent.id, |it| it.facts.paused = false).await.unwrap();
    assert!(directory.view().authenticate(TOKEN, world.now()).is_some(), "back in the file");
    directory.change::<Agent>(org, &agent.id, |it| it.facts.paused = true).await.unwrap();
    directory.remove::<Connection>(org, &connection.id, ManagedBy::Store).await.unwrap();
    directory.remove::<Agent>(org, &agent.id, ManagedBy::Store).await.unwrap();
}
