//! Sign-in: what a browser gives, and what it is answered.

use jiff::Timestamp;
use keyward_base::id::LoginId;
use keyward_model::{SecretText, SignInMethod};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::passkey::UsedCredential;

/// What a browser signs in with: a link, a user and a password, or a passkey.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInCredentials {
    /// The token of a link, `kwo_…`: the parameter `link` of its URL.
    #[serde(default)]
    pub link: Option<SecretText>,
    /// The name of a user of the organisation that `Keyward-Org` names (default: `default`), or `ORG/NAME`.
    #[serde(default)]
    pub user: Option<String>,
    /// The password of the user.
    #[serde(default)]
    pub password: Option<SecretText>,
    /// The one-time code, which a refusal with the code `totp_required` asks for.
    #[serde(default)]
    pub totp: Option<SecretText>,
    /// Instead of these, what the browser gives for a challenge of `/session/challenge`: `PublicKeyCredential.toJSON()`.
    #[serde(default)]
    pub passkey: Option<UsedCredential>,
}

/// A new password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChangeRequest {
    /// 12 to 256 characters, and not the name of the user.
    pub password: SecretText,
    /// The current password. Required to change one's own, unless the caller signed in with a link.
    #[serde(default)]
    pub current: Option<SecretText>,
}

/// Before a key of one-time codes is made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TotpRequest {
    /// The current password. Required for one's own, unless the caller signed in with a link.
    pub current: Option<SecretText>,
    /// A code of the key that is replaced. Required like the password.
    pub code: Option<SecretText>,
}

/// The code of a new key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpCode {
    /// Six digits.
    pub code: SecretText,
}

/// A new key of one-time codes. It is in force when a code confirms it.
#[derive(Clone, Deserialize, JsonSchema, Serialize)]
pub struct TotpView {
    /// The key, to be typed into an authenticator program; shown once.
    pub secret: String,
    /// The same for programs: `otpauth://totp/…`.
    pub uri: String,
    /// The URI as a QR code: a `data:` URL of an SVG picture.
    pub qr: String,
    /// Until when it can be confirmed.
    pub expires: Timestamp,
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
    /// How the login was made; absent if the caller has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<SignInMethod>,
    /// What requests that change something carry in `Keyward-CSRF` beside the cookie; absent if the caller has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// When the login ends at the latest; absent if the caller has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// For whom a link is made.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoginLinkRequest {
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
    pub expires: Timestamp,
}
