//! [`SignInSettings`]: configuration of the sign-in of people; [`OidcSettings`]: of that by OpenID Connect, with the
//! provider, who may sign in, and with which role.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::keys::section;
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

section! {
    /// How people sign in with an identity provider.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct OidcSettings {
        /// The provider's issuer identifier, exactly as the provider writes it; `http` for localhost only. Register
        /// `PUBLIC_URL/login/oidc/callback` as redirect URI there.
        #[key("https URL", required)]
        pub issuer: String,
        /// The organisation that people sign in to, made when it is first named.
        #[key("name of an organisation", "default")]
        #[serde(default = "default_org")]
        pub org: String,
        /// The id of the client that you registered at the provider.
        #[key("text", required)]
        pub client_id: String,
        /// The secret of that client. Another one is in force after a reload.
        #[key("[secret](#secrets)", required)]
        #[serde(skip_serializing)]
        pub client_secret: ReadElsewhere,
        /// The provider's name, for the button: `Sign in with NAME`.
        #[key("text", "single sign-on")]
        #[serde(default = "default_name")]
        pub name: String,
        /// The requested scopes; `openid` is added. Some providers send groups only with a scope of their own.
        #[key("list of scopes", "[openid, email, profile]")]
        #[serde(default = "default_scopes")]
        pub scopes: Vec<String>,
        /// Domains of e-mail addresses that may sign in. The provider must say that the address is verified
        /// (`email_verified`). One of `domains`, `groups` and `roles` is required; who signs in must satisfy all that are
        /// given.
        #[key("list of domains")]
        #[serde(default)]
        pub domains: Vec<String>,
        /// Groups that may sign in; one of them suffices.
        #[key("list of names")]
        #[serde(default)]
        pub groups: Vec<String>,
        /// The claim that has the groups: a name, or a path with dots such as `realm_access.roles`.
        #[key("name of a claim", "groups")]
        #[serde(default = "default_groups_claim")]
        pub groups_claim: String,
        /// The role of each group. Of several, the highest counts. The role is set at every sign-in.
        #[key("map of a group to `admin`, `member` or `auditor`")]
        #[serde(default)]
        pub roles: BTreeMap<String, SignInRole>,
        /// The claim whose values `roles` names. The default is `groups_claim`.
        #[key("name of a claim")]
        #[serde(default)]
        pub roles_claim: Option<String>,
        /// The role of people whose groups `roles` does not name. Without it they may not sign in. Needs `domains` or
        /// `groups`.
        #[key(one of ["admin", "member", "auditor"])]
        #[serde(default)]
        pub default_role: Option<SignInRole>,
    }
}

/// A role that a sign-in may give, the lowest first. End users do not sign in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignInRole {
    /// Reads everything and changes nothing.
    Auditor,
    /// Manages the resources that the user owns.
    Member,
    /// Manages everything.
    Admin,
}

/// A placeholder for a secret in a section: the program reads the value separately, as a secret source.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReadElsewhere;

impl<'de> Deserialize<'de> for ReadElsewhere {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

fn default_org() -> String {
    "default".to_owned()
}

fn default_name() -> String {
    "single sign-on".to_owned()
}

fn default_scopes() -> Vec<String> {
    ["openid", "email", "profile"].map(str::to_owned).into()
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}
