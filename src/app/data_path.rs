//! [`DataPath`]: the data path of a process that serves nobody. The command line tests connections
//! through it when no gateway runs.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::reload::Outward;
use super::{Services, open_audit, parts};
use crate::config::Config;
use keyward_proxy::Gateway;
use keyward_state::observe::audit::Writer;
use keyward_state::observe::change_log::Changes;

/// A data path without listeners. When it is dropped, what it did is in the audit log.
pub struct DataPath {
    gateway: Option<Arc<Gateway>>,
    changes: Option<Changes>,
    writer: Option<Writer>,
}

impl DataPath {
    /// Opens the audit log and the way out.
    ///
    /// # Errors
    /// When the audit log cannot be continued, or a root cannot be read.
    pub fn open(config: &Config, services: &Services) -> anyhow::Result<Self> {
        let outward = Outward::load(config)?;
        let (audit, writer) = open_audit(config)?;
        // A receiver keeps its last value after the sender is gone.
        let draining = watch::channel(false).1;
        let changes = Some(Changes::to(audit.clone()));
        let gateway = Gateway::new(parts(config, services, &outward, audit, draining)?);
        Ok(Self { gateway: Some(gateway), changes, writer: Some(writer) })
    }

    /// Where changes are written down.
    pub fn changes(&self) -> Changes {
        self.changes.clone().unwrap_or_default()
    }

    /// What requests are sent through, for as long as this lives.
    pub fn gateway(&self) -> Weak<Gateway> {
        self.gateway.as_ref().map(Arc::downgrade).unwrap_or_default()
    }
}

impl Drop for DataPath {
    fn drop(&mut self) {
        // The writer ends with the last who could write.
        drop(self.gateway.take());
        if let Some(changes) = self.changes.take() {
            changes.close();
        }
        if let Some(writer) = self.writer.take() {
            writer.finish();
        }
    }
}

impl std::fmt::Debug for DataPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataPath").finish_non_exhaustive()
    }
}
