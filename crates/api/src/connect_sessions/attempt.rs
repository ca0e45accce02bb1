//! [`ConnectAttempt`]: an attempt to connect an account in a connect session: with a key, which is tested before it is
//! stored, or by a consent. It acts as the session's user; an incomplete attempt is rolled back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::browser::{BrowserSession, cookie_name};
use super::offers::target;
use super::offers::{ConnectChoice, Offers};
use crate::auth::Caller;
use crate::connection_test::has_test;
use crate::connections::activations;
use crate::connections::rotations;
use crate::context::Context;
use crate::error::ApiError;
use crate::request_id;
use crate::state::Admin;
use futures_util::FutureExt;
use keyward_base::codes::Code;
use keyward_base::secret::Secret;
use keyward_model::{
    ConnectSession, Connection, ConnectionSpec, ConnectionState, Record, Reference, User,
    Visibility,
};
use keyward_state::directory::{ConnectStepError, ManagedBy};
use keyward_state::observe::change::Change;
use keyward_state::observe::event::Outcome;
use keyward_vault::oauth::{BrowserBinding, ConsentRequest, Cookies, FlowError, StartedConsent};
use keyward_vault::{NewConnection, RotationTerms};

/// Longest part of a new connection's name that is made of the user's name.
const USER_CHARS_MAX: usize = 32;

/// Names that are tried for a new connection before a random one.
const NAMES_MAX: usize = 20;

/// A step of a person in a connect session.
#[derive(Clone)]
pub(super) struct ConnectAttempt {
    /// With the session's user as the caller.
    context: Context,
    session: Arc<Record<ConnectSession>>,
    user: Arc<Record<User>>,
}

impl ConnectAttempt {
    /// In a connect session that has not ended.
    ///
    /// # Errors
    /// When it has ended, its user is paused, or the connection that it connects again has another owner.
    pub(super) fn of(
        admin: &Admin,
        session: Arc<Record<ConnectSession>>,
    ) -> Result<Self, ApiError> {
        let user = admin.deps().directory.view().entitled_user(&session).cloned();
        let user = user.filter(|_| session.facts.is_live(admin.deps().clock.now()));
        let user = user.ok_or_else(|| step_error(ConnectStepError::Ended, ENDED))?;
        let caller = Caller::of_connect_session(user.clone());
        Ok(Self { context: Context { admin: admin.clone(), caller }, session, user })
    }

    pub(super) fn user(&self) -> &Record<User> {
        &self.user
    }

    /// The provider and method that the request names, if they are offered.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn chosen(
        &self,
        provider: Option<&str>,
        auth: Option<&str>,
        variables: BTreeMap<String, String>,
    ) -> Result<ConnectChoice, ApiError> {
        let offer = Offers::of(&self.context.admin, &self.session).chosen(provider, auth)?;
        Ok(ConnectChoice { offer, variables })
    }

    /// Connects with a key. The provider tests it first; one that fails is not kept.
    ///
    /// # Errors
    /// When the fields do not fit, the test fails, or the connect session has ended.
    pub(super) async fn with_key(
        self,
        choice: ConnectChoice,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Arc<Record<ConnectSession>>, ApiError> {
        if choice.offer.consents() {
            return Err(ApiError::field("auth", "needs a consent: open the link in a browser"));
        }
        let actor = self.context.caller.actor();
        // To its end, also when the browser goes away: else a draft would stay in testing.
        let work = async move { actor.acting(self.try_key(choice, fields).boxed()).await };
        request_id::spawn(work).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
    }

    async fn try_key(
        &self,
        choice: ConnectChoice,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Arc<Record<ConnectSession>>, ApiError> {
        let connection = match self.target()? {
            Some(connection) => self.replace_key(&connection, fields).await,
            None => self.add_key(choice, fields).await,
        };
        let error = match connection {
            Ok(connection) => return self.complete(&connection).await,
            Err(error) => error,
        };
        // Mistakes in the form were sent nowhere.
        if error.code() == Code::TestFailed {
            self.flows().fail_connect_session(&self.session, &error.to_string()).await?;
        }
        Err(error)
    }

    async fn add_key(
        &self,
        choice: ConnectChoice,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Arc<Record<Connection>>, ApiError> {
        self.ends_earlier_attempt().await?;
        let vault = &self.context.deps().vault;
        let draft = vault.lifecycle().add_untested(self.new_connection(choice)?, fields).await?;
        self.notes_draft(&draft).await?;
        let made = activations::begun(&self.context, &draft, true).await;
        let refusal = match made {
            Ok(made) => match made.test.filter(|test| !test.ok) {
                None => return self.connection(&draft),
                Some(test) => ApiError::test_failed(test.message),
            },
            Err(error) => error,
        };
        vault.lifecycle().remove(&draft.org, &draft.id).await?;
        Err(refusal)
    }

    /// The old secret stays until the test of the new one has succeeded.
    async fn replace_key(
        &self,
        connection: &Arc<Record<Connection>>,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Arc<Record<Connection>>, ApiError> {
        let (context, vault) = (self.context.clone(), &self.context.deps().vault);
        if let ConnectionState::Draft { .. } = connection.facts.state {
            vault.lifecycle().store_draft_secret(&connection.org, &connection.id, fields).await?;
            let made = activations::begun(&context, connection, true).await?;
            return match made.test.filter(|test| !test.ok) {
                None => self.connection(connection),
                Some(test) => Err(ApiError::test_failed(test.message)),
            };
        }
        let old_for = vault.lifecycle().rotation_settings().keep_old;
        let terms = RotationTerms { old_for, expires: None };
        match has_test(&context.admin, connection) {
            true => rotations::tested_first(context, connection.clone(), fields, terms).await?,
            false => rotations::untested(context, connection.clone(), fields, terms).await?,
        };
        self.connection(connection)
    }

    /// Sends the browser to the provider, bound to its cookie.
    ///
    /// # Errors
    /// When the consent cannot begin, or the connect session has ended. A new draft is removed.
    pub(super) async fn consent(
        self,
        choice: ConnectChoice,
        opened: &BrowserSession,
    ) -> Result<StartedConsent, ApiError> {
        if !choice.offer.consents() {
            return Err(ApiError::field("auth", "needs no consent"));
        }
        let actor = self.context.caller.actor();
        let cookie = opened.cookie.clone();
        // To its end: a draft is removed if its consent cannot begin.
        let work = async move { actor.acting(self.begin_consent(choice, &cookie).boxed()).await };
        request_id::spawn(work).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
    }

    async fn begin_consent(
        &self,
        choice: ConnectChoice,
        cookie: &str,
    ) -> Result<StartedConsent, ApiError> {
        self.ends_earlier_attempt().await?;
        let mut ask = ConsentRequest {
            person: self.user.id.to_string(),
            hold: self.session.headless,
            ..ConsentRequest::default()
        };
        let connection = match self.target()? {
            Some(connection) => {
                ask.more_scopes.clone_from(&self.session.scopes);
                connection
            }
            None => {
                let new = self.new_connection(choice)?;
                let draft = self.context.deps().vault.lifecycle().add_draft(new).await?;
                self.notes_draft(&draft).await?;
                draft
            }
        };
        let (org, name) = (&self.session.org, cookie_name(&self.context.admin));
        let browser = BrowserBinding { cookie: name, value: cookie };
        let sent = match self.flows().start_in(org, &connection, ask, browser).await {
            Ok(sent) => sent,
            Err(error) => {
                let session = self.latest();
                self.flows().remove_leftovers(&session).await?;
                return Err(error.into());
            }
        };
        let directory = &self.context.deps().directory;
        let flow = sent.flow.clone();
        let begin = |facts: &mut keyward_model::ConnectSessionFacts| {
            facts.flow = Some(flow.clone());
        };
        if let Err(error) = directory.begin_connecting(&self.session, begin).await {
            self.flows().cancel(org, &sent.flow).await?;
            return Err(step_error(error, ENDED));
        }
        self.recorded("consent started", Outcome::Completed, None).await;
        Ok(sent)
    }

    /// The person's decision about another account.
    ///
    /// # Errors
    /// When no decision is pending in this browser.
    pub(super) async fn decide(self, cookies: &Cookies, accepts: bool) -> Result<(), ApiError> {
        let Some(flow) = &self.session.facts.flow else {
            return Err(FlowError::NothingToConfirm.into());
        };
        let org = &self.session.org;
        let decided = self.flows().confirm(org, flow, Some(cookies), accepts).boxed();
        self.context.caller.actor().acting(decided).await?;
        self.flows().settle_connect_session(&self.session).await?;
        self.context.admin.enforce().await
    }

    /// Writes an audit record about the link, as its user.
    pub(super) async fn recorded(&self, action: &str, outcome: Outcome, why: Option<&str>) {
        recorded(&self.context.admin, &self.session, action, outcome, why).await;
    }

    /// The connection that is connected again; `None`: a new one is made. Since the step began, the connection may have
    /// got another owner.
    fn target(&self) -> Result<Option<Arc<Record<Connection>>>, ApiError> {
        let found = target(&self.context.admin, &self.session.org, &self.session.spec);
        let owner = found.as_ref().and_then(|connection| connection.facts.owner.as_ref());
        match self.session.connection.is_none() || owner == Some(&self.user.id) {
            true => Ok(found),
            false => Err(step_error(ConnectStepError::Ended, ENDED)),
        }
    }

    /// Rolls back an earlier attempt. Refused while the key of that attempt is being tested.
    async fn ends_earlier_attempt(&self) -> Result<(), ApiError> {
        let session = self.latest();
        let view = self.context.view();
        let draft = session.facts.draft.as_ref().and_then(|id| view.connection(&session.org, id));
        if draft.is_some_and(|draft| draft.facts.state == ConnectionState::Testing) {
            return Err(ApiError::refused("another key is being tested: wait a moment"));
        }
        Ok(self.flows().remove_leftovers(&session).await?)
    }

    /// Records the draft in the connect session before it is used, so that both are removed together.
    async fn notes_draft(&self, draft: &Record<Connection>) -> Result<(), ApiError> {
        let Context { admin, caller } = &self.context;
        caller.record_changed("connection", &draft.id, &draft.name);
        let note = |facts: &mut keyward_model::ConnectSessionFacts| {
            facts.draft = Some(draft.id.clone());
        };
        match admin.deps().directory.begin_connecting(&self.session, note).await {
            Ok(_) => Ok(()),
            Err(error) => {
                admin.deps().vault.lifecycle().remove(&draft.org, &draft.id).await?;
                Err(step_error(error, ENDED))
            }
        }
    }

    /// If another attempt was faster, or the link was revoked meanwhile, a new connection is removed.
    async fn complete(
        &self,
        connection: &Record<Connection>,
    ) -> Result<Arc<Record<ConnectSession>>, ApiError> {
        let deps = self.context.deps();
        let completed = deps.directory.complete_connect_session(&self.session, connection).await;
        if completed.is_err() && self.session.connection.is_none() {
            deps.vault.lifecycle().remove(&connection.org, &connection.id).await?;
        }
        self.context.admin.enforce().await?;
        completed.map_err(|error| step_error(error, ENDED))
    }

    fn new_connection(&self, choice: ConnectChoice) -> Result<NewConnection, ApiError> {
        let ConnectChoice { offer, variables } = choice;
        let (org, provider, auth) = (&self.session.org, &*offer.provider.id, &offer.auth().id);
        let app = self.flows().find_app(org, provider, Some(auth), None);
        let app = match offer.auth().needs_app() {
            true => app?.map(|app| Reference::Id(app.id.clone())),
            false => None,
        };
        let known = |name: &String| offer.provider.variable(name).is_some();
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty());
        let variables: BTreeMap<_, _> = variables.collect();
        if let Some(unknown) = variables.keys().find(|name| !known(name)) {
            return Err(ApiError::field("variables", format!("`{unknown}` is unknown")));
        }
        let spec = ConnectionSpec {
            name: self.fresh_name(provider),
            provider: provider.to_owned(),
            auth: Some(auth.clone()),
            variables,
            app,
            scopes: self.session.scopes.clone(),
            ..ConnectionSpec::default()
        };
        Ok(NewConnection {
            org: org.clone(),
            spec,
            owner: Some(self.user.id.clone()),
            visibility: Visibility::Private,
            managed_by: ManagedBy::Store,
        })
    }

    /// `github-of-42`; if that is taken, with a number.
    fn fresh_name(&self, provider: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let user: String = self.user.name.chars().take(USER_CHARS_MAX).map(plain).collect();
        let provider: String = provider.chars().take(24).collect();
        let (view, base) = (self.context.view(), format!("{provider}-of-{user}"));
        let taken = |name: &String| view.find_connection(&self.session.org, name).is_some();
        let numbered = (2..NAMES_MAX).map(|number| format!("{base}-{number}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name));
        free.unwrap_or_else(|| {
            let random = keyward_base::id::EventId::random().to_string();
            format!("{provider}-{}", &random[random.len() - 12..])
        })
    }

    fn connection(&self, of: &Record<Connection>) -> Result<Arc<Record<Connection>>, ApiError> {
        let found = self.context.view().connection(&of.org, &of.id).cloned();
        found.ok_or_else(|| ApiError::not_found("connection", &of.name))
    }

    fn latest(&self) -> Arc<Record<ConnectSession>> {
        let view = self.context.view();
        let found = view.one::<ConnectSession>(&self.session.org, &self.session.id).cloned();
        found.unwrap_or_else(|| self.session.clone())
    }

    fn flows(&self) -> &Arc<keyward_vault::oauth::Flows> {
        &self.context.deps().flows
    }
}

/// The message for a link that has ended.
pub(super) const ENDED: &str = "this link has ended: ask for another one";

/// A refused step as the API answers with it.
pub(super) fn step_error(error: ConnectStepError, ended: &str) -> ApiError {
    match error {
        ConnectStepError::Directory(error) => error.into(),
        ConnectStepError::OtherBrowser => ApiError::refused(error.to_string()),
        ConnectStepError::Ended => ApiError::refused(ended),
    }
}

/// Writes an audit record about a link, as its user.
pub(super) async fn recorded(
    admin: &Admin,
    session: &Record<ConnectSession>,
    action: &str,
    outcome: Outcome,
    why: Option<&str>,
) {
    let deps = admin.deps();
    let Some(user) = deps.directory.view().connecting_user(session).cloned() else { return };
    let actor = Caller::of_connect_session(user).actor();
    let change = Change::new(&actor, "connect session", action).of(&session.id, session.name());
    let change = Change { why: why.map(str::to_owned), ..change };
    deps.changes.record(change.event(deps.clock.now(), &session.org, outcome)).await;
}
