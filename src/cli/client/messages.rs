//! Requests to the gateway and its answers.

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::cli::failure::{Exit, Failure};
use keyward_api::wire::{ErrorBody, Health};

/// Longest response that is read; a full page is much shorter.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Capacity for a request with the longest secret. The buffer never grows, so the secret is never copied.
const REQUEST_BYTES: usize = 2 * 1024 * 1024;
/// RFC 3986 §2.3: unreserved characters of a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn written(body: &impl Serialize) -> Result<Body, Failure> {
    let mut json = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES));
    serde_json::to_writer(&mut *json, body)
        .map_err(|error| Failure::failed("cannot write the request", &error))?;
    Ok(Body::from(Bytes::from_owner(json)))
}

/// A value as a path segment or a query value.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Refuses the path of a resource whose name is empty.
fn no_empty_name(path: &str) -> Result<(), Failure> {
    let path = path.split('?').next().unwrap_or_default();
    match path.ends_with('/') || path.contains("//") {
        true => Err(Failure::usage("the name is empty").hint("give a name or an id")),
        false => Ok(()),
    }
}

pub(super) fn request(method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
    no_empty_name(path)?;
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| Failure::failed("cannot write the request", &error))
}

pub(super) fn closed(error: hyper::Error) -> Failure {
    let message = "the gateway closed the connection";
    Failure::new(Exit::Unreachable, format!("{message}: {error}"))
}

/// Sends `request` over a new stream.
pub(super) async fn sent<S>(
    stream: S,
    request: Request<Body>,
) -> Result<Response<Body>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, stream) = handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body, which reports its errors too.
    tokio::spawn(stream);
    Ok(sender.send_request(request).await?.map(Body::new))
}

/// Sends `request` over a new stream and reads the response.
pub(crate) async fn exchange<S>(stream: S, request: Request<Body>) -> Result<Bytes, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    read(sent(stream, request).await.map_err(closed)?).await
}

/// The body of an answer, or its refusal.
pub(crate) async fn read(answer: Response<Body>) -> Result<Bytes, Failure> {
    let status = answer.status();
    let bytes = whole(answer).await?;
    if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
}

/// The body of an answer that is read piece by piece, or its refusal.
pub(crate) async fn streamed(answer: Response<Body>) -> Result<Body, Failure> {
    match answer.status() {
        status if status.is_success() => Ok(answer.into_body()),
        status => Err(refusal(status, &whole(answer).await?)),
    }
}

async fn whole(answer: Response<Body>) -> Result<Bytes, Failure> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| {
        let message = format!("the gateway's answer was cut short: {error}");
        Failure::new(Exit::Unreachable, message)
    })?;
    Ok(body.to_bytes())
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(body) {
        return Failure::refused(status, body.error);
    }
    // `/readyz` answers in its own shape.
    Failure::new(
        Exit::Failed,
        match serde_json::from_slice::<Health>(body) {
            Ok(health) => format!("the gateway is not ready: {}", health.status),
            Err(_) => format!("the gateway answered {status}"),
        },
    )
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|_| {
        Failure::new(Exit::Failed, "the gateway's answer cannot be read")
            .hint("use the same version of the gateway and the command line")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_segment_is_percent_encoded() {
        for (text, coded) in [("a/b", "a%2Fb"), ("a?b#c", "a%3Fb%23c"), ("é", "%C3%A9")] {
            assert_eq!(segment(text), coded);
        }
        assert_eq!(segment("claude-code_1.2~x"), "claude-code_1.2~x");
    }

    #[test]
    fn a_path_with_an_empty_name_is_refused() {
        for path in ["/api/v1/rules/", "/api/v1/agents//tokens", "/api/v1/connections/?revoke=true"]
        {
            let refused = no_empty_name(path).map_err(|failure| failure.message());
            assert_eq!(refused, Err("the name is empty".to_owned()), "{path}");
        }
        for path in ["/api/v1/rules", "/readyz", "/api/v1/audit?exchange=//"] {
            assert_eq!(no_empty_name(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn an_answer_that_is_no_error_of_the_api_is_reported_by_its_status() {
        let failure = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(failure.to_string(), "error: the gateway answered 502 Bad Gateway\n");
    }
}
