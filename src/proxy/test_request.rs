//! [`run`]: a connection's own test request, sent as an agent's would be: permit, credential, clearing,
//! injection, guard and verification are those of the data path, and one audit record is left.

mod told;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use tokio::time::Instant;

use super::answer::Sent;
use super::arriving::Arriving;
use super::call::Declined;
use super::error::Refusal;
use super::inbound::Inbound;
use super::record::Record;
use super::{Core, Gateway, exchange, respond};
use crate::directory::ConnectionRecord;
use crate::inject::credential::Credential;
use crate::net::client::{CertificateFault, HandshakeError};
use crate::net::dial::DialError;
use crate::observe::event::Outcome;
use crate::policy::Permit;
use crate::provider::{Expected, TestRequest};
pub use told::Told;

/// A person waits. Requests of this kind are answered in a fraction of a second.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// A body is read only where the verdict stands in it; those are short.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What came of a test.
#[derive(Clone, Debug)]
pub struct Tested {
    /// The exchange that audit and log name; `None` when none began.
    pub exchange: Option<String>,
    /// Until the head of the answer, or until it was given up.
    pub took: Duration,
    /// The provider's answer, or why there is none.
    pub result: Result<Answer, Fault>,
}

/// An answer of the provider. Of its text only [`Told`] is kept: it may repeat the credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether status and body are those of a good credential.
    pub good: bool,
    /// Seconds, where it says when to come again.
    pub retry_after: Option<u64>,
    /// What it says of the account and of what the credential may do.
    pub told: Told,
}

/// Why the provider did not answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Its host has no address.
    Unresolved,
    /// Its host has only addresses that may not be dialled.
    AddressRefused,
    /// Nothing accepts streams there.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// Its certificate does not prove the host.
    Untrusted(CertificateFault),
    /// No TLS could be agreed on.
    NoTls,
    /// Its answer is not HTTP.
    Malformed,
    /// Keyward did not send the request.
    NotSent {
        /// As agents get it.
        code: &'static str,
        /// As agents get it.
        message: String,
        /// As agents get it.
        hint: Option<String>,
    },
}

/// Sends the test request of a connection, and waits for the answer. `trial`: a credential of the same
/// connection that is not in force.
pub async fn run(
    gateway: &Arc<Gateway>,
    connection: &Arc<ConnectionRecord>,
    test: TestRequest,
    trial: Option<Arc<Credential>>,
) -> Tested {
    let began = Instant::now();
    let mut record = match Record::begin(gateway).await {
        Ok(record) => record,
        Err(refusal) => {
            let result = Err(fault(&refusal, None));
            return Tested { exchange: None, took: began.elapsed(), result };
        }
    };
    let exchange = Some(record.exchange().to_owned());
    record.asked_by_owner(&connection.org);
    record.asked_for(&test.method, None, Some(test.uri.path()));
    let expected = test.expected.clone();
    let asked = ask(gateway, connection, (test, trial), &mut record);
    let asked = tokio::time::timeout(ANSWERED_WITHIN, asked);
    let sent = asked.await.unwrap_or(Err(Refusal::AnswerTimeout));
    let took = began.elapsed();
    let result = match sent {
        Ok(sent) => {
            let answer = judge(sent, &expected, gateway.clock.now()).await;
            record.ended(Outcome::Completed);
            Ok(answer)
        }
        Err(refusal) => Err(fault(&refusal, Some(&mut record))),
    };
    Tested { exchange, took, result }
}

/// The stages of an exchange; only who permits differs.
async fn ask(
    gateway: &Arc<Gateway>,
    connection: &Arc<ConnectionRecord>,
    (test, trial): (TestRequest, Option<Arc<Credential>>),
    record: &mut Record,
) -> Result<Sent, Refusal> {
    // Streams of its own: the way to the provider is tested as it is now.
    let core = Core::new(gateway.clone());
    let inbound = Inbound::test(request(test), &connection.org)?;
    record.parsed(&inbound);
    let permit: Permit = gateway.rulebook.permit_test(connection, &inbound.asked())?;
    record.permitted(&permit);
    let credential = match trial {
        Some(credential) if credential.connection == connection.id => Some(credential),
        _ => gateway.vault.credential_in(&connection.org, permit.wanted()).await?,
    };
    exchange::send(&core, inbound, (permit, credential), None, record).await
}

fn request(test: TestRequest) -> Request<Bytes> {
    let mut request = Request::new(test.body);
    *request.method_mut() = test.method;
    *request.uri_mut() = test.uri;
    *request.headers_mut() = test.headers;
    request
}

async fn judge(sent: Sent, expected: &Expected, now: Timestamp) -> Answer {
    let needles = sent.credential().map(|credential| credential.needles.clone());
    // The lease is dropped with its stream: it is not used again.
    let (response, _lease) = sent.into_parts();
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    let reads = expected.reads_body() || expected.reads_account() || status == 403;
    let body = if reads { read(body).await } else { None };
    let body = body.as_deref();
    let met = !expected.reads_body() || body.is_some_and(|body| expected.is_met_by(body));
    Answer {
        status,
        good: expected.takes(status) && met,
        retry_after: retry_after(&head.headers),
        told: Told::of((&head.headers, body), expected, needles.as_deref(), now),
    }
}

async fn read(body: Arriving) -> Option<Bytes> {
    let all = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(ANSWERED_WITHIN, all).await {
        Ok(Ok(whole)) => Some(whole.to_bytes()),
        _ => None,
    }
}

/// RFC 9110 §10.2.3, in seconds; dates are left to the reader of a log.
fn retry_after(fields: &HeaderMap) -> Option<u64> {
    fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

fn fault(refusal: &Refusal, record: Option<&mut Record>) -> Fault {
    let Declined { code, message, hint, .. } = respond::declined(refusal, record);
    match refusal {
        Refusal::Dial(DialError::Resolve { .. }) => Fault::Unresolved,
        Refusal::Dial(DialError::Refused { .. }) => Fault::AddressRefused,
        Refusal::Dial(DialError::Connect { .. }) => Fault::Unreachable,
        Refusal::Dial(DialError::Timeout { .. })
        | Refusal::Tls(HandshakeError::Timeout { .. })
        | Refusal::AnswerTimeout => Fault::Timeout,
        Refusal::Tls(HandshakeError::Certificate { fault, .. }) => Fault::Untrusted(*fault),
        Refusal::Tls(HandshakeError::Handshake { .. }) => Fault::NoTls,
        Refusal::Protocol { .. } => Fault::Malformed,
        _ => Fault::NotSent { code, message, hint },
    }
}
