//! Crashes between two rows, wrong keys, and edited rows. Each damaged row is named, and no row is destroyed.

use super::busy_replica::{BusyReplica, Moment, follow_until_now};
use super::*;
use crate::crypto::envelope::OVERHEAD;
use crate::directory::index::{Claim, Index, NameKind, everyone};
use crate::directory::open::FORMAT;
use crate::directory::rows::{DirectoryRows, RowId};
use crate::store::memory::MemoryReplica;
use std::time::{Duration, Instant};

/// The rows below the directory, so that a test can write only one of two.
fn beneath(world: &World) -> (DirectoryRows, &Index) {
    (DirectoryRows::new(world.store.clone(), world.keyring.clone()), &world.directory.shared.index)
}

#[tokio::test]
async fn an_index_row_without_its_record_is_dropped_at_open() {
    let world = World::new().await;
    let (rows, index) = beneath(&world);
    let name = index.name(&world.org, NameKind::Agent, "ci");
    let token = index.token(&crate::crypto::token::TokenHash::of("twenty-characters-ok"));
    for at in [&name, &token] {
        rows.write(at, &Claim::of(AgentId::random()), None).await.unwrap();
    }
    assert!(add_agent(&world.directory, &world.org, "ci").await.is_err());
    let reopened = world.reopen().await.unwrap();
    assert!(world.rows(Table::Tokens).await.is_empty());
    add_agent(&reopened, &world.org, "ci").await.unwrap();
}

#[tokio::test]
async fn a_record_without_its_index_rows_gets_them_at_open() {
    let (world, agent) = World::with_agent().await;
    world.token(&agent.id).await;
    world.connection("gh").await;
    let key = |rows: Vec<Row>| rows.into_iter().map(|row| row.key).collect::<Vec<_>>();
    let before = (key(world.rows(Table::Names).await), key(world.rows(Table::Tokens).await));
    for (table, keys) in [(Table::Names, &before.0), (Table::Tokens, &before.1)] {
        for key in keys {
            world.store.delete(table, key, Expect::Any).await.unwrap();
        }
    }
    let reopened = world.reopen().await.unwrap();
    assert_eq!((key(world.rows(Table::Names).await), key(world.rows(Table::Tokens).await)), before);
    let refused = add_agent(&reopened, &world.org, "ci").await;
    assert!(matches!(refused, Err(DirectoryError::NameTaken { .. })));
}

#[tokio::test]
async fn an_index_row_of_another_owner_is_corrected() {
    let (world, agent) = World::with_agent().await;
    let (rows, index) = beneath(&world);
    let name = index.name(&world.org, NameKind::Agent, "ci");
    rows.delete(&name, None).await.unwrap();
    rows.write(&name, &Claim::of(AgentId::random()), None).await.unwrap();
    world.reopen().await.unwrap();
    let claim = rows.read::<Claim>(&name).await.unwrap().unwrap().record;
    assert_eq!(claim, Claim::of(&agent.id));
}

#[tokio::test]
async fn two_records_of_one_name_are_refused() {
    let (world, agent) = World::with_agent().await;
    let (rows, _) = beneath(&world);
    let twin = AgentRecord { id: AgentId::random(), ..agent.as_ref().clone() };
    rows.write(&RowId::new(Table::Agents, &world.org, &twin.id), &twin, None).await.unwrap();
    let refused = world.reopen().await.unwrap_err();
    assert!(matches!(refused, DirectoryError::Twice { what: "name", .. }), "{refused}");
    let first = MemoryReplica::first();
    first.load(world.all_rows().await).await.unwrap();
    let (store, clock) = (Arc::new(first.another()), world.clock.clone());
    let beside = Directory::open(store, world.keyring.clone(), clock).await.unwrap_err();
    assert!(matches!(beside, DirectoryError::Twice { what: "name", .. }), "{beside}");
}

/// Adds the agent `ci` with this id, and a chosen token.
async fn add_ci(directory: &Directory, id: &AgentId, now: Timestamp) {
    let (org, by) = (OrgId::default_org(), ManagedBy::Store);
    let record = Record::<Agent>::new(&org, by, AgentSpec::named("ci"), AgentFacts::default(), now);
    directory.add_record(AgentRecord { id: id.clone(), ..record }).await.unwrap();
    let token = Some(Secret::from("twenty-characters-ok".to_owned()));
    directory.add_token(&org, id, None, None, token).await.unwrap();
}

/// The starting replica reads the page with the agent before the other replica replaces it, and that with its successor
/// afterwards.
#[tokio::test]
async fn a_replica_starts_while_another_one_replaces_an_agent_under_the_same_name_and_token() {
    let world = World::new().await;
    let (rows, org) = (MemoryReplica::first(), world.org.clone());
    let other = world.open(rows.another()).await;
    let mut ids = [AgentId::random(), AgentId::random()];
    ids.sort();
    let [old, new] = ids;
    add_ci(&other, &old, world.now()).await;
    let change = {
        let (org, new, now) = (org.clone(), new.clone(), world.now());
        async move {
            other.remove::<Agent>(&org, &old, ManagedBy::Store).await.unwrap();
            add_ci(&other, &new, now).await;
        }
    };
    let moment = Moment::BeforePage(Table::Agents, 1);
    let started = world.open(BusyReplica::new(rows.another(), moment, change)).await;
    let is_new = || {
        let view = started.view();
        let held = view.authenticate("twenty-characters-ok", world.now());
        assert_eq!(held.map(|agent| agent.id).as_ref(), Some(&new));
        assert_eq!(view.find_agent(&org, "ci").map(|agent| &agent.id), Some(&new));
    };
    assert_eq!(started.view().agents().count(), 2);
    is_new();
    follow_until_now(&started).await;
    assert_eq!(started.view().agents().count(), 1);
    is_new();
}

#[tokio::test]
async fn a_wrong_key_is_reported_at_once_with_the_remedy_and_changes_nothing() {
    let world = World::new().await;
    world.agent("ci").await;
    let before = world.all_rows().await;
    let refused = world.reopen_with(Arc::new(Keyring::ephemeral())).await.unwrap_err();
    let message = refused.to_string();
    let id = world.keyring.current().to_string();
    assert!(message.starts_with("the store was sealed with another master key"), "{message}");
    assert!(message.contains(&id) && message.contains("master_key"), "{message}");
    assert!(world.all_rows().await == before);
    world.reopen().await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_as_such_and_is_not_changed() {
    let world = World::new().await;
    let (rows, _) = beneath(&world);
    let at = RowId::new(Table::Meta, &everyone(), "sentinel");
    let present = rows.read::<serde_json::Value>(&at).await.unwrap().expect("each store has one");
    let newer = serde_json::json!({ "format": FORMAT + 1, "created": present.record["created"], "layout": "trie" });
    rows.write(&at, &newer, Some(present.version)).await.unwrap();
    let before = world.all_rows().await;
    let refused = world.reopen().await.unwrap_err();
    assert!(
        matches!(refused, DirectoryError::Newer { format, .. } if format == FORMAT + 1),
        "{refused}"
    );
    assert_eq!(world.all_rows().await, before);
}

#[tokio::test]
async fn a_store_without_its_sentinel_is_refused_and_not_treated_as_new() {
    let world = World::new().await;
    world.agent("ci").await;
    let sentinel = world.rows(Table::Meta).await.remove(0);
    world.store.delete(Table::Meta, &sentinel.key, Expect::Any).await.unwrap();
    let refused = world.reopen().await.unwrap_err();
    assert!(matches!(refused, DirectoryError::SentinelMissing), "{refused}");
    assert!(world.rows(Table::Meta).await.is_empty());
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_an_error_that_names_the_row_and_destroys_nothing() {
    let (world, agent) = World::with_agent().await;
    world.token(&agent.id).await;
    world.connection("gh").await;
    for (table, row) in world.all_rows().await {
        // Format, key id, wrap nonce, wrapped key, nonce, first and last byte of the ciphertext,
        // tag.
        let ends = [row.value.len() - 17, row.value.len() - 1];
        for at in [0, 1, 8, 9, 20, 21, 68, 69, 80, OVERHEAD - 16].into_iter().chain(ends) {
            let mut changed = row.value.clone();
            changed[at] ^= 0x10;
            let version = row.version;
            replant_at(&world, table, &row.key, &changed, version.0).await;
            let refused = world.reopen().await.unwrap_err();
            let is_sentinel = table == Table::Meta && (1..9).contains(&at);
            assert!(refused.to_string().contains(&row.key) || is_sentinel, "{at}: {refused}");
            let kept = world.store.get(table, &row.key).await.unwrap().unwrap();
            assert!(kept.value == changed, "nothing is repaired by guessing");
            replant_at(&world, table, &row.key, &row.value, version.0).await;
        }
    }
    world.reopen().await.unwrap();
}

/// Puts bytes at a version.
async fn replant_at(world: &World, table: Table, key: &str, value: &[u8], version: u64) {
    world.replant(table, key, value).await;
    for _ in 1..version {
        world.store.put(table, key, value, Expect::Any).await.unwrap();
    }
}

#[tokio::test]
async fn swapped_cut_and_foreign_rows_are_refused() {
    let world = World::new().await;
    let (one, _two) = (world.agent("one").await, world.agent("two").await);
    let rows = world.rows(Table::Agents).await;
    let (a, b) = (&rows[0], &rows[1]);
    world.replant(Table::Agents, &a.key, &b.value).await;
    assert!(matches!(world.reopen().await, Err(DirectoryError::Unreadable { .. })));
    world.replant(Table::Agents, &a.key, &a.value[..OVERHEAD - 1]).await;
    assert!(matches!(world.reopen().await, Err(DirectoryError::Unreadable { .. })));
    world.replant(Table::Agents, &a.key, b"").await;
    assert!(matches!(world.reopen().await, Err(DirectoryError::Unreadable { .. })));
    world.replant(Table::Agents, &a.key, &a.value).await;
    // The same row, in another org.
    let foreign = format!("{}/{}", OrgId::random(), one.id);
    world.replant(Table::Agents, &foreign, &a.value).await;
    let refused = world.reopen().await.unwrap_err();
    assert!(refused.to_string().contains(&foreign), "{refused}");
    world.store.delete(Table::Agents, &foreign, Expect::Any).await.unwrap();
    world.replant(Table::Agents, "no-org", &a.value).await;
    assert!(matches!(world.reopen().await, Err(DirectoryError::Malformed { .. })));
}

#[tokio::test]
async fn an_older_value_under_the_present_version_is_refused() {
    let (world, agent) = World::with_agent().await;
    let (id, token) = world.token(&agent.id).await;
    let before = world.rows(Table::Agents).await.remove(0);
    world.directory.revoke_token(&world.org, &agent.id, &id).await.unwrap();
    let now = world.rows(Table::Agents).await.remove(0);
    replant_at(&world, Table::Agents, &now.key, &before.value, now.version.0).await;
    let refused = world.reopen().await.unwrap_err();
    assert!(matches!(refused, DirectoryError::RolledBack { .. }), "{refused}");
    assert!(world.directory.view().authenticate(&token, world.now()).is_none());
}

#[tokio::test]
async fn rows_show_no_name_no_hash_and_no_token() {
    let world = World::new().await;
    let agent = world.agent("visible-name").await;
    let (_, token) = world.token(&agent.id).await;
    let hash = crate::crypto::token::TokenHash::of(&token).to_hex();
    world.connection("visible-account").await;
    for (_, row) in world.all_rows().await {
        let bytes = [row.key.as_bytes(), &row.value].concat();
        for shown in ["visible", "github", &token, &hash] {
            let found = bytes.windows(shown.len()).any(|window| window == shown.as_bytes());
            assert!(!found, "{shown} in {}", row.key);
        }
        assert!(row.key.starts_with("org_"), "{}", row.key);
    }
}

#[tokio::test]
async fn a_thousand_agents_and_ten_thousand_connections_load_in_seconds() {
    let world = World::new().await;
    let (rows, index) = beneath(&world);
    for n in 0..10_000 {
        let record = connection(&world.org, &format!("c{n}"), world.now());
        let at = RowId::new(Table::Connections, &world.org, &record.id);
        rows.write(&at, &record, None).await.unwrap();
        let name = index.name(&world.org, NameKind::Connection, &record.name);
        rows.write(&name, &Claim::of(&record.id), None).await.unwrap();
    }
    let model = world.agent("model").await;
    for n in 0..1_000 {
        let id = AgentId::random();
        let spec = AgentSpec::named(format!("a{n}"));
        let record = AgentRecord { id: id.clone(), spec, ..model.as_ref().clone() };
        rows.write(&RowId::new(Table::Agents, &world.org, &id), &record, None).await.unwrap();
        let name = index.name(&world.org, NameKind::Agent, &record.name);
        rows.write(&name, &Claim::of(&id), None).await.unwrap();
    }
    let begun = Instant::now();
    let reopened = world.reopen().await.unwrap();
    // The bound is for an unoptimised build on a busy machine; an optimised build takes a fraction of a second.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let view = reopened.view();
    assert_eq!((view.agents().count(), view.connections().count()), (1_001, 10_000));
    assert!(view.find_agent(&world.org, "a999").is_some());
}
