//! Requests to sources: bounded, in JSON, never repeated after they were sent.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::error::SourceError;
use super::forms::RefusalForms;
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

/// Sends a request and reads the answer as JSON.
pub(super) async fn send(
    caller: &HttpClient,
    ask: SourceRequest,
    refusals: &RefusalForms,
) -> Result<Value, SourceError> {
    let answer = caller.call(ask.0, &BOUNDS).await?;
    match answer.status().is_success() {
        true => serde_json::from_slice(answer.body()).map_err(|_| SourceError::Malformed),
        false => Err(refusal(answer.status(), answer.body(), refusals)),
    }
}

/// Like [`send`], and follows one redirect to an https URL, with all secrets.
pub(super) async fn send_following(
    caller: &HttpClient,
    ask: SourceRequest,
    refusals: &RefusalForms,
) -> Result<Value, SourceError> {
    let mut again = SourceRequest(ask.0.clone());
    let answer = send(caller, ask, refusals).await;
    let Err(SourceError::Call(CallError::Unusable { location: Some(location), .. })) = &answer
    else {
        return answer;
    };
    *again.0.uri_mut() = Uri::clone(location);
    send(caller, again, refusals).await
}

/// A code of the service is repeated only if it is a word.
fn refusal(status: StatusCode, body: &[u8], forms: &RefusalForms) -> SourceError {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = forms.code.as_ref().and_then(|at| answer.pointer(at)?.as_str()?.rsplit('#').next());
    let is_word = |code: &&str| {
        code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match code {
        Some(code) if forms.absent.iter().any(|absent| absent == code) => SourceError::NotFound,
        None if status == StatusCode::NOT_FOUND => SourceError::NotFound,
        code => {
            let detail = code.filter(is_word).map(ToOwned::to_owned);
            let detail = detail.or_else(|| forms.statuses.get(&status.as_u16()).cloned());
            SourceError::Status { status, detail }
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

#[cfg(test)]
mod tests {
    use keyward_model::SourceKind;

    use super::super::forms::requests_of;
    use super::*;

    #[test]
    fn a_path_is_encoded_and_its_empty_or_dot_segments_are_refused() {
        for bad in ["", "a//b", "/a", "a/", "a/../b", "./a"] {
            assert_eq!(encoded_path(bad), None, "{bad}");
        }
        assert_eq!(encoded_path("a b/c?d#e").as_deref(), Some("a%20b/c%3Fd%23e"));
    }
    #[test]
    fn a_refused_login_names_the_code_and_no_other_text() {
        let kind = SourceKind::find("bitwarden").unwrap();
        let forms = &requests_of(kind).unwrap().refusals;
        let told = |body: &str| {
            let refused = refusal(StatusCode::BAD_REQUEST, body.as_bytes(), forms);
            (refused.to_string(), refused.hint().is_some())
        };
        let (message, has_hint) = told(r#"{"error":"invalid_client","more":"canary"}"#);
        assert_eq!(message, "it answered 400 Bad Request (invalid_client)");
        assert!(has_hint);
        assert_eq!(told(r#"{"error":"a canary!"}"#).0, "it answered 400 Bad Request");
        assert_eq!(told("canary").0, "it answered 400 Bad Request");
    }

    #[test]
    fn codes_and_statuses_are_read_as_the_file_says() {
        let told = |kind: &str, status: u16, body: &str| {
            let forms = &requests_of(SourceKind::find(kind).unwrap()).unwrap().refusals;
            refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes(), forms).to_string()
        };
        let absent = "it has no value of that reference";
        let code = |code: &str| format!("{{\"__type\":\"com.amazonaws#{code}\"}}");
        assert_eq!(told("aws", 400, &code("ResourceNotFoundException")), absent);
        let refused = told("aws", 400, &code("AccessDeniedException"));
        assert_eq!(refused, "it answered 400 Bad Request (AccessDeniedException)");
        assert_eq!(told("vault", 404, "{}"), absent);
        assert_eq!(told("vault", 400, "{}"), "it answered 400 Bad Request (login refused)");
        assert_eq!(told("doppler", 500, "canary"), "it answered 500 Internal Server Error");
    }
}
