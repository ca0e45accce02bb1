//! [`run`] sends the test request of a connection through the stages of the data path: permit, credential,
//! injection, address check and TLS verification. It leaves one audit event.
//!
//! [`AnswerDetails`]: what the answer says about the account and the rights of the credential. It reads only the members that the
//! provider's file names and some well-known fields, and drops text that contains a part of the credential.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::time::Instant;

use super::{attempts, respond};
use crate::authorize::connection_limits::{self, Admission};
use crate::authorize::decide;
use crate::body::incoming_body::IncomingBody;
use crate::gateway::{Core, Gateway};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::request::inbound::Inbound;
use crate::upstream::sent::SentRequest;
use keyward_base::codes::RefusalText;
use keyward_net::client::{CertificateFault, HandshakeError};
use keyward_net::dial::DialError;
use keyward_net::read_body::read_body;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::scrub::Needles;
use keyward_rules::provider::{ExpectedResponse, TestRequest};
use keyward_state::directory::ConnectionRecord;
use keyward_state::observe::event::Outcome;

/// The timeout. A person waits; test requests are usually answered in a fraction of a second.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// The maximum length of a body. A body is read only if it decides the result.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// The result of a test.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// The URL that was asked; secret fields are placeholders.
    pub uri: Uri,
    /// The exchange's id in the audit log and the log; `None` when none began.
    pub exchange: Option<String>,
    /// The time until the head of the answer, or until the timeout.
    pub took: Duration,
    /// The provider's answer, or why there is none.
    pub result: Result<TestAnswer, TestError>,
}

impl TestReport {
    fn accepts(&self) -> bool {
        self.result.as_ref().is_ok_and(|answer| answer.good)
    }

    /// Whether the service refuses the request, so that another of its hosts may accept it.
    fn refuses(&self) -> bool {
        let refuses = |it: &TestAnswer| !it.good && it.status < 500 && it.status != 429;
        self.result.as_ref().is_ok_and(refuses)
    }

    fn rejects_credential(&self) -> bool {
        self.result.as_ref().is_ok_and(TestAnswer::rejects_credential)
    }
}

/// An answer of the provider. Of its text only [`AnswerDetails`] is kept, because it may contain the credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TestAnswer {
    pub status: u16,
    /// Whether the status and the body prove a valid credential.
    pub good: bool,
    /// `Retry-After` in seconds, if it is there.
    pub retry_after: Option<u64>,
    /// Details of the account and its rights.
    pub details: AnswerDetails,
}

impl TestAnswer {
    /// Whether the provider rejects the credential itself. 403 does not mean that: the credential is known.
    pub fn rejects_credential(&self) -> bool {
        !self.good && self.status == 401 && self.details.clock_ahead_s.is_none()
    }
}

/// Why the provider did not answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TestError {
    /// The host has no address.
    Unresolved,
    /// The host has only addresses that may not be dialled.
    AddressRefused,
    /// The host does not accept streams.
    Unreachable,
    /// The provider did not answer in time.
    Timeout,
    /// The certificate does not prove the host.
    Untrusted(CertificateFault),
    /// The TLS handshake failed.
    NoTls(&'static str),
    /// The answer is not valid HTTP.
    Malformed,
    /// Keyward did not send the request.
    NotSent(/** As agents get it. */ RefusalText),
}

/// Sends the test request of a connection and waits for the answer. While it is refused, the provider's other URLs are
/// asked; if none accepts the credential, the first answer is the result. `trial`: a credential of the same
/// connection that is not in use yet.
pub async fn run(
    gateway: &Arc<Gateway>,
    connection: &ConnectionRecord,
    test: TestRequest,
    trial: Option<Arc<Credential>>,
) -> TestReport {
    let until = Instant::now() + ANSWERED_WITHIN;
    let first = run_at_one_url(gateway, connection, test.clone(), trial.clone(), until).await;
    if !first.refuses() {
        return first;
    }
    let mut undecided = None;
    for uri in &test.others {
        let next = TestRequest { uri: uri.clone(), ..test.clone() };
        let next = run_at_one_url(gateway, connection, next, trial.clone(), until).await;
        if next.accepts() {
            return next;
        }
        // A credential is wrong only if each host says so.
        if first.rejects_credential() && !next.rejects_credential() {
            undecided.get_or_insert(next);
        }
    }
    undecided.unwrap_or(first)
}

async fn run_at_one_url(
    gateway: &Arc<Gateway>,
    connection: &ConnectionRecord,
    test: TestRequest,
    trial: Option<Arc<Credential>>,
    until: Instant,
) -> TestReport {
    let (began, uri) = (Instant::now(), test.uri.clone());
    let mut record = match Record::begin(gateway).await {
        Ok(record) => record,
        Err(refusal) => {
            let result = Err(fault(&refusal, None));
            return TestReport { uri, exchange: None, took: began.elapsed(), result };
        }
    };
    let exchange = Some(record.exchange().to_owned());
    record.set_actor(&connection.org);
    record.set_request(&test.method, None, Some(test.uri.path()));
    let expected = test.expected.clone();
    let asked = ask(gateway, connection, test, trial, &mut record);
    let asked = tokio::time::timeout_at(until, asked);
    let sent = asked.await.unwrap_or(Err(Refusal::AnswerTimeout));
    let took = began.elapsed();
    let result = match sent {
        Ok(sent) => {
            let answer = judge(sent, &expected, gateway.clock.now()).await;
            record.set_outcome(Outcome::Completed);
            Ok(answer)
        }
        Err(refusal) => Err(fault(&refusal, Some(&mut record))),
    };
    TestReport { uri, exchange, took, result }
}

/// Sends a request of Keyward's own with the connection's credential, as a test is sent, and gives the status and the body of the
/// answer.
///
/// # Errors
/// When the service does not answer, or Keyward does not send the request.
pub async fn fetch(
    gateway: &Arc<Gateway>,
    connection: &ConnectionRecord,
    request: TestRequest,
) -> Result<(u16, Bytes), TestError> {
    let begun = Record::begin(gateway).await;
    let mut record = begun.map_err(|refusal| fault(&refusal, None))?;
    record.set_actor(&connection.org);
    record.set_request(&request.method, None, Some(request.uri.path()));
    let asked = ask(gateway, connection, request, None, &mut record);
    let asked = tokio::time::timeout(ANSWERED_WITHIN, asked);
    let sent = asked.await.unwrap_or(Err(Refusal::AnswerTimeout));
    let sent = sent.map_err(|refusal| fault(&refusal, Some(&mut record)))?;
    let (response, _lease) = sent.into_parts();
    let (head, body) = response.into_parts();
    let body = read(body).await;
    record.set_outcome(Outcome::Completed);
    Ok((head.status.as_u16(), body.ok_or(TestError::Malformed)?))
}

/// The stages of an exchange; only the source of the permit differs.
async fn ask(
    gateway: &Arc<Gateway>,
    connection: &ConnectionRecord,
    test: TestRequest,
    trial: Option<Arc<Credential>>,
    record: &mut Record,
) -> Result<SentRequest, Refusal> {
    // New upstream streams, so that the current route to the provider is tested.
    let core = Core::new(gateway.clone());
    let inbound = Inbound::test(request(test), &connection.org)?;
    record.set_parsed(inbound.target(), inbound.path(), inbound.body.count());
    let permitted = decide::decide_test(gateway, connection, inbound, trial, record).await?;
    let admitted = connection_limits::admit(gateway, permitted, &mut Admission::Uncounted)?;
    attempts::send(&core, admitted, None, record).await
}

fn request(test: TestRequest) -> Request<Bytes> {
    let mut request = Request::new(test.body);
    *request.method_mut() = test.method;
    *request.uri_mut() = test.uri;
    *request.headers_mut() = test.headers;
    request
}

async fn judge(sent: SentRequest, expected: &ExpectedResponse, now: Timestamp) -> TestAnswer {
    let needles = sent.credential().map(|credential| credential.needles.clone());
    // The lease is dropped with its stream: it is not used again.
    let (response, _lease) = sent.into_parts();
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    let reads = expected.reads_body() || expected.reads_account() || status == 403;
    let body = if reads { read(body).await } else { None };
    let body = body.as_deref();
    let met = !expected.reads_body() || body.is_some_and(|body| expected.is_met_by(body));
    TestAnswer {
        status,
        good: expected.accepts_status(status) && met,
        retry_after: retry_after(&head.headers),
        details: AnswerDetails::of(&head.headers, body, expected, needles.as_deref(), now),
    }
}

async fn read(body: IncomingBody) -> Option<Bytes> {
    let all = read_body(body, BODY_BYTES_MAX);
    tokio::time::timeout(ANSWERED_WITHIN, all).await.ok()?.ok()
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); dates are ignored.
fn retry_after(fields: &HeaderMap) -> Option<u64> {
    fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

fn fault(refusal: &Refusal, record: Option<&mut Record>) -> TestError {
    let text = respond::refusal_info(refusal, record);
    match refusal {
        Refusal::Dial(DialError::Resolve { .. }) => TestError::Unresolved,
        Refusal::Dial(DialError::Refused { .. }) => TestError::AddressRefused,
        Refusal::Dial(DialError::Connect { .. }) => TestError::Unreachable,
        Refusal::Dial(DialError::Timeout { .. })
        | Refusal::Tls(HandshakeError::Timeout { .. })
        | Refusal::AnswerTimeout => TestError::Timeout,
        Refusal::Tls(HandshakeError::Certificate { fault, .. }) => TestError::Untrusted(*fault),
        Refusal::Tls(HandshakeError::Handshake { fault, .. }) => TestError::NoTls(fault),
        Refusal::Protocol { .. } => TestError::Malformed,
        _ => TestError::NotSent(text),
    }
}

/// The maximum length of an account's name or a scope, in characters.
const TEXT_CHARS_MAX: usize = 128;

/// The maximum number of scopes.
const SCOPES_MAX: usize = 64;

/// Smaller clock differences do not cause refusals.
const CLOCK_OFF_S: i64 = 120;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AnswerDetails {
    /// The name of the account.
    pub account: Option<String>,
    /// Scopes that the credential has.
    pub scopes: Vec<String>,
    /// Scopes that the request requires.
    pub needs: Vec<String>,
    /// The number of seconds that this machine's clock is ahead of the provider's, if that is much.
    pub clock_ahead_s: Option<i64>,
}

impl AnswerDetails {
    /// Reads the details. `body`: as far as it was read.
    pub fn of(
        fields: &HeaderMap,
        body: Option<&[u8]>,
        expected: &ExpectedResponse,
        needles: Option<&Needles>,
        now: Timestamp,
    ) -> Self {
        let clean = |text: String| clean(&text, needles);
        let list = |name: &str| words(fields, name).into_iter().filter_map(clean);
        let asked = fields.get_all(header::WWW_AUTHENTICATE).iter();
        let asked = asked.filter_map(|value| scope_of(value.to_str().ok()?));
        let needed = body.and_then(|body| expected.needed(body)).unwrap_or_default();
        let needs = asked.chain(needed).filter_map(clean);
        Self {
            account: body.and_then(|body| expected.account(body)).and_then(clean),
            scopes: list("x-oauth-scopes").take(SCOPES_MAX).collect(),
            needs: needs.chain(list("x-accepted-oauth-scopes")).take(SCOPES_MAX).collect(),
            clock_ahead_s: ahead(fields, now),
        }
    }
}

/// Trims the text. `None` if it is not printable or contains a part of the credential.
fn clean(text: &str, needles: Option<&Needles>) -> Option<String> {
    let text = text.trim();
    let has_credential = needles.is_some_and(|needles| needles.are_in(text.as_bytes()));
    let shown = !text.is_empty() && !text.contains(char::is_control);
    (shown && !has_credential).then(|| text.chars().take(TEXT_CHARS_MAX).collect())
}

/// The words of a list in a field.
fn words(fields: &HeaderMap, name: &str) -> Vec<String> {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split([',', ' ']));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `scope` of a challenge, RFC 6750 §3.
fn scope_of(challenge: &str) -> Option<String> {
    let (_, rest) = challenge.split_once("scope=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The clock difference by the answer's `Date`, RFC 9110 §6.6.1.
fn ahead(fields: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = fields.get(header::DATE)?.to_str().ok()?;
    let theirs = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let ahead = now.duration_since(theirs).as_secs();
    (ahead.abs() >= CLOCK_OFF_S).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::secret::Secret;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            ((*name).parse().unwrap(), http::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn text_with_a_part_of_the_credential_is_dropped() {
        let secret = Secret::new("canary-0123456789");
        let needles = Needles::new([&secret], []);
        let fields = fields(&[
            ("x-oauth-scopes", "repo, canary-0123456789"),
            ("www-authenticate", "Bearer scope=\"xcanary-0123456789\""),
        ]);
        let now = Timestamp::UNIX_EPOCH;
        let details =
            AnswerDetails::of(&fields, None, &ExpectedResponse::default(), Some(&needles), now);
        assert_eq!(
            details,
            AnswerDetails { scopes: vec!["repo".to_owned()], ..AnswerDetails::default() }
        );
        assert_eq!(clean("a\u{1b}b", None), None);
    }

    #[test]
    fn scopes_are_read_where_providers_state_them() {
        let fields = fields(&[
            ("x-oauth-scopes", "repo, read:org"),
            ("x-accepted-oauth-scopes", "user"),
            ("www-authenticate", "Bearer error=\"insufficient_scope\", scope=\"a b\""),
        ]);
        let now = Timestamp::UNIX_EPOCH;
        let details = AnswerDetails::of(&fields, None, &ExpectedResponse::default(), None, now);
        assert_eq!(details.scopes, ["repo", "read:org"]);
        assert_eq!(details.needs, ["a b", "user"]);
    }

    #[test]
    fn a_large_clock_difference_is_reported_and_a_small_one_is_not() {
        let fields = fields(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        for (now, off) in [
            ("1994-11-06T08:51:00Z", None),
            ("1994-11-06T09:49:37Z", Some(3_600)),
            ("1994-11-06T07:49:37Z", Some(-3_600)),
        ] {
            assert_eq!(ahead(&fields, now.parse().unwrap()), off, "{now}");
        }
    }
}
