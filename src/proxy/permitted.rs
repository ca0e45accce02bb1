//! Permits in a configuration that changes: what was refused while a change came into force is decided
//! anew, so that a request which the old and the new rules allow never fails for the change.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::alarm;
use super::asker::Asker;
use super::error::Refusal;
use super::inbound::Inbound;
use super::record::Record;
use crate::base::agent::Agent;
use crate::base::host::Target;
use crate::inject::credential::Credential;
use crate::policy::{InterceptPermit, Permit, Route, TunnelPermit};

/// How long a refused request waits for a change that is under way. One that takes longer waits for
/// the store, as everything does then.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// How often a request is decided anew, while one change follows the other.
const TRIES_MAX: usize = 16;

/// What a CONNECT may become.
pub enum Way {
    /// TLS with a leaf of ours.
    Intercept(InterceptPermit),
    /// Bytes, unseen.
    Tunnel(TunnelPermit),
}

/// The permit of a request and the credential that it wants.
///
/// # Errors
/// When policy refuses, or there is no such credential.
pub async fn decide(
    gateway: &Gateway,
    asker: Asker<'_>,
    inbound: &Inbound,
    record: &mut Record,
) -> Result<(Permit, Option<Arc<Credential>>), Refusal> {
    let mut tries = 0;
    loop {
        let moment = gateway.rulebook.moment();
        let refusal = match attempt(gateway, asker, inbound, record).await {
            Ok(permitted) => return Ok(permitted),
            Err(refusal) => refusal,
        };
        tries += 1;
        if !is_of_configuration(&refusal) || !anew(gateway, moment, tries).await {
            if let Asker::Agent(session) = asker {
                alarm::honeytokens(gateway, &session.agent, inbound);
            }
            return Err(refusal);
        }
    }
}

async fn attempt(
    gateway: &Gateway,
    asker: Asker<'_>,
    inbound: &Inbound,
    record: &mut Record,
) -> Result<(Permit, Option<Arc<Credential>>), Refusal> {
    let permit = asker.permit(gateway, inbound)?;
    record.permitted(&permit);
    let credential = gateway.vault.credential_in(asker.org(), permit.wanted()).await?;
    Ok((permit, credential))
}

/// The way of a CONNECT.
///
/// # Errors
/// When policy refuses.
pub async fn route(gateway: &Gateway, agent: &Agent, target: &Target) -> Result<Way, Refusal> {
    let mut tries = 0;
    loop {
        let moment = gateway.rulebook.moment();
        let reason = match gateway.rulebook.current().route(agent, target) {
            Route::Intercept(permit) => return Ok(Way::Intercept(permit)),
            Route::Tunnel(permit) => return Ok(Way::Tunnel(permit)),
            Route::Deny(reason) => reason,
        };
        tries += 1;
        if !anew(gateway, moment, tries).await {
            return Err(Refusal::Policy(reason));
        }
    }
}

fn is_of_configuration(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Policy(_) | Refusal::Vault(_))
}

async fn anew(gateway: &Gateway, moment: u64, tries: usize) -> bool {
    tries < TRIES_MAX && gateway.rulebook.settled(moment, SETTLED_WITHIN).await
}
