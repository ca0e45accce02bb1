//! [`Caller`]: one request to an authorization server, whole and bounded. Guarded like every dial, over
//! verified TLS, on a stream of its own: servers drop idle ones without a word, and nobody could tell then
//! whether a single-use token was spent. No redirects, no cookies, no content codings.
//!
//! What the answer means is `grant/oauth`'s to say.

mod cause;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

pub use self::cause::Cause;
use super::client::{HandshakeError, connect_tls};
use super::dial::{DialError, Dialler};
use super::tls::Identity;
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::tokens::TokenSettings;

/// What hyper needs at least to read a head.
const HEAD_BYTES_MIN: usize = 8 * 1024;

/// Asks authorization servers. One serves the whole process.
#[derive(Debug)]
pub struct Caller {
    dialler: Arc<Dialler>,
    tls: ArcSwap<ClientConfig>,
}

/// How long and how much one request may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the first look-up to the last byte of the answer, unless `answer` says otherwise.
    pub whole: Duration,
    /// Resolving, connecting and TLS, of each attempt.
    pub connect: Duration,
    /// From sending the request to the last byte of the answer, however long connecting took: `whole` is
    /// no limit then. For requests that must not be repeated while their answer may still come.
    pub answer: Option<Duration>,
    /// The answer's head.
    pub head_bytes_max: usize,
    /// The answer's body.
    pub body_bytes_max: usize,
    /// Cleartext to this machine is allowed.
    pub insecure_loopback: bool,
}

/// Why there is no answer. No message holds a URL, a field or a body.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not a URL that may be asked: its scheme is not https, or it has no host.
    #[error("the address of the authorization server is not an https URL")]
    Address,
    /// No stream: nothing was sent.
    #[error("{0}")]
    Dial(#[source] DialError),
    /// No verified TLS: nothing was sent.
    #[error("{0}")]
    Tls(#[source] HandshakeError),
    /// It was sent, or a part of it; what became of it is not known.
    #[error("{host} gave no answer")]
    NoAnswer {
        /// The host.
        host: Host,
        /// What the stream says; for the log only.
        #[source]
        source: hyper::Error,
    },
    /// The time ran out.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host.
        host: Host,
        /// Whether it was sent before, or a part of it.
        sent: bool,
    },
    /// It answered what is not read.
    #[error("{host} {why}")]
    Unusable {
        /// The host.
        host: Host,
        /// What is wrong.
        why: Unusable,
        /// The status, which may say enough; none when the head itself was wrong.
        status: Option<StatusCode>,
        /// Its `Retry-After`.
        retry_after: Option<HeaderValue>,
    },
}

/// What is wrong with an answer. The words go on from the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// Head or body is over its bound.
    TooLarge,
    /// It sends elsewhere: no one follows with a credential.
    Redirect,
    /// `Content-Encoding`, although none was offered.
    Coded,
    /// The body ended before its end.
    Cut,
}

/// An answer's head, for errors that come after it.
struct Head {
    host: Host,
    status: StatusCode,
    retry_after: Option<HeaderValue>,
}

impl Caller {
    /// Dials by `dialler`, and trusts whom `tls` does, which offers HTTP/1.1.
    pub fn new(dialler: Arc<Dialler>, tls: Arc<ClientConfig>) -> Self {
        Self { dialler, tls: ArcSwap::new(tls) }
    }

    /// Trusts others from now on.
    pub fn trust(&self, tls: Arc<ClientConfig>) {
        self.tls.store(tls);
    }

    /// Sends the request, whose URI is absolute, and reads its answer, whatever the status but 3xx.
    /// A failure to connect is repeated once at once: nothing was sent.
    ///
    /// Dropping the future closes the stream.
    ///
    /// # Errors
    /// When there is no whole answer within the bounds.
    pub async fn call(
        &self,
        request: Request<Bytes>,
        bounds: &Bounds,
    ) -> Result<Response<Bytes>, CallError> {
        self.call_as(None, request, bounds).await
    }

    /// The same with a client certificate (RFC 8705), where there is one.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn call_as(
        &self,
        identity: Option<&Identity>,
        request: Request<Bytes>,
        bounds: &Bounds,
    ) -> Result<Response<Bytes>, CallError> {
        let target = target(request.uri(), bounds).ok_or(CallError::Address)?;
        let request = in_origin_form(request, &target);
        let began = Instant::now();
        let late = |sent| CallError::Timeout { host: target.host().clone(), sent };
        let connecting = Box::pin(self.connect_or_again(&target, identity, bounds));
        let stream = match bounds.answer {
            // Each attempt has a limit of its own.
            Some(_) => connecting.await?,
            None => match tokio::time::timeout(bounds.whole, connecting).await {
                Ok(stream) => stream?,
                Err(_) => return Err(late(false)),
            },
        };
        let left = bounds.answer.unwrap_or_else(|| bounds.whole.saturating_sub(began.elapsed()));
        let answer = Box::pin(speak(stream, request, (target.host(), bounds)));
        tokio::time::timeout(left, answer).await.unwrap_or_else(|_| Err(late(true)))
    }

    async fn connect_or_again(
        &self,
        target: &Target,
        identity: Option<&Identity>,
        bounds: &Bounds,
    ) -> Result<Box<dyn Stream>, CallError> {
        match self.connect(target, identity, bounds).await {
            Err(error) if error.is_worth_another() => self.connect(target, identity, bounds).await,
            other => other,
        }
    }

    async fn connect(
        &self,
        target: &Target,
        identity: Option<&Identity>,
        bounds: &Bounds,
    ) -> Result<Box<dyn Stream>, CallError> {
        let began = Instant::now();
        let dialled = self.dialler.dial(target, bounds.connect).await.map_err(CallError::Dial)?;
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

/// Bytes both ways, in cleartext or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Bounds {
    /// Those of a token endpoint.
    pub fn of_tokens(settings: &TokenSettings) -> Self {
        Self {
            whole: settings.exchange_timeout,
            connect: settings.connect_timeout,
            answer: None,
            head_bytes_max: settings.head_bytes_max,
            body_bytes_max: settings.reply_bytes_max,
            insecure_loopback: settings.insecure_loopback,
        }
    }

    /// Those of a request that may spend what it carries, such as a refresh token.
    pub fn of_refreshes(settings: &TokenSettings) -> Self {
        let answer = settings.answer_timeout.max(settings.exchange_timeout);
        Self { answer: Some(answer), ..Self::of_tokens(settings) }
    }

    /// Those of documents of metadata, and of registration.
    pub fn of_metadata(settings: &TokenSettings) -> Self {
        Self { body_bytes_max: settings.metadata_bytes_max, ..Self::of_tokens(settings) }
    }

    /// The same in at most so much time.
    #[must_use]
    pub fn within(self, whole: Duration) -> Self {
        Self { whole: whole.min(self.whole), ..self }
    }
}

impl CallError {
    /// Whether the server may have acted on the request: it was sent, or a part of it.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Address | Self::Dial(_) | Self::Tls(_) => false,
            Self::Timeout { sent, .. } => *sent,
            Self::NoAnswer { .. } | Self::Unusable { .. } => true,
        }
    }

    /// A second attempt at once is right: nothing was sent, and the answer may be another.
    fn is_worth_another(&self) -> bool {
        match self {
            Self::Dial(DialError::Refused { .. }) => false,
            Self::Tls(HandshakeError::Certificate { .. }) => false,
            Self::Dial(_) | Self::Tls(_) => true,
            _ => false,
        }
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "answered more than is read",
            Self::Redirect => "answered with a redirect, which is not followed",
            Self::Coded => "answered with a content coding that was not offered",
            Self::Cut => "cut its answer short",
        })
    }
}

/// Where the request goes, when it may.
fn target(uri: &Uri, bounds: &Bounds) -> Option<Target> {
    let authority = uri.authority()?.as_str();
    match uri.scheme_str()? {
        "https" => Target::parse(Scheme::Https, authority).ok(),
        "http" if bounds.insecure_loopback => {
            let target = Target::parse(Scheme::Http, authority).ok()?;
            target.host().is_this_machine().then_some(target)
        }
        _ => None,
    }
}

/// As it stands on the wire: path and query, and the host in its field (RFC 9112 §3.2.1).
fn in_origin_form(request: Request<Bytes>, target: &Target) -> Request<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    head.uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let host = HeaderValue::from_str(&target.authority());
    head.headers.insert(header::HOST, host.expect("an authority is letters, digits, `-._:[]`"));
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Request::from_parts(head, Full::new(body))
}

async fn speak(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    (host, bounds): (&Host, &Bounds),
) -> Result<Response<Bytes>, CallError> {
    let failed = |source: hyper::Error| match source.is_parse_too_large() {
        true => CallError::Unusable {
            host: host.clone(),
            why: Unusable::TooLarge,
            status: None,
            retry_after: None,
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
    // The connection ends first where its end is the answer's: what it read is still there.
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
    let (parts, mut body) = answer.into_parts();
    let head = Head {
        host: host.clone(),
        status: parts.status,
        retry_after: parts.headers.get(header::RETRY_AFTER).cloned(),
    };
    if parts.status.is_redirection() {
        return Err(head.unusable(Unusable::Redirect));
    }
    if is_coded(&parts.headers) {
        return Err(head.unusable(Unusable::Coded));
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
    Ok(Response::from_parts(parts, read.freeze()))
}

/// Whether the body is not as it is. `identity` should not be said, and is (RFC 9110 §8.4.1).
fn is_coded(fields: &HeaderMap) -> bool {
    let codings = fields.get_all(header::CONTENT_ENCODING);
    codings.iter().any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

impl Head {
    fn unusable(self, why: Unusable) -> CallError {
        let Self { host, status, retry_after } = self;
        CallError::Unusable { host, why, status: Some(status), retry_after }
    }
}

#[cfg(test)]
mod tests;
