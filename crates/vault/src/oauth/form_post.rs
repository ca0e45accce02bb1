//! Callbacks by POST (OAuth 2.0 Form Post Response Mode), for providers whose file enables them. The POST comes from
//! the provider's site without our `SameSite=Lax` cookie, so it does not identify the browser. The form is
//! sealed and stored; the browser then navigates to our page with its cookie, where the form passes the same checks as
//! the query of a redirect.

use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::Flows;
use super::callback_query::{CallbackQuery, QUERY_BYTES_MAX};
use super::error::CallbackRefusal;
use super::flow::{CookieDigest, Flow, FlowStage, SealedText, random};
use super::rows::FormPost;
use keyward_base::id::{AppId, OrgId};
use keyward_model::Connection;
use keyward_rules::provider::oauth::ResponseModeText;
use keyward_state::directory::ConnectionRecord;

/// Most bytes of a stored form, as of a callback's query.
pub const FORM_BYTES_MAX: usize = QUERY_BYTES_MAX;

/// How long a stored form is valid; browsers follow the redirect at once.
const GOES_ON_WITHIN: SignedDuration = SignedDuration::from_mins(2);

impl Flows {
    /// Whether the provider of an app sends callbacks by POST.
    pub fn takes_posts(&self, org: &OrgId, app: &AppId) -> bool {
        let view = self.directory().view();
        let mut of_app = view.all::<Connection>(org).filter(|it| it.app_id() == Some(app));
        // A client that was registered again has no connection before its consent.
        let registered = view.app(org, app).filter(|app| app.facts.registered.is_some());
        of_app.any(|connection| self.is_posted_to(connection))
            || registered.is_some_and(|app| self.is_posted(org, &app.provider, app.auth.as_deref()))
    }

    fn is_posted_to(&self, connection: &ConnectionRecord) -> bool {
        self.is_posted(&connection.org, &connection.provider, Some(connection.method()))
    }

    fn is_posted(&self, org: &OrgId, provider: &str, auth: Option<&str>) -> bool {
        let catalogue = self.vault.catalogue(org);
        let auth = catalogue.get(provider).and_then(|provider| provider.auth(auth));
        let oauth = auth.and_then(|auth| auth.oauth.as_ref());
        oauth.is_some_and(|oauth| oauth.response_mode == ResponseModeText::FormPost)
    }

    /// Stores the form that a browser POSTed. Returns the secret with which the browser continues, once.
    /// Accepted only for an expected `state`, and once for each, so that strangers cannot fill the store.
    ///
    /// # Errors
    /// When the form is not an expected one.
    pub async fn keep_posted(
        &self,
        org: &OrgId,
        app: &AppId,
        form: &str,
    ) -> Result<Zeroizing<String>, CallbackRefusal> {
        let callback = CallbackQuery::read(form)?;
        let state = CookieDigest::of(callback.required_state()?);
        let (mut pointer, version) =
            self.states.get(org, state.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        let found = self.flows.get(org, pointer.flow.as_str()).await?;
        let (flow, _) =
            found.filter(|(flow, _)| self.is_asked(flow)).ok_or(CallbackRefusal::NoFlow)?;
        if flow.app != *app {
            return Err(CallbackRefusal::OtherApp);
        }
        let connection = self.directory().view().connection(org, &flow.connection).cloned();
        let connection = connection.ok_or(CallbackRefusal::Removed)?;
        if pointer.posted || !self.is_posted_to(&connection) {
            return Err(CallbackRefusal::NoFlow);
        }
        pointer.posted = true;
        self.states.put(org, state.as_str(), &pointer, Some(version)).await?;
        let handle = random();
        let until = self.clock.now().saturating_add(GOES_ON_WITHIN).unwrap_or(flow.expires);
        let expires = until.min(flow.expires);
        let posted = FormPost { app: app.clone(), form: SealedText::new(form), expires };
        self.posted.put(org, CookieDigest::of(&handle).as_str(), &posted, None).await?;
        Ok(handle)
    }

    /// Takes the stored form of a browser, once.
    ///
    /// # Errors
    /// When there is none, or it is of another app or too old.
    pub async fn take_posted(
        &self,
        org: &OrgId,
        app: &AppId,
        handle: &str,
    ) -> Result<Zeroizing<String>, CallbackRefusal> {
        let hash = CookieDigest::of(handle);
        let posted = self.posted.take(org, hash.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        if posted.app != *app {
            return Err(CallbackRefusal::OtherApp);
        }
        match self.clock.now() < posted.expires {
            true => Ok(Zeroizing::new(posted.form.text().to_owned())),
            false => Err(CallbackRefusal::NoFlow),
        }
    }

    fn is_asked(&self, flow: &Flow) -> bool {
        matches!(flow.stage, FlowStage::AtProvider(_)) && self.clock.now() < flow.expires
    }
}
