//! [`LateLog`]: the audit log of a process that serves nobody, opened by the first change. Commands
//! that only read leave no trace in the data directory.

use std::sync::Arc;

use parking_lot::Mutex;

use super::open_audit;
use crate::config::Config;
use keyward_state::observe::audit::{AuditError, Writer};
use keyward_state::observe::change_log::Changes;

/// A log that may come to be. When it is dropped, what was changed is in it.
pub struct LateLog {
    changes: Option<Changes>,
    writer: Arc<Mutex<Option<Writer>>>,
}

impl LateLog {
    /// Not opened yet.
    pub fn new(config: Config) -> Self {
        let writer: Arc<Mutex<Option<Writer>>> = Arc::default();
        let opened = writer.clone();
        let changes = Changes::late(move || {
            let (audit, writer) = open_audit(&config).map_err(refused)?;
            *opened.lock() = Some(writer);
            Ok(audit)
        });
        Self { changes: Some(changes), writer }
    }

    /// Where changes go.
    pub fn changes(&self) -> Changes {
        self.changes.clone().unwrap_or_default()
    }
}

/// The folder cannot be made, or the log itself says why.
fn refused(error: anyhow::Error) -> AuditError {
    match error.downcast::<AuditError>() {
        Ok(error) => error,
        Err(error) => AuditError::Folder(format!("{error:#}")),
    }
}

impl Drop for LateLog {
    fn drop(&mut self) {
        // The writer ends with the last who could write.
        if let Some(changes) = self.changes.take() {
            changes.close();
        }
        if let Some(writer) = self.writer.lock().take() {
            writer.finish();
        }
    }
}

impl std::fmt::Debug for LateLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateLog").finish_non_exhaustive()
    }
}
