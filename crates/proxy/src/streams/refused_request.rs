//! [`RefusedRequest`]: a request that is refused before it has a session.

use std::sync::Arc;

use http::{Method, Response};

use crate::exchange::answer_body::AnswerBody;
use crate::exchange::respond;
use crate::gateway::Core;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::refusal::grpc::RefusalFormat;
use crate::session::AcceptedStream;
use keyward_base::agent::Agent;

/// A request without a session, for its record.
pub struct RefusedRequest<'a> {
    pub method: &'a Method,
    /// `None` when the client is not authenticated: the path may contain its token.
    pub path: Option<&'a str>,
    pub agent: Option<Agent>,
}

/// Answers the request with the refusal.
pub async fn refused(
    core: &Arc<Core>,
    accepted: &AcceptedStream,
    RefusedRequest { method, path, agent }: RefusedRequest<'_>,
    refusal: &Refusal,
) -> Response<AnswerBody> {
    accepted.watchdog.begin_exchange();
    let mut record = match Record::begin(&core.gateway).await {
        Ok(record) => record,
        Err(refusal) => return respond::unrecorded(&refusal, RefusalFormat::Http),
    };
    record.attach_watchdog(&accepted.watchdog);
    if let Some(agent) = &agent {
        record.set_agent(agent);
    }
    record.set_request(method, None, path);
    respond::refusal(refusal, record)
}
