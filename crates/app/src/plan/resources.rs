//! Steps for the resources that the directory keeps generically.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::planning::{Basis, Planning, named};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::{Declarable, ResourceWork};
use crate::config::Declared;
use keyward_base::id::OrgId;
use keyward_model::{Honeytoken, HoneytokenFacts, HoneytokenSpec, ManagedBy, Record};
use keyward_rules::provider::Catalogue;

impl Declarable for Honeytoken {
    fn facts(spec: &HoneytokenSpec, catalogue: &Catalogue) -> HoneytokenFacts {
        let provider = spec.provider.as_deref().and_then(|id| catalogue.get(id));
        HoneytokenFacts::issue(provider.map(|provider| &**provider))
    }

    /// Another provider means another shape, and so another placeholder.
    fn is_another(before: &HoneytokenSpec, now: &HoneytokenSpec) -> bool {
        before.provider != now.provider
    }
}

impl From<ResourceWork<Honeytoken>> for Work {
    fn from(work: ResourceWork<Honeytoken>) -> Self {
        Self::Honeytoken(work)
    }
}

impl Planning<'_> {
    pub(super) fn resources<R: Declarable>(&mut self, all: &[Declared<R>])
    where
        Work: From<ResourceWork<R>>,
    {
        let Basis { view, .. } = self.basis;
        let named = named(all, |it| (&it.org, it.name()));
        // Removals first, because the number of resources is bounded.
        for found in view.orgs().flat_map(|org| view.all::<R>(&org.id)) {
            let is_named = named.contains(&(&found.org, found.name()));
            if found.managed_by == ManagedBy::File && !is_named {
                let subject = StepSubject::new(R::KIND.one, &found.org, found.name());
                let work = ResourceWork::<R>::Remove(found.id.clone());
                self.steps.push(Step::new(subject, PlannedAction::Remove, work.into()));
            }
        }
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for declared in all {
            let (org, name) = (&declared.org, declared.name());
            let subject = StepSubject::new(R::KIND.one, org, name).at(&declared.place);
            let stored = || view.all::<R>(org).filter(|it| it.managed_by == ManagedBy::Store);
            let count = counts.entry(org).or_insert_with(|| stored().count());
            *count += 1;
            match view.find::<R>(org, name) {
                Some(found) if found.managed_by == ManagedBy::Store => self.refuse_stored(&subject),
                _ if *count > R::KIND.max => {
                    let message = format!("its organisation has {} already", R::KIND.max);
                    self.refuse(&subject, message, "remove some");
                }
                found => self.steps.push(step(subject, found, declared)),
            }
        }
    }
}

fn step<R: Declarable>(
    subject: StepSubject,
    found: Option<&Arc<Record<R>>>,
    declared: &Declared<R>,
) -> Step
where
    Work: From<ResourceWork<R>>,
{
    let spec = declared.spec.clone();
    let Some(found) = found else {
        return Step::new(subject, PlannedAction::Make, ResourceWork::<R>::Make(spec).into());
    };
    let (id, changes) = (found.id.clone(), members(&found.spec, &spec));
    if R::is_another(&found.spec, &spec) {
        let work = ResourceWork::<R>::Replace(id, spec);
        return Step { changes, ..Step::new(subject, PlannedAction::Replace, work.into()) };
    }
    let work = match changes.is_empty() {
        true => Work::Nothing,
        false => ResourceWork::<R>::Change(id, spec).into(),
    };
    Step::of_existing(subject, false, changes, work)
}

/// The members in which two specs differ.
pub(super) fn members(before: &impl Serialize, now: &impl Serialize) -> Vec<String> {
    let [before, now] = [object(before), object(now)];
    let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
    keys.filter(|key| before.get(*key) != now.get(*key)).cloned().collect()
}

fn object(spec: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    }
}
