//! Background job: drops the usage of removed resources, so that short-lived connections, agents and
//! tokens, such as those of runs, do not accumulate.

use std::sync::Arc;
use std::time::Duration;

use keyward_state::directory::Directory;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::usage::Existing;

/// The interval. Removed resources are counted until then.
const EVERY: Duration = Duration::from_secs(600);

/// Runs until it is dropped.
pub(super) async fn follow(directory: Arc<Directory>, metrics: Arc<Metrics>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let view = directory.view();
        metrics.usage.keep(&Existing {
            connections: view.connections().map(|connection| &connection.id).collect(),
            agents: view.agents().map(|agent| &agent.id).collect(),
            tokens: view.tokens().collect(),
        });
    }
}
