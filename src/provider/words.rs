//! The closed vocabularies of the schema's OAuth keys.

use serde::Deserialize;

/// How an OAuth grant is got.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum GrantText {
    /// RFC 6749 §4.1.
    AuthorizationCode,
    /// RFC 8628.
    DeviceCode,
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 7523.
    JwtBearer,
    /// RFC 8693.
    TokenExchange,
}

/// How a client authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthText {
    /// In the body.
    Body,
    /// Basic.
    Basic,
    /// Basic with the secret as user name and no password.
    BasicSecretAsUsername,
    /// A public client.
    None,
    /// RFC 7523 assertion.
    PrivateKeyJwt,
}

/// Encoding of token requests.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum TokenBodyText {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
}

/// What the service makes of PKCE.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PkceText {
    /// Refuses without.
    Required,
    /// Honours it.
    Optional,
    /// Does not look.
    Ignored,
    /// Fails with it.
    Avoid,
}

/// What becomes of a refresh token when it is used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum RefreshText {
    /// It stays.
    Static,
    /// A new one comes, the old one dies.
    Rotating,
    /// A new one comes, the old one lives on for a time.
    RotatingSoft,
    /// Depends on settings of app or tenant.
    Configurable,
    /// There is none.
    None,
    /// A live access token is exchanged for a newer one.
    ExchangeAccessToken,
}
