//! Consents of connect sessions. A flow starts in a browser that is already bound by the cookie of the session: it needs no start
//! page and no start link, and the callback checks that cookie instead of one of the flow. At the end, the session gets the
//! result of its consent, and a draft that was not connected is removed. The end may be repeated, so that a crash or a
//! closed browser leaves nothing half done.

use std::sync::Arc;

use super::error::FlowError;
use super::flow::{Flow, StoredFlow};
use super::view::FlowState;
use super::{ConsentRequest, Flows};
use crate::{RowError, VaultError};
use keyward_base::id::{ConnectionId, FlowId, OrgId};
use keyward_model::{ConnectSession, Record};
use keyward_rules::provider::oauth::GrantText;
use keyward_state::directory::{
    ConnectStepError, ConnectionRecord, ConnectionState, DirectoryError,
};
use keyward_state::store::StoreError;

impl Flows {
    /// Completes or fails a connect session whose consent has ended, or whose connection became active before a crash.
    /// Returns the updated session.
    ///
    /// # Errors
    /// When the store fails, or the session was removed.
    pub async fn settle_connect_session(
        self: &Arc<Self>,
        session: &Record<ConnectSession>,
    ) -> Result<Arc<Record<ConnectSession>>, FlowError> {
        let (org, facts) = (&session.org, &session.facts);
        if facts.connected.is_none()
            && let Some(flow) = &facts.flow
        {
            return match self.view(org, flow).await.map(|view| (view.state, view.connection)) {
                Ok((FlowState::Connected { .. }, connection)) => {
                    self.complete_connect_session(session, &connection).await
                }
                Ok((FlowState::Failed { why }, _)) => {
                    self.fail_connect_session(session, &why).await
                }
                Ok((FlowState::Open | FlowState::Confirm { .. } | FlowState::Held { .. }, _)) => {
                    self.latest(session)
                }
                Err(FlowError::NoFlow) => {
                    self.fail_connect_session(session, "the consent has ended").await
                }
                Err(error) => Err(error),
            };
        }
        let view = self.directory().view();
        let draft = facts.draft.as_ref().and_then(|id| view.connection(org, id));
        match draft.filter(|_| facts.connected.is_none()) {
            Some(made) if made.facts.state == ConnectionState::Active => {
                self.complete_connect_session(session, &made.id.clone()).await
            }
            _ => self.latest(session),
        }
    }

    async fn complete_connect_session(
        &self,
        session: &Record<ConnectSession>,
        connection: &ConnectionId,
    ) -> Result<Arc<Record<ConnectSession>>, FlowError> {
        let view = self.directory().view();
        let Some(connection) = view.connection(&session.org, connection) else {
            return Err(FlowError::NoConnection);
        };
        match self.directory().complete_connect_session(session, connection).await {
            Ok(completed) => Ok(completed),
            Err(ConnectStepError::Directory(error)) => Err(error.into()),
            // Another attempt completed it.
            Err(_) => self.latest(session),
        }
    }

    /// Notes a failed attempt, and removes its draft.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fail_connect_session(
        self: &Arc<Self>,
        session: &Record<ConnectSession>,
        why: &str,
    ) -> Result<Arc<Record<ConnectSession>>, FlowError> {
        let failed = self.directory().fail_connect_session(session, why).await?;
        self.remove_leftovers(&failed).await?;
        self.latest(&failed)
    }

    /// Cancels the consent of a connect session and removes its draft, before another attempt or because the session
    /// was ended.
    ///
    /// # Errors
    /// When the consent is being finished, or the store fails.
    pub async fn remove_leftovers(
        self: &Arc<Self>,
        session: &Record<ConnectSession>,
    ) -> Result<(), FlowError> {
        let (org, facts) = (&session.org, &session.facts);
        if let Some(flow) = &facts.flow {
            match self.cancel(org, flow).await {
                Ok(_) | Err(FlowError::NoFlow | FlowError::NotOpen) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(draft) = &facts.draft {
            self.remove_draft(org, draft).await?;
        }
        if facts.flow.is_some() || facts.draft.is_some() {
            self.directory().tidy_connect_session(session).await?;
        }
        Ok(())
    }

    /// Removes a draft that was never connected. A draft under test is removed by its test; a draft that a hook or a
    /// stored rule names stays.
    async fn remove_draft(&self, org: &OrgId, id: &ConnectionId) -> Result<(), FlowError> {
        let view = self.directory().view();
        let is_draft = |state: &ConnectionState| matches!(state, ConnectionState::Draft { .. });
        if !view.connection(org, id).is_some_and(|found| is_draft(&found.facts.state)) {
            return Ok(());
        }
        match self.vault.lifecycle().remove(org, id).await {
            Ok(()) | Err(VaultError::ConnectionMissing) => Ok(()),
            Err(VaultError::Directory(
                DirectoryError::NotFound { .. }
                | DirectoryError::NamedByHook { .. }
                | DirectoryError::NamedByRule { .. },
            )) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the consents of expired connect sessions, and removes sessions that ended long ago.
    ///
    /// # Errors
    /// When the store fails; the next call tries again.
    pub async fn sweep_connect_sessions(self: &Arc<Self>) -> Result<usize, FlowError> {
        for session in self.directory().ended_connect_sessions() {
            match self.settle_connect_session(&session).await {
                // A consent that began in time may still be completed.
                Ok(now) if now.facts.flow.is_some() => {}
                Ok(now) => self.remove_leftovers(&now).await?,
                Err(FlowError::NoConnection) => self.remove_leftovers(&session).await?,
                Err(FlowError::Directory(DirectoryError::NotFound { .. })) => {}
                // A request has changed the session first.
                Err(FlowError::Row(RowError::Store(StoreError::Conflict { .. }))) => {}
                Err(error) => return Err(error),
            }
        }
        let forgotten = self.directory().removable_connect_sessions().await?;
        for session in &forgotten {
            match self.remove_leftovers(session).await {
                Err(FlowError::BeingFinished) => continue,
                other => other?,
            }
            self.directory().forget_connect_session(session).await?;
        }
        Ok(forgotten.len())
    }

    fn latest(
        &self,
        session: &Record<ConnectSession>,
    ) -> Result<Arc<Record<ConnectSession>>, FlowError> {
        let view = self.directory().view();
        let found = view.one::<ConnectSession>(&session.org, &session.id).cloned();
        found.ok_or_else(|| {
            let (what, name) = ("connect session", session.id.to_string());
            DirectoryError::NotFound { what, name }.into()
        })
    }
}

/// The cookie of a browser.
pub struct BrowserBinding<'a> {
    /// The cookie's name.
    pub cookie: &'a str,
    /// Its value. A secret; only its hash is stored.
    pub value: &'a str,
}

/// A flow whose browser goes to the provider.
#[derive(Debug)]
pub struct StartedConsent {
    pub flow: FlowId,
    /// The authorization URL, for that browser alone.
    pub url: String,
}

impl Flows {
    /// Starts and begins a flow for a connection, in this browser. A connection in use is not changed.
    ///
    /// # Errors
    /// As [`Flows::start`], and when the provider has no consent in the browser.
    pub async fn start_in(
        self: &Arc<Self>,
        org: &OrgId,
        connection: &ConnectionRecord,
        ask: ConsentRequest,
        browser: BrowserBinding<'_>,
    ) -> Result<StartedConsent, FlowError> {
        let asking = self.context_of_consent(connection, &ask).await?;
        if asking.oauth.grant != GrantText::AuthorizationCode {
            return Err(self.no_consent_error(connection));
        }
        let life = self.settings.load().flow_lifetime;
        let flow = self.new_flow(org, &asking, ask, life);
        let flow = Flow { cookie: Some(browser.cookie.to_owned()), ..flow };
        let authorization = self.authorization(&flow, &asking).await?;
        let (id, version) = (flow.id.clone(), self.put_new(&flow).await?);
        let stored = StoredFlow { flow, version };
        let url = self.redirect_to_provider(stored, authorization, browser.value).await?;
        Ok(StartedConsent { flow: id, url })
    }
}

impl std::fmt::Debug for BrowserBinding<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrowserBinding").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}
