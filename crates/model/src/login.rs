//! Logins: browsers in which a user is signed in. A login is a row of its own; it is made by a sign-in, and never
//! changed by a person, only ended. Its cookie is stored as a hash.

use jiff::Timestamp;
use keyward_base::id::{LoginId, TokenId, UserId};
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::Reference;
use super::refusal::Refusal;
use super::resource::{Kind, NoMembers, Resource};
use keyward_base::names::named_enum;

/// Logins of one user. When there are more, the oldest ends.
pub const LOGINS_MAX: usize = 50;

/// Links of one user that have not been used. When there are more, the oldest is forgotten.
pub const LOGIN_LINKS_MAX: usize = 10;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Login {}

section! {
    /// What is known at the sign-in. No request gives it.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub struct LoginSpec {
        /// The user.
        #[key("name or id of a user", required)]
        pub user: Reference<UserId>,
        /// How the user signed in.
        #[key(one of ["link", "password", "password_totp", "passkey", "oidc"], required)]
        pub method: SignInMethod,
        /// The browser, by what it says of itself: `Firefox on Linux`.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub browser: Option<String>,
        /// The address that the user signed in from.
        #[key("address")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub address: Option<String>,
    }
}

named_enum! {
    /// How a user signs in.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum SignInMethod by as_str {
        /// With a link that works once.
        Link = "link",
        /// With a password.
        Password = "password",
        /// With a password and a one-time code.
        PasswordTotp = "password_totp",
        /// With a passkey.
        Passkey = "passkey",
        /// With an identity provider, by OpenID Connect.
        Oidc = "oidc",
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoginFacts {
    /// SHA-256 of its cookie's token, hex.
    pub hash: String,
    /// When it ends, also if it is used.
    pub expires: Timestamp,
    /// When it was last used, as far as it was noted.
    pub last_used: Timestamp,
    /// When the token ends that made the link of the sign-in: the login must not prolong its rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ends: Option<Timestamp>,
}

/// What is shown of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LoginShown {
    /// The name of the user.
    pub user_name: String,
    /// When it was last used, to within 5 minutes.
    pub last_used: Timestamp,
    /// When it ends if it is not used; each use moves it on, at most to its `expires`.
    pub idle_until: Timestamp,
    /// When it ends, also if it is used.
    pub expires: Timestamp,
    /// Whether it is the login of the request.
    pub current: bool,
}

/// A link that signs a user in once. It is in the user's row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoginLink {
    /// SHA-256 of its token, hex.
    pub hash: String,
    /// When it stops working.
    pub expires: Timestamp,
    /// When a login that is made with it ends at the latest: with the token or login that made the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_until: Option<Timestamp>,
    /// When the token ends that made the link, directly or through a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ends: Option<Timestamp>,
    /// Who made it; `None`: the operator, or an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<LinkMaker>,
}

/// The admin who made a link, and with what: the link ends with the rights of both.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LinkMaker {
    pub user: UserId,
    pub with: MakerCredential,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MakerCredential {
    Token(TokenId),
    Login(LoginId),
}

impl Resource for Login {
    type Id = LoginId;
    type Spec = LoginSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = NoMembers;
    type Facts = LoginFacts;
    type Shown = LoginShown;

    /// How many a user may have is [`LOGINS_MAX`].
    const KIND: Kind = Kind { one: "login", article: "a login", many: "logins", max: usize::MAX };
    const DECLARABLE: bool = false;

    /// It is found by its id alone.
    fn name(_: &LoginSpec) -> &str {
        ""
    }

    fn refusals(_: &LoginSpec) -> Vec<Refusal> {
        Vec::new()
    }
}

impl SignInMethod {
    /// In a sentence: `by password and one-time code`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Password => "password",
            Self::PasswordTotp => "password and one-time code",
            Self::Passkey => "passkey",
            Self::Oidc => "identity provider",
        }
    }
}
