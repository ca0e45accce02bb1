//! [`OAuth`]: endpoints, parameters and quirks of a service's OAuth, checked. `vault::grant` requests tokens
//! with these data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::decode::{one_or_many, or_default, time};
pub use super::keys::{
    ClientAuthText, ExpiresText, GrantText, PkceText, RefreshText, ResponseModeText, TokenBodyText,
};
pub use super::revocation::{RevocationRequest, RevokeText, RevokedTokenPlace};
use super::session::SessionRequests;
pub use super::url_template::UrlTemplate;
use super::url_template::fill;
use super::variable::FormError;
use crate::inject::sign::jwt::JwtTemplate;

/// How tokens of one auth method are obtained: keys of the method, and what is found out when they are checked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default = "OAuth::standard")]
pub struct OAuth {
    /// The grant type; of kinds without a consent, an assertion.
    #[serde(deserialize_with = "or_default")]
    pub grant: GrantText,
    /// The issuer identifier, compared exactly (RFC 8414 §3.3, RFC 9207).
    pub issuer: Option<UrlTemplate>,
    /// The authorization endpoint.
    pub authorize: Option<UrlTemplate>,
    /// The token endpoint.
    pub token: Option<UrlTemplate>,
    /// Where a consent of OAuth 1.0a begins; then `token` gives the token credentials, and nothing is renewed.
    #[serde(skip)]
    pub temporary: Option<TemporaryEndpoint>,
    /// The endpoint for renewal, if it is not `token`.
    pub renew: Option<UrlTemplate>,
    /// The endpoint that exchanges the token of a consent once for one that lives longer.
    pub lengthen: Option<UrlTemplate>,
    /// The device authorization endpoint, RFC 8628.
    pub device: Option<UrlTemplate>,
    /// The revocation endpoint; [`Quirks::revoke_via`] says how it is called.
    pub revoke: Option<UrlTemplate>,
    /// The dynamic registration endpoint, RFC 7591.
    pub register: Option<UrlTemplate>,
    /// The pushed authorization request endpoint, RFC 9126; then each consent uses it.
    pub push: Option<UrlTemplate>,
    /// The endpoint that identifies the account of an access token (OpenID Connect Core §5.3, or similar).
    pub userinfo: Option<UrlTemplate>,
    /// How the browser returns.
    #[serde(deserialize_with = "or_default")]
    pub response_mode: ResponseModeText,
    /// The scopes requested if neither app nor connection names any.
    pub scopes: Vec<String>,
    /// The separator between scopes.
    #[serde(deserialize_with = "separator")]
    pub scope_separator: String,
    /// How the client authenticates, unless its app overrides it.
    #[serde(deserialize_with = "or_default")]
    pub client_auth: ClientAuthText,
    /// The encoding of token requests.
    #[serde(deserialize_with = "or_default")]
    pub token_body: TokenBodyText,
    /// Parameters added to the authorization URL.
    pub authorize_params: BTreeMap<String, String>,
    /// Parameters added to token requests.
    pub token_params: BTreeMap<String, String>,
    /// Parameters of renewals, added to or replacing those of token requests.
    pub renew_params: BTreeMap<String, String>,
    /// Parameters of the request to `lengthen`.
    pub lengthen_params: BTreeMap<String, String>,
    /// Renamed parameters: standard name → the service's name.
    pub renames: BTreeMap<String, String>,
    /// Header fields of token requests.
    pub extra_headers: BTreeMap<String, String>,
    /// The `grant_type` sent, if not the standard one.
    pub grant_type: Option<String>,
    /// Support of PKCE (RFC 7636).
    #[serde(deserialize_with = "or_default")]
    pub pkce: PkceText,
    /// What happens to a refresh token when it is used.
    #[serde(deserialize_with = "or_default")]
    pub refresh: RefreshText,
    /// Lifetime of an access token that can be renewed, if the response does not contain it; never overrides the
    /// response.
    #[serde(deserialize_with = "time")]
    pub access_ttl: Option<Duration>,
    /// Typical lifetime of a refresh token; shown only.
    #[serde(deserialize_with = "time")]
    pub refresh_ttl: Option<Duration>,
    /// Dotted paths of the access token in the response, tried in order; never empty.
    #[serde(deserialize_with = "one_or_many")]
    pub token_path: Vec<String>,
    /// Dotted path of the expiry, if not `expires_in`.
    pub expires_path: Option<String>,
    /// The format of the expiry.
    #[serde(deserialize_with = "or_default")]
    pub expires_format: ExpiresText,
    /// Host variables captured from the token response: variable → dotted path.
    pub capture: BTreeMap<String, String>,
    /// Host variables captured from the callback: variable → parameter.
    pub callback_capture: BTreeMap<String, String>,
    /// The assertion of `jwt_bearer` and similar grants.
    #[serde(skip)]
    pub jwt: Option<Jwt>,
    /// The login of sessions; then `token` is its URL.
    #[serde(skip)]
    pub session: Option<Arc<SessionRequests>>,
    /// The token that is signed here, without a token endpoint.
    #[serde(skip)]
    pub signed: Option<Arc<JwtTemplate>>,
    /// The provider whose apps can be used here too; `None` for its own only.
    pub apps_of: Option<String>,
    /// The quirks of the service.
    pub says: Quirks,
    /// The length of the text beside the token where it is written, such as `Bearer `.
    #[serde(skip)]
    pub placed_bytes: usize,
}

fn separator<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_else(|| OAuth::standard().scope_separator))
}

/// The endpoint of temporary credentials, RFC 5849 §2.1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemporaryEndpoint {
    pub url: UrlTemplate,
    /// Whether it must confirm the callback. A service that does not may be one of OAuth 1.0 before 1.0a.
    pub confirms: bool,
    /// Whether `state` is a parameter of the authorization endpoint, in place of one in the callback URL.
    pub takes_state: bool,
}

/// A signed assertion: header and claims, templates over fields and variables.
#[derive(Clone, Debug, Default)]
pub struct Jwt {
    /// The signature algorithm; `RS256` by default.
    pub alg: Option<String>,
    /// The key id, a template.
    pub kid: Option<String>,
    /// The issuer, a template.
    pub iss: Option<String>,
    /// The audience, a template.
    pub aud: Option<String>,
    /// The subject, a template; by default the field `subject`.
    pub sub: Option<String>,
    /// Whether the scopes are a claim of the assertion instead of a parameter.
    pub scope_claim: bool,
    /// Lifetime of an assertion.
    pub ttl: Option<Duration>,
}

/// Deviations of a service from the standards: the key `says`, and others of the method. The YAML links the vendor's
/// documentation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// Codes of token endpoints: the grant has ended; a person must connect again.
    pub permanent: Vec<String>,
    /// Codes of token endpoints: the app is rejected; the person who registered it must act.
    pub rejected: Vec<String>,
    /// Codes of token endpoints: the error is temporary.
    pub temporary: Vec<String>,
    /// Answers of token endpoints with any status that end the grant, where the code alone does not say so.
    pub ended: Vec<JsonMembers>,
    /// Dotted paths of the error code, if it is in neither `error`, `status` nor `code`.
    pub code: Vec<String>,
    /// The API's response to an expired token, if it is not 401.
    pub expired: Option<Expired>,
    /// Whether requests with unsafe methods are not sent again after a 401.
    #[serde(skip)]
    pub keeps_unsafe: bool,
    /// How the revocation endpoint is called.
    #[serde(skip)]
    pub revoke_via: RevokeText,
    /// URL of the page where the owner revokes access.
    #[serde(skip)]
    pub access_page: Option<String>,
    /// Dotted paths of the account's identity, tried in order: in the token response, the captured parameters,
    /// and the response of `userinfo`.
    #[serde(skip)]
    pub account: Vec<String>,
    /// The interval at which tokens must be renewed, so that unused refresh tokens do not expire.
    #[serde(skip)]
    pub keep_alive: Option<Duration>,
    /// Whether renewals repeat the scopes.
    #[serde(skip)]
    pub renew_scopes: bool,
}

/// An API response that means 401.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Expired {
    /// The response's status.
    pub status: u16,
    #[serde(default, rename = "json")]
    pub members: JsonMembers,
}

/// The allowed values of JSON members, by dotted path, each one or a list of alternatives; a number in a path is an
/// index.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "BTreeMap<String, Value>")]
pub struct JsonMembers(pub Vec<(String, Vec<Value>)>);

impl OAuth {
    /// A server that follows the standards, without endpoints.
    pub fn standard() -> Self {
        let token_path = vec!["access_token".to_owned()];
        Self { scope_separator: " ".to_owned(), token_path, ..Self::default() }
    }

    /// Parameters with their variables filled in; the caller encodes them.
    ///
    /// # Errors
    /// When a variable has no value.
    pub fn params(
        params: &BTreeMap<String, String>,
        values: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, FormError> {
        let filled = |(name, value): (&String, &String)| {
            Ok((name.clone(), fill(value, values, &str::to_owned)?))
        };
        params.iter().map(filled).collect()
    }

    /// Whether a person consents; otherwise a token can be requested at any time.
    pub fn is_of_consent(&self) -> bool {
        matches!(self.grant, GrantText::AuthorizationCode | GrantText::DeviceCode)
    }

    /// Whether the access token of a consent is exchanged for a newer one, which works only while it lives.
    pub fn exchanges_access_token(&self) -> bool {
        self.is_of_consent() && self.refresh == RefreshText::ExchangeAccessToken
    }

    /// Whether tokens are renewed without a refresh token: no person consents, or a valid access token is exchanged.
    pub fn renews_without_refresh_token(&self) -> bool {
        !self.is_of_consent() || self.exchanges_access_token()
    }

    /// The endpoint for renewal.
    pub fn renew(&self) -> Option<&UrlTemplate> {
        self.renew.as_ref().or(self.token.as_ref())
    }
}

impl Expired {
    /// Whether this response means that the token has expired.
    pub fn is(&self, status: u16, body: &[u8]) -> bool {
        let body = serde_json::from_slice::<Map<String, Value>>(body);
        self.status == status && body.is_ok_and(|body| self.members.are_in(&body))
    }
}

impl From<BTreeMap<String, Value>> for JsonMembers {
    fn from(members: BTreeMap<String, Value>) -> Self {
        let any = |value: Value| match value {
            Value::Array(any) => any,
            one => vec![one],
        };
        Self(members.into_iter().map(|(path, value)| (path, any(value))).collect())
    }
}

impl JsonMembers {
    /// Whether each member has one of its values.
    pub fn are_in(&self, object: &Map<String, Value>) -> bool {
        let has = |(path, wanted): &(String, Vec<Value>)| {
            member(object, path).is_some_and(|found| wanted.contains(found))
        };
        self.0.iter().all(has)
    }
}

/// Members of token answers, and parameters of callbacks, by which services name the host of an account.
pub const ACCOUNT_HOSTS: [&str; 6] =
    ["accounts-server", "api_domain", "api_endpoint", "base_uri", "instance_url", "server_url"];

/// The host that the service names for the account, if its file does not say what to do with it.
pub fn account_host(answered: &BTreeMap<String, String>) -> Option<&str> {
    let url = ACCOUNT_HOSTS.iter().find_map(|name| answered.get(*name))?;
    let host = url.strip_prefix("https://")?.split(['/', '?', '#']).next()?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_host)).then_some(host)
}

/// A member by dotted path, in which a number is an index of a list.
pub fn member<'v>(object: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    let mut names = path.split('.');
    let first = object.get(names.next()?)?;
    names.try_fold(first, |at, name| match at {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })
}
