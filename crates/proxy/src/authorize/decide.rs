//! Authorizes requests and CONNECTs, also while the configuration changes. A request that was refused during a
//! change is decided again with the new rules, so a request that both the old and the new rules allow never fails
//! because of the change.

use std::sync::Arc;
use std::time::Duration;

use super::requester::Requester;
use super::tripwire;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::request::inbound::Inbound;
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_rules::inject::credential::Credential;
use keyward_rules::policy::{InterceptPermit, Permit, Route, TunnelPermit};

/// How long a refused request waits for a configuration change in progress. A longer change waits for the store,
/// which blocks everything else too.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// The maximum number of decisions while configuration changes follow each other.
const TRIES_MAX: usize = 16;

/// How a CONNECT is served.
pub enum ConnectRoute {
    /// Keyward terminates TLS with a leaf of the local CA.
    Intercept(InterceptPermit),
    Tunnel(TunnelPermit),
}

/// The permit of a request and its credential.
///
/// # Errors
/// When policy refuses, or the credential is not available.
pub async fn decide(
    gateway: &Gateway,
    requester: Requester<'_>,
    inbound: &Inbound,
    record: &mut Record,
) -> Result<(Permit, Option<Arc<Credential>>), Refusal> {
    let mut attempts = 0;
    loop {
        let moment = gateway.rulebook.moment();
        let refusal = match attempt(gateway, requester, inbound, record).await {
            Ok(permitted) => return Ok(permitted),
            Err(refusal) => refusal,
        };
        attempts += 1;
        if !is_of_configuration(&refusal) || !anew(gateway, moment, attempts).await {
            if let Requester::Agent(session) = requester {
                tripwire::honeytokens(gateway, &session.agent, inbound);
            }
            if let Refusal::Policy(reason) = &refusal
                && let Some(connection) = reason.broken_connection()
            {
                gateway.vault.retry_rejected(requester.org(), connection);
            }
            return Err(refusal);
        }
    }
}

async fn attempt(
    gateway: &Gateway,
    requester: Requester<'_>,
    inbound: &Inbound,
    record: &mut Record,
) -> Result<(Permit, Option<Arc<Credential>>), Refusal> {
    let permit = requester.permit(gateway, inbound)?;
    record.set_permit(&permit);
    let credential = gateway.vault.credential_in(requester.org(), permit.wanted()).await?;
    Ok((permit, credential))
}

/// Decides how a CONNECT is served.
///
/// # Errors
/// When policy refuses.
pub async fn route(
    gateway: &Gateway,
    agent: &Agent,
    target: &Target,
) -> Result<ConnectRoute, Refusal> {
    let mut attempts = 0;
    loop {
        let moment = gateway.rulebook.moment();
        let reason = match gateway.rulebook.current().route(agent, target) {
            Route::Intercept(permit) => return Ok(ConnectRoute::Intercept(permit)),
            Route::Tunnel(permit) => return Ok(ConnectRoute::Tunnel(permit)),
            Route::Deny(reason) => reason,
        };
        attempts += 1;
        if !anew(gateway, moment, attempts).await {
            return Err(Refusal::Policy(reason));
        }
    }
}

fn is_of_configuration(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Policy(_) | Refusal::Vault(_))
}

async fn anew(gateway: &Gateway, moment: u64, attempts: usize) -> bool {
    attempts < TRIES_MAX && gateway.rulebook.settled(moment, SETTLED_WITHIN).await
}
