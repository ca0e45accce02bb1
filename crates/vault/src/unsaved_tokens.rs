//! A token response that the store did not accept. `save_again.rs` stores it.

use std::fmt;

use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::record::NewRow;
use keyward_state::store::Version;

/// A response that is stored over the version that it came from, or over a later one that still has the token that was sent.
pub struct UnsavedTokens {
    /// The version that it came from.
    pub over: Version,
    /// The grant whose token was sent, as encoded in that version.
    pub(super) sent: Zeroizing<Vec<u8>>,
    /// The row to write over that version.
    pub(super) row: NewRow,
    /// Whether a rejected client was tried again, which changes the record.
    pub(super) on_trial: bool,
    /// The newer grant.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Notified when it is stored.
    pub(super) stored: Notify,
}

impl UnsavedTokens {
    /// Whether this grant is the one whose token was sent.
    pub(super) fn is_of(&self, grant: &[u8]) -> bool {
        bool::from(self.sent.ct_eq(grant))
    }
}

impl fmt::Debug for UnsavedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsavedTokens").field("over", &self.over).finish_non_exhaustive()
    }
}
