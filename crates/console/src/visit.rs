//! [`Visit`]: the reader of a page, and the API for them. A page's request is repeated to the API with the reader's own
//! cookie or token, so that authentication and rights have one place.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

pub(crate) use crate::words::{capital, sentence};

use crate::listing::Listing;
use keyward_api::Arrival;
use keyward_api::auth::{ORG_FIELD, RENEWAL_FIELD};
use keyward_api::wire::{ErrorBody, ErrorView, ExplainRequest, Explanation, SignInView};
use keyward_base::id::UserId;
use keyward_base::sign_in::SignInSettings;
use keyward_model::{Shown, User};

/// The CSRF value: it proves that a request with our cookie comes from our own page.
const CSRF: HeaderName = HeaderName::from_static("keyward-csrf");

/// The value of [`RENEWAL_FIELD`] for a whole page, with its slow parts.
pub(crate) const WHOLE: &str = "whole";

/// Where the browser says that the request comes from (Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Longest answer that a page reads.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// RFC 3986 §2.3: the characters of a path segment or query value that need no encoding.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The state of the console: the API, and the ways to sign in.
#[derive(Clone)]
pub(crate) struct Console {
    api: Router,
    pub(crate) sign_in: Arc<SignInSettings>,
}

/// The sender of a request for a page, and the API for them.
#[derive(Clone)]
pub(crate) struct Reader {
    api: Router,
    fields: HeaderMap,
    arrival: Option<Arrival>,
    /// The CSRF value for requests with a body; `None`: the reader uses a token, or is not signed in.
    csrf: Option<String>,
    /// Path and query of the page.
    pub(crate) at: String,
    /// Whether the script refreshes the live parts of an open page: slow parts are then omitted.
    pub(crate) is_renewal: bool,
}

/// A reader who is signed in.
pub(crate) struct Visit {
    reader: Reader,
    /// Who reads.
    pub(crate) me: SignInView,
    /// The id of a member; others see and change all, or nothing.
    own: Option<UserId>,
}

/// An answer of the API with its tag, for changes of the same version.
pub(crate) struct Tagged<T> {
    /// The answer.
    pub(crate) body: T,
    /// `ETag`.
    pub(crate) tag: Option<String>,
}

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum PageError {
    /// The reader is not signed in: the page that they wanted, and the refusal.
    SignIn(String, Box<ErrorView>),
    /// What the page is about does not exist: the page that lists what does, and the refusal.
    Missing(&'static Listing, Box<ErrorView>),
    /// The API refused.
    Refused(StatusCode, Box<ErrorView>),
}

impl Console {
    pub(crate) fn new(api: Router, sign_in: SignInSettings) -> Self {
        Self { api, sign_in: Arc::new(sign_in) }
    }
}

impl FromRequestParts<Console> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Infallible> {
        let at = parts.uri.path_and_query().map_or("/", |at| at.as_str()).to_owned();
        let fields = of_reader(&parts.headers);
        let arrival = parts.extensions.get::<Arrival>().copied();
        let is_renewal = parts.headers.get(RENEWAL_FIELD).is_some_and(|value| value != WHOLE);
        Ok(Self { api: console.api.clone(), fields, arrival, csrf: None, at, is_renewal })
    }
}

impl FromRequestParts<Console> for Visit {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, PageError> {
        let Ok(mut reader) = Reader::from_request_parts(parts, console).await;
        let me: SignInView = reader.get("/session").await?;
        reader.csrf.clone_from(&me.csrf);
        let own: Option<Shown<User>> = match (&me.user, me.role.as_deref()) {
            (Some(name), Some("member")) => {
                reader.get_optional(&format!("/users/{}", segment(name))).await?
            }
            _ => None,
        };
        Ok(Self { reader, me, own: own.map(|user| user.id) })
    }
}

impl Deref for Visit {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

/// The fields of a request that say who sends it, from where, and whether for an action of a person.
fn of_reader(fields: &HeaderMap) -> HeaderMap {
    const KEPT: &[&str] = &[
        "authorization",
        "cookie",
        "forwarded",
        "host",
        ORG_FIELD,
        RENEWAL_FIELD,
        "origin",
        SEC_FETCH_SITE,
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    let kept = fields.iter().filter(|(name, _)| KEPT.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Reader {
    /// Asks the API.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, PageError> {
        Ok(self.tagged(path).await?.body)
    }

    /// Calls the API; `None` if the resource does not exist, or the reader may not see it.
    pub(crate) async fn get_optional<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, PageError> {
        match self.get(path).await {
            Ok(answer) => Ok(Some(answer)),
            Err(PageError::Missing(..)) => Ok(None),
            Err(PageError::Refused(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _)) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Like [`Self::get_optional`], for slow requests: `None` if the page is only refreshed.
    pub(crate) async fn once<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, PageError> {
        if self.is_renewal { Ok(None) } else { self.get_optional(path).await }
    }

    /// Asks the API, and keeps the tag of the answer.
    pub(crate) async fn tagged<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Tagged<T>, PageError> {
        self.send(Method::GET, path, Body::empty()).await
    }

    /// Asks the API what would become of a request. The reader may come from a link on another site: the answer costs
    /// little, and only the reader sees it.
    pub(crate) async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, PageError> {
        let mut reader = self.clone();
        reader.fields.remove(SEC_FETCH_SITE);
        reader.ask("/rules/explain", request).await
    }

    /// Asks the API a question with a body. Only for requests that change nothing.
    pub(crate) async fn ask<T, B>(&self, path: &str, body: &B) -> Result<T, PageError>
    where
        T: DeserializeOwned,
        B: Serialize,
    {
        let body = serde_json::to_vec(body).map_err(|error| PageError::unreadable(&error))?;
        Ok(self.send(Method::POST, path, Body::from(body)).await?.body)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Tagged<T>, PageError> {
        let (fields, body) = self.call(method, path, body).await?;
        let tag = fields.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = serde_json::from_slice(&body).map_err(|error| PageError::unreadable(&error))?;
        Ok(Tagged { body, tag })
    }

    /// Sends a request to the API; fields and body of an answer that is not a refusal.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(HeaderMap, Bytes), PageError> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            format!("/api/v1{path}").parse().map_err(|error| PageError::unreadable(&error))?;
        request.headers_mut().clone_from(&self.fields);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(csrf) = self.csrf.as_deref().and_then(|csrf| HeaderValue::from_str(csrf).ok()) {
            request.headers_mut().insert(CSRF, csrf);
        }
        self.arrival.map(|arrival| request.extensions_mut().insert(arrival));
        let Ok(answer) = self.api.clone().oneshot(request).await;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| PageError::unreadable(&error))?.to_bytes();
        if head.status.is_success() {
            return Ok((head.headers, body));
        }
        let refusal: ErrorBody =
            serde_json::from_slice(&body).map_err(|error| PageError::unreadable(&error))?;
        let error = Box::new(refusal.error);
        Err(match (head.status, Listing::of(path)) {
            (StatusCode::UNAUTHORIZED, _) => PageError::SignIn(self.at.clone(), error),
            (StatusCode::NOT_FOUND, Some(listing)) => PageError::Missing(listing, error),
            (status, _) => PageError::Refused(status, error),
        })
    }

    /// What the script sends with changes.
    pub(crate) fn csrf(&self) -> Option<&str> {
        self.csrf.as_deref()
    }
}

impl Visit {
    /// Whether the reader may see the audit log, webhooks and what others own.
    pub(crate) fn reads_all(&self) -> bool {
        self.me.role.as_deref() != Some("member")
    }

    /// Whether the reader may do what only admins do.
    pub(crate) fn is_admin(&self) -> bool {
        self.me.role.as_deref().is_none_or(|role| role == "admin")
    }

    /// Whether the reader may change connections, agents and plugins that are theirs.
    pub(crate) fn may_write(&self) -> bool {
        self.me.role.as_deref() != Some("auditor")
    }

    /// Whether the reader may change something of this owner.
    pub(crate) fn may_change(&self, owner: Option<&UserId>) -> bool {
        self.is_admin() || (self.own.is_some() && self.own.as_ref() == owner)
    }
}

impl PageError {
    /// There is no such page.
    pub(crate) fn no_page() -> Self {
        let message = "there is no such page".to_owned();
        Self::Refused(StatusCode::NOT_FOUND, Box::new(error(message, None)))
    }

    /// What the page is about does not exist; the page that lists what does.
    pub(crate) fn missing(listing: &'static Listing, message: String) -> Self {
        Self::Missing(listing, Box::new(error(message, None)))
    }

    /// The reader's role does not allow what the page is for.
    pub(crate) fn not_allowed() -> Self {
        let hint = "ask an admin of your organisation".to_owned();
        let message = "your role does not allow this".to_owned();
        Self::Refused(StatusCode::FORBIDDEN, Box::new(error(message, Some(hint))))
    }

    /// A path without a page.
    pub(crate) fn nothing_here() -> Self {
        let message = "there is nothing at this address".to_owned();
        Self::Refused(StatusCode::NOT_FOUND, Box::new(error(message, None)))
    }

    /// A form that the browser sent to its page, which takes no changes: the script sends forms to the API.
    pub(crate) fn without_script() -> Self {
        let hint = "changes need JavaScript: allow it, and load the page again".to_owned();
        let message = "nothing was changed: the script of the page did not run".to_owned();
        Self::Refused(StatusCode::METHOD_NOT_ALLOWED, Box::new(error(message, Some(hint))))
    }

    /// An answer that the console does not understand: a defect.
    fn unreadable(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a page cannot read an answer of the API");
        let hint = "the log of the gateway has the cause; report it".to_owned();
        let message = "the page cannot be shown".to_owned();
        Self::Refused(StatusCode::INTERNAL_SERVER_ERROR, Box::new(error(message, Some(hint))))
    }
}

/// What an error says. The message of an error of a field is a predicate, whose subject is the field.
pub(crate) fn said(error: &ErrorView) -> String {
    match &error.field {
        Some(field) => sentence(&format!("{field} {}", error.message)),
        None => sentence(&error.message),
    }
}

fn error(message: String, hint: Option<String>) -> ErrorView {
    ErrorView { code: String::new(), message, field: None, hint, docs: None, request: None }
}

/// A segment of a path, or a value of a query.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The path with more of its query; what is absent or empty is omitted.
pub(crate) fn with_query(path: &str, given: &[(&str, Option<&str>)]) -> String {
    let mut at = path.to_owned();
    for (name, value) in given {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            at.push(if at.contains('?') { '&' } else { '?' });
            at += &format!("{name}={}", segment(value));
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_gets_the_mark_of_requests_that_the_script_sends_by_itself() {
        let sent = HeaderMap::from_iter([
            (HeaderName::from_static(RENEWAL_FIELD), HeaderValue::from_static(WHOLE)),
            (header::COOKIE, HeaderValue::from_static("keyward=x")),
            (header::ACCEPT, HeaderValue::from_static("text/html")),
        ]);
        let kept = of_reader(&sent);
        assert_eq!(kept.get(RENEWAL_FIELD), sent.get(RENEWAL_FIELD));
        assert_eq!(kept.get(header::COOKIE), sent.get(header::COOKIE));
        assert!(!kept.contains_key(header::ACCEPT), "an answer of the API is JSON");
    }
}
