//! [`OidcSettings`]: configuration of the sign-in by OpenID Connect: the provider, who may sign in, and with which role.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::keys::section;

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
