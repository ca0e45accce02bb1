//! Steps for webhooks of the configuration.

use std::collections::HashMap;

use super::planning::{Basis, Planning, named};
use super::resources::members;
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::WebhookWork;
use crate::config::Declared;
use keyward_base::id::OrgId;
use keyward_model::{ManagedBy, Record, Resource, Webhook, WebhookState};
use keyward_vault::events::WebhookSigningKey;

impl Planning<'_> {
    pub(super) fn webhooks(&mut self, keys: Vec<WebhookSigningKey>) {
        let Basis { config, view, .. } = self.basis;
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for (declared, key) in config.webhooks.iter().zip(keys) {
            let subject =
                StepSubject::new("webhook", &declared.org, declared.name()).at(&declared.place);
            let found = view.find::<Webhook>(&declared.org, declared.name());
            if let Some(found) = found {
                match found.managed_by {
                    ManagedBy::Store => self.refuse_stored(&subject),
                    ManagedBy::File => self.steps.push(changed(subject, found, declared, key)),
                }
                continue;
            }
            let stored = || view.all::<Webhook>(&declared.org).count();
            let count = counts.entry(&declared.org).or_insert_with(stored);
            *count += 1;
            if *count > Webhook::KIND.max {
                let message = format!("its organisation has {} already", Webhook::KIND.max);
                self.refuse(&subject, message, "remove some");
                continue;
            }
            let work = Work::Webhook(WebhookWork::Make(declared.spec.clone(), key));
            self.steps.push(Step::new(subject, PlannedAction::Make, work));
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

fn changed(
    subject: StepSubject,
    found: &Record<Webhook>,
    declared: &Declared<Webhook>,
    key: WebhookSigningKey,
) -> Step {
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
