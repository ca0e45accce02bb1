//! [`run`] sends a request that a person makes through the control plane, with a connection chosen by its id. It
//! uses the same stages as an agent's request.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::answer_body::AnswerBody;
use super::guard::{ExchangeGuard, OccupiedStream};
use super::{respond, run as run_exchange};
use crate::authorize::requester::Requester;
use crate::body::request_body::RequestBody;
use crate::gateway::{Core, Gateway};
use crate::refusal::RefusalFormat;
use keyward_base::codes::RefusalText;
use keyward_state::directory::ConnectionRecord;

/// The body of an answer, streamed.
pub type CallBody = UnsyncBoxBody<Bytes, CallBodyError>;

/// The answer's body ended early. The record has the cause.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer was cut off")]
pub struct CallBodyError;

/// The result of a call.
#[derive(Debug)]
pub struct CallOutcome {
    /// The exchange's id in the audit log and the log; `None` when no record was begun.
    pub exchange: Option<String>,
    /// The provider's answer, scrubbed, its body on the way; or Keyward's refusal.
    pub result: Result<Response<CallBody>, RefusalText>,
}

/// Sends a request with the connection's credential. The request's URI must be absolute.
pub async fn run(
    gateway: &Arc<Gateway>,
    connection: &ConnectionRecord,
    request: Request<Bytes>,
) -> CallOutcome {
    let begun = ExchangeGuard::begin(gateway, OccupiedStream::None, RefusalFormat::Http).await;
    let mut exchange = match begun {
        Ok(exchange) => exchange,
        Err(refusal) => {
            let declined = respond::refusal_info(&refusal, None);
            return CallOutcome { exchange: None, result: Err(declined) };
        }
    };
    let id = Some(exchange.record.exchange().to_owned());
    exchange.record.set_actor(&connection.org);
    exchange.record.set_request(request.method(), None, Some(request.uri().path()));
    exchange.record.continue_trace(request.headers());
    // Separate upstream streams: those of the cores are for agents.
    let core = Core::new(gateway.clone());
    let request = request.map(RequestBody::own);
    let requester = Requester::Owner(connection);
    let result = match run_exchange(&core, requester, Box::new(request), &mut exchange).await {
        Ok(answer) => {
            let passed = |body: AnswerBody| body.map_err(|_| CallBodyError).boxed_unsync();
            Ok(answer.forward(exchange).map(passed))
        }
        Err(refusal) => Err(respond::refusal_info(&refusal, Some(&mut exchange.record))),
    };
    CallOutcome { exchange: id, result }
}
