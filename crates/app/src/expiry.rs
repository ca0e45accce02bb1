//! Background jobs for what ends: they wipe expired secrets, remind people of secrets that are due, and remove
//! ended sessions, logins and connect sessions. Ended ones allow nothing before, because each request checks its
//! session or login.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use keyward_base::time::Clock;
use keyward_model::Connection;
use keyward_state::directory::{ConnectionRecord, Directory, RemedyCause, Reminder, View};
use keyward_state::observe::metrics::Metrics;
use keyward_vault::Vault;
use keyward_vault::oauth::Flows;

/// Longest delay of a reminder; wiping is on time, or [`LOOK_AGAIN_AFTER`] late after a change.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Shortest time between two looks. One look for each change would make the cost of adding many connections with dates
/// grow with the square of their number.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The pause after a failure of the store.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(super) async fn run(vault: Arc<Vault>, metrics: Arc<Metrics>, clock: Clock) {
    let mut changes = vault.directory().changes();
    loop {
        changes.borrow_and_update();
        let rest = match vault.lifecycle().wipe_overdue().await {
            Ok(wiped) => {
                for connection in wiped {
                    let (id, name) = (&connection.id, &connection.name);
                    tracing::info!(connection = %id, name, "the second secret of a rotation is wiped");
                }
                rest(&vault.directory().view(), clock.now())
            }
            Err(error) => {
                tracing::warn!(%error, "an expired secret cannot be wiped yet");
                TRY_AGAIN_AFTER
            }
        };
        remind(&vault, clock.now(), &metrics).await;
        let looked = Instant::now();
        // Whichever comes first; a change may bring an earlier end.
        if tokio::time::timeout(rest, changes.changed()).await.is_ok() {
            tokio::time::sleep_until(looked + rest.min(LOOK_AGAIN_AFTER)).await;
        }
    }
}

/// The time until the next second secret expires.
fn rest(view: &View, now: Timestamp) -> Duration {
    let ends = view.dated_connections().filter_map(|it| Some(it.facts.rotation.as_ref()?.until));
    let rests = ends.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
    // Rounded up to the clock's next step, so that it has expired then.
    rests.map(|rest| rest + Duration::from_millis(1)).min().unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
}

/// Logs and publishes each reminder that is due, once even over restarts, and counts all of them.
async fn remind(vault: &Vault, now: Timestamp, metrics: &Metrics) {
    let mut counts = HashMap::new();
    for connection in vault.directory().view().dated_connections() {
        let Some(due) = connection.due() else { continue };
        let Some(days) = due.reminder(now) else { continue };
        *counts.entry(days).or_insert(0) += 1;
        let reminded = Reminder { due: due.at, days };
        if connection.facts.reminded == Some(reminded) {
            continue;
        }
        let (org, id, name, at) = (&connection.org, &connection.id, &connection.name, due.at);
        let remedy = vault.remedy(connection, RemedyCause::Credential);
        match days {
            0 => tracing::warn!(
                id = "secret_overdue",
                connection = %id, name, %at, why = due.why.code(), remedy,
                "the secret of a connection is overdue"
            ),
            days => tracing::warn!(
                id = "secret_due",
                connection = %id, name, %at, why = due.why.code(), days, remedy,
                "the secret of a connection is due within days"
            ),
        }
        let remember = move |it: &mut ConnectionRecord| it.facts.reminded = Some(reminded);
        if let Err(error) = vault.directory().change::<Connection>(org, id, remember).await {
            tracing::warn!(connection = %id, %error, "cannot store that a reminder was sent: it may be sent again");
        }
    }
    metrics.secrets_due(&counts);
}

/// Short enough that the tokens of a day of short sessions do not accumulate.
const EVERY: Duration = Duration::from_secs(60);

/// Runs until it is dropped. `idle`: how long a login may be unused.
pub(super) async fn remove_ended(directory: Arc<Directory>, idle: Duration) {
    loop {
        match directory.remove_ended_sessions().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "ended sessions are removed"),
            Err(error) => tracing::warn!(%error, "ended sessions cannot be removed yet"),
        }
        match directory.remove_ended_logins(idle).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "ended logins are removed"),
            Err(error) => tracing::warn!(%error, "ended logins cannot be removed yet"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// A draft that was not connected is removed within a minute of the end of its link.
const CONNECT_SESSIONS_EVERY: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub(super) async fn remove_ended_connect_sessions(flows: Arc<Flows>) {
    loop {
        match flows.sweep_connect_sessions().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "ended connect sessions are removed"),
            Err(error) => tracing::warn!(%error, "ended connect sessions cannot be removed yet"),
        }
        tokio::time::sleep(CONNECT_SESSIONS_EVERY).await;
    }
}
