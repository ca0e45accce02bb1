//! [`RotationSettings`]: how secrets of connections are replaced.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::duration;

/// Longer, and nobody remembers which of the two secrets was good.
pub const KEEP_OLD_MAX: Duration = Duration::from_secs(30 * 86_400);

section! {
    /// How secrets of connections are replaced.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct RotationSettings {
        /// How long the secret before is kept, sealed, for a rollback; up to 30d. `0s` wipes it at once.
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
