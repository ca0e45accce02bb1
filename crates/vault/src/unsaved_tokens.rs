//! A token response that the store did not accept. `save_again.rs` stores it.

use std::fmt;

use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::record::NewRow;
use keyward_state::store::Version;

/// A response to store over the version whose token was sent, or over a later version with the same token.
pub struct UnsavedTokens {
    /// The version whose token was sent.
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
