//! A person's decision about a consent with another account, the release of a held consent, and the revocation of unwanted
//! tokens: of a declined account, of an expired decision, or of a connection that was removed meanwhile. Tokens are not revoked where a
//! connection in use may share their access.

use std::sync::Arc;
use std::time::Duration;

use super::callback::Cookies;
use super::error::FlowError;
use super::flow::{Abandoned, Confirming, Flow, FlowStage, ReceivedTokens, StoredFlow};
use super::{FlowView, Flows, Revoked};
use crate::RowError;
use futures_util::FutureExt;
use keyward_base::id::{FlowId, OrgId};
use keyward_model::Connection;
use keyward_state::directory::{Account, ConnectionRecord, ConnectionState};
use keyward_state::store::StoreError;

/// The reason of a flow whose account was declined.
const DECLINED: &str = "the other account was declined";

impl Flows {
    /// Decides about the other account, on behalf of a person at the command line or in the browser of the
    /// consent (`cookies`). A declined grant is revoked at the provider, and the old one stays.
    ///
    /// # Errors
    /// When no decision is pending, or the browser is another one.
    pub async fn confirm(
        self: &Arc<Self>,
        org: &OrgId,
        id: &FlowId,
        cookies: Option<&Cookies>,
        agrees: bool,
    ) -> Result<FlowView, FlowError> {
        let (stored, waiting) = self.undecided(org, id).await?;
        let flow = &stored.flow;
        let own = |cookies: &Cookies| flow.is_of_browser(cookies.one(&flow.cookie()));
        // A held flow needs a release by the platform, because its person is not verified.
        if flow.held || !cookies.is_none_or(own) {
            return Err(FlowError::NothingToConfirm);
        }
        match agrees {
            true => self.accept(stored, waiting).await?,
            false => self.decline(stored, waiting, DECLINED).await?,
        }
        self.view(org, id).await
    }

    /// Puts the tokens of a held flow in force, on behalf of the platform that knows its person. `other_account`: also
    /// those of another account than the connection's.
    ///
    /// # Errors
    /// When no tokens wait, or they are of another account; these keep waiting.
    pub async fn release(
        self: &Arc<Self>,
        org: &OrgId,
        id: &FlowId,
        other_account: bool,
    ) -> Result<FlowView, FlowError> {
        let (stored, waiting) = self.undecided(org, id).await?;
        if !stored.flow.held {
            return Err(FlowError::NothingToConfirm);
        }
        if !waiting.before.is_empty() && !other_account {
            return Err(FlowError::OtherAccount);
        }
        self.accept(stored, waiting).await?;
        self.view(org, id).await
    }

    /// A flow whose tokens wait for a decision.
    async fn undecided(
        &self,
        org: &OrgId,
        id: &FlowId,
    ) -> Result<(StoredFlow, Confirming), FlowError> {
        let found = self.flows.get(org, id.as_str()).await?;
        let (flow, version) = found.ok_or(FlowError::NoFlow)?;
        let FlowStage::Confirming(waiting) = flow.stage.clone() else {
            return Err(FlowError::NothingToConfirm);
        };
        if self.clock.now() >= flow.expires {
            return Err(FlowError::NoFlow);
        }
        Ok((StoredFlow { flow, version }, waiting))
    }

    async fn accept(
        self: &Arc<Self>,
        stored: StoredFlow,
        waiting: Confirming,
    ) -> Result<(), FlowError> {
        let StoredFlow { mut flow, version } = stored;
        let reported_accounts = waiting.account().into_iter().collect();
        let received = ReceivedTokens { accepted: true, reported_accounts, ..waiting.received };
        let flows = Arc::clone(self);
        let work = async move {
            // The accepted tokens replace the grant that is stored now.
            let received = flows.noting_replaced(&flow, received).await;
            let id = flow.id.clone();
            let accepted = async {
                // The first decision wins: the write requires the version that was read.
                flow.stage = FlowStage::Received(received.clone());
                flows.flows.put(&flow.org, id.as_str(), &flow, Some(version)).await?;
                flows.put_in_force(&flow, received).await
            };
            flows.under_lease(&id, accepted.boxed()).await
        };
        // In its own task, so that a closed stream does not leave the tokens half stored.
        tokio::spawn(work).await.unwrap_or(Err(FlowError::BeingFinished))
    }

    /// Waits for a person to confirm another account than `before`, or for the release of a held flow. `account`: `None`
    /// if the provider does not name it.
    pub(super) async fn wait_for_decision(
        self: &Arc<Self>,
        flow: &Flow,
        received: ReceivedTokens,
        before: Option<Account>,
        account: Option<Account>,
    ) -> Result<(), FlowError> {
        let (name, id) = account.map(|it| (it.name, it.id)).unzip();
        let account = name.unwrap_or_default();
        let before = before.map(|it| it.name).unwrap_or_default();
        let waiting = Confirming { before, account, account_id: id, received };
        self.stage(flow, FlowStage::Confirming(waiting)).await?;
        self.decline_in_time(flow);
        Ok(())
    }

    /// Declines waiting tokens when their consent expires without a decision.
    pub(super) fn decline_in_time(self: &Arc<Self>, flow: &Flow) {
        let Some(work) = self.ongoing.begin(format!("decision/{}", flow.id)) else { return };
        let (flows, org, id) = (Arc::clone(self), flow.org.clone(), flow.id.clone());
        let left = flow.expires.duration_since(self.clock.now());
        let left = Duration::try_from(left).unwrap_or_default();
        self.spawn(async move {
            let _work = work;
            if !flows.wait(left).await {
                return;
            }
            let found = flows.flows.get(&org, id.as_str()).await.ok().flatten();
            let Some((flow, version)) = found else { return };
            let FlowStage::Confirming(waiting) = flow.stage.clone() else { return };
            let why = match flow.held {
                true => "the platform did not finish it in time",
                false => "the other account was not confirmed in time",
            };
            match flows.decline(StoredFlow { flow, version }, waiting, why).await {
                // A person has decided, or another replica has declined, first.
                Ok(()) | Err(FlowError::Row(RowError::Store(StoreError::Conflict { .. }))) => {}
                Err(error) => {
                    tracing::warn!(flow = %id, %error, "an account that waited is not declined");
                }
            }
        });
    }

    /// Declines a grant that waits for a decision.
    pub(super) async fn decline(
        self: &Arc<Self>,
        stored: StoredFlow,
        waiting: Confirming,
        why: &str,
    ) -> Result<(), FlowError> {
        let StoredFlow { mut flow, version } = stored;
        let account = waiting.account();
        let abandoned = Abandoned { why: why.to_owned(), account, received: waiting.received };
        flow.stage = FlowStage::Abandoned(abandoned.clone());
        let declined = async {
            self.flows.put(&flow.org, flow.id.as_str(), &flow, Some(version)).await?;
            self.revoke_unwanted(&flow, abandoned).await;
            Ok::<(), FlowError>(())
        };
        self.under_lease(&flow.id, declined.boxed()).await
    }

    /// Revokes tokens that cannot be put in force. Always returns an error: `error`, or that of the store.
    pub(super) async fn refuse<T>(
        self: &Arc<Self>,
        flow: &Flow,
        received: ReceivedTokens,
        error: FlowError,
    ) -> Result<T, FlowError> {
        let account = self.account_received(&received).await;
        let abandoned = Abandoned { why: error.to_string(), account, received };
        self.stage(flow, FlowStage::Abandoned(abandoned.clone())).await?;
        self.revoke_unwanted(flow, abandoned).await;
        Err(error)
    }

    /// The account of received tokens, if the provider names it.
    pub(super) async fn account_received(&self, received: &ReceivedTokens) -> Option<Account> {
        match (received.reported_accounts.first(), &received.connection) {
            (None, Some(connection)) => self.account_of(connection, received, None).await,
            (reported_accounts, _) => reported_accounts.cloned(),
        }
    }

    /// Revokes unwanted tokens, and ends their flow with the result.
    pub(super) async fn revoke_unwanted(self: &Arc<Self>, flow: &Flow, abandoned: Abandoned) {
        let Abandoned { why, account, received } = abandoned;
        let now = self.directory().view().connection(&flow.org, &flow.connection).cloned();
        let now = now.map(|it| Box::new(it.as_ref().clone()));
        let asked = received.connection.clone().or(now);
        let outcome = match asked {
            None => "its access stays valid until it is revoked at the provider".to_owned(),
            Some(connection) => match self.shares_access(&connection, account.as_ref()) {
                Some(name) => format!(
                    "its access stays valid at the provider, since connection `{name}` may use \
                     it too"
                ),
                None => match self
                    .revoke_now_or_later(flow.id.as_str(), &connection, received.grant)
                    .await
                {
                    Ok(revoked) => said(&revoked),
                    Err(error) => {
                        tracing::error!(flow = %flow.id, %error, "an unwanted grant is not revoked at its provider");
                        "its access may still be valid at the provider".to_owned()
                    }
                },
            },
        };
        self.fail(flow, &format!("{why}; {outcome}")).await;
    }

    /// The name of a connection in use that may share the access at the provider: some providers revoke all
    /// tokens of an account together
    /// (<https://developers.google.com/identity/protocols/oauth2/web-server#tokenrevoke>).
    pub(super) fn shares_access(
        &self,
        connection: &ConnectionRecord,
        account: Option<&Account>,
    ) -> Option<String> {
        let view = self.directory().view();
        let may_share = |other: &&Arc<ConnectionRecord>| {
            let is_used = !matches!(other.facts.state, ConnectionState::Draft { .. });
            let differs = match (account, other.known_account()) {
                (Some(account), Some(known)) => account.differs(&known),
                _ => false,
            };
            other.app == connection.app && is_used && !differs
        };
        let other = view.all::<Connection>(&connection.org).find(may_share);
        other.map(|other| other.name.clone())
    }
}

/// The result of the revocation, for people.
fn said(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Yes => "the provider has revoked its access".to_owned(),
        Revoked::Later { why: None, .. } => {
            "its access is revoked as soon as the provider can be reached".to_owned()
        }
        Revoked::Later { why: Some(why), .. } => {
            format!("the provider has not revoked its access yet, and is asked again: {why}")
        }
        Revoked::No(why) => format!("the provider did not revoke its access: {why}"),
        Revoked::NotSupported { by_hand: Some(page) } => {
            format!("the provider supports no revocation: revoke its access at {page}")
        }
        Revoked::NotSupported { by_hand: None } => {
            "the provider supports no revocation: revoke its access there manually".to_owned()
        }
    }
}
