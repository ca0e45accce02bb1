//! Responses to refreshes of connections that another replica has removed. If the removal must revoke the grant, they
//! are queued for `oauth/revoke.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use keyward_base::id::ConnectionId;
use keyward_state::directory::ConnectionRecord;

/// Longest queue.
const WAITING_MAX: usize = 1_024;

/// How long the note that the grant of a removed connection must be revoked is kept: longer than a response is awaited,
/// and longer than a database is usually away.
pub(super) const WANTED_FOR: Duration = Duration::from_secs(3_600);

/// A newer grant of a removed connection.
#[derive(Clone)]
pub(super) struct OrphanedGrant {
    pub(super) connection: Arc<ConnectionRecord>,
    /// Its encoding.
    pub(super) grant: Zeroizing<Vec<u8>>,
}

/// The queue; flights add to it.
#[derive(Default)]
pub(super) struct OrphanedGrants(Mutex<Vec<OrphanedGrant>>, Notify);

impl OrphanedGrants {
    pub(super) fn add(&self, orphan: OrphanedGrant) {
        let Self(waiting, told) = self;
        let mut waiting = waiting.lock();
        if waiting.len() == WAITING_MAX {
            let id = &orphan.connection.id;
            return tracing::error!(connection = %id, "a late refresh is not revoked: there are too many");
        }
        waiting.push(orphan);
        told.notify_one();
    }

    /// Takes the queued grants.
    pub(super) fn take(&self) -> Vec<OrphanedGrant> {
        std::mem::take(&mut *self.0.lock())
    }

    /// Waits until a grant is queued; for one reader.
    pub(super) async fn added(&self) {
        self.1.notified().await;
    }
}

/// The name of the note that the grant of a removed connection must be revoked.
pub(super) fn note_name(id: &ConnectionId) -> String {
    format!("revoke/{id}")
}

impl fmt::Debug for OrphanedGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrphanedGrants").finish_non_exhaustive()
    }
}
