//! The removal of an organisation at one replica while another one adds to it. No replica follows the store by itself.

use super::*;
use crate::store::memory::MemoryReplica;

/// Two replicas that have seen the organisation, without a record.
struct Replicas {
    world: World,
    rows: MemoryReplica,
    acme: OrgId,
    one: Directory,
    other: Directory,
}

impl Replicas {
    async fn new() -> Self {
        let (world, rows) = (World::new().await, MemoryReplica::first());
        let one = world.open(rows.another()).await;
        let acme = OrgId::named("acme").unwrap();
        one.add_org(&acme, ManagedBy::Store).await.unwrap();
        let other = world.open(rows.another()).await;
        Self { world, rows, acme, one, other }
    }

    async fn follows_org(&self, replica: &Directory) {
        let writer = replica.turn().await.unwrap();
        writer.follow_row(Table::Orgs, &format!("{}/org", self.acme)).await.unwrap();
    }

    async fn stored(&self, table: Table) -> usize {
        self.rows.list(table, RowRange::first(usize::MAX)).await.unwrap().len()
    }
}

fn has_agent(replica: &Directory, org: &OrgId) -> bool {
    replica.view().find::<Agent>(org, "late").is_some()
}

#[tokio::test]
async fn what_is_added_to_an_organisation_that_another_replica_has_removed_is_not_in_the_next_one()
{
    let replicas = Replicas::new().await;
    let Replicas { acme, one, other, .. } = &replicas;
    one.remove_org(acme).await.unwrap();
    assert!(other.view().org(acme).is_some(), "the other replica has not seen it");
    let refused = add_agent(other, acme, "late").await.unwrap_err();
    assert!(matches!(refused, DirectoryError::NotFound { what: "organisation", .. }), "{refused}");
    let added = add_user(other, acme, "eve", Role::Admin).await;
    assert!(matches!(added, Err(DirectoryError::NotFound { what: "organisation", .. })));
    for table in [Table::Agents, Table::Users, Table::Names] {
        assert_eq!(replicas.stored(table).await, 0, "{table:?}");
    }
    one.add_org(acme, ManagedBy::Store).await.unwrap();
    replicas.follows_org(other).await;
    let late = replicas.world.open(replicas.rows.another()).await;
    for replica in [one, other, &late] {
        assert!(!has_agent(replica, acme));
        assert_eq!(replica.view().all::<User>(acme).count(), 0);
    }
}

#[tokio::test]
async fn an_organisation_to_which_another_replica_has_added_an_agent_is_not_removed() {
    let replicas = Replicas::new().await;
    let Replicas { acme, one, other, .. } = &replicas;
    add_agent(other, acme, "late").await.unwrap();
    assert!(!has_agent(one, acme), "the replica that removes has not seen it");
    let refused = one.remove_org(acme).await.unwrap_err();
    let in_use =
        matches!(&refused, DirectoryError::OrgInUse { what: "agent", name, .. } if name == "late");
    assert!(in_use, "{refused}");
    replicas.follows_org(other).await;
    let late = replicas.world.open(replicas.rows.another()).await;
    for replica in [one, other, &late] {
        assert!(replica.view().org(acme).is_some() && has_agent(replica, acme));
    }
}

#[tokio::test]
async fn a_replica_that_saw_an_organisation_go_and_come_back_has_its_records() {
    let replicas = Replicas::new().await;
    let Replicas { acme, one, other, .. } = &replicas;
    one.remove_org(acme).await.unwrap();
    replicas.follows_org(other).await;
    assert!(other.view().org(acme).is_none());
    one.add_org(acme, ManagedBy::Store).await.unwrap();
    add_agent(one, acme, "late").await.unwrap();
    replicas.follows_org(other).await;
    assert!(has_agent(other, acme));
}

#[tokio::test]
async fn the_consents_of_a_removed_organisation_are_deleted_and_those_of_others_stay() {
    let replicas = Replicas::new().await;
    let Replicas { rows, acme, one, .. } = &replicas;
    let own = OrgId::default_org();
    for (org, id) in [(acme, "flow-a"), (acme, "state-b"), (acme, "start-c"), (&own, "flow-d")] {
        let key = format!("{org}/{id}");
        rows.put(Table::Flows, &key, b"sealed", Expect::Absent).await.unwrap();
    }
    one.remove_org(acme).await.unwrap();
    let left = rows.list(Table::Flows, RowRange::first(usize::MAX)).await.unwrap();
    let left: Vec<_> = left.iter().map(|row| &*row.key).collect();
    assert_eq!(left, [format!("{own}/flow-d")]);
    // A replica may have written one after that.
    let late = format!("{acme}/flow-e");
    rows.put(Table::Flows, &late, b"sealed", Expect::Absent).await.unwrap();
    one.add_org(acme, ManagedBy::Store).await.unwrap();
    assert_eq!(replicas.stored(Table::Flows).await, 1);
}
