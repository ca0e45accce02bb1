//! Reads the metadata of an authorization server: RFC 8414, else OpenID Connect Discovery. Endpoints come from
//! the configuration or from here, never from a token response.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::failure::{
    ActingParty, Correction, ErrorCode, Temporary, TokenFailure, retry_after, unanswered,
};
use keyward_base::tokens::TokenSettings;
use keyward_net::call::{Bounds, CallError, HttpClient, Unusable};
use keyward_rules::provider::oauth::ClientAuthText;

/// The members of a server's metadata that Keyward reads (RFC 8414 §2).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    /// Device authorization, RFC 8628.
    pub device_authorization_endpoint: Option<String>,
    /// The revocation endpoint, RFC 7009.
    pub revocation_endpoint: Option<String>,
    /// Dynamic registration, RFC 7591.
    pub registration_endpoint: Option<String>,
    /// Pushed authorization requests, RFC 9126.
    pub pushed_authorization_request_endpoint: Option<String>,
    /// The userinfo endpoint, OpenID Connect Discovery §3.
    pub userinfo_endpoint: Option<String>,
    /// The keys that ID tokens are signed with, OpenID Connect Discovery §3.
    pub jwks_uri: Option<String>,
    /// PKCE methods, RFC 7636.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// Methods of client authentication.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// The listed scopes.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes_supported: Vec<String>,
    /// RFC 9207 §3.
    #[serde(default, deserialize_with = "or_default")]
    pub authorization_response_iss_parameter_supported: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub client_id_metadata_document_supported: bool,
    /// RFC 9449 §5.1.
    #[serde(default, deserialize_with = "or_default")]
    pub dpop_signing_alg_values_supported: Vec<String>,
    /// RFC 9126 §5.
    #[serde(default, deserialize_with = "or_default")]
    pub require_pushed_authorization_requests: bool,
    /// RFC 9101 §10.5.
    #[serde(default, deserialize_with = "or_default")]
    pub require_signed_request_object: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub mtls_endpoint_aliases: CertificateEndpoints,
}

/// The endpoints for clients that show a certificate, where they differ (RFC 8705 §5).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CertificateEndpoints {
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    pushed_authorization_request_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
}

/// A document, which is a JSON object, and the place that has it.
#[derive(Debug)]
pub struct FoundDocument<'a> {
    pub place: &'a str,
    pub body: Bytes,
}

/// Why there is no document at any of several places.
#[derive(Debug)]
pub enum NoDocument {
    /// All places say that it does not exist.
    Absent,
    /// A place answers with something else than a JSON object, and no place has a document.
    NotJson,
    /// A place answers with a redirect and no place has a document, or a server cannot be reached.
    Failed(MetadataError),
}

/// Why metadata is missing or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The issuer is not a usable URL.
    #[error("{host} is not the address of an authorization server")]
    Address {
        /// The host of the issuer, if it has one.
        host: String,
    },
    /// There is no metadata document.
    #[error("{issuer} has no metadata: give the app its URLs, authorize and token")]
    Absent { issuer: String },
    /// The document is malformed.
    #[error("the metadata of {issuer} is unreadable")]
    Unreadable { issuer: String },
    /// The document names another issuer (RFC 8414 §3.3): otherwise one server could speak for another.
    #[error("the metadata of {issuer} names another issuer")]
    Mismatch { issuer: String },
    /// An endpoint is not a usable URL.
    #[error("the metadata of {issuer} names an endpoint that is not https")]
    Insecure { issuer: String },
    /// The server cannot answer now.
    #[error("{host} answers {} at present: try again later", .status.as_u16())]
    Later { host: String, status: StatusCode, retry_after: Option<HeaderValue> },
    /// There is no readable response.
    #[error("the authorization server gives no readable answer: {0}")]
    Unanswered(#[from] CallError),
}

impl MetadataError {
    /// Whether the server could not be reached, so that older metadata stays valid.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Later { .. } | Self::Unanswered(_))
    }

    fn is_redirect(&self) -> bool {
        matches!(self, Self::Unanswered(CallError::Unusable { why: Unusable::Redirect, .. }))
    }

    /// The failure of a token request that needed the metadata, requested at `now`.
    pub fn failure(&self, now: Timestamp) -> TokenFailure {
        let ours = |code| {
            TokenFailure::ours(ActingParty::Operator(Correction::Request), code, self.to_string())
        };
        match self {
            Self::Address { .. } => ours("bad_issuer"),
            Self::Absent { .. } => ours("no_metadata"),
            Self::Mismatch { .. } => ours("metadata_mismatch"),
            Self::Insecure { .. } => ours("metadata_not_https"),
            Self::Unreadable { .. } => TokenFailure::Temporary(Temporary::of(self.to_string())),
            Self::Later { host, status, retry_after: after } => {
                TokenFailure::Temporary(Temporary {
                    code: Some(ErrorCode::status(*status)),
                    retry_after: after.as_ref().and_then(|value| retry_after(value, now)),
                    ..Temporary::of(format!("the metadata of {host} cannot be read now"))
                })
            }
            Self::Unanswered(error) => unanswered(error, now),
        }
    }
}

/// Reads the metadata of an issuer.
///
/// # Errors
/// When there is none, it cannot be read, or it is not accepted.
pub async fn read_metadata(
    caller: &HttpClient,
    issuer: &str,
    settings: &TokenSettings,
) -> Result<Metadata, MetadataError> {
    if !is_secure(issuer, settings.insecure_loopback) {
        return Err(no_issuer(issuer));
    }
    let places = places(issuer).ok_or_else(|| no_issuer(issuer))?;
    let issuer_name = || issuer.to_owned();
    let unreadable = || MetadataError::Unreadable { issuer: issuer_name() };
    let found = first_document(caller, &places, settings).await.map_err(|none| match none {
        NoDocument::Absent => MetadataError::Absent { issuer: issuer_name() },
        NoDocument::NotJson => unreadable(),
        NoDocument::Failed(error) => error,
    })?;
    let insecure_loopback = settings.insecure_loopback;
    let read = |body: &[u8]| {
        let metadata: Metadata = serde_json::from_slice(body).map_err(|_| unreadable())?;
        // Compared exactly: `https://a.test` is not `https://a.test/`.
        match metadata.issuer == issuer {
            true => metadata.over_https(insecure_loopback),
            false => Err(MetadataError::Mismatch { issuer: issuer_name() }),
        }
    };
    let metadata = read(&found.body)?;
    let [_, _, openid, oauth] = &places[..] else { return Ok(metadata) };
    if metadata.revocation_endpoint.is_some() || found.place != openid {
        return Ok(metadata);
    }
    // Django OAuth Toolkit names some endpoints only in its other document. Without it, the first one stays valid.
    let other = document(caller, oauth, settings).await.ok().flatten();
    Ok(match other.and_then(|body| read(&body).ok()) {
        Some(other) => metadata.completed(other),
        None => metadata,
    })
}

/// Reads the first document of several places. A place that answers with a redirect or with something else than a JSON
/// object has none: sites answer unknown paths with a page or lead to their login.
///
/// # Errors
/// When no place has a document, or a server cannot be reached. Later places are then not requested: one of them might
/// have an older document.
pub async fn first_document<'a>(
    caller: &HttpClient,
    places: &'a [String],
    settings: &TokenSettings,
) -> Result<FoundDocument<'a>, NoDocument> {
    let mut first = None;
    for place in places {
        let none = match document(caller, place, settings).await {
            Ok(Some(body)) if is_object(&body) => return Ok(FoundDocument { place, body }),
            Ok(Some(_)) => NoDocument::NotJson,
            Ok(None) => continue,
            Err(error) if error.is_redirect() => NoDocument::Failed(error),
            Err(error) => return Err(NoDocument::Failed(error)),
        };
        first.get_or_insert(none);
    }
    Err(first.unwrap_or(NoDocument::Absent))
}

/// Reads one document; `None` if it does not exist.
///
/// # Errors
/// When the server cannot be reached.
pub async fn document(
    caller: &HttpClient,
    url: &str,
    settings: &TokenSettings,
) -> Result<Option<Bytes>, MetadataError> {
    let request = Request::get(url).header(header::ACCEPT, "application/json");
    let request = request.body(Bytes::new()).map_err(|_| no_issuer(url))?;
    match caller.call(request, &Bounds::of_metadata(settings)).await? {
        answer if answer.status() == StatusCode::OK => Ok(Some(answer.into_body())),
        answer if is_absent(answer.status()) => Ok(None),
        answer => Err(MetadataError::Later {
            host: host(url).to_owned(),
            status: answer.status(),
            retry_after: answer.headers().get(header::RETRY_AFTER).cloned(),
        }),
    }
}

impl Metadata {
    /// The metadata for a client with this authentication.
    pub fn for_client(&self, auth: ClientAuthText) -> Cow<'_, Self> {
        if auth != ClientAuthText::Mtls {
            return Cow::Borrowed(self);
        }
        let usual = self.clone();
        let aliases = usual.mtls_endpoint_aliases;
        Cow::Owned(Self {
            token_endpoint: aliases.token_endpoint.or(usual.token_endpoint),
            device_authorization_endpoint: aliases
                .device_authorization_endpoint
                .or(usual.device_authorization_endpoint),
            revocation_endpoint: aliases.revocation_endpoint.or(usual.revocation_endpoint),
            pushed_authorization_request_endpoint: aliases
                .pushed_authorization_request_endpoint
                .or(usual.pushed_authorization_request_endpoint),
            userinfo_endpoint: aliases.userinfo_endpoint.or(usual.userinfo_endpoint),
            mtls_endpoint_aliases: CertificateEndpoints::default(),
            ..usual
        })
    }

    /// Adds the endpoints that OpenID Connect Discovery does not define.
    fn completed(self, other: Self) -> Self {
        Self {
            revocation_endpoint: other.revocation_endpoint,
            registration_endpoint: self.registration_endpoint.or(other.registration_endpoint),
            device_authorization_endpoint: self
                .device_authorization_endpoint
                .or(other.device_authorization_endpoint),
            ..self
        }
    }

    fn over_https(self, insecure_loopback: bool) -> Result<Self, MetadataError> {
        let all = [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.device_authorization_endpoint,
            &self.revocation_endpoint,
            &self.registration_endpoint,
            &self.pushed_authorization_request_endpoint,
            &self.userinfo_endpoint,
            &self.jwks_uri,
            &self.mtls_endpoint_aliases.token_endpoint,
            &self.mtls_endpoint_aliases.device_authorization_endpoint,
            &self.mtls_endpoint_aliases.revocation_endpoint,
            &self.mtls_endpoint_aliases.pushed_authorization_request_endpoint,
            &self.mtls_endpoint_aliases.userinfo_endpoint,
        ];
        let bad = all.into_iter().flatten().find(|url| !is_secure(url, insecure_loopback));
        match bad {
            None => Ok(self),
            Some(_) => Err(MetadataError::Insecure { issuer: self.issuer }),
        }
    }
}

/// Some servers write `null` for missing members.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    member: D,
) -> Result<T, D::Error> {
    Option::deserialize(member).map(Option::unwrap_or_default)
}

fn is_object(body: &[u8]) -> bool {
    serde_json::from_slice::<HashMap<String, IgnoredAny>>(body).is_ok()
}

/// Whether a response means that the document does not exist; 429 and 5xx do not.
fn is_absent(status: StatusCode) -> bool {
    let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY];
    status.is_client_error() && !later.contains(&status)
}

/// The possible URLs of metadata: RFC 8414 §3.1, then OpenID Connect Discovery §4, whose place Django OAuth Toolkit has
/// for RFC 8414 too (<https://django-oauth-toolkit.readthedocs.io/>).
fn places(issuer: &str) -> Option<Vec<String>> {
    if issuer.contains(['?', '#']) {
        return None;
    }
    let (scheme, rest) = issuer.split_once("://")?;
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, path)| (a, path));
    if authority.contains(['@', '\\']) {
        return None;
    }
    let (base, path) = (format!("{scheme}://{authority}"), path.trim_end_matches('/'));
    let (oauth, openid) =
        ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration");
    Some(match path {
        "" => vec![format!("{base}{oauth}"), format!("{base}{openid}")],
        path => vec![
            format!("{base}{oauth}/{path}"),
            format!("{base}{openid}/{path}"),
            format!("{base}/{path}{openid}"),
            format!("{base}/{path}{oauth}"),
        ],
    })
}

/// Whether requests may be sent to the URL: https without userinfo, or loopback over http in tests.
pub fn is_secure(url: &str, insecure_loopback: bool) -> bool {
    // With userinfo, parsers may disagree about the host.
    if host(url).contains(['@', '\\']) || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return false;
    }
    let host = || host(url).rsplit_once(':').map_or(host(url), |(host, _)| host);
    url.starts_with("https://")
        || (insecure_loopback
            && url.starts_with("http://")
            && matches!(host(), "localhost" | "127.0.0.1" | "[::1]"))
}

/// Host and port of a URL, for people.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn no_issuer(text: &str) -> MetadataError {
    MetadataError::Address { host: host(text).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 13, metadata
    #[test]
    fn metadata_is_looked_for_in_the_order_of_rfc_8414() {
        assert_eq!(
            places("https://a.test/t").unwrap(),
            [
                "https://a.test/.well-known/oauth-authorization-server/t",
                "https://a.test/.well-known/openid-configuration/t",
                "https://a.test/t/.well-known/openid-configuration",
                "https://a.test/t/.well-known/oauth-authorization-server",
            ]
        );
        assert_eq!(
            places("https://a.test/").unwrap(),
            [
                "https://a.test/.well-known/oauth-authorization-server",
                "https://a.test/.well-known/openid-configuration",
            ]
        );
        for bad in ["https://a.test?x", "https://u@a.test", "https://a.test\\@b.test/"] {
            assert_eq!(places(bad), None, "{bad}");
        }
    }

    /// oauth 13, metadata
    #[test]
    fn only_4xx_except_408_425_and_429_means_that_metadata_is_absent() {
        for (status, absent) in
            [(404, true), (401, true), (405, true), (410, true), (408, false), (425, false)]
        {
            assert_eq!(is_absent(StatusCode::from_u16(status).unwrap()), absent, "{status}");
        }
        for status in [429, 500, 503, 307, 200] {
            assert!(!is_absent(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    /// oauth 13, metadata
    #[test]
    fn a_member_that_is_null_counts_as_missing() {
        let read = |text: &str| serde_json::from_str::<Metadata>(text);
        assert!(read(r#"{"issuer":null}"#).is_err(), "the issuer is required");
        assert!(read(r#"{"issuer":"i","scopes_supported":"read"}"#).is_err(), "not a list");
        let nulls = r#"{"issuer":"i","scopes_supported":null,"revocation_endpoint":null,
            "authorization_response_iss_parameter_supported":null}"#;
        let metadata = read(nulls).expect("metadata");
        assert!(metadata.scopes_supported.is_empty() && metadata.revocation_endpoint.is_none());
        assert!(!metadata.authorization_response_iss_parameter_supported);
    }

    /// oauth 13.certificate-endpoints
    #[test]
    fn only_a_client_with_a_certificate_gets_the_endpoints_for_certificates() {
        let text = r#"{"issuer":"i","token_endpoint":"https://a.test/t","userinfo_endpoint":"https://a.test/u",
            "mtls_endpoint_aliases":{"token_endpoint":"https://m.a.test/t","revocation_endpoint":"https://m.a.test/r",
            "userinfo_endpoint":null}}"#;
        let metadata: Metadata = serde_json::from_str(text).expect("metadata");
        let of = |auth| {
            let it = metadata.for_client(auth).into_owned();
            [it.token_endpoint, it.userinfo_endpoint, it.revocation_endpoint]
        };
        let url = |text: &str| Some(text.to_owned());
        let (usual, userinfo) = (url("https://a.test/t"), url("https://a.test/u"));
        assert_eq!(of(ClientAuthText::Basic), [usual, userinfo.clone(), None]);
        let own = [url("https://m.a.test/t"), userinfo, url("https://m.a.test/r")];
        assert_eq!(of(ClientAuthText::Mtls), own);
        let insecure = text.replace("https://m.a.test/r", "http://m.a.test/r");
        let insecure: Metadata = serde_json::from_str(&insecure).expect("metadata");
        assert!(metadata.over_https(false).is_ok() && insecure.over_https(false).is_err());
    }

    /// oauth 13, metadata
    #[test]
    fn endpoints_must_use_https_except_on_loopback_where_it_is_permitted() {
        let of =
            |url: &str| Metadata { token_endpoint: Some(url.to_owned()), ..Metadata::default() };
        for url in
            ["http://a.test/token", "http://127.0.0.1.evil.test/t", "ftp://a.test", "//a.test"]
        {
            assert!(of(url).over_https(true).is_err(), "{url}");
        }
        for user in
            ["https://u@a.test/t", "https://u:p@a.test/t", "https://a.test\\@b.test", "https://a b"]
        {
            assert!(of(user).over_https(true).is_err(), "{user}");
        }
        assert!(of("http://127.0.0.1:9/token").over_https(false).is_err());
        assert!(of("http://127.0.0.1:9/token").over_https(true).is_ok());
        assert!(of("https://a.test/token").over_https(false).is_ok());
    }
}
