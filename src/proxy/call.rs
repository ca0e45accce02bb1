//! [`run`]: a call that a person makes with a connection by its id, through the control plane. It goes down
//! the spine like an agent's request; only who asks differs.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::asker::Asker;
use super::body::{AnswerBody, RequestBody};
use super::record::Record;
use super::{Core, Gateway, exchange, respond};
use crate::directory::ConnectionRecord;

/// The body of an answer, on its way.
pub type CallBody = UnsyncBoxBody<Bytes, Cut>;

/// An answer that did not come to its end. The record says why.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer was cut off")]
pub struct Cut;

/// What came of a call.
#[derive(Debug)]
pub struct Called {
    /// As audit and log name it; `None` when no record could be begun.
    pub exchange: Option<String>,
    /// The provider's answer, scrubbed, its body on the way; or Keyward's refusal.
    pub result: Result<Response<CallBody>, Declined>,
}

/// A refusal, as agents get it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Declined {
    /// Its status.
    pub status: StatusCode,
    /// Its stable code.
    pub code: &'static str,
    /// Why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Sends a request with the connection's credential. Its URI is absolute.
pub async fn run(
    gateway: &Arc<Gateway>,
    connection: &Arc<ConnectionRecord>,
    request: Request<Bytes>,
) -> Called {
    let mut record = match Record::begin(gateway).await {
        Ok(record) => record,
        Err(refusal) => {
            let declined = respond::declined(&refusal, None);
            return Called { exchange: None, result: Err(declined) };
        }
    };
    let exchange = Some(record.exchange().to_owned());
    record.asked_by_owner(&connection.org);
    record.asked_for(request.method(), None, Some(request.uri().path()));
    // Streams of its own: the cores are the agents'.
    let core = Core::new(gateway.clone());
    let request = request.map(RequestBody::own);
    let result = match exchange::run(&core, Asker::Owner(connection), request, &mut record).await {
        Ok(answer) => {
            let passed = |body: AnswerBody| body.map_err(|_| Cut).boxed_unsync();
            Ok(answer.forward(record).map(passed))
        }
        Err(refusal) => Err(respond::declined(&refusal, Some(&mut record))),
    };
    Called { exchange, result }
}
