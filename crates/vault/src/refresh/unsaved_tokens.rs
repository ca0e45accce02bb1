//! A token response that the store did not accept, or may lose. `save_again.rs` stores it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::grants::record::NewRow;
use keyward_base::id::ConnectionId;
use keyward_state::store::Version;

/// A response to store over the version whose token was sent, or over a later version with the same token.
pub struct UnsavedTokens {
    /// The version whose token was sent.
    pub over: Version,
    /// The grant whose token was sent, as encoded in that version.
    pub(crate) sent: Zeroizing<Vec<u8>>,
    /// The row to write over that version.
    pub(crate) row: NewRow,
    /// Whether a rejected client was tried again, which changes the record.
    pub(crate) on_trial: bool,
    /// The newer grant.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Notified when it is stored.
    pub(crate) stored: Notify,
}

/// How many stored responses are kept: a database without synchronous replication loses those of some seconds.
const KEPT_MAX: usize = 1_000;

/// The last responses that this process has stored, by connection.
#[derive(Debug, Default)]
pub(crate) struct StoredAnswers(Mutex<VecDeque<(ConnectionId, Arc<UnsavedTokens>)>>);

impl StoredAnswers {
    pub(crate) fn keep(&self, id: &ConnectionId, answer: &Arc<UnsavedTokens>) {
        let mut kept = self.0.lock();
        kept.retain(|(other, _)| other != id);
        kept.push_back((id.clone(), answer.clone()));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    pub(crate) fn of(&self, id: &ConnectionId) -> Option<Arc<UnsavedTokens>> {
        let kept = self.0.lock();
        kept.iter().find(|(other, _)| other == id).map(|(_, answer)| answer.clone())
    }
}

impl UnsavedTokens {
    /// Whether this grant is the one whose token was sent.
    pub(crate) fn is_of(&self, grant: &[u8]) -> bool {
        bool::from(self.sent.ct_eq(grant))
    }
}

impl fmt::Debug for UnsavedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsavedTokens").field("over", &self.over).finish_non_exhaustive()
    }
}
