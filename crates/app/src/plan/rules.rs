//! Steps for what a reload applies and no store has: the rules, the own providers and the settings of the file.
//! They are compared with those in force, which only a running gateway has.

use std::collections::HashMap;

use super::planning::{differing, members};
use super::step::{PlannedAction, Step, StepSubject, Work};
use crate::config::Config;
use keyward_base::id::OrgId;
use keyward_rules::policy::DefaultAction;
use keyward_rules::provider::Definition;
use keyward_state::rulebook::PlacedRule;

/// The rules of a file, and the action for hosts that nothing names.
pub(crate) struct FilePolicy<'a> {
    pub(crate) rules: &'a [PlacedRule],
    pub(crate) default: DefaultAction,
}

impl FilePolicy<'_> {
    /// The steps from this policy to another one.
    pub(crate) fn steps_to(&self, now: &FilePolicy<'_>) -> Vec<Step> {
        let removed = self.rules.iter().filter(|rule| now.position(rule).is_none());
        let removed = removed
            .map(|rule| Step::new(subject(rule), PlannedAction::Remove, Work::Nothing))
            .collect::<Vec<_>>();
        let kept = now.rules.iter().enumerate().map(|(index, rule)| {
            let subject = subject(rule).at(&rule.place);
            let Some(before) = self.position(rule) else {
                return Step::new(subject, PlannedAction::Make, Work::Nothing);
            };
            let mut changes = members(&self.rules[before].spec, &rule.spec);
            if self.predecessor(before, now) != now.predecessor(index, self) {
                changes.push("order".to_owned());
            }
            Step::of_existing(subject, false, changes, Work::Nothing)
        });
        let default = (self.default != now.default).then(|| {
            let subject = StepSubject::new("rule", &OrgId::default_org(), "default");
            Step::of_existing(subject, false, vec!["action".to_owned()], Work::Nothing)
        });
        removed.into_iter().chain(kept).chain(default).collect()
    }

    /// The place of the same rule: by its name, or of a rule without a name by all that it says.
    fn position(&self, of: &PlacedRule) -> Option<usize> {
        self.rules.iter().position(|rule| {
            let is_same = match (&rule.spec.name, &of.spec.name) {
                (None, None) => rule.spec == of.spec,
                (one, other) => one == other,
            };
            is_same && rule.org == of.org
        })
    }

    /// The name of the nearest rule before the one at `index` that `other` has too.
    fn predecessor(&self, index: usize, other: &FilePolicy<'_>) -> Option<String> {
        let before = self.rules[..index].iter().rev();
        let shared = before.filter(|rule| rule.org == self.rules[index].org);
        let mut shared = shared.filter(|rule| other.position(rule).is_some());
        shared.next().map(name_of)
    }
}

fn subject(rule: &PlacedRule) -> StepSubject {
    StepSubject::new("rule", &rule.org, &name_of(rule))
}

/// Its name, or its key in the file.
fn name_of(rule: &PlacedRule) -> String {
    let key = || rule.place.rsplit(": ").next().unwrap_or_default().to_owned();
    rule.spec.name.clone().unwrap_or_else(key)
}

/// The step for a section of the file, such as `upstream`, in which these keys differ, if any.
pub(crate) fn step_of_section(section: &str, changes: Vec<String>) -> Option<Step> {
    let subject = StepSubject::new("section", &OrgId::default_org(), section);
    (!changes.is_empty()).then(|| Step::of_existing(subject, false, changes, Work::Nothing))
}

/// The steps for sections whose values the configuration itself has.
pub(crate) fn steps_of_sections(before: &Config, now: &Config) -> impl Iterator<Item = Step> {
    let backup = [
        ("recipients", before.backup.recipients != now.backup.recipients),
        ("schedule", before.backup.schedule != now.backup.schedule),
    ];
    let log = [("level", before.log.level != now.log.level)];
    let sections = [
        step_of_section("oauth", members(&before.oauth, &now.oauth)),
        step_of_section("rotation", members(&before.rotation, &now.rotation)),
        step_of_section("connect", members(&before.connect, &now.connect)),
        step_of_section("events", members(&before.events, &now.events)),
        step_of_section("backup", differing(backup)),
        step_of_section("log", differing(log)),
    ];
    sections.into_iter().flatten()
}

/// The steps from some own providers to others.
pub(crate) fn steps_of_providers(before: &[Definition], now: &[Definition]) -> Vec<Step> {
    let [before, now] = [before, now]
        .map(|all| all.iter().filter_map(|it| Some((it.id()?, it))).collect::<HashMap<_, _>>());
    let subject = |id: &str| StepSubject::new("provider", &OrgId::default_org(), id);
    let removed = before.keys().filter(|id| !now.contains_key(*id));
    let removed = removed.map(|id| Step::new(subject(id), PlannedAction::Remove, Work::Nothing));
    let kept = now.iter().map(|(id, definition)| match before.get(id) {
        None => Step::new(subject(id), PlannedAction::Make, Work::Nothing),
        Some(before) => {
            let changes = members(&before.json(), &definition.json());
            Step::of_existing(subject(id), false, changes, Work::Nothing)
        }
    });
    let mut steps: Vec<_> = removed.chain(kept).collect();
    steps.sort_by(|one, other| one.subject.name.cmp(&other.subject.name));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::view::step_view;

    fn rules(all: &[&str]) -> Vec<PlacedRule> {
        let rule = |(index, yaml): (usize, &&str)| PlacedRule {
            org: OrgId::default_org(),
            spec: serde_yaml::from_str(yaml).unwrap(),
            place: format!("keyward.yaml:{}: rules[{index}]", index + 1),
        };
        all.iter().enumerate().map(rule).collect()
    }

    fn between(before: &[&str], now: &[&str]) -> Vec<String> {
        let [before, now] = [rules(before), rules(now)];
        let policy = |rules| FilePolicy { rules, default: DefaultAction::Deny };
        let steps = policy(&before).steps_to(&policy(&now));
        let done = steps.iter().filter(|step| step.action != PlannedAction::Nothing).map(step_view);
        done.map(|it| format!("{} {} {}", it.action, it.name, it.changes.join(", "))).collect()
    }

    const A: &str = "{ name: a, hosts: [a.test], action: deny }";
    const B: &str = "{ name: b, hosts: [b.test], action: pass }";
    const C: &str = "{ hosts: [c.test], action: pass }";

    #[test]
    fn rules_that_stay_as_they_are_in_their_order_are_no_change() {
        assert_eq!(between(&[A, B, C], &[A, B, C]), [""; 0]);
        assert_eq!(between(&[A, C], &[B, A, C]), ["make b "], "they follow a new one");
        assert_eq!(between(&[A, B, C], &[A, C]), ["remove b "], "or lose one between them");
    }

    #[test]
    fn a_rule_that_is_removed_or_says_something_else_is_a_change() {
        assert_eq!(between(&[A], &[]), ["remove a "]);
        let other = "{ name: a, hosts: [a.test], methods: [GET], action: deny }";
        assert_eq!(between(&[A], &[other]), ["change a methods"]);
        let other = "{ hosts: [d.test], action: pass }";
        assert_eq!(between(&[A, C], &[A, other]), ["remove rules[1] ", "make rules[1] "]);
    }

    #[test]
    fn rules_in_another_order_and_another_default_are_changes() {
        assert_eq!(between(&[A, B], &[B, A]), ["change b order", "change a order"]);
        let policy = |default| FilePolicy { rules: &[], default };
        let steps = policy(DefaultAction::Deny).steps_to(&policy(DefaultAction::Pass));
        let steps: Vec<_> = steps.iter().map(step_view).collect();
        assert_eq!((&*steps[0].name, &*steps[0].changes[0], steps.len()), ("default", "action", 1));
    }
}
