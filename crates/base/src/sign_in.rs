//! [`SignInSettings`]: configuration of the sign-in of people.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::oidc::OidcSettings;
use super::time::duration;

/// Idle timeout of a login. With a shorter one, a login would end while its user reads a page.
pub const IDLE: RangeInclusive<Duration> = minutes(5)..=minutes(30 * 1_440);

/// Lifetime of a login, even in daily use: a stolen cookie must expire.
pub const LIFE: RangeInclusive<Duration> = minutes(5)..=minutes(90 * 1_440);

/// The last use of a login is written once in this time, or more often if `idle` is short.
const USE_WRITTEN_EVERY: Duration = minutes(5);

section! {
    /// How people sign in to the console and, with its cookie, to the API.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SignInSettings {
        /// Whether people may sign in with a password. Links work in any case.
        #[key(one of ["true", "false"])]
        pub password: bool,
        /// Whether people may register passkeys and sign in with them, at a page with a host name.
        #[key(one of ["true", "false"])]
        pub passkeys: bool,
        /// A login that is not used for so long ends; 5m to 30d. Its last use is noted every 5 minutes.
        #[key("time")]
        #[serde(with = "duration")]
        pub idle: Duration,
        /// A login ends after so long even if it is used; 5m to 90d. Applies to new logins.
        #[key("time")]
        #[serde(with = "duration")]
        pub life: Duration,
        /// Sign-in with an identity provider, by OpenID Connect.
        #[key(map of OidcSettings)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub oidc: Option<OidcSettings>,
    }
}

impl Default for SignInSettings {
    fn default() -> Self {
        Self {
            password: true,
            passkeys: true,
            idle: minutes(12 * 60),
            life: minutes(7 * 1_440),
            oidc: None,
        }
    }
}

impl SignInSettings {
    /// The age at which the stored last use of a login is written again.
    pub fn last_use_interval(&self) -> Duration {
        USE_WRITTEN_EVERY.min(self.idle / 10)
    }
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}
