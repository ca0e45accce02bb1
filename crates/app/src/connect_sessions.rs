//! Background job: removes what expired connect sessions began, and those that ended a day ago.

use std::sync::Arc;
use std::time::Duration;

use keyward_vault::oauth::Flows;

/// A draft that was not connected is removed within a minute of the end of its link.
const EVERY: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub(super) async fn sweep(flows: Arc<Flows>) {
    loop {
        match flows.sweep_connect_sessions().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "ended connect sessions are removed"),
            Err(error) => tracing::warn!(%error, "ended connect sessions cannot be removed yet"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
