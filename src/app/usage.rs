//! Background job: forgets the usage of what was removed, so that connections, agents and tokens that come
//! and go, such as those of runs, do not add up.

use std::sync::Arc;
use std::time::Duration;

use keyward_state::directory::Directory;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::usage::Existing;

/// How often. Until then, what was removed is counted on.
const EVERY: Duration = Duration::from_secs(600);

/// Works until it is dropped.
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
