//! [`LazyLog`]: the audit log of a process without listeners, opened by the first change. Commands that
//! only read do not write into the data directory.

use std::sync::Arc;

use parking_lot::Mutex;

use super::audit_log;
use crate::config::Config;
use keyward_state::observe::audit::{AuditError, AuditWriter};
use keyward_state::observe::change_log::ChangeRecorder;

/// An audit log that is opened by the first change. When it is dropped, its records are complete.
pub struct LazyLog {
    changes: Option<ChangeRecorder>,
    writer: Arc<Mutex<Option<AuditWriter>>>,
}

impl LazyLog {
    /// `None` before the first change.
    pub fn new(config: Config) -> Self {
        let writer: Arc<Mutex<Option<AuditWriter>>> = Arc::default();
        let opened = writer.clone();
        let changes = ChangeRecorder::late(move || {
            let (audit, writer) = audit_log::open_at_rest(&config).map_err(refused)?;
            *opened.lock() = Some(writer);
            Ok(audit)
        });
        Self { changes: Some(changes), writer }
    }

    pub fn changes(&self) -> ChangeRecorder {
        self.changes.clone().unwrap_or_default()
    }
}

/// When the directory cannot be created, or the log cannot be opened.
fn refused(error: anyhow::Error) -> AuditError {
    match error.downcast::<AuditError>() {
        Ok(error) => error,
        Err(error) => AuditError::Folder(format!("{error:#}")),
    }
}

impl Drop for LazyLog {
    fn drop(&mut self) {
        // The writer ends when its last handle is dropped.
        if let Some(changes) = self.changes.take() {
            changes.close();
        }
        if let Some(writer) = self.writer.lock().take() {
            writer.finish();
        }
    }
}
