//! Checks of the store: each kind of fault is named, a repair changes only index rows, and a repaired store opens.

use super::*;
use crate::directory::index::{Claim, NameKind};
use crate::directory::rows::{DirectoryRows, RowId};
use crate::directory::{FaultKind, StoreCheck};
use keyward_model::{Rule, RuleFacts, RuleSpec};

impl World {
    async fn check(&self) -> StoreCheck {
        let store: Arc<dyn Store> = self.store.clone();
        StoreCheck::run(&store, &self.keyring, &|_, _| Ok(())).await.unwrap()
    }

    async fn repair(&self, check: &StoreCheck) -> usize {
        let store: Arc<dyn Store> = self.store.clone();
        check.repair(&store, &self.keyring).await.unwrap()
    }

    fn own_rows(&self) -> DirectoryRows {
        DirectoryRows::new(self.store.clone(), self.keyring.clone())
    }

    /// An agent with a token and a binding, its connection with a sealed row, and a rule that names both.
    async fn furnished() -> (Self, Arc<AgentRecord>, Arc<ConnectionRecord>) {
        let world = Self::new().await;
        let (agent, connection) = (world.agent("ci").await, world.connection("gh").await);
        world.token(&agent.id).await;
        world.bind(&agent.id, &connection.id).await;
        let grant = RowId::new(Table::Grants, &world.org, &connection.id);
        world.own_rows().write(&grant, &"sealed", None).await.unwrap();
        let spec = RuleSpec {
            agents: Some(vec![agent.id.to_string()]),
            use_connection: Some(connection.id.to_string()),
            ..serde_json::from_value(
                serde_json::json!({ "name": "both", "hosts": ["api.acme.test"] }),
            )
            .unwrap()
        };
        world.add::<Rule>(spec, RuleFacts::at(0)).await.unwrap();
        (world, agent, connection)
    }
}

/// Kind, table and problem of each fault.
fn named(check: &StoreCheck) -> Vec<(FaultKind, &str, &str)> {
    check.faults.iter().map(|it| (it.kind, it.table.as_str(), it.problem.as_str())).collect()
}

#[tokio::test]
async fn an_undamaged_store_and_an_empty_store_have_no_faults() {
    let (world, ..) = World::furnished().await;
    let check = world.check().await;
    assert_eq!(named(&check), []);
    assert_eq!(check.rows, world.all_rows().await.len());
    assert_eq!(check.repairable().unwrap(), 0);
    let empty: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let check = StoreCheck::run(&empty, &world.keyring, &|_, _| Ok(())).await.unwrap();
    assert_eq!((check.rows, named(&check)), (0, vec![]));
}

#[tokio::test]
async fn a_flipped_bit_of_any_row_is_named_and_repairable_only_in_an_index() {
    let (world, ..) = World::furnished().await;
    for (table, row) in world.all_rows().await {
        let mut changed = row.value.clone();
        *changed.last_mut().unwrap() ^= 1;
        world.set(table, &row, &changed).await;
        let check = world.check().await;
        let fault = check.faults.iter().find(|it| it.key == row.key && it.table == table.name());
        let fault = fault.unwrap_or_else(|| panic!("{row:?}: {:?}", check.faults));
        let is_index = matches!(table, Table::Names | Table::Tokens);
        assert_eq!(fault.kind == FaultKind::Index, is_index, "{fault:?}");
        assert_eq!(check.repairable().is_ok(), is_index);
        // A record that names an unreadable record has no fault itself.
        assert!(check.faults.iter().all(|it| it.kind != FaultKind::Leftover), "{check:?}");
        assert!(!check.faults.iter().any(|it| it.kind == FaultKind::Reference), "{check:?}");
        world.set(table, &row, &row.value).await;
    }
    assert_eq!(named(&world.check().await), []);
}

impl World {
    /// Replaces bytes and keeps the version.
    async fn set(&self, table: Table, row: &Row, value: &[u8]) {
        let now = self.store.get(table, &row.key).await.unwrap().unwrap();
        self.store.reseal(table, &now, value).await.unwrap();
    }
}

#[tokio::test]
async fn an_index_that_differs_from_the_records_is_rebuilt_and_then_opens() {
    let (world, agent, _) = World::furnished().await;
    let (rows, index) = (world.own_rows(), &world.directory.shared.index);
    let before = world.all_rows().await;
    // Index rows that are missing, of another owner, of no owner, and unreadable.
    let tokens = world.rows(Table::Tokens).await.remove(0);
    world.store.delete(Table::Tokens, &tokens.key, Expect::Any).await.unwrap();
    let name = index.name(&world.org, NameKind::Agent, "ci");
    rows.delete(&name, None).await.unwrap();
    rows.write(&name, &Claim::of(AgentId::random()), None).await.unwrap();
    let stray = index.name(&world.org, NameKind::Agent, "gone");
    rows.write(&stray, &Claim::of(AgentId::random()), None).await.unwrap();
    let opened = index.name(&world.org, NameKind::Connection, "gh");
    world.replant(Table::Names, &opened.key(), b"damaged").await;
    let check = world.check().await;
    assert_eq!(check.faults.len(), 4, "{:?}", check.faults);
    assert!(check.faults.iter().all(|it| it.kind == FaultKind::Index));
    assert!(world.reopen().await.is_err(), "a start does not repair a damaged index row");
    assert_eq!(world.repair(&check).await, 6);
    assert_eq!(named(&world.check().await), []);
    let keys = |rows: Vec<(Table, Row)>| -> Vec<_> {
        rows.into_iter().map(|(table, row)| (table, row.key)).collect()
    };
    assert_eq!(keys(world.all_rows().await), keys(before));
    let reopened = world.reopen().await.unwrap();
    assert_eq!(reopened.view().find_agent(&world.org, "ci").unwrap().id, agent.id);
    let refused = add_agent(&reopened, &world.org, "ci").await;
    assert!(matches!(refused, Err(DirectoryError::NameTaken { .. })));
}

#[tokio::test]
async fn two_records_of_one_name_are_named_and_not_repaired() {
    let (world, agent, _) = World::furnished().await;
    let twin = AgentRecord { id: AgentId::random(), ..agent.as_ref().clone() };
    let at = RowId::new(Table::Agents, &world.org, &twin.id);
    world.own_rows().write(&at, &twin, None).await.unwrap();
    let check = world.check().await;
    let duplicates = check.faults.iter().filter(|it| it.kind == FaultKind::Duplicate);
    let problems: Vec<_> = duplicates.map(|it| it.problem.clone()).collect();
    assert_eq!((problems.len(), check.faults.len()), (1, 1), "{:?}", check.faults);
    assert!(problems.iter().any(|it| it.starts_with("has the same name as agt_")), "{problems:?}");
    assert_eq!(check.repairable().unwrap_err().kind, FaultKind::Duplicate);
    assert!(check.faults.iter().any(|it| it.kind != FaultKind::Leftover));
}

#[tokio::test]
async fn a_removed_row_is_a_fault_of_the_rows_that_name_it() {
    let (world, agent, connection) = World::furnished().await;
    let of = |table, id: &str| (table, format!("{}/{id}", world.org));
    let cases = [
        (of(Table::Connections, connection.id.as_str()), vec!["agents", "rules"], vec!["grants"]),
        (of(Table::Agents, agent.id.as_str()), vec!["rules"], vec![]),
        (of(Table::Grants, connection.id.as_str()), vec!["connections"], vec![]),
    ];
    for ((table, key), missed_by, orphans) in cases {
        let row = world.store.get(table, &key).await.unwrap().unwrap();
        world.store.delete(table, &key, Expect::Any).await.unwrap();
        let check = world.check().await;
        let tables = |kind| -> Vec<_> {
            check.faults.iter().filter(|it| it.kind == kind).map(|it| it.table.as_str()).collect()
        };
        assert_eq!(tables(FaultKind::Reference), missed_by, "{key}: {:?}", check.faults);
        assert_eq!(tables(FaultKind::Leftover), orphans, "{key}");
        world.store.load(vec![(table, row)]).await.unwrap();
    }
    assert_eq!(named(&world.check().await), []);
}

#[tokio::test]
async fn leftovers_are_listed_and_are_no_faults() {
    let (world, ..) = World::furnished().await;
    let rows = world.own_rows();
    for table in [Table::Grants, Table::WebhookKeys, Table::SourceKeys, Table::Refreshes] {
        rows.write(&RowId::new(table, &world.org, ConnectionId::random()), &"x", None)
            .await
            .unwrap();
    }
    let check = world.check().await;
    assert_eq!(check.faults.len(), 4);
    assert!(check.faults.iter().all(|it| it.kind == FaultKind::Leftover));
}

#[tokio::test]
async fn a_check_names_refused_contents_older_versions_and_a_wrong_key() {
    let (world, agent, connection) = World::furnished().await;
    let store: Arc<dyn Store> = world.store.clone();
    let refuses = |view: &View, row: &OpenedRow| {
        assert!(view.find_connection(&OrgId::default_org(), "gh").is_some());
        let (_, id) = row.place().unwrap();
        Err(format!("{} of {id} is not one", row.table.name()))
    };
    let check = StoreCheck::run(&store, &world.keyring, &refuses).await.unwrap();
    let problem = format!("grants of {} is not one", connection.id);
    assert_eq!(named(&check), [(FaultKind::Unreadable, "grants", problem.as_str())]);

    let old = world.store.get(Table::Agents, &format!("{}/{}", world.org, agent.id)).await;
    let old = old.unwrap().unwrap();
    world.token(&agent.id).await;
    world.set(Table::Agents, &old, &old.value).await;
    let check = world.check().await;
    assert_eq!(check.faults[0].problem, "has an older version of its content");

    let stranger = Arc::new(Keyring::ephemeral());
    let refused = StoreCheck::run(&store, &stranger, &|_, _| Ok(())).await.unwrap_err();
    assert!(matches!(refused, DirectoryError::WrongKey { .. }), "{refused}");
}

#[tokio::test]
async fn a_lost_sentinel_and_a_lost_organisation_are_named() {
    let (world, ..) = World::furnished().await;
    let other = world.other_org().await;
    add_agent(&world.directory, &other, "there").await.unwrap();
    world.store.delete(Table::Orgs, &format!("{other}/org"), Expect::Any).await.unwrap();
    let check = world.check().await;
    assert_eq!(check.faults.len(), 2, "its agent and the name: {:?}", check.faults);
    assert!(check.faults[0].problem.contains("which does not exist"), "{:?}", check.faults);
    let sentinel = world.rows(Table::Meta).await.remove(0);
    world.store.delete(Table::Meta, &sentinel.key, Expect::Any).await.unwrap();
    let check = world.check().await;
    assert!(check.faults.iter().any(|it| it.key == "org_0/sentinel"), "{:?}", check.faults);
    assert!(check.repairable().is_err());
}
