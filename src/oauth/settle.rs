//! Tokens of a flow become a connection's grant; on a reconnect to another account only after a person
//! has said so. Until then, and whatever happens, the old grant works.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::arrival::Arrival;
use super::callback::Cookies;
use super::error::{FlowError, Refusal};
use super::flow::{Asked, Confirming, Digest, Flow, Hidden, Stage};
use super::moved::tells_of_a_move;
use super::start::Asking;
use super::{FlowView, Flows};
use crate::base::id::{FlowId, OrgId, UserId};
use crate::base::secret::Secret;
use crate::base::tokens::TokenSettings;
use crate::directory::{ConnectionRecord, ConnectionState};
use crate::grant::Grant;
use crate::grant::oauth::{Ask, Client, Failure, OAuth, Tokens, exchange_code};
use crate::observe::change::Actor;
use crate::vault::Granted;

/// Host variables that the provider's answers gave.
type Captured = BTreeMap<String, String>;

impl Flows {
    /// Rule 8: the code, once.
    pub(super) async fn exchange(
        &self,
        flow: &Flow,
        asked: &Asked,
        code: &Hidden,
        captured: &Captured,
    ) -> Result<Tokens, FlowError> {
        let mut asking = self.of_flow(flow).await?;
        // Only what a variable may be reaches an endpoint's URL.
        let declared = |name: &str| asking.provider.variable(name).is_some();
        let others = captured.iter().filter(|(name, _)| !declared(name));
        let others: Captured = others.map(|(name, value)| (name.clone(), value.clone())).collect();
        let checked = asking.provider.captured(captured);
        asking.variables.extend(others.into_iter().chain(checked));
        let client = self.client(&asking.app).await?;
        let settings = self.settings.load_full();
        let ask = self.ask(&asking, &client, &settings);
        let verifier = asked.verifier.as_ref().map(|verifier| Secret::new(verifier.text()));
        let code = Secret::new(code.text());
        let tokens = exchange_code(&ask, &code, &asked.redirect_uri, verifier.as_ref()).await;
        if let Err(failure) = &tokens
            && failure.code().is_some_and(|code| tells_of_a_move(code.as_str()))
            && let Some(issuer) = &asking.issuer
        {
            self.distrust_metadata(issuer);
        }
        tokens.map_err(|failure| {
            let setting = failure.code().and_then(|it| setting(it.as_str(), &asking, asked));
            match setting {
                Some(setting) => FlowError::Server(format!("{failure}: {setting}")),
                None => told(&failure),
            }
        })
    }

    /// What a request of a flow is made with.
    pub(super) fn ask<'a>(
        &'a self,
        asking: &'a Asking,
        client: &'a Client,
        settings: &'a TokenSettings,
    ) -> Ask<'a> {
        Ask {
            caller: &self.caller,
            settings,
            oauth: &asking.oauth,
            client,
            variables: &asking.variables,
            scopes: &[],
            now: self.clock.now(),
        }
    }

    /// Host variables of the callback, each of which must be one that the provider's file permits.
    pub(super) fn captured(&self, flow: &Flow, arrival: &Arrival) -> Result<Captured, Refusal> {
        let view = self.directory().view();
        let connection = view.connection(&flow.org, &flow.connection).ok_or(Refusal::Over)?;
        let catalogue = self.vault.catalogue();
        let provider = catalogue.get(&connection.provider);
        let auth = provider.and_then(|provider| provider.auth(Some(&connection.auth)));
        let oauth = auth.and_then(|auth| auth.oauth.as_ref());
        let wanted = oauth.map(|oauth| oauth.callback_capture.clone()).unwrap_or_default();
        let mut captured = Captured::new();
        for (variable, parameter) in wanted {
            let Some(value) = arrival.other(&parameter) else { continue };
            captured.insert(variable, value.to_owned());
        }
        match self.fits(connection, &captured) {
            true => Ok(captured),
            false => Err(Refusal::Malformed("it names a host that is not the provider's")),
        }
    }

    /// Whether the provider's hosts stay its own with what its answers gave. Other facts, such as a
    /// workspace's id, are no part of hosts.
    fn fits(&self, connection: &ConnectionRecord, captured: &Captured) -> bool {
        let catalogue = self.vault.catalogue();
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
        let auth = provider.auth(Some(&connection.auth));
        auth.is_some_and(|auth| provider.instantiate(auth, &all).is_ok())
    }

    /// Stores the grant, or keeps it until the person has agreed to the other account.
    pub(super) async fn settle(
        &self,
        flow: Flow,
        tokens: Tokens,
        (session, captured): (Option<Digest>, Captured),
    ) -> Result<(), FlowError> {
        let view = self.directory().view();
        let connection = view.connection(&flow.org, &flow.connection).cloned();
        let connection = connection.ok_or(FlowError::NoConnection)?;
        let captured: Captured = captured.into_iter().chain(tokens.captured.clone()).collect();
        if !self.fits(&connection, &captured) {
            let why = "the answer names a host that is not the provider's";
            return Err(FlowError::Server(why.to_owned()));
        }
        let waiting = Confirming {
            session,
            before: connection.account.clone().unwrap_or_default(),
            account: tokens.account.clone().unwrap_or_default(),
            granted: tokens.scope.clone().unwrap_or_default(),
            ends: tokens.refresh_expires,
            renewable: tokens.refresh.is_some() || tokens.expires.is_none(),
            captured,
            grant: Hidden::new(
                BASE64_STANDARD.encode(Grant::OAuth(OAuth::of(tokens)).encode().as_slice()),
            ),
        };
        let differs = !waiting.before.is_empty()
            && !waiting.account.is_empty()
            && waiting.before != waiting.account;
        match differs {
            true => self.stage(&flow, Stage::Confirming(waiting)).await,
            false => self.store_grant(&flow, &connection, waiting).await,
        }
    }

    async fn store_grant(
        &self,
        flow: &Flow,
        connection: &ConnectionRecord,
        done: Confirming,
    ) -> Result<(), FlowError> {
        let bytes = BASE64_STANDARD.decode(done.grant.text()).map(Zeroizing::new);
        let grant = bytes.ok().and_then(|bytes| Grant::decode(&bytes).ok());
        let grant = grant.ok_or(FlowError::NoFlow)?;
        let account = Some(done.account.clone()).filter(|account| !account.is_empty());
        let (scopes, captured) = (done.granted.clone(), done.captured.clone());
        let facts = Granted { scopes, account, captured, ends: done.ends };
        let stored = async {
            self.vault.connect(&flow.org, &connection.id, grant, facts).await?;
            if flow.stepped_up {
                let ask = |record: &mut ConnectionRecord| record.scopes.clone_from(&flow.scopes);
                self.directory().update_connection(&flow.org, &connection.id, &ask).await?;
            }
            Ok::<(), FlowError>(())
        };
        self.started_by(flow).acting(stored).await?;
        tracing::info!(connection = %connection.id, provider = connection.provider, "connected");
        self.stage(flow, Stage::Connected { ends: !done.renewable }).await
    }

    /// Who is told to have connected it.
    fn started_by(&self, flow: &Flow) -> Actor {
        let id = UserId::parse(&flow.person).ok();
        let view = self.directory().view();
        match id.as_ref().and_then(|id| view.user(&flow.org, id)) {
            Some(user) => Actor::User { id: user.id.clone(), name: user.name.clone() },
            None => Actor::Operator,
        }
    }

    /// A person decides about the other account, in the command line or the browser that consented
    /// (`cookies`). No: the grant is forgotten, the old one stays.
    ///
    /// # Errors
    /// When nothing waits for a decision, or it is another browser.
    pub async fn confirm(
        &self,
        (org, id): (&OrgId, &FlowId),
        cookies: Option<&Cookies>,
        agrees: bool,
    ) -> Result<FlowView, FlowError> {
        let found = self.flows.get(org, id.as_str()).await?;
        let (flow, version) = found.ok_or(FlowError::NoFlow)?;
        let Stage::Confirming(waiting) = flow.stage.clone() else {
            return Err(FlowError::NothingToConfirm);
        };
        if self.clock.now() >= flow.expires {
            return Err(FlowError::NoFlow);
        }
        let own = |cookies: &Cookies| {
            let cookie = cookies.one(&flow.cookie());
            waiting.session.as_ref().zip(cookie).is_some_and(|(session, c)| session.is_of(c))
        };
        if !cookies.is_none_or(own) {
            return Err(FlowError::NothingToConfirm);
        }
        let next = match agrees {
            true => Stage::Exchanging,
            false => Stage::Failed { why: "the other account was not wanted".to_owned() },
        };
        // Who is first decides: the version is the one that was read.
        let mut decided = flow.clone();
        decided.stage = next;
        self.flows.put((org, id.as_str()), &decided, Some(version)).await?;
        if agrees {
            let connection = self.directory().view().connection(org, &flow.connection).cloned();
            let connection = connection.ok_or(FlowError::NoConnection)?;
            self.store_grant(&flow, &connection, waiting).await?;
        }
        self.view(org, id).await
    }

    /// Moves a flow on, whatever its version: its work is done by one task at a time.
    pub(super) async fn stage(&self, flow: &Flow, stage: Stage) -> Result<(), FlowError> {
        let Some((mut now, version)) = self.flows.get(&flow.org, flow.id.as_str()).await? else {
            return Ok(());
        };
        now.stage = stage;
        self.flows.put((&flow.org, flow.id.as_str()), &now, Some(version)).await?;
        Ok(())
    }

    /// Keeps why a flow failed; a connection that never worked says so as well, any other is untouched.
    pub(super) async fn note_failure(&self, flow: &Flow, why: &str) {
        let note = |connection: &mut ConnectionRecord| {
            if let ConnectionState::Draft { failure } = &mut connection.state {
                *failure = Some(why.to_owned());
            }
        };
        let (org, id) = (&flow.org, &flow.connection);
        if let Err(error) = self.directory().update_connection(org, id, &note).await {
            tracing::debug!(%error, "the connection of a failed consent is gone");
        }
        // Last: whoever waits for the flow finds the connection as it is then.
        let failed = Stage::Failed { why: why.to_owned() };
        if let Err(error) = self.stage(flow, failed).await {
            tracing::warn!(%error, "a failed consent could not be kept");
        }
        tracing::info!(connection = %flow.connection, why, "a consent gave no grant");
    }
}

/// Which setting of the provider's app does not match, where a refusal of a code tells.
fn setting(code: &str, asking: &Asking, asked: &Asked) -> Option<String> {
    let (app, uri) = (&asking.app.name, &asked.redirect_uri);
    Some(match code {
        "invalid_client"
        | "invalid_client_id"
        | "bad_client_secret"
        | "incorrect_client_credentials" => {
            format!(
                "client id or secret of app `{app}` are not the provider's; `keyward app set {app}`"
            )
        }
        "redirect_uri_mismatch" | "invalid_redirect_uri" | "bad_redirect_uri" => {
            format!("the provider's app must have the redirect URI {uri}, character by character")
        }
        "invalid_grant" => {
            format!(
                "the code was too old, or the provider's app has another redirect URI than {uri}"
            )
        }
        "unauthorized_client" | "unsupported_grant_type" => {
            "the provider's app does not allow the authorization code grant".to_owned()
        }
        "invalid_scope" => "the provider's app is not allowed all of the scopes".to_owned(),
        _ => return None,
    })
}

/// A failure of the server in words that may be shown.
pub(super) fn told(failure: &Failure) -> FlowError {
    FlowError::Server(failure.to_string())
}
