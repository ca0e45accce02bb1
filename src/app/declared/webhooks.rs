//! Webhooks that the configuration declares.

use std::collections::HashSet;

use anyhow::bail;

use crate::config::{Config, DeclaredWebhook};
use keyward_state::directory::{Directory, ManagedBy, NewWebhook, WebhookRecord, WebhookState};
use keyward_vault::events::{Events, SigningKey};

/// The signing keys of all, in the configuration's order; what is none is a problem.
pub(super) fn keys(config: &Config, problems: &mut Vec<String>) -> Vec<Option<SigningKey>> {
    let of = |declared: &DeclaredWebhook| {
        let loaded = declared.key.load(&config.environment, &config.secret_variables());
        let key = loaded.map_err(|error| error.to_string());
        let key = key.and_then(|text| SigningKey::parse(&text).map_err(|error| error.to_string()));
        key.map_err(|why| {
            let (place, name) = (&declared.place, &declared.name);
            problems.push(format!("{place}: webhook `{name}`: `signing_key`: {why}"));
        })
        .ok()
    };
    config.webhooks.iter().map(of).collect()
}

/// Brings one in line.
pub(super) async fn webhook(
    directory: &Directory,
    events: &Events,
    (declared, key): (&DeclaredWebhook, Option<SigningKey>),
) -> anyhow::Result<()> {
    let found = directory.view().find_webhook(&declared.org, &declared.name).cloned();
    let hook = match found {
        Some(found) if found.managed_by == ManagedBy::Store => {
            bail!("a stored webhook has this name: rename one of them")
        }
        Some(found) => {
            let (url, kinds) = (declared.url.clone(), declared.kinds.clone());
            let take = move |hook: &mut WebhookRecord| {
                // One that ended is tried again where something of it has changed.
                if hook.state == WebhookState::Paused || hook.url != url || hook.kinds != kinds {
                    hook.state = WebhookState::Active;
                }
                hook.url.clone_from(&url);
                hook.kinds.clone_from(&kinds);
            };
            directory.update_webhook(&found.org, &found.id, take).await?
        }
        None => {
            let new = NewWebhook {
                name: declared.name.clone(),
                url: declared.url.clone(),
                kinds: declared.kinds.clone(),
                managed_by: ManagedBy::File,
            };
            directory.add_webhook(&declared.org, new).await?
        }
    };
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
    let declared: HashSet<_> = config.webhooks.iter().map(|it| (&it.org, &it.name)).collect();
    let view = directory.view();
    for hook in view.orgs().flat_map(|org| view.webhooks(&org.id)) {
        let named = declared.contains(&(&hook.org, &hook.name));
        if hook.managed_by == ManagedBy::File && !named {
            let pause = |hook: &mut WebhookRecord| hook.state = WebhookState::Paused;
            directory.update_webhook(&hook.org, &hook.id, pause).await?;
        }
    }
    Ok(())
}
