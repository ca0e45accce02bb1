//! Steps for webhooks of the configuration.

use std::collections::{BTreeSet, HashMap};

use super::{Action, Basis, Planning, Step, Subject, Work, differing, named};
use crate::config::DeclaredWebhook;
use keyward_base::id::{OrgId, WebhookId};
use keyward_state::directory::{ManagedBy, NewWebhook, WEBHOOKS_MAX, WebhookRecord, WebhookState};
use keyward_state::observe::notice::NoticeKind;
use keyward_vault::events::SigningKey;

/// What is written of one.
#[derive(Debug)]
pub(in crate::app) enum WebhookWork {
    Make(NewWebhook, SigningKey),
    Change {
        id: WebhookId,
        url: String,
        kinds: BTreeSet<NoticeKind>,
        /// Events are posted again.
        activates: bool,
        key: SigningKey,
    },
    Pause(WebhookId),
}

impl Planning<'_> {
    pub(super) fn webhooks(&mut self, keys: Vec<SigningKey>) {
        let Basis { config, view, .. } = self.basis;
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for (declared, key) in config.webhooks.iter().zip(keys) {
            let subject =
                Subject::new("webhook", &declared.org, &declared.name).at(&declared.place);
            let found = view.find_webhook(&declared.org, &declared.name);
            if let Some(found) = found {
                match found.managed_by {
                    ManagedBy::Store => self.refuse_stored(&subject),
                    ManagedBy::File => self.steps.push(changed(subject, found, declared, key)),
                }
                continue;
            }
            let stored = || view.webhooks(&declared.org).count();
            let count = counts.entry(&declared.org).or_insert_with(stored);
            *count += 1;
            if *count > WEBHOOKS_MAX {
                let message = format!("its organisation has {WEBHOOKS_MAX} already");
                self.refuse(&subject, message, "remove some");
                continue;
            }
            let new = NewWebhook {
                name: declared.name.clone(),
                url: declared.url.clone(),
                kinds: declared.kinds.clone(),
                managed_by: ManagedBy::File,
            };
            let work = Work::Webhook(WebhookWork::Make(new, key));
            self.steps.push(Step::new(subject, Action::Make, work));
        }
        let named = named(&config.webhooks, |it| (&it.org, &it.name));
        for found in view.orgs().flat_map(|org| view.webhooks(&org.id)) {
            let is_named = named.contains(&(&found.org, found.name.as_str()));
            let is_paused = found.state == WebhookState::Paused;
            if found.managed_by == ManagedBy::File && !is_paused && !is_named {
                let work = Work::Webhook(WebhookWork::Pause(found.id.clone()));
                let subject = Subject::new("webhook", &found.org, &found.name);
                self.steps.push(Step::new(subject, Action::Pause, work));
            }
        }
    }
}

fn changed(
    subject: Subject,
    found: &WebhookRecord,
    declared: &DeclaredWebhook,
    key: SigningKey,
) -> Step {
    let changes =
        differing([("url", found.url != declared.url), ("events", found.kinds != declared.kinds)]);
    let is_paused = found.state == WebhookState::Paused;
    let work = WebhookWork::Change {
        id: found.id.clone(),
        url: declared.url.clone(),
        kinds: declared.kinds.clone(),
        // One that ended is tried again where something of it has changed.
        activates: is_paused || !changes.is_empty(),
        key,
    };
    let step = Step::of_existing(subject, is_paused, changes, Work::Webhook(work));
    Step { compares_secret: true, ..step }
}
