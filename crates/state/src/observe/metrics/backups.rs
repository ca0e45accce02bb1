//! [`BackupMetrics`]: scheduled backups.

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::families::{metric, metric_in};

/// Scheduled backups by result.
#[derive(Debug)]
pub struct BackupMetrics {
    last_success: Gauge,
    failures: Counter,
}

impl BackupMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let help = "time of the last scheduled backup, since the epoch; 0: there is none";
        let name = "backup_last_success_timestamp";
        let last_success = metric_in(registry, Unit::Seconds, name, help);
        let help = "scheduled backups that failed";
        Self { last_success, failures: metric(registry, "backup_failures", help) }
    }

    /// Records that a backup of this time was written.
    pub fn succeeded(&self, created: Timestamp) {
        self.last_success.set(created.as_second());
    }

    pub fn failed(&self) {
        self.failures.inc();
    }
}
