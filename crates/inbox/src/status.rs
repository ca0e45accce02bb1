//! [`HookStatus`]: the state of a hook since the start of the process, and [`SecretStatus`]: that of its secret.

use keyward_model::{DeliveryAttempt, HookRefusal};

/// The state of a hook since the start of this process.
#[derive(Clone, Debug, Default)]
pub struct HookStatus {
    /// Events that wait.
    pub waiting: usize,
    /// Events whose deliveries all failed.
    pub dead: usize,
    /// Delivered events that are kept.
    pub delivered: usize,
    pub last: Option<DeliveryAttempt>,
    /// The last refused request.
    pub refused: Option<HookRefusal>,
}

/// The secret of a hook, without the secret itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecretStatus {
    /// Whether it is stored, or the scheme has none.
    pub is_known: bool,
    /// What a person enters at the service beside the URL, where it asks for it.
    pub verify_token: Option<String>,
    /// Whether it may be shown, because it must be entered at the service.
    pub can_reveal: bool,
}
