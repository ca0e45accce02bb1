//! [`AuditLog`]: the files of the audit log, and what handlers need to read them.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use keyward_state::observe::trail::Trail;

/// Concurrent searches; each occupies a thread and the disk.
const SEARCHES_MAX: usize = 4;

/// Concurrent verifications. Each reads all files, which may take minutes, so that no search waits for it.
const VERIFICATIONS_MAX: usize = 2;

/// A readable audit log; cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLog {
    pub(super) trail: Trail,
    pub(super) written: Option<watch::Receiver<u64>>,
    pub(super) searches: Arc<Semaphore>,
    pub(super) verifications: Arc<Semaphore>,
}

impl AuditLog {
    /// A log that another process writes, or none.
    pub fn at_rest(trail: Trail) -> Self {
        let [searches, verifications] =
            [SEARCHES_MAX, VERIFICATIONS_MAX].map(|most| Arc::new(Semaphore::new(most)));
        Self { trail, written: None, searches, verifications }
    }

    /// A log that this process writes; `written` is the number of the last record.
    pub fn written(trail: Trail, written: watch::Receiver<u64>) -> Self {
        Self { written: Some(written), ..Self::at_rest(trail) }
    }
}
