//! The audit log of a gateway: opened for writing, and the [`EventRecorder`] that writes the events of all changes
//! to it.

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::folders;
use super::services::OpenedServices;
use crate::config::{AuditTo, Config};
use keyward_state::observe::audit::{Audit, AuditWriter};
use keyward_state::observe::change_log::ChangeRecorder;
use keyward_state::observe::trail::Trail;

/// The log of a gateway.
pub(super) fn open(config: &Config) -> anyhow::Result<(Audit, AuditWriter)> {
    open_at(config, &config.audit)
}

/// The log of a process without listeners. Where it was given no configuration file, its records go into the log that the
/// file of the last start names, so that all changes are in one log.
///
/// # Errors
/// When that file cannot be read: the log may be elsewhere.
pub(super) fn open_at_rest(config: &Config) -> anyhow::Result<(Audit, AuditWriter)> {
    let Some(before) = config.file_of_audit_log_before() else { return open(config) };
    let of_gateway = config.with_file(before).map_err(|error| {
        anyhow!(
            "the audit log of the gateway is not known, because the configuration file of its last start cannot be used \
             ({error}): correct that file, name another one with --config, or make an empty file {}",
            config.file().display()
        )
    })?;
    open_at(config, &of_gateway.audit)
}

fn open_at(config: &Config, to: &AuditTo) -> anyhow::Result<(Audit, AuditWriter)> {
    let AuditTo { file, rotation, stdout } = to;
    folders::folder_for("audit.file", file)?;
    let opened = Audit::open(Trail::at(file), *rotation, config.limits.audit_queue_max, *stdout)?;
    // A command of root may have made it.
    folders::chown_created(&config.data_dir, file)?;
    Ok(opened)
}

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
        let (audit, writer) = open(config)?;
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
