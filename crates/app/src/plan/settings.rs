//! Steps for the own providers and the settings of the file that a reload applies. They are not stored: they are compared
//! with those in force, which only a running gateway has.

use std::collections::HashMap;

use super::planning::{differing, members};
use super::step::{PlannedAction, Step, StepSubject, Work};
use crate::config::Config;
use keyward_base::id::OrgId;
use keyward_rules::provider::Definition;

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
