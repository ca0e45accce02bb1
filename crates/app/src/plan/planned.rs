//! [`Planned`]: a kind of resource whose items are planned one by one, all kinds alike: webhooks, honeytokens, sources,
//! apps, hooks. What differs is a member of the trait.

use std::collections::HashMap;

use super::planning::{Basis, Planning, members, named};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::ResourceWork;
use crate::config::{Config, Declared, InFile};
use keyward_base::id::OrgId;
use keyward_model::{ManagedBy, Record};
use keyward_state::directory::Stored;

/// A kind of resource whose items are planned one by one.
pub(super) trait Planned: InFile + Stored {
    /// What was read for an item: its secrets.
    type Given: std::fmt::Debug;

    /// What becomes of one that the file no longer names.
    const UNNAMED: PlannedAction = PlannedAction::Pause;

    /// Whether that comes last, because others may still use it.
    const ENDS_LAST: bool = false;

    const WORK: fn(Box<ResourceWork<Self, Self::Given>>) -> Work;

    /// Those of the file.
    fn declared(config: &Config) -> &[Declared<Self>];

    /// Whether one that the store has counts before the file is applied.
    fn is_counted(_record: &Record<Self>) -> bool {
        true
    }

    fn is_paused(_record: &Record<Self>) -> bool {
        false
    }

    /// Whether one that the file no longer names ends.
    fn ends(_planning: &Planning<'_>, record: &Record<Self>) -> bool {
        !Self::is_paused(record)
    }

    /// Reports what is wrong with an item; if nothing is, the spec that is compared with the stored one.
    fn judged(
        _planning: &mut Planning<'_>,
        _subject: &StepSubject,
        item: &Declared<Self>,
        _found: Option<&Record<Self>>,
        _given: Option<&Self::Given>,
    ) -> Option<Self::Spec> {
        Some(item.spec.clone())
    }

    /// Keys beside those of the spec that differ.
    fn further_changes(_found: &Record<Self>, _given: &Self::Given) -> Vec<String> {
        Vec::new()
    }

    /// Whether the change needs another resource in place of the stored one.
    fn is_replaced(_before: &Self::Spec, _now: &Self::Spec) -> bool {
        false
    }

    /// Whether there is a secret, which is compared when the step is applied.
    fn compares_secret(given: &Self::Given) -> bool;
}

impl Planning<'_> {
    /// Plans the items of the file. `None`: the secrets of an item were not read; it is checked, and has no step.
    pub(super) fn items<R: Planned>(&mut self, given: Vec<Option<R::Given>>) {
        let Basis { config, view, .. } = self.basis;
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for (item, given) in R::declared(config).iter().zip(given) {
            let (org, name) = (&item.org, item.name());
            let subject = StepSubject::new(R::KIND.one, org, name).at(&item.place);
            let found = view.find::<R>(org, name).map(|found| &**found);
            let counted = || view.all::<R>(org).filter(|it| R::is_counted(it)).count();
            let count = counts.entry(org).or_insert_with(counted);
            let adds = found.is_none_or(|found| !R::is_counted(found));
            *count += usize::from(adds);
            if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
                self.refuse_stored(&subject);
            } else if adds && *count > R::KIND.max {
                let message = format!("its organisation has {} already", R::KIND.max);
                self.refuse(&subject, message, "remove some");
            } else if let Some(compared) = R::judged(self, &subject, item, found, given.as_ref())
                && let Some(given) = given
            {
                self.steps.push(step(subject, found, item, &compared, given));
            }
        }
    }

    /// Ends those that the file no longer names.
    pub(super) fn end_unnamed<R: Planned>(&mut self) {
        let Basis { config, view, .. } = self.basis;
        let named = named(R::declared(config), |it| (&it.org, it.name()));
        let all = view.orgs().flat_map(|org| view.all::<R>(&org.id));
        let unnamed = all.filter(|it| {
            it.managed_by == ManagedBy::File && !named.contains(&(&it.org, it.name()))
        });
        let ended = unnamed.filter(|it| R::ends(self, it)).map(|it| {
            let subject = StepSubject::new(R::KIND.one, &it.org, it.name());
            let work = (R::WORK)(Box::new(ResourceWork::End(it.id.clone())));
            Step::new(subject, R::UNNAMED, work)
        });
        let ended: Vec<_> = ended.collect();
        match R::ENDS_LAST {
            true => self.pauses.extend(ended),
            false => self.steps.extend(ended),
        }
    }
}

fn step<R: Planned>(
    subject: StepSubject,
    found: Option<&Record<R>>,
    item: &Declared<R>,
    compared: &R::Spec,
    given: R::Given,
) -> Step {
    let work = |work| (R::WORK)(Box::new(work));
    let spec = item.spec.clone();
    let Some(found) = found else {
        return Step::new(subject, PlannedAction::Make, work(ResourceWork::Make(spec, given)));
    };
    let mut changes = members(&found.spec, compared);
    changes.extend(R::further_changes(found, &given));
    let (is_paused, compares_secret) = (R::is_paused(found), R::compares_secret(&given));
    let replaces = R::is_replaced(&found.spec, &spec);
    // One that ended is tried again where something of it has changed.
    let activates = is_paused || !changes.is_empty();
    let id = found.id.clone();
    let work = work(ResourceWork::Change { id, spec, given, activates, replaces });
    let step = match replaces {
        true => Step { changes, ..Step::new(subject, PlannedAction::Replace, work) },
        false => Step::of_existing(subject, is_paused, changes, work),
    };
    Step { compares_secret, ..step }
}
