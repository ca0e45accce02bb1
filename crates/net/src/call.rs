//! [`HttpClient`]: sends one bounded request to an authorization server. Addresses are checked as for every dial.
//! Each request uses verified TLS on a new stream: servers close idle streams silently, and then it would be
//! unknown whether a single-use token was spent. It follows no redirects, supports no cookies, and offers no content
//! codings. `vault::grant` interprets the response.

mod cause;
mod coding;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

pub use self::cause::CallFailure;
use self::coding::CodingError;
use super::client::{HandshakeError, connect_tls};
use super::dial::{DialError, Dialler};
use super::service_clocks::ServiceClocks;
use super::tls::ClientIdentity;
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::tokens::TokenSettings;

/// The minimum buffer that hyper needs to read a head.
const HEAD_BYTES_MIN: usize = 8 * 1024;

/// The client for authorization servers; one per process.
#[derive(Debug)]
pub struct HttpClient {
    dialler: Arc<Dialler>,
    tls: ArcSwap<ClientConfig>,
    clocks: Arc<ServiceClocks>,
    check: Option<SendCheck>,
}

/// Says whether a request may be sent, immediately before it is.
struct SendCheck(Box<dyn Fn() -> bool + Send + Sync>);

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the first look-up to the last byte of the response, unless `answer` is set.
    pub whole: Duration,
    /// Resolving, connecting and TLS, per attempt.
    pub connect: Duration,
    /// From sending the request to the last byte of the response. Replaces `whole`. For requests that must not
    /// be repeated while their response may still arrive.
    pub answer: Option<Duration>,
    /// Maximum size of the response head.
    pub head_bytes_max: usize,
    /// Maximum size of the response body.
    pub body_bytes_max: usize,
    /// Which servers are allowed.
    pub servers: AllowedServers,
}

/// The servers that a request may be sent to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AllowedServers {
    /// With TLS, at addresses that the guard allows.
    Secure,
    /// The same, and in cleartext on this machine.
    SecureOrLoopback,
    /// One that the operator configured for Keyward's own use: in any network, also in cleartext.
    Configured,
}

/// Why there is no response. No message contains a URL, a field or a body.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The scheme is not https, or the URL has no host.
    #[error("the address of the authorization server is not an https URL")]
    Address,
    /// Connecting failed; nothing was sent.
    #[error("{0}")]
    Dial(#[source] DialError),
    /// The TLS handshake failed; nothing was sent.
    #[error("{0}")]
    Tls(#[source] HandshakeError),
    /// The request was sent at least in part; its result is unknown.
    #[error("{host} gave no answer")]
    NoAnswer {
        /// The host of the URL.
        host: Host,
        /// The stream's error; for the log only.
        #[source]
        source: hyper::Error,
    },
    /// The time limit was reached.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host of the URL.
        host: Host,
        /// Whether the request was sent at least in part.
        sent: bool,
    },
    /// The response is not acceptable.
    #[error("{host} {why}")]
    Unusable {
        /// The host of the URL.
        host: Host,
        why: Unusable,
        /// The status, which may be informative; `None` when the head itself was invalid.
        status: Option<StatusCode>,
        /// The response's `Retry-After`.
        retry_after: Option<HeaderValue>,
        /// Where a redirect leads that keeps method and body, if that is an https URL.
        location: Option<Box<Uri>>,
    },
}

/// Why a response is not acceptable. The message continues after the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// Head or body exceeds its limit.
    TooLarge,
    /// A redirect; a request with a credential does not follow it.
    Redirect,
    /// A content coding that cannot be decoded; none was offered.
    Coded,
    /// The body ended early.
    Cut,
}

/// A response head, kept for errors in the body.
struct ResponseHead {
    host: Host,
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    location: Option<Box<Uri>>,
}

impl HttpClient {
    /// Dials with `dialler` and verifies with `tls`, which offers HTTP/1.1.
    pub fn new(dialler: Arc<Dialler>, tls: Arc<ClientConfig>) -> Self {
        Self { dialler, tls: ArcSwap::new(tls), clocks: Arc::default(), check: None }
    }

    /// A client that sends a request only if `check` permits it once its stream is open. The stream of another one is
    /// closed, as after a timeout.
    #[must_use]
    pub fn with_check(&self, check: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let (dialler, tls) = (Arc::clone(&self.dialler), ArcSwap::new(self.tls.load_full()));
        let clocks = Arc::clone(&self.clocks);
        Self { dialler, tls, clocks, check: Some(SendCheck(Box::new(check))) }
    }

    /// The clocks of the services, by their answers.
    pub fn clocks(&self) -> &ServiceClocks {
        &self.clocks
    }

    /// Replaces the TLS configuration.
    pub fn replace_tls(&self, tls: Arc<ClientConfig>) {
        self.tls.store(tls);
    }

    /// Sends the request, whose URI is absolute, and returns the response with any status except 3xx. A failed
    /// connection attempt is repeated once, immediately: nothing was sent.
    ///
    /// Dropping the future closes the stream.
    ///
    /// # Errors
    /// When there is no complete response within the limits.
    pub async fn call(
        &self,
        request: Request<Bytes>,
        bounds: &Bounds,
    ) -> Result<Response<Bytes>, CallError> {
        self.call_as(None, request, bounds).await
    }

    /// Like [`HttpClient::call`], with a client certificate (RFC 8705) if there is one.
    ///
    /// # Errors
    /// As [`HttpClient::call`].
    pub async fn call_as(
        &self,
        identity: Option<&ClientIdentity>,
        request: Request<Bytes>,
        bounds: &Bounds,
    ) -> Result<Response<Bytes>, CallError> {
        let target = target(request.uri(), bounds).ok_or(CallError::Address)?;
        let request = in_origin_form(request, &target);
        let began = Instant::now();
        let late = |sent| CallError::Timeout { host: target.host().clone(), sent };
        let connecting = self.connect_or_again(&target, identity, bounds).boxed();
        let stream = match bounds.answer {
            // Each attempt has its own limit.
            Some(_) => connecting.await?,
            None => match tokio::time::timeout(bounds.whole, connecting).await {
                Ok(stream) => stream?,
                Err(_) => return Err(late(false)),
            },
        };
        if self.check.as_ref().is_some_and(|SendCheck(permits)| !permits()) {
            return Err(late(false));
        }
        let left = bounds.answer.unwrap_or_else(|| bounds.whole.saturating_sub(began.elapsed()));
        let answer = speak(stream, request, target.host(), bounds).boxed();
        let answer = tokio::time::timeout(left, answer).await.unwrap_or_else(|_| Err(late(true)));
        if let (Ok(answer), Scheme::Https) = (&answer, target.scheme()) {
            self.clocks.learn(&target.authority(), answer.headers(), Timestamp::now());
        }
        answer
    }

    async fn connect_or_again(
        &self,
        target: &Target,
        identity: Option<&ClientIdentity>,
        bounds: &Bounds,
    ) -> Result<Box<dyn Stream>, CallError> {
        match self.connect(target, identity, bounds).await {
            Err(error) if error.is_retryable() => self.connect(target, identity, bounds).await,
            other => other,
        }
    }

    async fn connect(
        &self,
        target: &Target,
        identity: Option<&ClientIdentity>,
        bounds: &Bounds,
    ) -> Result<Box<dyn Stream>, CallError> {
        let began = Instant::now();
        let dialled = match bounds.servers {
            AllowedServers::Configured => {
                self.dialler.dial_configured(target, bounds.connect).await
            }
            AllowedServers::Secure | AllowedServers::SecureOrLoopback => {
                self.dialler.dial(target, bounds.connect).await
            }
        };
        let dialled = dialled.map_err(CallError::Dial)?;
        if target.scheme() == Scheme::Http {
            return Ok(Box::new(dialled.stream));
        }
        let config = match identity {
            None => self.tls.load_full(),
            Some(identity) => identity.with(&self.tls.load()),
        };
        let left = bounds.connect.saturating_sub(began.elapsed());
        let stream = connect_tls(dialled.stream, target, config, left).await;
        Ok(Box::new(stream.map_err(CallError::Tls)?))
    }
}

impl fmt::Debug for SendCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendCheck")
    }
}

/// A stream with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Bounds {
    /// Limits of requests to token endpoints.
    pub fn of_tokens(settings: &TokenSettings) -> Self {
        Self {
            whole: settings.exchange_timeout,
            connect: settings.connect_timeout,
            answer: None,
            head_bytes_max: settings.head_bytes_max,
            body_bytes_max: settings.reply_bytes_max,
            servers: match settings.insecure_loopback {
                true => AllowedServers::SecureOrLoopback,
                false => AllowedServers::Secure,
            },
        }
    }

    /// Limits of requests that may spend a secret, such as a refresh token.
    pub fn of_refreshes(settings: &TokenSettings) -> Self {
        let answer = settings.answer_timeout.max(settings.exchange_timeout);
        Self { answer: Some(answer), ..Self::of_tokens(settings) }
    }

    /// Limits of requests for metadata, and of registrations.
    pub fn of_metadata(settings: &TokenSettings) -> Self {
        Self { body_bytes_max: settings.metadata_bytes_max, ..Self::of_tokens(settings) }
    }

    /// Reduces the total time to at most `whole`.
    #[must_use]
    pub fn within(self, whole: Duration) -> Self {
        Self { whole: whole.min(self.whole), ..self }
    }
}

impl CallError {
    /// Whether the server may have acted on the request, because at least part of it was sent.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Address | Self::Dial(_) | Self::Tls(_) => false,
            Self::Timeout { sent, .. } => *sent,
            Self::NoAnswer { .. } | Self::Unusable { .. } => true,
        }
    }

    /// The cause as one word.
    pub fn cause(&self) -> CallFailure {
        match self {
            Self::Address => CallFailure::BadAddress,
            Self::Dial(error) => error.into(),
            Self::Tls(error) => error.into(),
            Self::NoAnswer { .. } => CallFailure::NoAnswer,
            Self::Timeout { sent: true, .. } => CallFailure::AnswerTimeout,
            Self::Timeout { sent: false, .. } => CallFailure::ConnectTimeout,
            Self::Unusable { .. } => CallFailure::UnusableAnswer,
        }
    }

    /// Whether an immediate second attempt helps: nothing was sent, and the result may differ.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Dial(DialError::Refused { .. }) => false,
            Self::Tls(HandshakeError::Certificate { .. }) => false,
            Self::Dial(_) | Self::Tls(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "answered more than is read",
            Self::Redirect => "answered with a redirect, which is not followed",
            Self::Coded => "answered in a content coding that cannot be decoded",
            Self::Cut => "cut its answer short",
        })
    }
}

/// The target of the request, if it is allowed.
fn target(uri: &Uri, bounds: &Bounds) -> Option<Target> {
    let authority = uri.authority()?.as_str();
    let cleartext = || Target::parse(Scheme::Http, authority).ok();
    match (uri.scheme_str()?, bounds.servers) {
        ("https", _) => Target::parse(Scheme::Https, authority).ok(),
        ("http", AllowedServers::SecureOrLoopback) => {
            cleartext().filter(|it| it.host().is_this_machine())
        }
        ("http", AllowedServers::Configured) => cleartext(),
        _ => None,
    }
}

/// Converts to origin form: path and query in the URI, and the host in its field (RFC 9112 §3.2.1).
fn in_origin_form(request: Request<Bytes>, target: &Target) -> Request<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    head.uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let host = HeaderValue::from_str(&target.authority());
    head.headers.insert(header::HOST, host.expect("an authority is letters, digits, `-._:[]`"));
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // Without this field, any content coding is acceptable (RFC 9110 §12.5.3).
    head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Request::from_parts(head, Full::new(body))
}

async fn speak(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    host: &Host,
    bounds: &Bounds,
) -> Result<Response<Bytes>, CallError> {
    let failed = |source: hyper::Error| match source.is_parse_too_large() {
        true => CallError::Unusable {
            host: host.clone(),
            why: Unusable::TooLarge,
            status: None,
            retry_after: None,
            location: None,
        },
        false => CallError::NoAnswer { host: host.clone(), source },
    };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(bounds.head_bytes_max.max(HEAD_BYTES_MIN));
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        read(answer, host, bounds.body_bytes_max).await
    };
    let mut exchange = std::pin::pin!(exchange);
    // The connection may end first; the exchange then reads the buffered answer.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

async fn read(
    answer: Response<Incoming>,
    host: &Host,
    bytes_max: usize,
) -> Result<Response<Bytes>, CallError> {
    let (mut parts, mut body) = answer.into_parts();
    let keeps_method = matches!(parts.status.as_u16(), 307 | 308);
    let location = parts.headers.get(header::LOCATION).filter(|_| keeps_method);
    let location = location.and_then(|it| Uri::try_from(it.as_bytes()).ok());
    let head = ResponseHead {
        host: host.clone(),
        status: parts.status,
        retry_after: parts.headers.get(header::RETRY_AFTER).cloned(),
        location: location.filter(|it| it.scheme_str() == Some("https")).map(Box::new),
    };
    if parts.status.is_redirection() {
        return Err(head.unusable(Unusable::Redirect));
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(head.unusable(Unusable::Cut)) };
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > bytes_max {
            return Err(head.unusable(Unusable::TooLarge));
        }
        read.extend_from_slice(data);
    }
    match coding::decoded(&parts.headers, read.freeze(), bytes_max) {
        Ok(body) => {
            parts.headers.remove(header::CONTENT_ENCODING);
            Ok(Response::from_parts(parts, body))
        }
        Err(CodingError::TooLarge) => Err(head.unusable(Unusable::TooLarge)),
        Err(CodingError::Undecodable) => Err(head.unusable(Unusable::Coded)),
    }
}

impl ResponseHead {
    fn unusable(self, why: Unusable) -> CallError {
        let Self { host, status, retry_after, location } = self;
        CallError::Unusable { host, why, status: Some(status), retry_after, location }
    }
}

#[cfg(test)]
mod tests;
