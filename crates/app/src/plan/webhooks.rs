//! Steps for webhooks of the configuration.

use std::collections::HashMap;

use super::planning::{Basis, Planning, members, named};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::WebhookWork;
use crate::config::Declared;
use keyward_base::id::OrgId;
use keyward_model::{ManagedBy, Record, Resource, Webhook, WebhookState};
use keyward_vault::events::WebhookSigningKey;

impl Planning<'_> {
    pub(super) fn webhooks(&mut self, keys: Vec<Option<WebhookSigningKey>>) {
        let Basis { config, view, .. } = self.basis;
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for (declared, key) in config.webhooks.iter().zip(keys) {
            let subject =
                StepSubject::new("webhook", &declared.org, declared.name()).at(&declared.place);
            let found = view.find::<Webhook>(&declared.org, declared.name());
            let stored = || view.all::<Webhook>(&declared.org).count();
            let count = counts.entry(&declared.org).or_insert_with(stored);
            *count += usize::from(found.is_none());
            if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
                self.refuse_stored(&subject);
            } else if found.is_none() && *count > Webhook::KIND.max {
                let message = format!("its organisation has {} already", Webhook::KIND.max);
                self.refuse(&subject, message, "remove some");
            } else if let Some(key) = key {
                self.steps.push(step(subject, found.map(|it| &**it), declared, key));
            }
        }
        let named = named(&config.webhooks, |it| (&it.org, it.name()));
        for found in view.orgs().flat_map(|org| view.all::<Webhook>(&org.id)) {
            let is_named = named.contains(&(&found.org, found.name()));
            let is_paused = found.facts.state == WebhookState::Paused;
            if found.managed_by == ManagedBy::File && !is_paused && !is_named {
                let work = Work::Webhook(WebhookWork::Pause(found.id.clone()));
                let subject = StepSubject::new("webhook", &found.org, found.name());
                self.steps.push(Step::new(subject, PlannedAction::Pause, work));
            }
        }
    }
}

fn step(
    subject: StepSubject,
    found: Option<&Record<Webhook>>,
    declared: &Declared<Webhook>,
    key: WebhookSigningKey,
) -> Step {
    let Some(found) = found else {
        let work = Work::Webhook(WebhookWork::Make(declared.spec.clone(), key));
        return Step::new(subject, PlannedAction::Make, work);
    };
    let changes = members(&found.spec, &declared.spec);
    let is_paused = found.facts.state == WebhookState::Paused;
    let work = WebhookWork::Change {
        id: found.id.clone(),
        spec: declared.spec.clone(),
        // One that ended is tried again where something of it has changed.
        activates: is_paused || !changes.is_empty(),
        key,
    };
    let step = Step::of_existing(subject, is_paused, changes, Work::Webhook(work));
    Step { compares_secret: true, ..step }
}
