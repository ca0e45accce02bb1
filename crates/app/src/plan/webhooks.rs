//! Steps for webhooks and honeytokens of the configuration.

use super::planned::Planned;
use super::step::{PlannedAction, Work};
use super::work::ResourceWork;
use crate::config::{Config, Declared};
use keyward_model::{Honeytoken, HoneytokenSpec, ManagedBy, Record, Webhook, WebhookState};
use keyward_vault::events::WebhookSigningKey;

impl Planned for Webhook {
    type Given = WebhookSigningKey;

    const WORK: fn(Box<ResourceWork<Self, Self::Given>>) -> Work = Work::Webhook;

    fn declared(config: &Config) -> &[Declared<Self>] {
        &config.webhooks
    }

    fn is_paused(record: &Record<Self>) -> bool {
        record.facts.state == WebhookState::Paused
    }

    fn compares_secret(_: &WebhookSigningKey) -> bool {
        true
    }
}

/// Removals come first, because the number of honeytokens is bounded.
impl Planned for Honeytoken {
    type Given = ();

    const UNNAMED: PlannedAction = PlannedAction::Remove;

    const WORK: fn(Box<ResourceWork<Self, Self::Given>>) -> Work = Work::Honeytoken;

    fn declared(config: &Config) -> &[Declared<Self>] {
        &config.honeytokens
    }

    fn is_counted(record: &Record<Self>) -> bool {
        record.managed_by == ManagedBy::Store
    }

    /// Another provider means another shape, and so another placeholder.
    fn is_replaced(before: &HoneytokenSpec, now: &HoneytokenSpec) -> bool {
        before.provider != now.provider
    }

    fn compares_secret(_: &()) -> bool {
        false
    }
}
