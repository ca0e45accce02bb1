//! [`RotationSettings`]: configuration of secret rotation.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::duration;

/// Maximum of `keep_old`. After a longer time, it is unclear which of the two secrets works.
pub const KEEP_OLD_MAX: Duration = Duration::from_secs(30 * 86_400);

section! {
    /// How secrets of connections are rotated.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct RotationSettings {
        /// How long the previous secret is kept, sealed, for a rollback; up to 30d. `0s` wipes it at once.
        #[key("time")]
        #[serde(with = "duration")]
        pub keep_old: Duration,
    }
}

impl Default for RotationSettings {
    fn default() -> Self {
        Self { keep_old: Duration::from_secs(86_400) }
    }
}
