//! Sign-in: what a browser gives, and what it is answered.

use jiff::Timestamp;
use keyward_base::id::LoginId;
use keyward_model::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a browser signs in with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInAsk {
    /// The token of a link, `kwo_…`: the parameter `link` of its URL.
    pub link: SecretText,
}

/// Who the caller is signed in as.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SignInView {
    /// The name of the user; absent: the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The organisation.
    pub org: String,
    /// The login, `lgn_…`; absent if the caller has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginId>,
    /// What requests that change something carry in `Keyward-CSRF` beside the cookie; absent if the caller has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// When the login ends at the latest; absent if the caller has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
}

/// For whom a link is made.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoginLinkAsk {
    /// The user, by name or id. Default: the caller; for the operator, the only admin. If the organisation has no admin,
    /// the operator's request adds the user `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A link that signs a user in once.
#[derive(Clone, Deserialize, JsonSchema, Serialize)]
pub struct LoginLinkView {
    /// To open in a browser; shown once.
    pub url: String,
    /// The name of the user.
    pub user: String,
    /// Whether the user was added for the link.
    pub added: bool,
    /// When it stops working.
    #[schemars(with = "String")]
    pub expires: Timestamp,
}
