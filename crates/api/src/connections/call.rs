//! `/call`: requests with a connection by its id. `/connections/{connection}/refresh`: requests a new token now.

use std::time::Duration;

use axum::Json;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{self, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use serde_json::Value;

use crate::body::{Body, Segments};
use crate::context::Context;
use crate::error::ApiError;
use crate::openapi::Routes;
use crate::state::Admin;
use crate::valid_rules::ValidRules;
use crate::wire::{CallRequest, CallView, TokenRefreshed};
use keyward_net::read_body::{ReadError, read_body};
use keyward_proxy::call::{self, CallBody};
use keyward_state::directory::ConnectionRecord;

/// An answer is held in memory, and again as JSON. Larger ones are for the proxy, which passes them on.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// From the head of the answer to the end of its body.
const ANSWERED_WITHIN: Duration = Duration::from_secs(300);

/// Keyward's own: what frames the message or concerns one stream (RFC 9110 §7.6.1).
const OWN: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::EXPECT,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

pub(crate) fn routes() -> Routes {
    Routes::new().post(
        "/connections/{connection}/request",
        ["requestWithConnection", "Send a request with the credential of a connection"],
        request,
    )
}

async fn request(
    context: Context,
    _: ValidRules,
    Segments(name): Segments<String>,
    Body(ask): Body<CallRequest>,
) -> Result<Json<CallView>, ApiError> {
    let connection = context.connection(&name)?;
    let request = request_to_send(&context.admin, &connection, ask)?;
    let gateway = context.deps().data_path.upgrade().ok_or(ApiError::Draining)?;
    let called = call::run(&gateway, &connection, request).await;
    let answer = called.result?;
    let view = view(called.exchange, answer);
    let late = |_| too_late();
    Ok(Json(tokio::time::timeout(ANSWERED_WITHIN, view).await.map_err(late)??))
}

fn request_to_send(
    admin: &Admin,
    connection: &std::sync::Arc<ConnectionRecord>,
    ask: CallRequest,
) -> Result<Request<Bytes>, ApiError> {
    let method = ask.method.as_deref().unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| ApiError::field("method", "is not an HTTP method"))?;
    let uri = uri(admin, connection, &ask.path)?;
    let (body, json) = body(ask.body, ask.body_base64)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &ask.headers {
        let (name, value) = field(name, value)?;
        headers.append(name, value);
    }
    if json && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Resolves a path at the connection's own host. Policy checks whether the host of a whole URL belongs
/// to the connection.
fn uri(admin: &Admin, connection: &ConnectionRecord, path: &str) -> Result<Uri, ApiError> {
    let wrong = |what: &str| ApiError::field("path", what);
    if path.starts_with("https://") {
        return path.parse().map_err(|_| wrong("is not a URL"));
    }
    if !path.starts_with('/') {
        return Err(wrong("must begin with `/`, or be a whole `https://` URL"));
    }
    let account = admin.deps().rulebook.account(connection);
    let hosts = || account.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let home = account.base_url_target().ok_or_else(|| {
        ApiError::field("path", "the connection has several hosts")
            .hint(format!("give a whole https:// URL at one of {}", hosts()))
    })?;
    format!("https://{}{path}", home.authority()).parse().map_err(|_| wrong("is not a path"))
}

/// The body, and whether it is JSON of ours.
fn body(text: Option<Value>, base64: Option<String>) -> Result<(Bytes, bool), ApiError> {
    match (text, base64) {
        (None, None) => Ok((Bytes::new(), false)),
        (Some(_), Some(_)) => {
            Err(ApiError::field("body_base64", "must not be given together with `body`"))
        }
        (Some(Value::String(text)), None) => Ok((text.into(), false)),
        (Some(json), None) => Ok((json.to_string().into(), true)),
        (None, Some(coded)) => match BASE64_STANDARD.decode(coded) {
            Ok(bytes) => Ok((bytes.into(), false)),
            Err(_) => Err(ApiError::field("body_base64", "is not Base64")),
        },
    }
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), ApiError> {
    let parsed: HeaderName =
        name.parse().map_err(|_| ApiError::field("headers", "has an invalid field name"))?;
    if OWN.contains(&parsed) {
        return Err(ApiError::field(format!("headers.{parsed}"), "is set by Keyward"));
    }
    let wrong = |_| ApiError::field(format!("headers.{parsed}"), "is not a field value");
    Ok((parsed.clone(), value.parse().map_err(wrong)?))
}

async fn view(exchange: Option<String>, answer: Response<CallBody>) -> Result<CallView, ApiError> {
    let (head, body) = answer.into_parts();
    let bytes = read_body(body, ANSWER_BYTES_MAX).await.map_err(|unread| match unread {
        ReadError::TooLong => ApiError::AnswerTooLarge { max_bytes: ANSWER_BYTES_MAX },
        ReadError::Broken(_) => ApiError::AnswerCut,
    })?;
    let (body, body_base64) = match std::str::from_utf8(&bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(&bytes))),
    };
    let latin = |value: &HeaderValue| value.as_bytes().iter().map(|b| char::from(*b)).collect();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), latin(value)));
    let (status, headers) = (head.status.as_u16(), headers.collect());
    Ok(CallView { exchange, status, headers, body, body_base64 })
}

fn too_late() -> ApiError {
    ApiError::AnswerCut
}

pub(crate) fn refresh_routes() -> Routes {
    Routes::new().post(
        "/connections/{connection}/refresh",
        ["refreshConnection", "Refresh the access token of a connection"],
        refresh,
    )
}

/// Requests a token from the authorization server, regardless of the age of the present one. The back-off after
/// failures of the server still applies; a secret of a source is fetched at once.
async fn refresh(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<TokenRefreshed>, ApiError> {
    let connection = context.connection(&name)?;
    let vault = &context.deps().vault;
    let refreshed = vault.refresh().refresh_now(&connection.org, &connection.id).await;
    // The verdict may be in force now.
    context.admin.enforce().await?;
    refreshed?;
    let token = vault.refresh().status(&connection).await;
    Ok(Json(TokenRefreshed { name: connection.name.clone(), token }))
}
