//! [`send`]: one attempt of an exchange, from a permit to the head of the upstream's answer.

use std::sync::Arc;

use crate::gateway::Core;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::request::inbound::Inbound;
use crate::upstream;
use crate::upstream::outbound::Outbound;
use crate::upstream::retries::Retries;
use crate::upstream::sent::Sent;
use keyward_rules::inject::credential::Credential;
use keyward_rules::policy::Permit;

/// Sends one attempt. The test of a connection uses it too, so every request is sent in the same way.
pub async fn send(
    core: &Arc<Core>,
    inbound: Box<Inbound>,
    (permit, credential): (Permit, Option<Arc<Credential>>),
    attempts: Option<&Arc<Retries>>,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    record.set_credential(credential.as_deref());
    match attempts {
        None => record.count_attempt(),
        Some(attempts) => attempts.count(),
    }
    let gw = &core.gateway;
    let outbound =
        Outbound::prepare(gw, inbound, permit, credential.as_ref()).await?.within(attempts);
    let sent = upstream::send(core, outbound).await?.carried(credential);
    record.set_answer(sent.status(), sent.headers());
    Ok(sent)
}
