//! Authorizes requests and CONNECTs, also while the configuration changes. A request that was refused during a
//! change is decided again with the new rules, so a request that both the old and the new rules allow never fails
//! because of the change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::requester::{Requester, ValidRequester};
use super::token_alerts;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::request::inbound::Inbound;
use crate::request::judged_body;
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::own_authorization::OwnAuthorizationUse;
use keyward_rules::policy::{InterceptPermit, Permit, Reason, Route, TunnelPermit};
use keyward_state::directory::ConnectionRecord;
use keyward_state::observe::telemetry::OutgoingTrace;

/// How long a refused request waits for a configuration change in progress. A longer change waits for the store,
/// which blocks everything else too.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// The maximum number of decisions while configuration changes follow each other.
const TRIES_MAX: usize = 16;

/// Proof that policy permits a request, with the credential of that permit. Made only by `Permitted::new`.
#[must_use]
#[derive(Debug)]
pub struct Permitted {
    inbound: Box<Inbound>,
    permit: Permit,
    credential: Option<Arc<Credential>>,
}

/// How a CONNECT is served.
pub enum ConnectRoute {
    /// Keyward terminates TLS with a leaf of the local CA.
    Intercept(InterceptPermit),
    Tunnel(TunnelPermit),
}

/// Decides a request and gets its credential. The requester is valid for one decision: to send again, it is checked
/// and decided again.
///
/// # Errors
/// When policy refuses, or the credential is not available.
pub async fn decide(
    gateway: &Gateway,
    mut requester: ValidRequester<'_>,
    mut inbound: Box<Inbound>,
    record: &mut Record,
) -> Result<Permitted, Refusal> {
    if judged_body::may_request_token(&inbound) {
        Box::pin(judged_body::check_token_request(gateway, &mut inbound)).await?;
    }
    let (mut tries, mut begun) = (0, Instant::now());
    loop {
        let version = gateway.rulebook.config_version();
        let decided = decide_once(gateway, &requester, &inbound, record, begun).await;
        let mut refusal = match decided {
            Ok((permit, credential)) => return Permitted::new(inbound, permit, credential),
            Err(refusal) => refusal,
        };
        if let Refusal::Policy(Reason::BodyUnread { .. }) = refusal {
            let read = Box::pin(inbound.read_body(gateway)).await;
            match read {
                Ok(true) => {
                    record.set_push(inbound.query());
                    // Reading the body may have taken long.
                    requester = requester.inner().check_still_valid(gateway)?;
                    begun = Instant::now();
                    continue;
                }
                Ok(false) => {}
                Err(unread) => refusal = unread,
            }
        }
        tries += 1;
        let is_of_configuration = matches!(refusal, Refusal::Policy(_) | Refusal::Vault(_));
        if !is_of_configuration || !has_changed(gateway, version, tries).await {
            report(gateway, requester.inner(), &inbound, &refusal, record);
            if record.push().is_some() {
                Box::pin(judged_body::drop_rest(&mut inbound)).await;
            }
            return Err(refusal);
        }
    }
}

async fn decide_once(
    gateway: &Gateway,
    requester: &ValidRequester<'_>,
    inbound: &Inbound,
    record: &mut Record,
    begun: Instant,
) -> Result<(Permit, Option<Arc<Credential>>), Refusal> {
    let permit = requester.permit(gateway, inbound, record)?;
    record.set_permit(&permit);
    let org = requester.inner().org();
    if let Some(trace) = record.trace().filter(|_| permit.wanted().is_some()) {
        trace.begin_wait();
    }
    let credential = gateway.vault.refresh().credential_since(org, permit.wanted(), begun).await?;
    if let Some(trace) = record.trace() {
        trace.end_wait();
    }
    let clears = credential.as_deref().map(|credential| &credential.clears);
    let own = inbound.policy_request().own;
    record.set_own_authorization(OwnAuthorizationUse::of_sent(own, clears));
    Ok((permit, credential))
}

/// Reports the honeytokens of a refused request, a connection that may work again, and the rule that refuses.
fn report(
    gateway: &Gateway,
    requester: Requester<'_>,
    inbound: &Inbound,
    refusal: &Refusal,
    record: &mut Record,
) {
    let agent = match requester {
        Requester::Agent(session) => Some(&session.agent),
        Requester::Owner(_) => None,
    };
    if let Some(agent) = agent {
        token_alerts::report_honeytokens(gateway, agent, inbound);
    }
    let Refusal::Policy(reason) = refusal else { return };
    if matches!(reason, Reason::OwnAuthorization { .. }) {
        record.set_own_authorization(Some(OwnAuthorizationUse::Refused));
    }
    if let Some(connection) = reason.broken_connection() {
        gateway.vault.refresh().retry_rejected(requester.org(), connection);
    }
    if let Some(agent) = agent {
        let policy = gateway.rulebook.current();
        record.set_denied_by(policy.deciding_rule(agent, &inbound.policy_request(), reason));
    }
}

/// Decides the test request of a connection. `trial`: a credential of the same connection that is not in use yet.
///
/// # Errors
/// When policy refuses, or the credential is not available.
pub async fn decide_test(
    gateway: &Gateway,
    connection: &ConnectionRecord,
    inbound: Box<Inbound>,
    trial: Option<Arc<Credential>>,
    record: &mut Record,
) -> Result<Permitted, Refusal> {
    let permit = gateway.rulebook.permit_test(connection, &inbound.policy_request())?;
    record.set_permit(&permit);
    let credential = match trial {
        Some(credential) if credential.connection == connection.id => Some(credential),
        _ => gateway.vault.refresh().credential_in(&connection.org, permit.wanted()).await?,
    };
    Permitted::new(inbound, permit, credential)
}

/// Decides how a CONNECT is served.
///
/// # Errors
/// When policy refuses.
pub async fn route(
    gateway: &Gateway,
    agent: &Agent,
    target: &Target,
    record: &mut Record,
) -> Result<ConnectRoute, Refusal> {
    let mut tries = 0;
    loop {
        let version = gateway.rulebook.config_version();
        let policy = gateway.rulebook.current();
        let (rule, reason) = match policy.route(agent, target) {
            Route::Intercept(permit) => return Ok(ConnectRoute::Intercept(permit)),
            Route::Tunnel(permit) => return Ok(ConnectRoute::Tunnel(permit)),
            Route::Deny { rule, reason } => (rule, reason),
        };
        drop(policy);
        tries += 1;
        if !has_changed(gateway, version, tries).await {
            record.set_denied_by(rule);
            return Err(Refusal::Policy(reason));
        }
    }
}

/// Whether the configuration has changed since `version`, and another try is left.
async fn has_changed(gateway: &Gateway, version: u64, tries: usize) -> bool {
    tries < TRIES_MAX && gateway.rulebook.config_changed_since(version, SETTLED_WITHIN).await
}

impl Permitted {
    /// Ties a credential to the permit that wants it.
    ///
    /// # Errors
    /// When it is not the credential that the permit wants.
    fn new(
        inbound: Box<Inbound>,
        permit: Permit,
        credential: Option<Arc<Credential>>,
    ) -> Result<Self, Refusal> {
        let wanted = permit.wanted().map(|wanted| &wanted.connection);
        if credential.as_ref().map(|credential| &credential.connection) != wanted {
            return Err(Refusal::Internal("a permit without its credential"));
        }
        Ok(Self { inbound, permit, credential })
    }

    /// The request that was decided.
    pub fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The credential that the permit wants.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// The body, which takes no part in the decision.
    pub fn body_mut(&mut self) -> &mut RequestBody {
        &mut self.inbound.body
    }

    /// Writes the fields of the exchange's trace, which take no part in the decision.
    pub fn set_trace(&mut self, trace: &OutgoingTrace) {
        trace.write(&mut self.inbound.head.headers);
    }

    /// The request, its permit, and the credential to write into it.
    pub fn into_parts(self) -> (Box<Inbound>, Permit, Option<Arc<Credential>>) {
        (self.inbound, self.permit, self.credential)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;

    use super::*;
    use keyward_base::id::{ConnectionId, OrgId};
    use keyward_base::pattern::HostPattern;
    use keyward_rules::inject::credential::Clears;
    use keyward_rules::inject::scrub::Needles;
    use keyward_rules::policy::{Account, AccountState, Policy, PolicyInput};

    fn account() -> Account {
        Account {
            id: ConnectionId::random(),
            name: "acme".into(),
            provider: "acme".into(),
            hosts: Arc::from([HostPattern::parse("api.acme.test").unwrap()]),
            paths: Arc::default(),
            places: Arc::default(),
            signs: None,
            has_slashes_in_segments: false,
            state: AccountState::Active,
            remedy: None,
            settings: None,
            database: None,
            is_ssh: false,
        }
    }

    fn credential(connection: &ConnectionId) -> Arc<Credential> {
        Arc::new(Credential {
            connection: connection.clone(),
            generation: 1,
            expires: None,
            writes: Vec::new(),
            clears: Clears::default(),
            rate_limit: Arc::default(),
            needles: Arc::new(Needles::new([], [])),
            renews: None,
            signer: None,
            tls: None,
        })
    }

    #[test]
    fn a_permit_is_used_only_with_the_credential_of_its_connection() {
        let (org, account) = (OrgId::default_org(), account());
        let policy = Policy::compile(PolicyInput::default()).unwrap();
        let permitted = |credential| {
            let request = Request::get("https://api.acme.test/").body(Bytes::new()).unwrap();
            let inbound = Inbound::test(request, &org).unwrap();
            let permit = policy.permit_test(&org, &account, &inbound.policy_request()).unwrap();
            Permitted::new(inbound, permit, credential)
        };
        for other in [None, Some(credential(&ConnectionId::random()))] {
            let refused = permitted(other).unwrap_err();
            assert!(matches!(refused, Refusal::Internal(_)), "{refused:?}");
        }
        assert!(permitted(Some(credential(&account.id))).is_ok());
    }
}
