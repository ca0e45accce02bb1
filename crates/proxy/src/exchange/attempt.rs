//! [`send`]: one attempt of an exchange, from an admitted request to the head of the upstream's answer.

use std::sync::Arc;

use crate::authorize::connection_limits::Admitted;
use crate::gateway::Core;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::upstream::outbound::Outbound;
use crate::upstream::retries::Retries;
use crate::upstream::sent::SentRequest;

/// Sends one attempt. The test of a connection uses it too, so every request is sent in the same way.
///
/// # Errors
/// When there is no answer.
pub async fn send(
    core: &Arc<Core>,
    admitted: Admitted,
    retries: Option<&Arc<Retries>>,
    record: &mut Record,
) -> Result<SentRequest, Refusal> {
    let admitted = begin(admitted, retries, record);
    let outbound = Outbound::prepare(&core.gateway, admitted, retries).await?;
    let sent = outbound.send(core).await;
    if let Some(trace) = record.trace() {
        trace.end_attempt(sent.as_ref().ok().map(|sent| sent.status().as_u16()));
    }
    let sent = sent?;
    record.set_answer(sent.status(), sent.stated_limit(&core.gateway.clock));
    Ok(sent)
}

/// Records that the attempt begins. A function, because the future of [`send`] has room for whatever it borrows.
fn begin(mut admitted: Admitted, retries: Option<&Arc<Retries>>, record: &mut Record) -> Admitted {
    record.set_credential(admitted.permitted().credential().map(|credential| &**credential));
    match retries {
        None => record.count_attempt(),
        Some(retries) => retries.count(),
    }
    if let Some(trace) = record.trace() {
        admitted.set_trace(&trace.begin_attempt());
    }
    admitted
}
