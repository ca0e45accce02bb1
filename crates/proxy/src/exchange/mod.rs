//! THE SPINE: [`run`] takes every exchange from the request to the answer, one stage a line.
//!
//! ```text
//! attempts                              one attempt, and whether there is another: a retry, a renewed credential
//! rejected_secret                       tests a secret that the upstream refuses repeatedly
//! scrub  part  answer  answer_body      the answer without the credential; WebSockets
//! respond                               refusals as HTTP
//! guard                                 a running exchange: its record and the stream that it occupies
//! call  test_request                    exchanges of the control plane
//! ```

pub mod answer;
pub mod answer_body;
pub mod attempts;
pub mod call;
pub mod guard;
mod part;
pub mod rejected_secret;
pub mod respond;
pub mod scrub;
pub mod test_request;

use std::sync::Arc;

use http::{Request, Response};

use self::answer::Answer;
use self::answer_body::AnswerBody;
use self::attempts::{Attempts, NextStep};
use self::guard::{ExchangeGuard, OccupiedStream};
use crate::authorize::requester::{Requester, ValidRequester};
use crate::authorize::{connection_limits, decide};
use crate::body::request_body::RequestBody;
use crate::gateway::{Core, Gateway};
use crate::probe::{CarriedCredential, ProbedRequest, Seen};
use crate::record::Record;
use crate::refusal::{Refusal, RefusalFormat};
use crate::request::inbound::Inbound;
use crate::request::judged_body;
use crate::session::ProxySession;
use keyward_rules::policy::Reason;

/// Runs one exchange, which ends when the body of its answer ends.
///
/// # Errors
/// When there is no answer to pass on.
pub async fn run(
    core: &Arc<Core>,
    requester: Requester<'_>,
    request: Box<Request<RequestBody>>,
    exchange: &mut ExchangeGuard,
) -> Result<Answer, Refusal> {
    let gw = &core.gateway;
    let (mut valid, mut inbound) = begin(gw, requester, *request, exchange)?;
    if report_if_probed(gw, requester, &inbound, &mut exchange.record) {
        // Many clients take an answer before they have sent all for a failure. A call may send messages for ever.
        if exchange.format != RefusalFormat::Grpc {
            Box::pin(judged_body::drop_rest(&mut inbound)).await;
        }
        return Err(Refusal::Probed);
    }
    let mut attempts = None;
    let sent = loop {
        let permitted = decide::decide(gw, valid, inbound, &mut exchange.record).await?;
        let mut admitted = connection_limits::admit(gw, permitted, &mut exchange.admission)?;
        exchange.await_answer(admitted.permitted().permit());
        attempts = Attempts::prepare(attempts, core, &mut admitted, exchange);
        let retries = attempts.as_ref().and_then(|attempts| attempts.retries());
        let result = attempts::send(core, admitted, retries, &mut exchange.record).await;
        let Some(attempts) = &mut attempts else { break result? };
        // On the heap: few exchanges may be sent again.
        inbound = match Box::pin(attempts.after(gw, result, exchange.format)).await? {
            NextStep::Answer(sent) => break sent,
            NextStep::Again(inbound) => inbound,
        };
        valid = requester.check_still_valid(gw)?;
    };
    rejected_secret::observe(gw, requester, &sent, exchange.format);
    let memory = || gw.decoders.share(requester.agent());
    Answer::scrub(sent, memory, &mut exchange.record).await
}

/// Checks that the requester may send this request.
fn begin<'a>(
    gw: &Gateway,
    requester: Requester<'a>,
    request: Request<RequestBody>,
    exchange: &mut ExchangeGuard,
) -> Result<(ValidRequester<'a>, Box<Inbound>), Refusal> {
    let valid = requester.may_begin(&request, gw)?;
    let inbound = requester.inbound(request, gw)?;
    exchange.record.set_parsed(inbound.target(), inbound.path(), inbound.body.count());
    Ok((valid, inbound))
}

/// Reports what policy says of the request of a program that is only examined. Returns whether it is one: nothing is sent.
fn report_if_probed(
    gw: &Gateway,
    requester: Requester<'_>,
    inbound: &Inbound,
    record: &mut Record,
) -> bool {
    let Requester::Agent(session) = requester else { return false };
    let Some(probed) = session.probed() else { return false };
    let decided = gw.rulebook.current().decide(&session.agent, &inbound.policy_request());
    // What depends on a body is not judged.
    let reason = decided.err().filter(|reason| !matches!(reason, Reason::BodyUnread { .. }));
    let refused =
        reason.map(|reason| respond::refusal_info(&Refusal::Policy(reason), Some(record)).into());
    let (connection, head) = (session.target_source.connection(), &inbound.head);
    let host = connection.map_or_else(|| inbound.target().authority(), str::to_owned);
    let seen = Seen::Request(ProbedRequest {
        method: head.method.to_string(),
        base_url: connection.is_some(),
        own_token: probed.has_proved(&session.agent),
        credential: CarriedCredential::of(&head.uri, &head.headers),
        refused,
    });
    probed.report(Some(host), Some(&head.headers), seen);
    true
}

/// Reports a request of an examined program that is refused before policy is asked.
fn report_refused(session: &ProxySession, refusal: &Refusal) {
    if let (Some(probed), false) = (session.probed(), matches!(refusal, Refusal::Probed)) {
        let (source, text) = (&session.target_source, respond::refusal_info(refusal, None));
        let host = source.connection().map(str::to_owned);
        let host = host.or_else(|| Some(source.target()?.authority()));
        probed.report(host, None, Seen::Refused(text.into()));
    }
}

/// Runs an exchange and turns its result into an HTTP answer. A block and no `async fn`, whose future would have room
/// for each argument twice.
pub fn answer(
    core: Arc<Core>,
    session: Arc<ProxySession>,
    request: Request<RequestBody>,
) -> impl Future<Output = Response<AnswerBody>> {
    let format = RefusalFormat::of(&request);
    // On the heap: the future has room for it twice.
    let request = Box::new(request);
    async move {
        let stream = OccupiedStream::Session(session.clone());
        let mut exchange = match ExchangeGuard::begin(&core.gateway, stream, format).await {
            Ok(exchange) => exchange,
            Err(refusal) => return respond::unrecorded(&refusal, format),
        };
        exchange.record.set_agent(&session.agent);
        exchange.record.set_request(
            request.method(),
            session.target_source.target(),
            Some(request.uri().path()),
        );
        exchange.record.continue_trace(request.headers());
        // A block, so that the result takes no room while a refusal is written.
        let refused = {
            let result = run(&core, Requester::Agent(&session), request, &mut exchange).await;
            exchange.end_wait();
            match result {
                Ok(answer) => return answer.forward(exchange),
                Err(refusal) => Box::new(refusal),
            }
        };
        report_refused(&session, &refused);
        Box::pin(respond::refusal(&refused, exchange)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future_size::bytes_of;

    /// Each request allocates this much memory and is moved there.
    #[test]
    #[allow(unreachable_code)]
    fn the_future_of_an_exchange_fits_into_its_allocator_size_class() {
        let bytes = bytes_of(|| answer(unreachable!(), unreachable!(), unreachable!()));
        // A size class of jemalloc; the next is 2,048.
        assert!(bytes <= 1_792, "{bytes} bytes");
    }
}
