//! The keys of parts of a provider file in the YAML schema: actions, places of the credential and fields that are
//! emptied before, credentials that Keyward makes (login requests, signed tokens, signatures of requests), and the
//! enumerations of OAuth.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use super::decode::{one_or_many, time};
use crate::graphql::OperationKind;
use crate::inject::placement::LoginPart;
use crate::inject::sign::hmac::{HmacAlgorithm, SignatureEncoding};
use crate::inject::sign::jwt::KeyEncoding;

/// An action of a provider file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionText {
    /// The name, such as `read-code`.
    pub name: String,
    /// What it allows, for people.
    pub label: String,
    /// The requests that belong to it.
    pub requests: Vec<RequestsText>,
}

/// Requests of an action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsText {
    /// The hosts, a subset of the provider's; empty means all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The services of AWS whose hosts these are, in any region; empty means all hosts.
    #[serde(default)]
    pub aws_services: Vec<String>,
    /// The methods; empty means all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The paths; empty means all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Parameters that the query has.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Parameters of which the query has one, with any value.
    #[serde(default)]
    pub any_query: Vec<String>,
    /// Parameters that the query does not have.
    #[serde(default)]
    pub without_query: Vec<String>,
    /// All parameters that the query may have; empty means any.
    #[serde(default)]
    pub only_query: Vec<String>,
    /// Whether pushes by git with options (`git push -o`) do not belong to it.
    #[serde(default)]
    pub without_push_options: bool,
    /// The GraphQL operations of the body.
    pub graphql: Option<OperationsText>,
}

/// Requests that can do what actions do, although those do not list them: batches, and other forms of the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndirectText {
    /// The actions that they can do; empty means all.
    #[serde(default)]
    pub actions: Vec<String>,
    /// The requests.
    #[serde(default)]
    pub requests: Vec<RequestsText>,
    /// Whether pushes by git with options can do them.
    #[serde(default)]
    pub push_options: bool,
}

/// The GraphQL operations of an action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsText {
    /// `query`, `mutation` or `subscription`.
    pub operations: Vec<OperationKind>,
    /// The fields at which they begin, such as `issueCreate` or `issue*`; empty means all.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Fields at which none of them begins.
    #[serde(default)]
    pub without_fields: Vec<String>,
}

/// A place, with exactly one of the first eight keys, and the format of its value.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PlaceText {
    pub header: Option<String>,
    /// A query parameter.
    pub query: Option<String>,
    pub cookie: Option<String>,
    /// A template of the beginning of the path.
    pub path: Option<String>,
    /// `Authorization: Basic`, the template of `user:password`.
    pub basic: Option<String>,
    /// A member of a JSON body (dotted path), or a form field.
    pub body: Option<String>,
    /// A template of whole query parameters, such as a signed URL's.
    pub query_string: Option<String>,
    /// A part of a database login: `user`, `password`, or `scheme`, how both are presented.
    pub login: Option<LoginPart>,
    /// Text before the value.
    pub prefix: Option<String>,
    /// A template; replaces `prefix`.
    pub value: Option<String>,
}

/// Places for some hosts and paths.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopedText {
    /// The hosts, a subset of the provider's; empty means all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Paths; empty means all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// One place or a list of places. With paths, it may be empty: requests there are sent without the credential.
    #[serde(deserialize_with = "one_or_many")]
    pub place: Vec<PlaceText>,
}

/// Places that are emptied before a credential is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClearsText {
    pub headers: Vec<String>,
    pub queries: Vec<String>,
    pub cookies: Vec<String>,
}

/// A request with templates in header fields and body, and variables in its URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestText {
    /// The method; POST by default.
    pub method: Option<String>,
    /// The URL, `https://…`.
    pub url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body.
    pub json: Option<Value>,
    pub form: Option<BTreeMap<String, String>>,
    /// Basic authentication: a template of `user:password`.
    pub basic: Option<String>,
    /// The field that contains the bearer token.
    pub bearer: Option<String>,
}

/// A self-signed token, or an assertion for a token endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtText {
    /// The signature algorithm.
    pub alg: Option<String>,
    /// Self-signed: the field of the key; by default the only secret field.
    pub key: Option<String>,
    /// Self-signed with a shared secret: how the field encodes it.
    pub key_encoding: Option<KeyEncoding>,
    /// Self-signed: what separates the key's id from the key, where the owner has both in one text.
    pub id_ends_at: Option<char>,
    /// The key id, a template.
    pub kid: Option<String>,
    /// The issuer, a template.
    pub iss: Option<String>,
    /// The audience, a template.
    pub aud: Option<String>,
    /// The subject, a template; in assertions by default the field `subject`.
    pub sub: Option<String>,
    /// Assertions: whether the scopes are a claim instead of a parameter.
    pub scope_claim: bool,
    /// Lifetime of a token.
    #[serde(deserialize_with = "time")]
    pub ttl: Option<Duration>,
    /// Self-signed: further members of the header, templates.
    pub header: BTreeMap<String, String>,
    /// Self-signed: further claims, with templates in their texts.
    pub claims: BTreeMap<String, Value>,
}

/// The fields of a method that are used in TLS handshakes with its hosts; all in PEM.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFields {
    /// The field of the client certificate.
    pub certificate: Option<String>,
    /// The field of its private key.
    pub key: Option<String>,
    /// The field of the CA that signs the certificates of the hosts.
    pub ca: Option<String>,
}

/// What signs requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureText {
    /// The hash function of the HMAC.
    #[serde(default)]
    pub hash: HmacAlgorithm,
    /// HMAC: the text that is signed, a template.
    pub message: Option<String>,
    /// HMAC: the field of the key; by default the only required secret field.
    pub key: Option<String>,
    /// HMAC: how the field encodes the key.
    #[serde(default)]
    pub key_encoding: KeyEncoding,
    /// HMAC: how the signature is written.
    #[serde(default)]
    pub encoding: SignatureEncoding,
}

impl TlsFields {
    /// Whether the field is one of these.
    pub fn names(&self, field: &str) -> bool {
        let names = [&self.certificate, &self.key, &self.ca];
        names.into_iter().any(|name| name.as_deref() == Some(field))
    }
}

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
