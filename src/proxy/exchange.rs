//! THE SPINE: every exchange, whatever stream it came on, goes through [`run`], one stage a line.

use std::sync::Arc;

use http::{Request, Response};

use super::answer::{Answer, Sent};
use super::asker::Asker;
use super::body::{AnswerBody, RequestBody};
use super::error::Refusal;
use super::grpc::Dialect;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::record::Record;
use super::retry::Tries;
use super::session::Session;
use super::{Core, admit, permitted, renew, respond, upstream};
use crate::inject::credential::Credential;
use crate::policy::Permit;

/// One exchange, from a request to its answer. `record` is complete when the answer's body ends.
pub(super) async fn run(
    core: &Arc<Core>,
    asker: Asker<'_>,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Answer, Refusal> {
    let gw = &core.gateway;
    asker.still_holds(gw)?;
    let inbound = asker.inbound(request, &gw.limits)?;
    record.parsed(&inbound);
    let permitted = permitted::decide(gw, asker, &inbound, record).await?;
    let admitted = admit::admit(gw, permitted, record)?;
    renew::send(core, asker, inbound, admitted, record).await?.scrubbed(record).await
}

/// The half of it that is one attempt, and that a test of a connection shares: nothing is sent in another
/// way.
pub(super) async fn send(
    core: &Arc<Core>,
    inbound: Box<Inbound>,
    (permit, credential): (Permit, Option<Arc<Credential>>),
    tries: Option<&Arc<Tries>>,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    record.injected(credential.as_deref());
    record.attempts(tries);
    let gw = &core.gateway;
    let outbound = Outbound::prepare(gw, inbound, permit, credential.as_ref()).await?.within(tries);
    let sent = upstream::send(core, outbound).await?.carried(credential);
    record.answered(&sent);
    Ok(sent)
}

/// Runs an exchange and turns whatever comes of it into an answer.
pub async fn answer(
    core: &Arc<Core>,
    session: &Arc<Session>,
    request: Request<RequestBody>,
) -> Response<AnswerBody> {
    session.pulse.begin();
    let dialect = Dialect::of(request.headers());
    let mut record = match Record::begin(&core.gateway).await {
        Ok(record) => record,
        Err(refusal) => return respond::unrecorded(&refusal, dialect),
    };
    record.ends_in(session);
    record.speaks(dialect);
    record.asked_by(&session.agent);
    record.asked_for(request.method(), session.entry.target(), Some(request.uri().path()));
    match run(core, Asker::Agent(session), request, &mut record).await {
        Ok(answer) => answer.forward(record),
        Err(refusal) => respond::refusal(&refusal, record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<F: Future>(_made: impl FnOnce() -> F) -> usize {
        size_of::<F>()
    }

    /// Each request takes as much from the allocator, and is moved there.
    #[test]
    #[allow(unreachable_code)]
    fn an_exchange_takes_little_room() {
        let bytes = bytes_of(|| answer(unreachable!(), unreachable!(), unreachable!()));
        assert!(bytes <= 8_704, "{bytes} bytes");
    }
}
