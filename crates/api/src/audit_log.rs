//! [`AuditLog`]: the files of the audit log, and what handlers need to read them.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use keyward_state::observe::trail::Trail;

/// Concurrent searches and verifications; each occupies a thread and the disk.
const READS_MAX: usize = 4;

/// A readable audit log; cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLog {
    pub(super) trail: Trail,
    pub(super) written: Option<watch::Receiver<u64>>,
    pub(super) turns: Arc<Semaphore>,
}

impl AuditLog {
    /// A log that another process writes, or none.
    pub fn at_rest(trail: Trail) -> Self {
        Self { trail, written: None, turns: Arc::new(Semaphore::new(READS_MAX)) }
    }

    /// A log that this process writes; `written` is the number of the last record.
    pub fn written(trail: Trail, written: watch::Receiver<u64>) -> Self {
        Self { written: Some(written), ..Self::at_rest(trail) }
    }
}
