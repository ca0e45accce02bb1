//! Refusals as HTTP: the one place where they get status, code and words. Nothing
//! here quotes an address, a source error or a secret.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use super::base_url;
use super::body::AnswerBody;
use super::call::Declined;
use super::error::Refusal;
use super::grpc::{self, Dialect};
use super::meter::Excess;
use super::record::Record;
use crate::base::host::Target;
use crate::base::id::ExchangeId;
use crate::inject::body::BodyError;
use crate::inject::scrub::Fault;
use crate::inject::write::WriteError;
use crate::net::by_proxy::ProxyFault;
use crate::net::client::HandshakeError;
use crate::net::dial::DialError;
use crate::vault::VaultError;

static KEYWARD_ERROR: HeaderName = HeaderName::from_static("keyward-error");
static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Said of faults of our own.
const FAILED: &str = "keyward failed; its log has this exchange's id";

/// What an agent sees of a refusal.
#[derive(Debug, Eq, PartialEq)]
struct Face {
    status: u16,
    code: &'static str,
    message: String,
    hint: Option<String>,
    connection: Option<Arc<str>>,
    retry_after: Option<u64>,
    /// The field that asks for the agent's name and token.
    asks: Option<HeaderName>,
}

/// Answers a request with the refusal, and notes it in the record.
pub fn refusal(refusal: &Refusal, record: Record) -> Response<AnswerBody> {
    answer(refusal, record, None)
}

/// Answers a CONNECT: code and host also stand in the reason phrase, the only part that most
/// clients show.
pub fn connect_refusal(
    refusal: &Refusal,
    target: Option<&Target>,
    record: Record,
) -> Response<AnswerBody> {
    let host = target.map_or_else(String::new, |target| format!(" {}", target.host()));
    let phrase = ReasonPhrase::try_from(format!("{}{host}", face(refusal).code).into_bytes());
    answer(refusal, record, phrase.ok())
}

/// Answers where no record could be begun: without the audit log there are no exchanges.
pub fn unrecorded(refusal: &Refusal, dialect: Dialect) -> Response<AnswerBody> {
    let face = face(refusal);
    let exchange = ExchangeId::random();
    log(refusal, &face, exchange.as_str());
    dressed(&face, dialect, exchange.as_str()).map(AnswerBody::unrecorded)
}

/// A refusal for who does not get it as an answer of the proxy's own; `record` ends with it.
pub fn declined(refusal: &Refusal, record: Option<&mut Record>) -> Declined {
    let face = face(refusal);
    if let Some(record) = record {
        log(refusal, &face, record.exchange());
        record.refused(face.status, face.code);
    }
    let status = StatusCode::from_u16(face.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Declined { status, code: face.code, message: face.message, hint: face.hint }
}

fn answer(
    refusal: &Refusal,
    mut record: Record,
    phrase: Option<ReasonPhrase>,
) -> Response<AnswerBody> {
    let face = face(refusal);
    log(refusal, &face, record.exchange());
    // An agent that breaks off is refused nothing.
    if !matches!(refusal, Refusal::AgentGone) {
        record.refused(face.status, face.code);
    }
    let response = dressed(&face, record.dialect(), record.exchange());
    let mut response = response.map(|body| AnswerBody::own(body, record));
    if let Some(phrase) = phrase {
        response.extensions_mut().insert(phrase);
    }
    response
}

fn dressed(face: &Face, dialect: Dialect, exchange: &str) -> Response<Bytes> {
    let mut response = match dialect {
        Dialect::Http => in_http(face, exchange),
        Dialect::Grpc => in_grpc(face, exchange),
    };
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(KEYWARD_ERROR.clone(), HeaderValue::from_static(face.code));
    fields.insert(PROXY_STATUS.clone(), proxy_status(face));
    if let Some(seconds) = face.retry_after {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn in_http(face: &Face, exchange: &str) -> Response<Bytes> {
    let mut response = Response::new(body(face, exchange));
    *response.status_mut() = StatusCode::from_u16(face.status).expect("a constant status");
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(face.status, 400 | 413 | 414 | 417 | 431 | 501) {
        // What follows a request that has no sound reading is no request.
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(asks) = &face.asks {
        let challenge = HeaderValue::from_static("Basic realm=\"keyward\", charset=\"UTF-8\"");
        fields.insert(asks, challenge);
    }
    response
}

/// A gRPC client shows nothing but the words, so that all of it stands in them.
fn in_grpc(face: &Face, exchange: &str) -> Response<Bytes> {
    let (code, message) = (face.code, &face.message);
    let hint = face.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
    let words = format!("{code}: {message}{hint} (exchange {exchange})");
    let mut response = Response::new(Bytes::new());
    grpc::trailers_only(response.headers_mut(), face.status, &words);
    response
}

/// RFC 9209: `keyward; error=…; details="code"`.
fn proxy_status(face: &Face) -> HeaderValue {
    let error = match face.code {
        "upstream_unreachable" => "destination_unavailable",
        "upstream_tls" => "tls_certificate_error",
        "upstream_timeout" => "http_response_timeout",
        "upstream_protocol" => "http_protocol_error",
        "address_refused" => "destination_ip_prohibited",
        "overloaded" => "connection_limit_reached",
        _ if face.status == 500 => "proxy_internal_error",
        _ if face.status == 400 => "http_request_error",
        _ => "http_request_denied",
    };
    let text = format!("keyward; error={error}; details=\"{}\"", face.code);
    HeaderValue::try_from(text).expect("constants of visible ASCII")
}

/// The body of a refusal.
#[derive(Serialize)]
struct Wrapped<'a> {
    error: Wire<'a>,
}

#[derive(Serialize)]
struct Wire<'a> {
    code: &'a str,
    message: &'a str,
    exchange: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

fn body(face: &Face, exchange: &str) -> Bytes {
    let error = Wire {
        code: face.code,
        message: &face.message,
        exchange,
        connection: face.connection.as_deref(),
        hint: face.hint.as_deref(),
    };
    let mut text = serde_json::to_vec(&Wrapped { error }).expect("five texts serialise");
    text.push(b'\n');
    text.into()
}

fn log(refusal: &Refusal, face: &Face, exchange: &str) {
    let cause = causes(refusal);
    match face.status {
        500 => tracing::error!(exchange, code = face.code, cause, "refused"),
        502..=504 => {
            tracing::info!(exchange, code = face.code, cause, "refused")
        }
        _ => tracing::debug!(exchange, code = face.code, cause, "refused"),
    }
}

/// The chain of sources in one line; control bytes, which a peer may have chosen, are escaped.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text.escape_debug().to_string()
}

/// The table: status, code and words of each refusal.
fn face(refusal: &Refusal) -> Face {
    let (status, code) = status_and_code(refusal);
    let mut face = Face {
        status,
        code,
        message: message(refusal),
        hint: None,
        connection: None,
        retry_after: None,
        asks: None,
    };
    match refusal {
        Refusal::Policy(reason) => {
            face.hint = reason.hint();
            face.connection = reason.connection().cloned();
        }
        Refusal::Vault(error) => of_connection(&mut face, error),
        Refusal::Write(WriteError::NoPlace) => {
            face.hint = Some(
                "a rule with `action: pass` for the path sends it without a credential".into(),
            );
        }
        Refusal::Write(WriteError::Body(error)) => face.hint = Some(body_hint(error).into()),
        Refusal::TooLarge { .. } => {
            face.hint = Some("`limits.written_body_bytes_max` raises it".into());
        }
        Refusal::Unauthenticated => {
            face.asks = Some(header::PROXY_AUTHENTICATE);
            face.hint = Some("use a proxy URL of the form http://NAME:TOKEN@HOST:PORT".into());
        }
        Refusal::BaseUrl(fault) => {
            face.hint = Some(fault.hint());
            face.connection = fault.connection().cloned();
            if matches!(fault, base_url::Fault::Unauthenticated { browser: false, .. }) {
                face.asks = Some(header::WWW_AUTHENTICATE);
            }
        }
        Refusal::OwnerGone { .. } => {
            face.hint = Some("`keyward agent list` shows which there are".into());
        }
        Refusal::Scrubbed(fault) => face.hint = Some(scrubbing_hint(*fault).into()),
        Refusal::Dial(DialError::Refused { .. }) => {
            face.hint = Some("`upstream.allow_private` opens named networks and ports".into());
        }
        Refusal::Dial(DialError::Proxy { fault, .. }) => face.hint = Some(fault.hint().into()),
        Refusal::Dial(error) if error.is_of_descriptors() => face.retry_after = Some(1),
        Refusal::Guessing { retry_after } => face.retry_after = Some(retry_after.as_secs().max(1)),
        Refusal::RateLimited { connection, excess } => {
            face.retry_after = Some(whole_seconds(excess.retry_after()));
            face.connection = Some(connection.clone());
            face.hint = Some(limit_hint(excess));
        }
        Refusal::Overloaded | Refusal::AuditUnavailable => face.retry_after = Some(1),
        _ => {}
    }
    face
}

/// What an owner, or time, can do about it.
fn of_connection(face: &mut Face, error: &VaultError) {
    let log = || "the gateway's log names the cause and this exchange".to_owned();
    face.hint = Some(error.hint().unwrap_or_else(log));
    face.connection = connection_of(error.root());
    if let VaultError::RefreshUnavailable { retry_after, .. } = error.root() {
        face.retry_after = Some(whole_seconds(*retry_after));
    }
}

fn body_hint(error: &BodyError) -> &'static str {
    match error {
        BodyError::None => {
            "send a JSON object or a form; a rule with `action: pass` for the path sends it without \
             a credential"
        }
        BodyError::Kind(_) | BodyError::Malformed(_) => {
            "send a JSON object as `application/json`, or a form as `application/x-www-form-urlencoded`"
        }
        BodyError::Coded => "send it without a coding",
        BodyError::Step { .. } => "leave it out, or send an object there",
    }
}

/// Whole seconds, none too early.
fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

fn limit_hint(excess: &Excess) -> String {
    let setting = match excess {
        Excess::Rate { .. } => "rate_limit",
        Excess::Concurrency { .. } => "concurrency",
    };
    format!(
        "this is Keyward's limit, not the provider's: come again as `Retry-After` says, or raise \
         `{setting}` in the connection's settings"
    )
}

fn connection_of(error: &VaultError) -> Option<Arc<str>> {
    match error {
        VaultError::GrantMissing { connection }
        | VaultError::Sealed { connection, .. }
        | VaultError::Mint { connection, .. }
        | VaultError::Draft { connection }
        | VaultError::Broken { connection, .. }
        | VaultError::RefreshUnavailable { connection, .. }
        | VaultError::ByHand { connection }
        | VaultError::NotRefreshable { connection } => Some(connection.as_str().into()),
        _ => None,
    }
}

fn status_and_code(refusal: &Refusal) -> (u16, &'static str) {
    match refusal {
        Refusal::Unauthenticated => (407, "agent_unauthenticated"),
        Refusal::Guessing { .. } => (429, "agent_unauthenticated"),
        Refusal::OwnerGone { .. } => (403, "agent_unavailable"),
        Refusal::BadRequest(_) | Refusal::AgentGone => (400, "bad_request"),
        Refusal::BaseUrl(fault) => fault.status_and_code(),
        Refusal::BadTarget(_) | Refusal::BadPath(_) => (400, "bad_target"),
        Refusal::HeadersTooLarge { .. } => (431, "headers_too_large"),
        Refusal::TargetTooLong { .. } => (414, "target_too_long"),
        Refusal::TooLarge { .. } => (413, "too_large"),
        Refusal::Expectation => (417, "expectation_failed"),
        Refusal::Coding => (501, "coding_unsupported"),
        Refusal::HostMismatch(_) => (421, "host_mismatch"),
        Refusal::Policy(reason) => (reason.status(), reason.code()),
        Refusal::Vault(error) => match error.root() {
            VaultError::ConnectionMissing | VaultError::Draft { .. } => (424, "connection_missing"),
            VaultError::Store(_) => (500, "internal"),
            VaultError::RefreshUnavailable { .. } => (503, "refresh_unavailable"),
            _ => (424, "connection_broken"),
        },
        Refusal::Write(WriteError::Unsendable) => (424, "connection_broken"),
        Refusal::Write(_) => (400, "bad_request"),
        Refusal::RateLimited { .. } => (429, "rate_limited"),
        Refusal::Plaintext => (403, "plaintext_refused"),
        Refusal::Dial(DialError::Refused { .. }) => (403, "address_refused"),
        Refusal::Dial(
            DialError::Timeout { .. } | DialError::Proxy { fault: ProxyFault::Timeout { .. }, .. },
        )
        | Refusal::AnswerTimeout => (504, "upstream_timeout"),
        Refusal::Tls(HandshakeError::Timeout { .. }) => (504, "upstream_timeout"),
        Refusal::Dial(error) if error.is_of_descriptors() => (503, "overloaded"),
        Refusal::Dial(_) => (502, "upstream_unreachable"),
        Refusal::Tls(_) => (502, "upstream_tls"),
        Refusal::Protocol { .. } => (502, "upstream_protocol"),
        Refusal::Scrubbed(fault) => (502, code(*fault)),
        Refusal::Overloaded => (503, "overloaded"),
        Refusal::AuditUnavailable => (503, "audit_unavailable"),
        Refusal::Internal(_) => (500, "internal"),
    }
}

/// The code of an answer that was cut, or not sent.
pub fn code(fault: Fault) -> &'static str {
    match fault {
        Fault::Echoed => "secret_echoed",
        Fault::Unscannable(_) => "coding_unscannable",
    }
}

fn scrubbing_hint(fault: Fault) -> &'static str {
    match fault {
        Fault::Echoed => "ask with `Accept-Encoding: identity`: the credential is masked then",
        Fault::Unscannable(_) => {
            "answers come as gzip, deflate, br, zstd or uncoded; ask with `Accept-Encoding: identity`"
        }
    }
}

/// Says what is wrong with a certificate; what else went wrong is for the log.
fn tls_message(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Certificate { fault, .. } => {
            format!("no verified TLS with the upstream: its certificate {fault}")
        }
        _ => "no verified TLS with the upstream".into(),
    }
}

fn message(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Policy(reason) => reason.message(),
        Refusal::Internal(_) => FAILED.into(),
        Refusal::Vault(error) => match error.root() {
            VaultError::Store(_) => FAILED.into(),
            error => error.to_string(),
        },
        Refusal::Dial(DialError::Refused { .. }) => {
            "the host resolves to an address that may not be dialled".into()
        }
        Refusal::Dial(error) if error.is_of_descriptors() => {
            "too many open streams: there is none left for the upstream".into()
        }
        Refusal::Dial(DialError::Resolve { .. }) => "the host cannot be resolved".into(),
        Refusal::Dial(error @ DialError::Proxy { .. }) => error.to_string(),
        Refusal::Dial(_) => "the upstream cannot be reached".into(),
        Refusal::Tls(error) => tls_message(error),
        Refusal::Write(WriteError::Unsendable) => {
            "the stored credential cannot be sent; store it again".into()
        }
        other => other.to_string(),
    }
}
