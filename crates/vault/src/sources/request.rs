//! Requests to sources: bounded, in JSON, never repeated after they were sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::error::SourceError;
use keyward_base::secret::Secret;
use keyward_net::call::{AllowedServers, Bounds, CallError, HttpClient};

/// RFC 3986 §2.3: all but the unreserved characters.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Ample for a service that answers within a second; a request of an agent may wait for it.
const BOUNDS: Bounds = Bounds {
    whole: Duration::from_secs(10),
    connect: Duration::from_secs(5),
    answer: None,
    head_bytes_max: 64 * 1024,
    body_bytes_max: 256 * 1024,
    servers: AllowedServers::SecureOrLoopback,
};

/// The context of requests to a source.
pub(super) struct SourceContext<'a> {
    pub(super) caller: Arc<HttpClient>,
    pub(super) credentials: &'a BTreeMap<String, Secret>,
}

/// A request to a source.
pub(super) struct SourceRequest(Request<Bytes>);

impl SourceRequest {
    pub(super) fn get(url: &str) -> Result<Self, SourceError> {
        Self::new(Method::GET, url, Bytes::new())
    }

    pub(super) fn post(
        url: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Self, SourceError> {
        let ask = Self::new(Method::POST, url, body.into())?;
        ask.with(header::CONTENT_TYPE, content_type)
    }

    pub(super) fn json(url: &str, body: &serde_json::Value) -> Result<Self, SourceError> {
        Self::post(url, "application/json", body.to_string().into_bytes())
    }

    fn new(method: Method, url: &str, body: Bytes) -> Result<Self, SourceError> {
        let request = Request::builder().method(method).uri(url);
        let request = request.header(header::ACCEPT, "application/json").body(body);
        request.map(Self).map_err(|_| SourceError::Malformed)
    }

    /// Adds a header field that is not secret.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Result<Self, SourceError> {
        let value = HeaderValue::from_str(value).map_err(|_| SourceError::Malformed)?;
        self.0.headers_mut().insert(name, value);
        Ok(self)
    }

    /// Adds a header field with a secret after `prefix`.
    pub(super) fn with_secret(
        mut self,
        name: HeaderName,
        prefix: &str,
        secret: &Secret,
    ) -> Result<Self, SourceError> {
        let value = zeroize::Zeroizing::new([prefix.as_bytes(), secret.expose()].concat());
        let value = HeaderValue::from_bytes(value.trim_ascii());
        let mut value = value.map_err(|_| SourceError::Credential("token"))?;
        value.set_sensitive(true);
        self.0.headers_mut().insert(name, value);
        Ok(self)
    }

    pub(super) fn bearer(self, token: &Secret) -> Result<Self, SourceError> {
        self.with_secret(header::AUTHORIZATION, "Bearer ", token)
    }

    /// The request, to be signed.
    pub(super) fn request_mut(&mut self) -> &mut Request<Bytes> {
        &mut self.0
    }
}

impl SourceContext<'_> {
    pub(super) fn credential(&self, name: &'static str) -> Result<&Secret, SourceError> {
        self.credentials.get(name).ok_or(SourceError::Credential(name))
    }

    /// A credential as text.
    pub(super) fn credential_text(&self, name: &'static str) -> Result<&str, SourceError> {
        self.credential(name)?.expose_text().ok_or(SourceError::Credential(name))
    }

    /// Sends a request and reads the answer as JSON.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        ask: SourceRequest,
    ) -> Result<T, SourceError> {
        self.send_or(ask, |_, _| None).await
    }

    /// Like [`Self::send_or`], and follows one redirect to an https URL, with all secrets.
    pub(super) async fn send_following<T: DeserializeOwned>(
        &self,
        ask: SourceRequest,
        judge: impl Fn(StatusCode, &[u8]) -> Option<SourceError>,
    ) -> Result<T, SourceError> {
        let mut again = SourceRequest(ask.0.clone());
        let answer = self.send_or(ask, &judge).await;
        let Err(SourceError::Call(CallError::Unusable { location: Some(location), .. })) = &answer
        else {
            return answer;
        };
        *again.0.uri_mut() = Uri::clone(location);
        self.send_or(again, judge).await
    }

    /// Like [`Self::send`]; `judge` reads the body of a refusal.
    pub(super) async fn send_or<T: DeserializeOwned>(
        &self,
        ask: SourceRequest,
        judge: impl Fn(StatusCode, &[u8]) -> Option<SourceError>,
    ) -> Result<T, SourceError> {
        let answer = self.caller.call(ask.0, &BOUNDS).await?;
        let (status, body) = (answer.status(), answer.body());
        if let Some(error) = (!status.is_success()).then(|| judge(status, body)).flatten() {
            return Err(error);
        }
        match status {
            StatusCode::NOT_FOUND => Err(SourceError::NotFound),
            _ if !status.is_success() => Err(SourceError::Status { status, detail: None }),
            _ => serde_json::from_slice(body).map_err(|_| SourceError::Malformed),
        }
    }
}

/// Text as one segment of a path or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// A path with encoded segments; `None` if a segment is empty, `.` or `..`.
pub(super) fn encoded_path(path: &str) -> Option<String> {
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    let parts: Vec<&str> = path.split('/').collect();
    let all = parts.iter().all(|part| is_name(part));
    all.then(|| parts.iter().map(|part| encoded(part)).collect::<Vec<_>>().join("/"))
}

/// An address without the slash at its end.
pub(super) fn base<'a>(address: Option<&'a str>, usual: &'a str) -> &'a str {
    address.unwrap_or(usual).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_encoded_and_its_empty_or_dot_segments_are_refused() {
        for bad in ["", "a//b", "/a", "a/", "a/../b", "./a"] {
            assert_eq!(encoded_path(bad), None, "{bad}");
        }
        assert_eq!(encoded_path("a b/c?d#e").as_deref(), Some("a%20b/c%3Fd%23e"));
        assert_eq!(base(Some("https://a.test/"), ""), "https://a.test");
    }
}
