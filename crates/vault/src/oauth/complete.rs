//! Completes a consent: its tokens become the grant of the connection; with another account than before only after a
//! person confirmed it (`confirm.rs`). Until then the old grant works. The tokens are stored with the flow first, so
//! that a crash leaves no unknown grant at the provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Flows;
use super::callback_query::CallbackQuery;
use super::endpoints::suggests_new_endpoints;
use super::error::{CallbackRefusal, FlowError};
use super::flow::{CallbackExpectation, CookieDigest, Flow, FlowStage, ReceivedTokens, SealedText};
use super::oauth1::{ExpectedVerifier, exchange_verifier};
use super::start::FlowContext;
use crate::grant::Grant;
use crate::grant::oauth::{
    OAuthClient, OAuthGrant, RequestContext, Temporary, TokenFailure, Tokens, exchange_code,
    lengthened,
};
use crate::{Granted, RowError, VaultError};
use keyward_base::id::UserId;
use keyward_base::secret::Secret;
use keyward_base::tokens::TokenSettings;
use keyward_model::{Connection, Role};
use keyward_rules::provider::keys::ClientAuthText;
use keyward_rules::provider::oauth::{ACCOUNT_HOSTS, account_host};
use keyward_state::directory::{Account, ConnectionRecord, ConnectionState};
use keyward_state::observe::change::Actor;

/// Host variables from the provider's responses.
type Captured = BTreeMap<String, String>;

/// The pause before the second exchange for a longer token, if the server names none.
const LENGTHEN_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause, because a person waits in the browser. A server that names a longer one is not asked again.
const LENGTHEN_PAUSE_MAX: Duration = Duration::from_secs(5);

impl Flows {
    /// Rule 8: exchanges the code, once. A token that cannot be exchanged for a longer one is revoked, because it
    /// ends within hours.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        flow: &Flow,
        asked: &CallbackExpectation,
        code: &SealedText,
        captured: Captured,
    ) -> Result<ReceivedTokens, FlowError> {
        let mut asking = self.context_of_flow(flow).await?;
        asking.is_still_of(asked.client_id.as_deref())?;
        // Only checked variables may enter an endpoint's URL.
        let declared = |name: &str| asking.provider.variable(name).is_some();
        let others = captured.iter().filter(|(name, _)| !declared(name));
        let others: Captured = others.map(|(name, value)| (name.clone(), value.clone())).collect();
        let checked = asking.provider.captured(&captured);
        asking.variables.extend(others.into_iter().chain(checked));
        let client = self.client(&asking.app).await?;
        let settings = self.settings.load_full();
        let ask = self.ask(&asking, &client, &settings);
        if let Some(temporary) = &asked.temporary {
            let expected = ExpectedVerifier { temporary, verifier: code, session: &asked.session };
            return exchange_verifier(&asking, ask, expected, captured).await;
        }
        let verifier = asked.verifier.as_ref().map(|verifier| Secret::new(verifier.text()));
        let code = Secret::new(code.text());
        let tokens = exchange_code(&ask, &code, &asked.redirect_uri, verifier.as_ref()).await;
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(failure) => {
                let error = self.refused_code(&asking, &asked.redirect_uri, &failure).await;
                return Err(with_lost_tokens(error, &failure));
            }
        };
        let session = Some(asked.session.clone());
        match lengthened_or_again(&ask, &tokens).await {
            Ok(longer) => Ok(self.received(&asking, longer, session, captured)),
            Err(failure) => {
                let error = self.refused_request(&asking.app, &failure).await;
                let received = self.received(&asking, tokens, session, captured);
                self.refuse(flow, received, error).await
            }
        }
    }

    /// Why the server refused a code or a pushed request, with the setting that this indicates.
    pub(super) async fn refused_code(
        &self,
        asking: &FlowContext,
        redirect_uri: &str,
        failure: &TokenFailure,
    ) -> FlowError {
        if failure.code().is_some_and(|code| suggests_new_endpoints(code.as_str()))
            && let Some(issuer) = &asking.issuer
        {
            self.vault.refresh().distrust_metadata(issuer);
        }
        match setting(failure, asking, redirect_uri) {
            Some(setting) => FlowError::Server(format!("{failure}: {setting}")),
            None => self.refused_request(&asking.app, failure).await,
        }
    }

    /// The context of a flow's requests.
    pub(super) fn ask<'a>(
        &'a self,
        asking: &'a FlowContext,
        client: &'a OAuthClient,
        settings: &'a TokenSettings,
    ) -> RequestContext<'a> {
        RequestContext {
            caller: &self.caller,
            settings,
            oauth: &asking.oauth,
            client,
            variables: &asking.variables,
            scopes: &[],
            claims: None,
            now: self.clock.now(),
        }
    }

    /// Host variables of the callback; the provider's file must permit each of them.
    pub(super) fn captured(
        &self,
        flow: &Flow,
        callback: &CallbackQuery,
    ) -> Result<Captured, CallbackRefusal> {
        let view = self.directory().view();
        let connection =
            view.connection(&flow.org, &flow.connection).ok_or(CallbackRefusal::NoFlow)?;
        let catalogue = self.vault.catalogue(&connection.org);
        let provider = catalogue.get(&connection.provider);
        let auth = provider.and_then(|provider| provider.auth(connection.auth.as_deref()));
        let oauth = auth.and_then(|auth| auth.oauth.as_ref());
        let wanted = oauth.map(|oauth| oauth.callback_capture.clone()).unwrap_or_default();
        let mut captured = Captured::new();
        for name in
            ACCOUNT_HOSTS.into_iter().filter(|it| !wanted.values().any(|wanted| wanted == it))
        {
            captured.extend(callback.other(name).map(|value| (name.to_owned(), value.to_owned())));
        }
        for (variable, parameter) in wanted {
            let Some(value) = callback.other(&parameter) else { continue };
            captured.insert(variable, value.to_owned());
        }
        match self.fits(connection, &captured) {
            true => Ok(captured),
            false => Err(CallbackRefusal::Malformed("it names a host that is not the provider's")),
        }
    }

    /// Whether the captured variables keep the provider's hosts within its own domain. Other facts, such as
    /// a workspace's id, are not part of hosts.
    fn fits(&self, connection: &ConnectionRecord, captured: &Captured) -> bool {
        let catalogue = self.vault.catalogue(&connection.org);
        let Some(provider) = catalogue.get(&connection.provider) else { return false };
        if provider.not_captured(captured).next().is_some() {
            return false;
        }
        let taken = provider.captured(captured);
        if taken.is_empty() {
            return true;
        }
        let mut all = connection.host_variables();
        all.extend(taken);
        let auth = provider.auth(connection.auth.as_deref());
        auth.is_some_and(|auth| provider.instantiate(auth, &all).is_ok())
    }

    /// The tokens of a consent, to be stored with its flow.
    pub(super) fn received(
        &self,
        asking: &FlowContext,
        tokens: Tokens,
        session: Option<CookieDigest>,
        captured: Captured,
    ) -> ReceivedTokens {
        let captured: Captured = captured.into_iter().chain(tokens.captured.clone()).collect();
        ReceivedTokens {
            session,
            connection: Some(Box::new(asking.connection.as_ref().clone())),
            reported_accounts: self.accounts_in_response(asking, &tokens, &captured),
            granted: tokens.scope.clone().unwrap_or_default(),
            ends: tokens.refresh_expires,
            renewable: tokens.refresh.is_some()
                || tokens.expires.is_none()
                || asking.oauth.renews_without_refresh_token(),
            captured,
            accepted: false,
            replaces: None,
            grant: SealedText::new(
                BASE64_STANDARD.encode(Grant::OAuth(OAuthGrant::of(tokens)).encode().as_slice()),
            ),
        }
    }

    /// Stores the tokens with their flow, durably, and puts them in force.
    ///
    /// # Errors
    /// When the tokens are refused, the flow was cancelled, or the connection was removed or given to another owner:
    /// then the tokens are revoked. When the store fails: tokens that are not stored are revoked, and `unfinished.rs`
    /// completes stored ones later.
    pub(super) async fn complete(
        self: &Arc<Self>,
        flow: &Flow,
        received: ReceivedTokens,
    ) -> Result<(), FlowError> {
        let received = self.noting_replaced(flow, received).await;
        match self.keep_received(flow, &received).await {
            Ok(None) => Box::pin(self.put_in_force(flow, received)).await,
            Ok(Some(ended)) => self.refuse(flow, received, FlowError::Ended(ended)).await,
            Err(error) => {
                // Tokens that are not stored cannot be revoked later. The rules of `confirm.rs` apply.
                if self.is_unkept(flow, &received).await {
                    self.revoke_unkept(&received).await;
                }
                Err(error)
            }
        }
    }

    /// Puts the tokens in force. If the account changed, a person must confirm first; the tokens of a held flow wait
    /// for their release.
    ///
    /// # Errors
    /// As [`Flows::complete`]. While the store fails, the tokens stay with their flow: the grant may be stored.
    pub(super) async fn put_in_force(
        self: &Arc<Self>,
        flow: &Flow,
        received: ReceivedTokens,
    ) -> Result<(), FlowError> {
        let view = self.directory().view();
        let Some(connection) = view.connection(&flow.org, &flow.connection).cloned() else {
            return self.refuse(flow, received, FlowError::NoConnection).await;
        };
        if let Err(error) = self.may_still_change(flow, &connection) {
            return self.refuse(flow, received, error).await;
        }
        if !self.fits(&connection, &received.captured) {
            let why = "the answer names a host that is not the provider's".to_owned();
            return self.refuse(flow, received, FlowError::Server(why)).await;
        }
        let consented = flow.connection_with_app(&connection);
        let before = match received.accepted {
            true => None,
            false => self.account_so_far(&connection).await,
        };
        let account = match before {
            None => received.reported_accounts.first().cloned(),
            Some(before) => {
                let source = before.id.source;
                let account = self.account_of(&consented, &received, Some(source)).await;
                if !account.as_ref().is_some_and(|account| account.is_same(&before)) {
                    return self.wait_for_decision(flow, received, Some(before), account).await;
                }
                account
            }
        };
        if flow.held && !received.accepted {
            return self.wait_for_decision(flow, received, None, account).await;
        }
        if let Err(error) = self.store_grant(flow, &connection, &received, account.clone()).await {
            // `unfinished.rs` completes the flow later.
            if error.is_of_store() {
                return Err(error);
            }
            let is_gone = matches!(error, FlowError::Vault(VaultError::ConnectionMissing));
            let error = if is_gone { FlowError::NoConnection } else { error };
            return self.refuse(flow, received, error).await;
        }
        if account.is_none() {
            // The account is requested after the grant is in use, so that the request does not delay the grant.
            self.learn_account(&consented, &received).await;
        }
        tracing::info!(connection = %connection.id, provider = connection.provider, "connected");
        self.stage(flow, FlowStage::Connected { ends: !received.renewable }).await
    }

    async fn store_grant(
        &self,
        flow: &Flow,
        connection: &ConnectionRecord,
        received: &ReceivedTokens,
        account: Option<Account>,
    ) -> Result<(), FlowError> {
        // The record is read again, because the account may have been determined meanwhile.
        let now = self.directory().view().connection(&flow.org, &connection.id).cloned();
        let now = now.ok_or(FlowError::NoConnection)?;
        self.may_still_change(flow, &now)?;
        let grant = received.grant().ok_or(FlowError::NoFlow)?;
        let (scopes, captured) = (received.granted.clone(), received.captured.clone());
        let (ends, replaces) = (received.ends, received.replaces.clone());
        let (consent, app) = (Some(flow.id.clone()), Some(flow.app.clone()));
        let facts = Granted { scopes, account, captured, ends, consent, app, replaces };
        let stored = async {
            let stored =
                self.vault.lifecycle().connect(&flow.org, &connection.id, grant, facts).await;
            stored.map_err(FlowError::of_grant)?;
            if flow.stepped_up {
                let ask = |record: &mut ConnectionRecord| record.scopes.clone_from(&flow.scopes);
                self.directory().change::<Connection>(&flow.org, &connection.id, ask).await?;
            }
            Ok::<(), FlowError>(())
        };
        self.started_by(flow).acting(stored).await
    }

    /// Refuses the flow of a user who may no longer change the connection: the user is paused or removed, or the
    /// connection has another owner. The operator may change all connections.
    pub(super) fn may_still_change(
        &self,
        flow: &Flow,
        connection: &ConnectionRecord,
    ) -> Result<(), FlowError> {
        if UserId::parse(&flow.person).is_err() {
            return Ok(());
        }
        let user = self.user_of(flow).filter(|user| !user.paused);
        let may_change = user.is_some_and(|user| {
            user.role == Role::Admin || connection.facts.owner.as_ref() == Some(&user.id)
        });
        match may_change {
            true => Ok(()),
            false => Err(FlowError::NotTheirs),
        }
    }

    /// The actor of the change, for audit and events.
    fn started_by(&self, flow: &Flow) -> Actor {
        match self.user_of(flow) {
            Some(user) => Actor::User { id: user.id.clone(), name: user.name.clone(), login: None },
            None => Actor::Operator,
        }
    }

    /// Stores the next stage over any version: only one task works on a flow.
    pub(super) async fn stage(&self, flow: &Flow, stage: FlowStage) -> Result<(), FlowError> {
        let Some((mut now, version)) = self.flows.get(&flow.org, flow.id.as_str()).await? else {
            return Ok(());
        };
        now.stage = stage;
        self.flows.put(&flow.org, flow.id.as_str(), &now, Some(version)).await?;
        Ok(())
    }

    /// Stores why a flow without tokens failed. Other stages stay: their tokens are in force or must be
    /// revoked.
    pub(super) async fn note_failure(&self, flow: &Flow, why: &str) {
        let now = match self.flows.get(&flow.org, flow.id.as_str()).await {
            Ok(now) => now,
            // The flow may have tokens, which must not be overwritten.
            Err(RowError::Store(error)) => {
                return tracing::warn!(flow = %flow.id, %error, "a failed consent cannot be read");
            }
            Err(RowError::Sealed { .. } | RowError::Malformed { .. }) => None,
        };
        let has_tokens = now.is_some_and(|(now, _)| {
            !matches!(
                now.stage,
                FlowStage::Offered
                    | FlowStage::AtProvider(_)
                    | FlowStage::Exchanging
                    | FlowStage::Polling(_)
            )
        });
        if !has_tokens {
            self.fail(flow, why).await;
        }
    }

    /// Ends a flow that gave no grant. A draft connection stores the reason; other connections are
    /// unchanged.
    pub(super) async fn fail(&self, flow: &Flow, why: &str) {
        self.note_draft_failure(flow, why).await;
        // Last, so that a client that waits for the flow sees the final state of the connection.
        let failed = FlowStage::Failed { why: why.to_owned() };
        if let Err(error) = self.stage(flow, failed).await {
            tracing::warn!(%error, "a failed consent could not be kept");
        }
        tracing::info!(connection = %flow.connection, why, "a consent gave no grant");
    }

    /// Stores the reason in a draft connection.
    pub(super) async fn note_draft_failure(&self, flow: &Flow, why: &str) {
        let note = |connection: &mut ConnectionRecord| {
            if let ConnectionState::Draft { failure } = &mut connection.facts.state {
                *failure = Some(why.to_owned());
            }
        };
        let (org, id) = (&flow.org, &flow.connection);
        if let Err(error) = self.directory().change::<Connection>(org, id, note).await {
            tracing::debug!(%error, "the connection of a failed consent is gone");
        }
    }
}

/// [`lengthened`], requested a second time after a failure that may pass: the code is spent, so the person would have to
/// consent again.
async fn lengthened_or_again(
    ask: &RequestContext<'_>,
    tokens: &Tokens,
) -> Result<Tokens, TokenFailure> {
    let first = lengthened(ask, tokens).await;
    let Err(TokenFailure::Temporary(temporary)) = &first else { return first };
    let pause = temporary.retry_after.unwrap_or(LENGTHEN_PAUSE);
    if temporary.unknown_code || pause > LENGTHEN_PAUSE_MAX {
        return first;
    }
    tokio::time::sleep(pause).await;
    lengthened(ask, tokens).await
}

/// The error of an exchange whose answer cannot be read. The code is spent, and what was issued for it stays valid.
fn with_lost_tokens(error: FlowError, failure: &TokenFailure) -> FlowError {
    match (error, failure) {
        (FlowError::Server(why), TokenFailure::Temporary(Temporary { ambiguous: true, .. })) => {
            FlowError::Server(format!(
                "{why}. If it issued tokens, Keyward does not have them: connect again, and revoke the earlier access at \
                 the provider if it is shown there"
            ))
        }
        (error, _) => error,
    }
}

/// Why an assertion with the right key is refused.
const SIGNED: &str = "the clock of this machine is wrong";

/// The wrong setting of the provider's app, if a rejection indicates it.
fn setting(failure: &TokenFailure, asking: &FlowContext, uri: &str) -> Option<String> {
    let app = &asking.app.name;
    let asked = asking.oauth.token.as_ref().and_then(|url| url.fill(&asking.variables).ok());
    if let (Some(host), Some(asked)) = (account_host(&asking.variables), asked)
        && crate::grant::oauth::host(&asked) != host
    {
        return Some(format!(
            "the service says that the account is at {host}, where the code was not sent: connect it with the \
             variables of that host (`--var`)"
        ));
    }
    if failure.is_of_invalid_client() {
        // A person can correct only an app of their own.
        return asking.app.facts.registered.is_none().then(|| {
            let (proof, or) = match asking.app.client_auth(asking.oauth.client_auth) {
                ClientAuthText::PrivateKeyJwt => ("private key", SIGNED),
                ClientAuthText::ClientSecretJwt => ("secret", SIGNED),
                ClientAuthText::Mtls => ("certificate", "it does not accept certificates"),
                ClientAuthText::Basic => (
                    "secret",
                    "it expects them in another way (`--client-auth body` or `basic_raw`)",
                ),
                _ => ("secret", "it expects them in another way (`--client-auth`)"),
            };
            format!(
                "client id or {proof} of app `{app}` are not the provider's, or {or}; `keyward app set {app}`"
            )
        });
    }
    Some(match failure.code()?.as_str().to_ascii_lowercase().as_str() {
        "redirect_uri_mismatch"
        | "invalid_redirect_uri"
        | "bad_redirect_uri"
        | "mismatch_redirect_uri_auth_code" => {
            format!("the provider's app must have the redirect URI {uri}, character by character")
        }
        "invalid_grant" => {
            let binds = match asking.may_bind_tokens {
                true => {
                    ", or it must bind its tokens to a key (DPoP), which Keyward does not support"
                }
                false => "",
            };
            format!(
                "the code was too old, or the provider's app has another redirect URI than {uri}{binds}"
            )
        }
        // Glewlwyd says it with 403 for a wrong secret too.
        "unauthorized_client" if asking.app.facts.registered.is_none() => format!(
            "the provider's app does not allow the authorization code grant, or client id or secret of app `{app}` are \
             not the provider's; `keyward app set {app}`"
        ),
        "unauthorized_client" | "unsupported_grant_type" => {
            "the provider's app does not allow the authorization code grant".to_owned()
        }
        "invalid_scope" => "the provider's app is not allowed all of the scopes".to_owned(),
        _ => return None,
    })
}
