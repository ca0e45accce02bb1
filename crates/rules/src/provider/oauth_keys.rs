//! Enumerations of the schema's OAuth keys.

use serde::{Deserialize, Serialize};

/// OAuth grant types.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantText {
    /// Authorization code, RFC 6749 §4.1.
    #[default]
    AuthorizationCode,
    /// Device code, RFC 8628.
    DeviceCode,
    /// Client credentials, RFC 6749 §4.4.
    ClientCredentials,
    /// JWT bearer assertion, RFC 7523.
    JwtBearer,
    /// Token exchange, RFC 8693.
    TokenExchange,
}

/// How a client authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthText {
    /// Client id and secret in the body.
    Body,
    /// Basic; id and secret are form-encoded first, RFC 6749 §2.3.1.
    #[default]
    Basic,
    /// Basic without form encoding, for services that do not decode.
    BasicRaw,
    /// Basic with the secret as user name and no password.
    BasicSecretAsUsername,
    /// No authentication: a public client.
    None,
    /// An assertion signed with the client's private key, RFC 7523.
    PrivateKeyJwt,
    /// An assertion with an HMAC of the client's secret, RFC 7523.
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

/// The service's support of PKCE.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PkceText {
    /// The service requires it.
    Required,
    /// The service supports it.
    #[default]
    Optional,
    /// The service ignores it.
    Ignored,
    /// The service fails with it.
    Avoid,
}

/// How the authorization server sends the browser back (OAuth 2.0 Multiple Response Type Encoding Practices
/// §2.1, OAuth 2.0 Form Post Response Mode).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ResponseModeText {
    /// A redirect with the parameters in the query.
    #[default]
    Query,
    /// A form that the browser POSTs.
    FormPost,
}

/// What happens to a refresh token when it is used.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum RefreshText {
    /// It stays valid.
    Static,
    /// A new one is issued, and the old one is revoked.
    Rotating,
    /// A new one is issued, and the old one stays valid for some time.
    RotatingSoft,
    /// It depends on settings of the app or tenant.
    #[default]
    Configurable,
    /// No refresh tokens are issued.
    None,
    /// A valid access token is exchanged for a newer one.
    ExchangeAccessToken,
}

/// The format of an expiry time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresText {
    /// Seconds from the time of the request, as in `expires_in`.
    #[default]
    Seconds,
    /// Seconds since 1970.
    Unix,
    /// RFC 3339.
    Rfc3339,
    /// `d:hh:mm:ss` from the time of the request.
    DaysAndTime,
    /// The claim `exp` of the access token, which is a JWT (RFC 7519 §4.1.4).
    JwtExp,
}

/// How a grant is revoked at the service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum RevokeText {
    /// RFC 7009: POST of `token`, with client authentication.
    #[default]
    Rfc7009,
    /// The same with Basic of client id and secret, also where other requests have another `client_auth`.
    Basic,
    /// POST of `token` alone.
    Token,
    /// GET or POST with the access token as bearer, without parameters.
    Bearer,
    /// POST with `access_token` in the query, without client authentication.
    Query,
    /// GitHub: DELETE with Basic of client id and secret, the access token in JSON.
    Github,
    /// Square: POST with `Authorization: Client SECRET`, client id and access token in JSON.
    Square,
    /// Webflow: POST with client id, client secret and access token in JSON.
    Webflow,
    /// Not supported; the owner revokes access by hand.
    None,
}
