//! Opens the CA, and follows it while the gateway serves: replaced files, the end of an overlap, and its expiry.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::folders::chown_created;
use super::watched::{POLL_INTERVAL, WatchedFiles};
use crate::config::{CaPaths, Config};
use keyward_base::time::Clock;
use keyward_proxy::ca::CaError;
use keyward_proxy::ca::authority::Authority;

/// How often dates are checked. Handshakes do not depend on it: they check the date themselves.
const CALENDAR_EVERY: Duration = Duration::from_secs(3_600);

/// How often a warning is repeated.
const WARNING_EVERY: Duration = Duration::from_secs(86_400);

/// The CA, created if there is none. Root gives a new one to the gateway's user.
pub(super) fn made(config: &Config) -> anyhow::Result<Authority> {
    let (cert, key) = (&config.ca.cert, &config.ca.key);
    let is_made = Authority::is_made(cert, key)?;
    let authority = Authority::load_or_create(cert, key, &Clock::System)?;
    if !is_made {
        chown_created(&config.data_dir, cert)?;
        chown_created(&config.data_dir, key)?;
    }
    Ok(authority)
}

/// The existing CA, or a temporary one.
pub(super) fn existing(config: &Config) -> anyhow::Result<Authority> {
    let (cert, key) = (&config.ca.cert, &config.ca.key);
    Ok(match Authority::is_made(cert, key)? {
        true => Authority::load_or_create(cert, key, &Clock::System)?,
        false => Authority::ephemeral(),
    })
}

/// Checks until it is dropped.
pub(super) async fn follow(authority: Arc<Authority>, paths: CaPaths) {
    // From the current state of the files; earlier changes are noticed at the first check.
    let mut watched = WatchedFiles::new(vec![paths.cert, paths.key]);
    let mut changed = true;
    let (mut calendar_at, mut warn_at) = (Instant::now(), Instant::now());
    let mut looks = tokio::time::interval(POLL_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = looks.tick().await;
        if changed {
            take_up(&authority).await;
        }
        if now >= warn_at && authority.notice().is_some_and(|notice| warned(&notice)) {
            warn_at = now + WARNING_EVERY;
        }
        if now >= calendar_at {
            calendar_at = now + CALENDAR_EVERY;
            tidy(&authority).await;
        }
        let look = tokio::task::spawn_blocking(move || {
            let changed = watched.poll();
            if changed {
                watched.mark_read();
            }
            (watched, changed)
        });
        let Ok((again, moved)) = look.await else {
            return tracing::error!("the CA's files are no longer watched");
        };
        (watched, changed) = (again, moved);
    }
}

/// Files that the gateway wrote itself are in use already.
async fn take_up(authority: &Arc<Authority>) {
    if let Err(error) = on_files(authority, |authority| authority.reload().map(drop)).await {
        tracing::error!(id = "ca_refused", "the CA's files are refused, the old CA stays: {error}");
    }
}

async fn tidy(authority: &Arc<Authority>) {
    if let Err(error) = on_files(authority, |authority| authority.tidy().map(drop)).await {
        tracing::warn!("the CA before is still in the certificate file: {error}");
    }
}

fn warned(notice: &str) -> bool {
    tracing::warn!(id = "ca_expires", "{notice}");
    true
}

async fn on_files(
    authority: &Arc<Authority>,
    work: impl FnOnce(&Authority) -> Result<(), CaError> + Send + 'static,
) -> Result<(), String> {
    let authority = authority.clone();
    let done = tokio::task::spawn_blocking(move || work(&authority)).await;
    match done {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
