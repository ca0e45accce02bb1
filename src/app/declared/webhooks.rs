//! Webhooks that the configuration declares.

use std::collections::HashSet;

use super::kept::{self, Declarable};
use crate::config::{Config, Declared};
use keyward_model::{ManagedBy, Record, Webhook, WebhookFacts, WebhookSpec, WebhookState};
use keyward_rules::provider::Catalogue;
use keyward_state::directory::Directory;
use keyward_vault::events::{Events, SigningKey};

/// The signing keys of all, in the configuration's order; what is none is a problem.
pub(super) fn keys(config: &Config, problems: &mut Vec<String>) -> Vec<Option<SigningKey>> {
    let of = |declared: &Declared<Webhook>| {
        let loaded = declared.with.load(&config.environment, &config.secret_variables());
        let key = loaded.map_err(|error| error.to_string());
        let key = key.and_then(|text| SigningKey::parse(&text).map_err(|error| error.to_string()));
        key.map_err(|why| {
            let (place, name) = (&declared.place, declared.name());
            problems.push(format!("{place}: webhook `{name}`: `signing_key`: {why}"));
        })
        .ok()
    };
    config.webhooks.iter().map(of).collect()
}

impl Declarable for Webhook {
    fn facts(_: &WebhookSpec, _: &Catalogue) -> WebhookFacts {
        WebhookFacts { state: WebhookState::Active }
    }

    /// One that ended is tried again where something of it has changed.
    fn resume(record: &mut Record<Self>, changed: bool) {
        if changed || record.facts.state == WebhookState::Paused {
            record.facts.state = WebhookState::Active;
        }
    }
}

/// Brings one in line.
pub(super) async fn webhook(
    (directory, catalogue): (&Directory, &Catalogue),
    events: &Events,
    (declared, key): (&Declared<Webhook>, Option<SigningKey>),
) -> anyhow::Result<()> {
    let hook = kept::bring(directory, catalogue, declared).await?;
    if let Some(key) = key {
        events.sign_with((&hook.org, &hook.id), key).await?;
    }
    Ok(())
}

/// Pauses what the file names no more.
pub(super) async fn pause_what_is_gone(
    config: &Config,
    directory: &Directory,
) -> anyhow::Result<()> {
    let declared: HashSet<_> = config.webhooks.iter().map(|it| (&it.org, it.name())).collect();
    let view = directory.view();
    for hook in view.orgs().flat_map(|org| view.all::<Webhook>(&org.id)) {
        let named = declared.contains(&(&hook.org, hook.name()));
        if hook.managed_by == ManagedBy::File && !named {
            let pause = |hook: &mut Record<Webhook>| hook.facts.state = WebhookState::Paused;
            directory.change(&hook.org, &hook.id, pause).await?;
        }
    }
    Ok(())
}
