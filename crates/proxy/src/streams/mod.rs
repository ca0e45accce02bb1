//! Agents' streams from accept to exchange: cores, CONNECT, interception, authentication, base URLs, the SSH agent.
//! [`RefusedRequest`]: a request that is refused before it has a session.

pub mod authenticate;
pub mod base_url_requests;
pub mod connect;
pub mod cores;
pub mod intercept;
pub mod open_listener;
pub mod service;
pub mod ssh_agent;
pub mod statement_log;

use std::sync::Arc;

use http::{Method, Response};

use crate::exchange::answer_body::AnswerBody;
use crate::exchange::guard::{ExchangeGuard, OccupiedStream};
use crate::exchange::respond;
use crate::gateway::Core;
use crate::refusal::{Refusal, RefusalFormat};
use crate::session::AcceptedStream;
use keyward_base::agent::Agent;

/// A request without a session, for its record.
pub struct RefusedRequest<'a> {
    pub method: &'a Method,
    /// `None` when the client is not authenticated: the path may contain its token.
    pub path: Option<&'a str>,
    pub agent: Option<Arc<Agent>>,
}

/// Answers the request with the refusal.
pub async fn refused(
    core: &Core,
    accepted: &Arc<AcceptedStream>,
    RefusedRequest { method, path, agent }: RefusedRequest<'_>,
    refusal: &Refusal,
) -> Response<AnswerBody> {
    let stream = OccupiedStream::Accepted(accepted.clone());
    let format = RefusalFormat::Http;
    let mut exchange = match ExchangeGuard::begin(&core.gateway, stream, format).await {
        Ok(exchange) => exchange,
        Err(refusal) => return respond::unrecorded(&refusal, format),
    };
    if let Some(agent) = &agent {
        exchange.record.set_agent(agent);
    }
    exchange.record.set_request(method, None, path);
    respond::refusal(refusal, exchange).await
}
