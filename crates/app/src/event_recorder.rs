//! [`EventRecorder`]: writes the events of all changes to the audit log.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::audit_log;
use super::services::OpenedServices;
use crate::config::Config;
use keyward_state::observe::audit::{Audit, AuditWriter};
use keyward_state::observe::change_log::ChangeRecorder;

/// Records events, from before the first change to after the last.
pub(super) struct EventRecorder {
    close: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl EventRecorder {
    /// Starts recording, with the audit log that it writes to.
    pub(super) fn begin(
        config: &Config,
        opened: &OpenedServices,
    ) -> anyhow::Result<(Audit, AuditWriter, ChangeRecorder, Self)> {
        let (audit, writer) = audit_log::open(config)?;
        let changes = ChangeRecorder::to(audit.clone());
        let (close, closing) = watch::channel(false);
        let recorder =
            |events| opened.events.clone().handle_events(events, changes.clone(), closing);
        let task = opened.directory_events().map(|events| tokio::spawn(recorder(events)));
        Ok((audit, writer, changes, Self { close, task }))
    }

    /// Ends when everything is recorded.
    pub(super) async fn finish(self) {
        self.close.send_replace(true);
        if let Some(task) = self.task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "events may be missing in the audit log");
        }
    }
}
