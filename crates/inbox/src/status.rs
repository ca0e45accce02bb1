//! [`HookStatus`]: the state of a hook since the start of the process.

use jiff::Timestamp;

use keyward_vault::events::LastTry;

/// The state of a hook since the start of this process.
#[derive(Clone, Debug, Default)]
pub struct HookStatus {
    /// Events that wait.
    pub waiting: usize,
    /// Events whose deliveries all failed.
    pub dead: usize,
    pub last: Option<LastTry>,
    /// The last refused request.
    pub refused: Option<LastRefusal>,
}

/// A refused request.
#[derive(Clone, Debug)]
pub struct LastRefusal {
    /// The time.
    pub at: Timestamp,
    /// As in the audit log.
    pub code: &'static str,
    pub reason: String,
}
