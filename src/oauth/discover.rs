//! What an authorization server tells about itself: RFC 8414, and OpenID Connect's document where that is
//! all there is. Endpoints come from configuration or from here, never from a token's answer.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use parking_lot::Mutex;
use serde::Deserialize;

use super::Flows;
use super::error::FlowError;
use super::start::Asking;
use crate::base::tokens::TokenSettings;
use crate::net::call::{Bounds, CallError};
use crate::provider::oauth::{PkceText, UrlTemplate};

/// Servers whose metadata is kept.
const KEPT_MAX: usize = 256;

/// Metadata of authorization servers, as last read.
pub(super) struct Known(Mutex<LruCache<String, (Timestamp, Arc<Metadata>)>>);

/// What we read of a server's metadata (RFC 8414 §2); the rest is ignored.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Metadata {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
    pub(super) device_authorization_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    pub(super) registration_endpoint: Option<String>,
    pub(super) code_challenge_methods_supported: Option<Vec<String>>,
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub(super) scopes_supported: Vec<String>,
    /// RFC 9207 §3.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
    /// Client ID Metadata Documents.
    #[serde(default)]
    pub(super) client_id_metadata_document_supported: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(KEPT_MAX).expect("not zero"))))
    }
}

impl Flows {
    /// Completes a flow's endpoints from metadata, where configuration does not name them all or the
    /// client was registered by us.
    ///
    /// # Errors
    /// When they are needed and cannot be read, or the server does not know S256.
    pub(super) async fn complete(&self, asking: &mut Asking) -> Result<(), FlowError> {
        let Some(issuer) = asking.oauth.issuer.clone() else { return Ok(()) };
        let issuer = issuer.fill(&asking.variables)?;
        let known = asking.oauth.authorize.is_some() && asking.oauth.token.is_some();
        asking.issuer = Some(issuer.clone());
        if known && asking.app.registered.is_none() {
            return Ok(());
        }
        let metadata = self.metadata(&issuer).await?;
        if asking.oauth.pkce != PkceText::Avoid {
            takes_s256(&metadata, asking.app.registered.is_some())?;
        }
        asking.issuer_announced = metadata.authorization_response_iss_parameter_supported;
        if asking.app.registered.is_none() {
            self.keep_endpoints(&asking.app, &issuer, &metadata).await?;
        }
        let oauth = &mut asking.oauth;
        for (slot, told) in [
            (&mut oauth.authorize, &metadata.authorization_endpoint),
            (&mut oauth.token, &metadata.token_endpoint),
            (&mut oauth.device, &metadata.device_authorization_endpoint),
            (&mut oauth.revoke, &metadata.revocation_endpoint),
            (&mut oauth.register, &metadata.registration_endpoint),
        ] {
            if let (None, Some(url)) = (&slot, told) {
                *slot = Some(UrlTemplate::literal(url));
            }
        }
        Ok(())
    }

    /// The metadata of an issuer: at most a day old, or stale while its server is down.
    ///
    /// # Errors
    /// When there is none, or it is of another issuer.
    pub(super) async fn metadata(&self, issuer: &str) -> Result<Arc<Metadata>, FlowError> {
        let settings = self.settings.load();
        let now = self.clock.now();
        let known = self.known.0.lock().get(issuer).cloned();
        let age =
            SignedDuration::try_from(settings.metadata_age_max).unwrap_or(SignedDuration::MAX);
        if let Some((read, metadata)) = &known
            && now.duration_since(*read) < age
        {
            return Ok(metadata.clone());
        }
        match self.read_metadata(issuer, &settings).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                self.known.0.lock().put(issuer.to_owned(), (now, metadata.clone()));
                Ok(metadata)
            }
            // Down, not different: what it said before still holds.
            Err(error @ FlowError::Down(_)) => known.map(|(_, metadata)| metadata).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Reads it anew at the next question; what it said before holds while its server is down.
    pub(super) fn distrust_metadata(&self, issuer: &str) {
        if let Some((read, _)) = self.known.0.lock().get_mut(issuer) {
            *read = Timestamp::MIN;
        }
    }

    async fn read_metadata(
        &self,
        issuer: &str,
        settings: &TokenSettings,
    ) -> Result<Metadata, FlowError> {
        if !is_secure(issuer, settings.insecure_loopback) {
            return Err(no_issuer(issuer));
        }
        for place in places(issuer).ok_or_else(|| no_issuer(issuer))? {
            let Some(document) = self.document(&place, settings).await? else { continue };
            let metadata: Metadata = serde_json::from_slice(&document).map_err(|_| {
                FlowError::Server(format!("the metadata of {issuer} is unreadable"))
            })?;
            // RFC 8414 §3.3, as it stands: else any server could speak for another.
            if metadata.issuer != issuer {
                return Err(FlowError::Server(format!(
                    "the metadata of {issuer} is another server's"
                )));
            }
            return metadata.over_https(settings.insecure_loopback);
        }
        Err(FlowError::Server(format!(
            "{issuer} has no metadata: give the app its URLs, authorize and token"
        )))
    }

    /// One document; none when the server has nothing there.
    pub(super) async fn document(
        &self,
        url: &str,
        settings: &TokenSettings,
    ) -> Result<Option<Bytes>, FlowError> {
        let request = Request::get(url).header(header::ACCEPT, "application/json");
        let request = request.body(Bytes::new()).map_err(|_| no_issuer(url))?;
        match self.caller.call(request, &Bounds::of_metadata(settings)).await {
            Ok(answer) if answer.status() == StatusCode::OK => Ok(Some(answer.into_body())),
            Ok(answer) if is_absent(answer.status()) => Ok(None),
            Ok(answer) => Err(FlowError::Down(format!(
                "{} answers {} at present: try again later",
                host(url),
                answer.status().as_u16()
            ))),
            Err(error) => Err(cannot_ask(&error)),
        }
    }
}

impl Metadata {
    fn over_https(self, insecure_loopback: bool) -> Result<Self, FlowError> {
        let all = [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.device_authorization_endpoint,
            &self.revocation_endpoint,
            &self.registration_endpoint,
        ];
        let bad = all.into_iter().flatten().find(|url| !is_secure(url, insecure_loopback));
        match bad {
            None => Ok(self),
            Some(_) => Err(FlowError::Server(format!(
                "the metadata of {} names an endpoint that is not https",
                self.issuer
            ))),
        }
    }
}

/// Whether an answer says that there is no document: "later" and "too often" do not.
fn is_absent(status: StatusCode) -> bool {
    let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY];
    status.is_client_error() && !later.contains(&status)
}

/// In words for people; the cause is in the log.
pub(super) fn cannot_ask(error: &CallError) -> FlowError {
    tracing::info!(%error, "an authorization server cannot be asked");
    FlowError::Down(format!("the authorization server cannot be asked: {error}"))
}

pub(super) fn takes_s256(metadata: &Metadata, must_say: bool) -> Result<(), FlowError> {
    let issuer = metadata.issuer.clone();
    match &metadata.code_challenge_methods_supported {
        Some(methods) if methods.iter().any(|method| method == "S256") => Ok(()),
        None if !must_say => Ok(()),
        _ => Err(FlowError::NoPkce { issuer }),
    }
}

/// Where the metadata of an issuer may be: RFC 8414 §3.1, then OpenID Connect Discovery §4.
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
        ],
    })
}

pub(super) fn is_secure(url: &str, insecure_loopback: bool) -> bool {
    // A user before the host makes one URL of two readings.
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
pub(super) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn no_issuer(text: &str) -> FlowError {
    FlowError::Server(format!("{} is not the address of an authorization server", host(text)))
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
    fn only_an_answer_that_says_so_means_that_there_is_no_document() {
        for (status, absent) in
            [(404, true), (401, true), (405, true), (410, true), (408, false), (425, false)]
        {
            assert_eq!(is_absent(StatusCode::from_u16(status).unwrap()), absent, "{status}");
        }
        for status in [429, 500, 503, 307, 200] {
            assert!(!is_absent(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    /// oauth 2.pkce
    #[test]
    fn a_server_that_lists_no_s256_is_refused_and_so_is_silence_where_it_must_say() {
        let lists = |methods: Option<&[&str]>| Metadata {
            code_challenge_methods_supported: methods
                .map(|all| all.iter().map(|&method| method.to_owned()).collect()),
            ..Metadata::default()
        };
        for (methods, must_say, fits) in [
            (Some(&["plain"][..]), false, false),
            (Some(&[][..]), false, false),
            (None, true, false),
            (None, false, true),
            (Some(&["plain", "S256"][..]), true, true),
        ] {
            assert_eq!(takes_s256(&lists(methods), must_say).is_ok(), fits, "{methods:?}");
        }
    }

    /// oauth 13, metadata
    #[test]
    fn endpoints_must_be_https_unless_a_test_says_otherwise() {
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
