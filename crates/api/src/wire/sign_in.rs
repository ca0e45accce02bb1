//! The JSON of sign-in: what a browser gives, passkeys among it, and what it is answered.

use jiff::Timestamp;
use keyward_base::id::LoginId;
use keyward_model::{SecretText, SignInMethod};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// Before a passkey is registered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PasskeyChallengeRequest {
    /// The current password. Required unless the caller has none, or signed in with a link.
    pub current: Option<SecretText>,
}

/// What `navigator.credentials.create` is asked.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyCreation {
    /// The gateway.
    pub rp: RelyingParty,
    /// The user.
    pub user: PasskeyUser,
    /// Works once, for five minutes.
    pub challenge: String,
    /// The algorithms, best first.
    pub pub_key_cred_params: Vec<CredentialParameter>,
    /// Milliseconds.
    pub timeout: i64,
    /// The passkeys that the user has: a device registers once.
    pub exclude_credentials: Vec<CredentialDescriptor>,
    /// What the authenticator must do.
    pub authenticator_selection: AuthenticatorSelection,
    /// `none`.
    pub attestation: &'static str,
}

/// A relying party (§5.4.2).
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct RelyingParty {
    /// The host of the origin.
    pub id: String,
    /// What people see.
    pub name: String,
}

/// A user (§5.4.3).
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyUser {
    /// The id of the user.
    pub id: String,
    /// The name of the user.
    pub name: String,
    /// The same.
    pub display_name: String,
}

/// An algorithm (§5.3).
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct CredentialParameter {
    /// `public-key`.
    pub r#type: &'static str,
    /// In the registry of COSE.
    pub alg: i32,
}

/// A credential (§5.8.3).
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct CredentialDescriptor {
    /// `public-key`.
    pub r#type: &'static str,
    /// The id of the credential.
    pub id: String,
}

/// What the authenticator must do (§5.4.4).
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticatorSelection {
    /// `required`: the passkey is found without a user name.
    pub resident_key: &'static str,
    /// The same, for older browsers.
    pub require_resident_key: bool,
    /// `required`: a PIN, a finger, a face.
    pub user_verification: &'static str,
}

/// What `navigator.credentials.get` is asked.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyRequest {
    /// Works once, for five minutes.
    pub challenge: String,
    /// Milliseconds.
    pub timeout: i64,
    /// The host of the origin.
    pub rp_id: String,
    /// `required`.
    pub user_verification: &'static str,
}

/// A new passkey.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyCreateRequest {
    /// What the user calls it: 1 to 64 characters.
    pub name: String,
    /// What the browser gives: `PublicKeyCredential.toJSON()`.
    pub credential: CreatedCredential,
}

/// A credential that was created (§5.1.8, `RegistrationResponseJSON`), as far as it is read.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CreatedCredential {
    /// What the authenticator gives.
    pub response: CreatedResponse,
}

/// What the authenticator gives for a registration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedResponse {
    /// What the browser states of its page.
    #[serde(rename = "clientDataJSON")]
    pub client_data_json: String,
    /// What the authenticator states of itself.
    pub authenticator_data: String,
    /// In the registry of COSE.
    pub public_key_algorithm: i32,
    /// SubjectPublicKeyInfo.
    #[serde(default)]
    pub public_key: Option<String>,
}

/// A credential that signs in (§5.1.8, `AuthenticationResponseJSON`), as far as it is read.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UsedCredential {
    /// The id of the credential.
    pub id: String,
    /// What the authenticator gives.
    pub response: UsedResponse,
}

/// What the authenticator gives for a sign-in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedResponse {
    /// What the browser states of its page.
    #[serde(rename = "clientDataJSON")]
    pub client_data_json: String,
    /// What the authenticator states of itself.
    pub authenticator_data: String,
    /// The signature of both.
    pub signature: String,
    /// The id of the user, as it was registered.
    #[serde(default)]
    pub user_handle: Option<String>,
}

/// Another name of a passkey.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyChange {
    /// 1 to 64 characters.
    pub name: String,
}
