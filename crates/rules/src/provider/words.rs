//! The closed vocabularies of the schema's OAuth keys.

use serde::{Deserialize, Serialize};

/// How an OAuth grant is got.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
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
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthText {
    /// In the body.
    Body,
    /// Basic, id and secret form-encoded each, RFC 6749 §2.3.1.
    Basic,
    /// Basic, id and secret as they are, for services that do not decode them.
    BasicRaw,
    /// Basic with the secret as user name and no password.
    BasicSecretAsUsername,
    /// A public client.
    None,
    /// RFC 7523 assertion that the client's private key signs.
    PrivateKeyJwt,
    /// RFC 7523 assertion under the client's secret.
    ClientSecretJwt,
    /// A client certificate, RFC 8705.
    Mtls,
}

/// Encoding of token requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum TokenBodyText {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// `application/json`.
    Json,
}

/// What the service makes of PKCE.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PkceText {
    /// Refuses without.
    Required,
    /// Honours it.
    #[default]
    Optional,
    /// Does not look.
    Ignored,
    /// Fails with it.
    Avoid,
}

/// How the authorization server sends the browser back (OAuth 2.0 Multiple Response Type Encoding
/// Practices §2.1, OAuth 2.0 Form Post Response Mode).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ResponseModeText {
    /// By a redirect, with the parameters in the query.
    #[default]
    Query,
    /// By a form that the browser POSTs.
    FormPost,
}

/// What becomes of a refresh token when it is used.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum RefreshText {
    /// It stays.
    Static,
    /// A new one comes, the old one dies.
    Rotating,
    /// A new one comes, the old one lives on for a time.
    RotatingSoft,
    /// Depends on settings of app or tenant.
    #[default]
    Configurable,
    /// There is none.
    None,
    /// A live access token is exchanged for a newer one.
    ExchangeAccessToken,
}

/// How a moment of expiry is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresText {
    /// Seconds from the request on, as `expires_in`.
    Seconds,
    /// Seconds since 1970.
    Unix,
    /// RFC 3339.
    Rfc3339,
}

/// How a grant is taken back at the service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum RevokeText {
    /// RFC 7009: POST of `token`, with client authentication.
    #[default]
    Rfc7009,
    /// POST of `token` alone.
    Token,
    /// GET or POST with the access token as bearer, and nothing else.
    Bearer,
    /// GitHub: DELETE with Basic of client id and secret, the access token in JSON.
    Github,
    /// Square: POST with `Authorization: Client SECRET`, client id and access token in JSON.
    Square,
    /// Only by hand.
    None,
}
