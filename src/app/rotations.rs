//! What goes on beside the doors for secrets that are rotated: those that nobody confirmed are wiped when
//! their time is over, and people are reminded of those that want another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use keyward_base::time::Clock;
use keyward_state::directory::{ConnectionRecord, Need, Reminded, View};
use keyward_state::observe::metrics::Metrics;
use keyward_vault::Vault;

/// How late a reminder may be. What is to be wiped is wiped when it is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// After a failure of the store.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Works until it is dropped.
pub(super) async fn tend(vault: Arc<Vault>, metrics: Arc<Metrics>, clock: Clock) {
    let mut changes = vault.directory().changes();
    loop {
        changes.borrow_and_update();
        let rest = match vault.wipe_overdue().await {
            Ok(wiped) => {
                for connection in wiped {
                    let (id, name) = (&connection.id, &connection.name);
                    tracing::info!(connection = %id, name, "the second secret of a rotation is wiped");
                }
                rest(&vault.directory().view(), clock.now())
            }
            Err(error) => {
                tracing::warn!(%error, "a secret whose time is over cannot be wiped yet");
                TRY_AGAIN_AFTER
            }
        };
        remind(&vault, clock.now(), &metrics).await;
        // Whichever comes first; a change may bring a nearer end.
        let _ = tokio::time::timeout(rest, changes.changed()).await;
    }
}

/// Until the next second secret's time is over.
fn rest(view: &View, now: Timestamp) -> Duration {
    let ends = view.connections().filter_map(|it| Some(it.facts.rotation.as_ref()?.until));
    let rests = ends.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
    // A whole step of the clock later, so that it is over then.
    rests.map(|rest| rest + Duration::from_millis(1)).min().unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
}

/// One warning and one event for each reminder that is reached, also over a restart; and the counts of all.
async fn remind(vault: &Vault, now: Timestamp, metrics: &Metrics) {
    let mut counts = HashMap::new();
    for connection in vault.directory().view().connections() {
        let Some(due) = connection.due() else { continue };
        let Some(days) = due.reminder(now) else { continue };
        *counts.entry(days).or_insert(0) += 1;
        let reminded = Reminded { due: due.at, days };
        if connection.facts.reminded == Some(reminded) {
            continue;
        }
        let (org, id, name, at) = (&connection.org, &connection.id, &connection.name, due.at);
        let remedy = vault.remedy(connection, Need::Credential);
        match days {
            0 => tracing::warn!(
                connection = %id, name, %at, why = due.why.code(), remedy,
                "the secret of a connection is past its time"
            ),
            days => tracing::warn!(
                connection = %id, name, %at, why = due.why.code(), days, remedy,
                "the secret of a connection is due within days"
            ),
        }
        let remember = move |it: &mut ConnectionRecord| it.facts.reminded = Some(reminded);
        if let Err(error) = vault.directory().update_connection(org, id, &remember).await {
            tracing::warn!(connection = %id, %error, "people may be reminded again");
        }
    }
    metrics.secrets_due(&counts);
}
