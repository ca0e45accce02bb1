//! Background job of a gateway whose store has other replicas: publishes what it allowed within limits, and reads what the
//! others allowed (`proxy::limits`). Four times a second, in one statement each; without requests, nothing is written.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::admin_tasks::AdminTasks;
use super::services::Services;
use keyward_proxy::{LimitExchange, ReplicaRow, SharedLimits};
use keyward_state::directory::{Directory, DirectoryError, PublishedLimits};
use keyward_state::observe::metrics::Metrics;

/// The time between two rounds. Replicas may exceed a limit by the requests that they allow in this time and that of
/// two statements.
const EVERY: Duration = Duration::from_millis(250);

/// Without news for so long, a request counts for all replicas.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// Rows are read again that were written so long before the last round: a row may become visible after a later one.
const OVERLAP: Duration = Duration::from_secs(5);

/// At the start, all rows are read.
const ALL: Duration = Duration::from_secs(24 * 3_600);

/// The time between two counts of the replicas.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// A replica that has not announced itself for so long does not run.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// Reads what was published before this replica started, and starts the job.
pub(super) async fn start(services: &Services, tasks: &mut AdminTasks) -> anyhow::Result<()> {
    if let Some(job) = LimitExchangeJob::begin(services).await? {
        tasks.spawn(|close| job.run(close));
    }
    Ok(())
}

/// Sets how many times a request counts, and its metric.
#[derive(Clone)]
struct Weight(Arc<SharedLimits>, Arc<Metrics>);

impl Weight {
    fn set(&self, replicas: u32) {
        self.0.count_for(replicas);
        self.1.health.shared_limit_weight.set(replicas.into());
    }
}

/// The exchange of one gateway.
struct LimitExchangeJob {
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    exchange: LimitExchange,
    /// The name of this replica's row.
    name: String,
    /// When rows were read last.
    heard: Instant,
    weight: Weight,
    replicas: u32,
    count_at: Instant,
}

impl LimitExchangeJob {
    /// Reads what was published before this replica started; `None` where no other process writes the store.
    async fn begin(services: &Services) -> anyhow::Result<Option<Self>> {
        if !services.directory.is_shared() {
            return Ok(None);
        }
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
        let now = Instant::now();
        let mut job = Self {
            directory: services.directory.clone(),
            metrics: services.metrics.clone(),
            exchange: LimitExchange::new(services.shared_limits.clone()),
            name: name.iter().map(|byte| format!("{byte:02x}")).collect(),
            heard: now,
            weight: Weight(services.shared_limits.clone(), services.metrics.clone()),
            replicas: 1,
            count_at: now,
        };
        let rows = job.directory.published_limits(ALL).await?;
        let rows: Vec<_> = rows.iter().map(replica_row).collect();
        job.exchange.begin(&rows, Instant::now());
        Ok(Some(job))
    }

    /// Runs until `close` turns true, and publishes the rest then.
    async fn run(mut self, mut close: watch::Receiver<bool>) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ends = tokio::select! {
                _ = rounds.tick() => false,
                _ = close.wait_for(|close| *close) => true,
            };
            if ends {
                // The process does not wait for a store that is away.
                drop(tokio::time::timeout(SILENT_AFTER, self.round()).await);
                return;
            }
            self.round().await;
        }
    }

    async fn round(&mut self) {
        let begun = Instant::now();
        let (weight, replicas) = (self.weight.clone(), self.replicas);
        let silent_at = self.heard + SILENT_AFTER;
        let done = {
            let mut exchange = pin!(self.exchange_rows());
            // Not cancelled, because that makes a stream unusable for a while: the store has a timeout.
            tokio::select! {
                biased;
                done = &mut exchange => done,
                () = tokio::time::sleep_until(silent_at) => {
                    weight.set(replicas);
                    exchange.await
                }
            }
        };
        match done {
            Ok(()) => {
                self.heard = begun;
                self.weight.set(1);
            }
            Err(error) => {
                tracing::debug!(%error, "cannot exchange rate limit counters with the other replicas")
            }
        }
    }

    async fn exchange_rows(&mut self) -> Result<(), DirectoryError> {
        if let Some(row) = self.exchange.row(Instant::now()) {
            self.directory.publish_limits(&self.name, row).await?;
            self.exchange.written();
        }
        let within = self.heard.elapsed() + OVERLAP;
        let rows = self.directory.published_limits(within).await?;
        let now = Instant::now();
        let is_first = now.duration_since(self.heard) > SILENT_AFTER;
        for row in rows.iter().filter(|row| row.replica != self.name) {
            let count = self.exchange.add_row(&replica_row(row), is_first, now);
            self.metrics.health.shared_limit_requests.inc_by(count);
        }
        if now >= self.count_at {
            let replicas = self.directory.replicas().await?;
            let running = replicas.iter().filter(|one| one.ago <= GONE_AFTER).count();
            self.replicas = u32::try_from(running).unwrap_or(u32::MAX).max(1);
            self.metrics.health.replicas.set(self.replicas.into());
            self.count_at = now + COUNT_EVERY;
        }
        Ok(())
    }
}

fn replica_row(row: &PublishedLimits) -> ReplicaRow<'_> {
    ReplicaRow { replica: &row.replica, bytes: &row.row, ago: row.ago }
}
