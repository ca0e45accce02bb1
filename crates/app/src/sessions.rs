//! Background jobs: remove sessions and logins that have ended. They allow nothing before, because each request checks
//! its session or login.

use std::sync::Arc;
use std::time::Duration;

use keyward_state::directory::Directory;

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
