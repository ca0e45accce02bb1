//! The CA while the gateway serves: its files are replaced, an overlap ends, its own end comes near.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::watched::{LOOK_EVERY, Watched};
use crate::config::CaPaths;
use keyward_proxy::ca::CaError;
use keyward_proxy::ca::authority::Authority;

/// Between two looks at the calendar. Who is served does not wait for one: that is decided at each
/// handshake.
const CALENDAR_EVERY: Duration = Duration::from_secs(3_600);

/// Between two warnings of the same.
const WARNING_EVERY: Duration = Duration::from_secs(86_400);

/// Looks for as long as it is polled.
pub(super) async fn follow(authority: Arc<Authority>, paths: CaPaths) {
    // As they are from here on; what was changed since they were read is noticed at once.
    let mut watched = Watched::new(vec![paths.cert, paths.key]);
    let mut changed = true;
    let (mut calendar_at, mut warn_at) = (Instant::now(), Instant::now());
    let mut looks = tokio::time::interval(LOOK_EVERY);
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
            let changed = watched.look();
            if changed {
                watched.reading();
            }
            (watched, changed)
        });
        let Ok((again, moved)) = look.await else {
            return tracing::error!("the CA's files are no longer watched");
        };
        (watched, changed) = (again, moved);
    }
}

/// Our own writing is no change: what the files hold is in use then.
async fn take_up(authority: &Arc<Authority>) {
    if let Err(error) = on_files(authority, |authority| authority.reload().map(drop)).await {
        tracing::error!("the CA's files are refused, the old CA stays: {error}");
    }
}

async fn tidy(authority: &Arc<Authority>) {
    if let Err(error) = on_files(authority, |authority| authority.tidy().map(drop)).await {
        tracing::warn!("the CA before is still in the certificate file: {error}");
    }
}

fn warned(notice: &str) -> bool {
    tracing::warn!("{notice}");
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
