//! Steps for honeytokens of the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use super::planning::{Basis, Planning, members, named};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::HoneytokenWork;
use crate::config::Declared;
use keyward_base::id::OrgId;
use keyward_model::{Honeytoken, ManagedBy, Record, Resource};

impl Planning<'_> {
    pub(super) fn honeytokens(&mut self) {
        let Basis { config, view, .. } = self.basis;
        let all = &config.honeytokens;
        let named = named(all, |it| (&it.org, it.name()));
        // Removals first, because the number of resources is bounded.
        for found in view.orgs().flat_map(|org| view.all::<Honeytoken>(&org.id)) {
            let is_named = named.contains(&(&found.org, found.name()));
            if found.managed_by == ManagedBy::File && !is_named {
                let subject = StepSubject::new(Honeytoken::KIND.one, &found.org, found.name());
                let work = Work::Honeytoken(HoneytokenWork::Remove(found.id.clone()));
                self.steps.push(Step::new(subject, PlannedAction::Remove, work));
            }
        }
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for declared in all {
            let (org, name) = (&declared.org, declared.name());
            let subject = StepSubject::new(Honeytoken::KIND.one, org, name).at(&declared.place);
            let stored =
                || view.all::<Honeytoken>(org).filter(|it| it.managed_by == ManagedBy::Store);
            let count = counts.entry(org).or_insert_with(|| stored().count());
            *count += 1;
            match view.find::<Honeytoken>(org, name) {
                Some(found) if found.managed_by == ManagedBy::Store => self.refuse_stored(&subject),
                _ if *count > Honeytoken::KIND.max => {
                    let message = format!("its organisation has {} already", Honeytoken::KIND.max);
                    self.refuse(&subject, message, "remove some");
                }
                found => self.steps.push(step(subject, found, declared)),
            }
        }
    }
}

fn step(
    subject: StepSubject,
    found: Option<&Arc<Record<Honeytoken>>>,
    declared: &Declared<Honeytoken>,
) -> Step {
    let spec = declared.spec.clone();
    let Some(found) = found else {
        let work = Work::Honeytoken(HoneytokenWork::Make(spec));
        return Step::new(subject, PlannedAction::Make, work);
    };
    let (id, changes) = (found.id.clone(), members(&found.spec, &spec));
    // Another provider means another shape, and so another placeholder.
    if found.spec.provider != spec.provider {
        let work = Work::Honeytoken(HoneytokenWork::Replace(id, spec));
        return Step { changes, ..Step::new(subject, PlannedAction::Replace, work) };
    }
    let work = match changes.is_empty() {
        true => Work::Nothing,
        false => Work::Honeytoken(HoneytokenWork::Change(id, spec)),
    };
    Step::of_existing(subject, false, changes, work)
}
