//! Members of rows that a newer version has written, and that this version does not know.

use serde_json::{Value, json};

use super::*;
use crate::directory::rows::{ReadRecord, RowId};
use keyward_model::{Rule, RuleFacts, RuleSpec};
use keyward_rules::policy::explain::ActionKind;

impl World {
    /// The JSON of a stored record.
    async fn stored(&self, at: &RowId) -> Value {
        self.directory.shared.rows.read::<Value>(at).await.unwrap().unwrap().record
    }

    /// Writes a row as a newer version would.
    async fn write_as_newer(&self, at: &RowId, change: impl FnOnce(&mut Value)) {
        let rows = &self.directory.shared.rows;
        let ReadRecord { mut record, version, .. } = rows.read::<Value>(at).await.unwrap().unwrap();
        change(&mut record);
        rows.write(at, &record, Some(version)).await.unwrap();
    }

    async fn passing_rule(&self) -> (Arc<Record<Rule>>, RowId) {
        let (name, action) = (Some("pass".to_owned()), Some(ActionKind::Pass));
        let spec = RuleSpec { name, action, ..RuleSpec::default() };
        let rule = self.add::<Rule>(spec, RuleFacts::at(0)).await.unwrap();
        let at = RowId::new(Table::Rules, &self.org, &rule.id);
        (rule, at)
    }
}

#[tokio::test]
async fn a_change_keeps_the_members_of_a_newer_version() {
    let (world, agent) = World::with_agent().await;
    let [one, two] = [world.connection("one").await, world.connection("two").await];
    world.bind(&agent.id, &one.id).await;
    world.bind(&agent.id, &two.id).await;
    world.token(&agent.id).await;
    let in_an_environment = |agent: &mut AgentRecord| agent.spec.environment = Some("x".to_owned());
    world.change(&agent.id, in_an_environment).await.unwrap();
    let at = RowId::new(Table::Agents, &world.org, &agent.id);
    let newer = |row: &mut Value| {
        row["curfew"] = json!({"from": "22:00"});
        row["bindings"][0]["hours"] = json!([9, 17]);
        row["bindings"][1]["hours"] = json!([8, 12]);
        row["tokens"][0]["addresses"] = json!(["192.0.2.1"]);
    };
    world.write_as_newer(&at, newer).await;
    let before = world.stored(&at).await;

    let in_none = |agent: &mut AgentRecord| agent.spec.environment = None;
    world.change(&agent.id, in_none).await.unwrap();
    world.token(&agent.id).await;
    world.directory.unbind(&world.org, &agent.id, &one.id).await.unwrap();
    let after = world.stored(&at).await;
    assert_eq!(after["environment"], Value::Null);
    assert_eq!(after["curfew"], before["curfew"]);
    assert_eq!(after["tokens"][0], before["tokens"][0]);
    assert_eq!(after["tokens"].as_array().unwrap().len(), 2);
    assert_eq!(after["bindings"], json!([before["bindings"][1]]));
    assert!(!after.to_string().contains("[9,17]"), "{after}");
    world.reopen().await.unwrap();
    assert_eq!(world.stored(&at).await, after);
}

/// Its conditions have effect only where they are known; the rulebook refuses the requests of such a rule.
#[tokio::test]
async fn a_rule_names_the_conditions_of_a_newer_version() {
    let world = World::new().await;
    let (rule, at) = world.passing_rule().await;
    world.write_as_newer(&at, |row| row["curfew"] = json!({"from": "22:00"})).await;
    let move_it = |rule: &mut Record<Rule>| rule.facts.position = 7;
    let moved = world.change(&rule.id, move_it).await.unwrap();
    assert_eq!((moved.facts.position, &moved.facts.unknown), (7, &vec!["curfew".to_owned()]));
    assert_eq!(world.stored(&at).await["curfew"], json!({"from": "22:00"}));
    let reopened = world.reopen().await.unwrap().view();
    assert_eq!(reopened.one::<Rule>(&world.org, &rule.id).unwrap().facts.unknown, ["curfew"]);
}

/// Such as a rule whose action only a newer version has.
#[tokio::test]
async fn a_rule_whose_change_cannot_be_read_refuses_until_it_can() {
    let world = World::new().await;
    let (rule, at) = world.passing_rule().await;
    for (action, is_known) in [("ask", false), ("deny", true)] {
        world.write_as_newer(&at, |row| row["action"] = json!(action)).await;
        let writer = world.directory.turn().await.unwrap();
        writer.follow_row(Table::Rules, &at.key()).await.unwrap();
        let view = world.directory.view();
        let seen = view.one::<Rule>(&world.org, &rule.id).unwrap();
        assert_eq!(seen.facts.unknown.is_empty(), is_known, "{action}");
    }
    assert!(world.reopen().await.is_ok());
}
