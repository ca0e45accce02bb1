//! Background job for usage: each minute it adds what was counted to the stored histories, and now and then it drops
//! what belongs to removed connections, agents and tokens. The last round is at shutdown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use keyward_base::time::Clock;
use keyward_state::directory::Directory;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::usage::{Existing, UsageStep};

/// Rows that are written per minute. A master key can seal a limited number of rows (`docs/internals/store-format.md`):
/// at this rate it lasts a year. Where more connections and agents are active, they take turns.
const ROWS_PER_MINUTE: usize = 500;

/// Minutes after which the statistics of removed resources are dropped.
const FORGET_EVERY: u64 = 10;

/// Minutes after which the stored histories of removed resources are removed.
const SWEEP_EVERY: u64 = 60;

pub(super) struct UsageJob {
    pub(super) directory: Arc<Directory>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl UsageJob {
    /// Runs until `close` turns true, and stores everything then.
    pub(super) async fn run(self, mut close: watch::Receiver<bool>) {
        for round in 0u64.. {
            if round.is_multiple_of(SWEEP_EVERY) {
                self.sweep().await;
            }
            let minute = UsageStep::Minute.start(self.clock.now());
            let rest = async {
                let passed = self.clock.now().duration_since(minute);
                let passed = Duration::try_from(passed).unwrap_or_default();
                let length = Duration::from_secs(UsageStep::Minute.seconds().unsigned_abs());
                tokio::time::sleep(length.saturating_sub(passed)).await;
            };
            let is_last = tokio::select! {
                () = rest => false,
                _ = close.wait_for(|close| *close) => true,
            };
            self.metrics.usage.collect(minute);
            if is_last {
                return self.save(usize::MAX).await;
            }
            self.save(ROWS_PER_MINUTE).await;
            if round % FORGET_EVERY == FORGET_EVERY - 1 {
                self.forget();
            }
        }
    }

    /// Stores up to `max` histories. What fails is tried again in the next round.
    async fn save(&self, max: usize) {
        if let Err(error) = self.directory.save_usage(&self.metrics.usage, max).await {
            tracing::warn!(%error, "usage is not stored yet: it is tried again in a minute");
        }
    }

    async fn sweep(&self) {
        match self.directory.remove_orphaned_usage().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "the usage of removed resources is removed"),
            Err(error) => tracing::warn!(%error, "cannot remove the usage of removed resources"),
        }
    }

    /// Drops the statistics of removed resources, so that short-lived connections, agents and tokens, such as those of
    /// runs, do not accumulate.
    fn forget(&self) {
        let view = self.directory.view();
        self.metrics.usage.keep(&Existing {
            connections: view.connections().map(|connection| &connection.id).collect(),
            agents: view.agents().map(|agent| &agent.id).collect(),
            tokens: view.tokens().collect(),
        });
    }
}
