//! Passkeys: what browsers are asked, and what they give, as `PublicKeyCredential` reads and writes it in JSON (W3C Web
//! Authentication Level 3, §5.1.8 and §5.1.9). Binary values are base 64 for URLs, without padding.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_model::SecretText;

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
