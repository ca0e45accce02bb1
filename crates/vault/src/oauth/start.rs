//! Starts a flow: the API or the command line offers it, and a browser begins it. `state` and the PKCE
//! verifier are created then, and both are durable before the browser is redirected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use oauth2::{CsrfToken, PkceCodeChallenge};
use zeroize::Zeroizing;

use super::Flows;
use super::authorize::{self, AuthorizationRequest};
use super::error::{CallbackRefusal, FlowError};
use super::flow::{
    CallbackExpectation, CookieDigest, Flow, FlowStage, Pointer, Polling, RANDOM_BYTES, SealedText,
    StoredFlow, TemporaryCredentials, random,
};
use keyward_base::id::{FlowId, OrgId};
use keyward_rules::provider::oauth::{GrantText, PkceText, ResponseModeText};
use keyward_rules::provider::scope_words::ScopeWords;
use keyward_rules::provider::{OAuth, Provider};
use keyward_state::directory::{AppRecord, ConnectionRecord, RemedyCause};

#[derive(Clone, Debug, Default)]
pub struct ConsentRequest {
    /// The person who starts it; of a user, the id.
    pub person: String,
    /// With a device code, if the provider supports both ways.
    pub device: bool,
    pub more_scopes: Vec<String>,
    /// Registers a new client first, if Keyward registered the current one: servers forget clients.
    pub register: bool,
    /// Whether the tokens wait for [`Flows::release`].
    pub hold: bool,
}

/// The next step of the person.
#[derive(Debug)]
pub enum Started {
    /// Open this page.
    Browser {
        flow: FlowId,
        /// The URL of the start page. Its holder may consent, so it is never logged.
        url: String,
    },
    /// Enter a code.
    Device {
        flow: FlowId,
        /// The code, and the address where it is entered.
        code: DeviceCode,
    },
}

/// The data for consenting on another device (RFC 8628 §3.2); only for the person who started it.
#[derive(Clone)]
pub struct DeviceCode {
    pub user_code: String,
    /// The address where it is entered.
    pub verification_uri: String,
    /// The same address with the code.
    pub verification_uri_complete: Option<String>,
    pub expires: Timestamp,
}

/// The content of the start page.
#[derive(Debug)]
pub struct StartPage {
    pub flow: FlowId,
    /// The provider's name.
    pub provider: String,
    pub connection: String,
    /// The current account.
    pub account: Option<String>,
    pub app: String,
    /// The requested scopes.
    pub scopes: Vec<String>,
    /// What they allow, in words, as far as the provider has some.
    pub scope_words: ScopeWords,
    /// The person who started it.
    pub person: String,
    /// Time of the start.
    pub created: Timestamp,
    /// Origin of the authorization endpoint.
    pub goes_to: String,
    /// The remedy if the provider does not know the client, which an earlier unfinished consent suggests.
    pub hint: Option<String>,
}

/// The provider and app of a flow.
pub(super) struct FlowContext {
    pub(super) connection: Arc<ConnectionRecord>,
    pub(super) provider: Arc<Provider>,
    pub(super) app: Arc<AppRecord>,
    /// The provider's OAuth data, with the app's changes and discovered endpoints.
    pub(super) oauth: OAuth,
    pub(super) variables: BTreeMap<String, String>,
    /// The expected issuer of the callback.
    pub(super) issuer: Option<String>,
    /// Whether the server announced `iss` in responses.
    pub(super) issuer_announced: bool,
    /// Whether the server can bind tokens to a key (RFC 9449).
    pub(super) may_bind_tokens: bool,
    /// Whether the server requires pushed authorization requests (RFC 9126), and where it takes them.
    pub(super) must_push: bool,
    pub(super) push_endpoint: Option<String>,
}

impl FlowContext {
    /// Refuses a code that belongs to another client id than the app has now.
    pub(super) fn is_still_of(&self, client_id: Option<&str>) -> Result<(), FlowError> {
        match client_id.is_none_or(|id| id == self.app.client_id) {
            true => Ok(()),
            false => Err(FlowError::OtherClient { app: self.app.name.clone() }),
        }
    }
}

/// The authorization URL for the browser, and the values that its callback must match.
pub(super) struct Authorization {
    /// The URL of the provider's page.
    pub(super) url: String,
    /// The hash of `state`.
    pub(super) state: CookieDigest,
    /// The PKCE verifier.
    pub(super) verifier: Option<SealedText>,
    pub(super) redirect_uri: String,
    pub(super) client_id: String,
    pub(super) issuer: Option<String>,
    pub(super) issuer_announced: bool,
    /// The temporary credentials of OAuth 1.0a.
    pub(super) temporary: Option<TemporaryCredentials>,
}

impl Flows {
    /// Starts a flow for a connection. A connection in use is not changed.
    ///
    /// # Errors
    /// When the connection needs no consent or has no app, too many flows are open, or the authorization
    /// server cannot be reached.
    pub async fn start(
        self: &Arc<Self>,
        org: &OrgId,
        connection: &ConnectionRecord,
        ask: ConsentRequest,
    ) -> Result<Started, FlowError> {
        let asking = self.context_of_consent(connection, &ask).await?;
        match (asking.oauth.grant, ask.device) {
            (GrantText::DeviceCode, _) | (GrantText::AuthorizationCode, true) => {
                self.start_device(org, asking, ask).await
            }
            (GrantText::AuthorizationCode, false) => self.offer_browser(org, &asking, ask).await,
            _ => Err(self.no_consent_error(connection)),
        }
    }

    async fn offer_browser(
        &self,
        org: &OrgId,
        asking: &FlowContext,
        ask: ConsentRequest,
    ) -> Result<Started, FlowError> {
        endpoint(asking, asking.oauth.authorize.as_ref(), "authorization")?;
        let life = self.settings.load().flow_lifetime;
        let flow = self.new_flow(org, asking, ask, life);
        let ticket = random();
        let ticket = Zeroizing::new(self.with_org_prefix(org, &ticket));
        let pointer = Pointer { flow: flow.id.clone(), expires: flow.expires, posted: false };
        self.put_new(&flow).await?;
        self.tickets.put(org, CookieDigest::of(&ticket).as_str(), &pointer, None).await?;
        let url = format!("{}/oauth/start/{}", self.public_url, *ticket);
        Ok(Started::Browser { flow: flow.id, url })
    }

    pub(super) fn new_flow(
        &self,
        org: &OrgId,
        asking: &FlowContext,
        ask: ConsentRequest,
        life: std::time::Duration,
    ) -> Flow {
        let now = self.clock.now();
        let asked = asked_scopes(asking);
        let stepped_up = ask.more_scopes.iter().any(|more| !asked.contains(more));
        let scopes = requested_scopes(asking, &ask.more_scopes);
        let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::from_mins(10));
        Flow {
            id: FlowId::random(),
            org: org.clone(),
            person: ask.person,
            connection: asking.connection.id.clone(),
            app: asking.app.id.clone(),
            scopes,
            stepped_up,
            created: now,
            expires: now.saturating_add(life).unwrap_or(Timestamp::MAX),
            cookie: None,
            session: None,
            held: ask.hold,
            stage: FlowStage::Offered,
        }
    }

    /// A ticket or flow id as it appears in URLs: prefixed with the organisation's name, except for the
    /// default organisation.
    pub fn with_org_prefix(&self, org: &OrgId, what: &str) -> String {
        match *org == OrgId::default_org() {
            true => what.to_owned(),
            false => format!("{}.{what}", org.name()),
        }
    }

    /// The content of the start page. The page may be opened several times.
    ///
    /// # Errors
    /// When the link was used or has expired.
    pub async fn offer(&self, org: &OrgId, ticket: &str) -> Result<StartPage, CallbackRefusal> {
        let hash = CookieDigest::of(ticket);
        let (pointer, _) =
            self.tickets.get(org, hash.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        let found = self.flows.get(org, pointer.flow.as_str()).await?;
        let (flow, _) =
            found.filter(|(flow, _)| self.is_offered(flow)).ok_or(CallbackRefusal::NoFlow)?;
        let asking = self.context_of_flow(&flow).await?;
        let authorize = endpoint(&asking, asking.oauth.authorize.as_ref(), "authorization")?;
        let person = self.person_of(&flow);
        let hint = self.hint_about_client(&asking).await?;
        Ok(StartPage {
            hint,
            flow: flow.id,
            provider: asking.provider.name.to_string(),
            connection: asking.connection.name.clone(),
            account: asking.connection.facts.account.clone(),
            app: asking.app.name.clone(),
            scope_words: asking.provider.words_for(&flow.scopes),
            scopes: flow.scopes,
            person,
            created: flow.created,
            goes_to: origin(&authorize),
        })
    }

    fn is_offered(&self, flow: &Flow) -> bool {
        matches!(flow.stage, FlowStage::Offered) && self.clock.now() < flow.expires
    }

    /// Begins the flow in a browser that holds `session` as its cookie. Returns the URL of the redirect.
    /// The link is used up, unless the authorization server cannot be reached.
    ///
    /// # Errors
    /// As [`Flows::offer`].
    pub async fn begin(
        &self,
        org: &OrgId,
        ticket: &str,
        session: &str,
    ) -> Result<String, CallbackRefusal> {
        let hash = CookieDigest::of(ticket);
        let (pointer, _) =
            self.tickets.get(org, hash.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        let found = self.flows.get(org, pointer.flow.as_str()).await?;
        let (flow, version) =
            found.filter(|(flow, _)| self.is_offered(flow)).ok_or(CallbackRefusal::NoFlow)?;
        let asking = self.context_of_flow(&flow).await?;
        // Done before the link is used up, because it may send a request, which may fail.
        let authorization = self.authorization(&flow, &asking).await?;
        // If the button is pressed twice, only one request continues.
        self.tickets.take(org, hash.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        let stored = StoredFlow { flow, version };
        Ok(self.redirect_to_provider(stored, authorization, session).await?)
    }

    /// The name of the cookie that binds a flow to a browser.
    pub fn cookie(&self, flow: &FlowId) -> String {
        super::flow::cookie_of(flow)
    }

    /// A new cookie for `Set-Cookie`. A secret.
    pub fn new_cookie(&self, flow: &FlowId) -> String {
        let life = self.settings.load().flow_lifetime.as_secs();
        let secure = if self.public_url.starts_with("https://") { "; Secure" } else { "" };
        let (name, value) = (self.cookie(flow), random());
        let rest = self.public_url.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        format!(
            "{name}={}; Path={path}/oauth; Max-Age={life}; HttpOnly; SameSite=Lax{secure}",
            *value
        )
    }

    /// Builds the authorization URL. In OAuth 1.0a it first requests temporary credentials from the service; a server may
    /// require that it gets the parameters first.
    ///
    /// # Errors
    /// When an endpoint or a parameter is unknown, or the server refuses that request.
    pub(super) async fn authorization(
        &self,
        flow: &Flow,
        asking: &FlowContext,
    ) -> Result<Authorization, FlowError> {
        match asking.oauth.temporary {
            Some(_) => self.authorization_of_oauth1(asking).await,
            None => self.authorization_code(flow, asking).boxed().await,
        }
    }

    async fn authorization_code(
        &self,
        flow: &Flow,
        asking: &FlowContext,
    ) -> Result<Authorization, FlowError> {
        let endpoint = endpoint(asking, asking.oauth.authorize.as_ref(), "authorization")?;
        let redirect_uri = asking.app.redirect_uri(&self.public_url);
        let state = CsrfToken::new_random_len(RANDOM_BYTES);
        // PKCE is omitted only if the provider's file says that it fails.
        let wanted = asking.oauth.pkce != PkceText::Avoid;
        let (challenge, verifier) = wanted.then(PkceCodeChallenge::new_random_sha256).unzip();
        let question = AuthorizationRequest {
            endpoint: &endpoint,
            client_id: &asking.app.client_id,
            redirect_uri: &redirect_uri,
            scopes: &flow.scopes,
            state: &state,
            challenge,
            resource: asking.oauth.token_params.get("resource").map(String::as_str),
            response_mode: match asking.oauth.response_mode {
                ResponseModeText::Query => None,
                ResponseModeText::FormPost => Some("form_post"),
            },
        };
        let params = authorize::parameters(question, &asking.oauth, &asking.variables)?;
        Ok(Authorization {
            url: self.url_for_browser(asking, &endpoint, params).await?,
            state: CookieDigest::of(state.secret()),
            verifier: verifier.map(|verifier| SealedText::new(verifier.into_secret())),
            redirect_uri,
            client_id: asking.app.client_id.clone(),
            issuer: asking.issuer.clone(),
            issuer_announced: asking.issuer_announced,
            temporary: None,
        })
    }

    /// Stores the expected values of the callback, durably. Returns the URL for the browser that holds `session` as its
    /// cookie.
    pub(super) async fn redirect_to_provider(
        &self,
        stored: StoredFlow,
        authorization: Authorization,
        session: &str,
    ) -> Result<String, FlowError> {
        let StoredFlow { mut flow, version } = stored;
        let Authorization { url, state, verifier, redirect_uri, .. } = authorization;
        flow.stage = FlowStage::AtProvider(CallbackExpectation {
            session: CookieDigest::of(session),
            verifier,
            redirect_uri,
            client_id: Some(authorization.client_id),
            issuer: authorization.issuer,
            issuer_announced: authorization.issuer_announced,
            temporary: authorization.temporary,
        });
        let (org, id) = (flow.org.clone(), flow.id.clone());
        let pointer = Pointer { flow: id.clone(), expires: flow.expires, posted: false };
        self.flows.put(&org, id.as_str(), &flow, Some(version)).await?;
        self.states.put(&org, state.as_str(), &pointer, None).await?;
        Ok(url)
    }

    /// The current connection, provider, endpoints and app of a flow. Refused if its person may no longer change the
    /// connection.
    pub(super) async fn context_of_flow(&self, flow: &Flow) -> Result<FlowContext, FlowError> {
        let view = self.directory().view();
        let connection = view.connection(&flow.org, &flow.connection);
        let connection = connection.ok_or(FlowError::NoConnection)?;
        self.may_still_change(flow, connection)?;
        // The app of the flow is used, because another consent may have changed the app of the connection meanwhile.
        self.context_of_connection(&flow.connection_with_app(connection)).await
    }

    /// The provider and endpoints of a connection, and its app.
    pub(super) async fn context_of_connection(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<FlowContext, FlowError> {
        self.context_with_app(connection, self.app_of(connection)?).await
    }

    /// The error for a connection without consent, with a remedy.
    pub(super) fn no_consent_error(&self, connection: &ConnectionRecord) -> FlowError {
        let remedy = self.vault.remedy(connection, RemedyCause::Credential);
        FlowError::NoConsent { connection: connection.name.clone(), remedy }
    }

    /// The issuer of a connection's app, with filled-in variables.
    pub(super) fn issuer_of(
        &self,
        connection: &ConnectionRecord,
        app: &AppRecord,
    ) -> Result<Option<String>, FlowError> {
        let catalogue = self.vault.catalogue(&connection.org);
        let Some(provider) = catalogue.get(&connection.provider) else { return Ok(None) };
        let auth = provider.auth(connection.auth.as_deref());
        let Some(base) = auth.and_then(|auth| auth.oauth.as_ref()) else { return Ok(None) };
        let variables = variables_of(provider, app, connection);
        let issuer = app.override_oauth(base).issuer;
        Ok(issuer.map(|issuer| issuer.fill(&variables)).transpose()?)
    }
}

/// The variables of endpoints: the app's client id, and the connection's, else the app's, else the provider's defaults.
/// Those that a response has not named yet are missing.
pub(super) fn variables_of(
    provider: &Provider,
    app: &AppRecord,
    connection: &ConnectionRecord,
) -> BTreeMap<String, String> {
    let mut variables = provider.defaults();
    variables.extend(app.variables.clone());
    variables.extend(connection.host_variables());
    if !app.client_id.is_empty() {
        variables.insert("client_id".to_owned(), app.client_id.clone());
    }
    variables
}

/// The connection's scopes, else the app's, else the provider's.
pub(super) fn asked_scopes(asking: &FlowContext) -> Vec<String> {
    match asking.connection.scopes.is_empty() {
        true => asking.oauth.scopes.clone(),
        false => asking.connection.scopes.clone(),
    }
}

/// The scopes of a consent that requests `more` than those of its connection, without repetitions.
pub(super) fn requested_scopes(asking: &FlowContext, more: &[String]) -> Vec<String> {
    let mut scopes = asked_scopes(asking);
    scopes.extend_from_slice(more);
    let mut seen = BTreeSet::new();
    scopes.retain(|scope| seen.insert(scope.clone()));
    scopes
}

/// An endpoint with filled-in variables.
pub(super) fn endpoint(
    asking: &FlowContext,
    template: Option<&keyward_rules::provider::oauth::UrlTemplate>,
    what: &'static str,
) -> Result<String, FlowError> {
    let missing = || FlowError::NoEndpoint { app: asking.app.name.clone(), what };
    Ok(template.ok_or_else(missing)?.fill(&asking.variables)?)
}

/// Scheme, host and port of a checked URL.
pub(super) fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}")
}

impl std::fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceCode").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl DeviceCode {
    pub(super) fn of(polling: &Polling, expires: Timestamp) -> Self {
        Self {
            user_code: polling.user_code.text().to_owned(),
            verification_uri: polling.verification_uri.clone(),
            verification_uri_complete: polling
                .verification_uri_complete
                .as_ref()
                .map(|uri| uri.text().to_owned()),
            expires,
        }
    }
}
