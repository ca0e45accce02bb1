//! Stored rules: their order, also after crashes and without gaps, and the records whose removal they prevent.

use super::*;
use keyward_base::id::StoredRuleId;
use keyward_model::{Connection, Resource, Rule, RuleFacts, RuleSpec};
use keyward_rules::policy::explain::ActionKind;

fn deny(name: &str) -> RuleSpec {
    let action = Some(ActionKind::Deny);
    RuleSpec { name: Some(name.to_owned()), action, ..RuleSpec::default() }
}

/// Adds a rule at an index of the stored ones.
async fn add(
    world: &World,
    spec: RuleSpec,
    index: usize,
) -> Result<Arc<Record<Rule>>, DirectoryError> {
    let (directory, org) = (&world.directory, &world.org);
    let others = directory.view().rules_in_order(org);
    let position = directory.room_for_rule(org, &others, index).await?;
    directory.add::<Rule>(org, ManagedBy::Store, spec, RuleFacts::at(position)).await
}

fn order(directory: &Directory) -> Vec<String> {
    let rules = directory.view().rules_in_order(&OrgId::default_org());
    rules.iter().map(|rule| rule.name().to_owned()).collect()
}

#[tokio::test]
async fn a_rule_cannot_name_a_missing_record() {
    let world = World::new().await;
    let agent = RuleSpec { agents: Some(vec![AgentId::random().to_string()]), ..deny("a") };
    let used = Some(ConnectionId::random().to_string());
    let connection = RuleSpec { action: None, use_connection: used, ..deny("b") };
    for spec in [agent, connection] {
        let refused = add(&world, spec, 0).await;
        assert!(matches!(refused, Err(DirectoryError::NotFound { .. })), "{refused:?}");
    }
    assert_eq!(world.rows(Table::Rules).await, []);
}

#[tokio::test]
async fn a_record_that_a_rule_names_cannot_be_removed_before_the_rule() {
    let world = World::new().await;
    let (directory, org) = (&world.directory, &world.org);
    let (agent, work) = (world.agent("ci").await, world.connection("work").await);
    let agents = Some(vec![agent.id.to_string()]);
    let use_connection = Some(work.id.to_string());
    let spec = RuleSpec { agents, action: None, use_connection, ..deny("grant") };
    let rule = add(&world, spec, 0).await.unwrap();
    let rows = world.all_rows().await;
    for by in [ManagedBy::Store, ManagedBy::File] {
        let removed = directory.remove::<Agent>(org, &agent.id, by).await;
        let named = "agent `ci` is named by rule `grant`, which would not apply any more";
        assert_eq!(removed.unwrap_err().to_string(), named);
        let removed = directory.remove::<Connection>(org, &work.id, by).await;
        assert!(matches!(removed, Err(DirectoryError::NamedByRule { .. })), "{removed:?}");
    }
    assert_eq!(world.all_rows().await, rows);
    world.remove::<Rule>(&rule.id).await.unwrap();
    world.remove::<Agent>(&agent.id).await.unwrap();
    world.remove::<Connection>(&work.id).await.unwrap();
}

#[tokio::test]
async fn eighty_rules_can_be_inserted_at_one_place() {
    let world = World::new().await;
    add(&world, deny("first"), 0).await.unwrap();
    add(&world, deny("last"), 1).await.unwrap();
    let mut wanted = vec!["first".to_owned(), "last".to_owned()];
    for number in 0..80 {
        let name = format!("r{number}");
        add(&world, deny(&name), 1).await.unwrap();
        wanted.insert(1, name);
        assert_eq!(order(&world.directory), wanted);
    }
    assert_eq!(order(&world.reopen().await.unwrap()), wanted);
}

#[tokio::test]
async fn too_many_rules_are_refused() {
    let world = World::new().await;
    for number in 0..Rule::KIND.max {
        let facts = RuleFacts::at(number.try_into().unwrap());
        world.add::<Rule>(deny(&format!("r{number}")), facts).await.unwrap();
    }
    let refused = add(&world, deny("more"), 0).await;
    assert!(matches!(refused, Err(DirectoryError::TooMany { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_order_that_was_written_in_part_decides_as_the_old_or_the_new_one() {
    let wanted = ["d", "b", "a", "e", "c"];
    for written in 0..=wanted.len() {
        let world = World::new().await;
        for (index, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            add(&world, deny(name), index).await.unwrap();
        }
        let before = world.directory.view().rules_in_order(&world.org);
        let id = |name: &&str| before.iter().find(|it| it.name() == *name).unwrap().id.clone();
        let ids: Vec<StoredRuleId> = wanted.iter().map(id).collect();
        // Writes only a part of the order, as a crash leaves it.
        let positions =
            crate::directory::rules::in_front(5, before.iter().map(|it| it.facts.position));
        for (id, position) in ids.iter().zip(positions).take(written) {
            let place = move |rule: &mut Record<Rule>| rule.facts.position = position;
            world.change::<Rule>(id, place).await.unwrap();
        }
        let found = order(&world.reopen().await.unwrap());
        // For every set of matching rules, the first one is that of the old or of the new order.
        for matching in 1_u32..1 << wanted.len() {
            let matches = |name: &str| matching & (1 << (name.as_bytes()[0] - b'a')) != 0;
            let first = found.iter().find(|name| matches(name)).unwrap().as_str();
            let old = ["a", "b", "c", "d", "e"].into_iter().find(|name| matches(name));
            let new = wanted.into_iter().find(|name| matches(name));
            assert!([old, new].contains(&Some(first)), "{written}: {found:?}");
        }
        world.directory.order_rules(&world.org, &before, &ids).await.unwrap();
        assert_eq!(order(&world.directory), wanted);
    }
}
