//! What the pages of a link show, or where they send their browser. `/connect/{token}` says what will be connected; its
//! button binds the connect session to that browser. Everything after that is at `/connect/session`, without the token,
//! and needs the browser's cookie. A headless link has no pages: it binds the first browser, which goes on to the provider.

use std::sync::Arc;

use axum::body::Body;
use futures_util::FutureExt;
use http::HeaderValue;

use super::attempt::{ConnectAttempt, recorded};
use super::browser::{BrowserSession, NewBrowser, PageMark};
use super::form::{FormProblem, FormReader, KeyForm};
use super::offers::target;
use super::offers::{ConnectChoice, ConnectOffer, Offers};
use crate::error::ApiError;
use crate::page_request::PageRequest;
use crate::state::Admin;
use keyward_model::{ConnectSession, ConnectSessionState, Record};
use keyward_rules::provider::Provider;
use keyward_state::directory::ConnectStepError;
use keyward_state::observe::event::Outcome;
use keyward_vault::oauth::FlowState;

/// The form that opens a link: its mark.
const OPENING_BYTES_MAX: usize = 1024;

/// What a browser gets.
pub enum ConnectStep {
    /// A redirect, relative to this page or to another site. The cookie binds the browser.
    Moved {
        to: String,
        cookie: Option<HeaderValue>,
    },
    Page(Box<ConnectPage>),
}

/// A page of a connect session.
pub struct ConnectPage {
    /// The name of the user whom the account is connected for.
    pub user: String,
    /// The connection that is connected again.
    pub connection: Option<String>,
    /// Where the browser can go back to.
    pub back: Option<String>,
    pub content: PageContent,
}

/// What is on the page.
pub enum PageContent {
    /// The first page of a link, with the names of the providers. Previews of messengers and mail scanners open it, so it
    /// uses nothing up.
    Offered { providers: Vec<String>, mark: PageMark },
    /// The choice of a provider.
    Providers(Vec<Arc<Provider>>),
    /// The choice of a way to authenticate at one provider.
    Methods(Vec<ConnectOffer>),
    /// The form of a key, or the button of a consent; after a problem, again.
    Method(ConnectOffer, Option<Box<FormProblem>>),
    /// The way to the provider.
    ToProvider { provider: String, url: String },
    /// The decision about another account than the connection had.
    OtherAccount { before: String, account: Option<String> },
    /// The browser is at the provider, in another tab.
    AtProvider { provider: String },
    /// The account is connected. The browser goes back at once.
    Done { provider: String },
    /// The last attempt has failed, and there may be another.
    Failed { why: String },
}

/// Why a link cannot be used.
pub enum ConnectRefusal {
    /// It was used or revoked, or its time is over.
    Ended,
    /// Another browser opened it. Nothing of it is shown.
    OtherBrowser,
    /// The browser opened no link.
    UnknownBrowser,
    /// Another site sent the form.
    ForeignForm,
    /// The step failed.
    Failed(ApiError),
    /// The answer is the API's.
    Api(ApiError),
}

/// The query of `/connect/session`.
#[derive(Default)]
struct PageQuery {
    provider: Option<String>,
    auth: Option<String>,
    step: Option<String>,
    accepts: bool,
    anyway: bool,
}

impl ConnectStep {
    fn moved(to: impl Into<String>) -> Self {
        Self::Moved { to: to.into(), cookie: None }
    }
}

impl PageQuery {
    fn of(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "provider" => asked.provider = Some(value),
                "auth" => asked.auth = Some(value),
                "step" => asked.step = Some(value),
                "accept" => asked.accepts = value == "yes",
                "anyway" => asked.anyway = value == "yes",
                _ => {}
            }
        }
        asked
    }

    fn is_start(&self) -> bool {
        self.provider.is_none() && self.step.is_none()
    }
}

/// Shows what will be connected. Does not use the link up, because link previews open it too. A headless link is not
/// sent in messages, so it binds its browser at once.
///
/// # Errors
/// When the link cannot be used here.
pub async fn offer(request: &PageRequest, token: &str) -> Result<ConnectStep, ConnectRefusal> {
    let session = match linked(request, token, None).await? {
        Linked::Open(session) => session,
        Linked::Opened { to } => return Ok(ConnectStep::moved(to)),
    };
    if session.headless {
        return match request.is_get() {
            true => bind(&request.admin, &session, None).await,
            false => Err(ConnectRefusal::Api(ApiError::Method)),
        };
    }
    let offers = Offers::of(&request.admin, &session);
    let providers = offers.providers().iter().map(|it| it.name.clone()).collect();
    let mark = PageMark::fresh().ok_or(ConnectRefusal::Api(ApiError::Internal))?;
    let content = PageContent::Offered { providers, mark };
    Ok(page(&request.admin, &session, None, content))
}

/// Binds the link to this browser. Of several browsers, the first one wins. A second click on the button binds the same
/// one again, which has lost the answer to the first click.
///
/// # Errors
/// As [`offer`].
pub async fn open(
    request: &PageRequest,
    token: &str,
    body: Body,
) -> Result<ConnectStep, ConnectRefusal> {
    if !request.is_of_our_page() {
        return Err(ConnectRefusal::ForeignForm);
    }
    let form = request.form(body, OPENING_BYTES_MAX).await;
    let page = form.and_then(|form| PageMark::of(&form));
    match linked(request, token, page.as_ref()).await? {
        Linked::Open(session) => bind(&request.admin, &session, page.as_ref()).await,
        Linked::Opened { to } => Ok(ConnectStep::moved(to)),
    }
}

/// Binds the link to the browser that sent the request from this page.
async fn bind(
    admin: &Admin,
    session: &Record<ConnectSession>,
    page: Option<&PageMark>,
) -> Result<ConnectStep, ConnectRefusal> {
    let browser = NewBrowser::fresh(admin, page);
    let NewBrowser { bound, set_cookie } =
        browser.ok_or(ConnectRefusal::Api(ApiError::Internal))?;
    match admin.deps().directory.open_connect_session(session, bound).await {
        Ok(session) => {
            recorded(admin, &session, "opened", Outcome::Completed, None).await;
            Ok(ConnectStep::Moved { to: "session".to_owned(), cookie: Some(set_cookie) })
        }
        Err(ConnectStepError::OtherBrowser) => Err(other_browser(admin, session).await),
        Err(ConnectStepError::Ended) => Err(ConnectRefusal::Ended),
        Err(ConnectStepError::Directory(error)) => Err(ConnectRefusal::Api(error.into())),
    }
}

/// The connect session of a link.
enum Linked {
    /// This browser may open it from this page.
    Open(Arc<Record<ConnectSession>>),
    /// This browser has opened it.
    Opened { to: &'static str },
}

async fn linked(
    request: &PageRequest,
    token: &str,
    page: Option<&PageMark>,
) -> Result<Linked, ConnectRefusal> {
    let admin = &request.admin;
    let view = admin.deps().directory.view();
    let found = view.connect_session_of_link(token).cloned();
    let found = found.filter(|session| view.connecting_user(session).is_some());
    let session = found.ok_or(ConnectRefusal::Ended)?;
    let opened = BrowserSession::of(admin, &request.cookies());
    if opened.is_some_and(|opened| opened.session.id == session.id) {
        // The platform sends a person here again for another attempt.
        let to = if session.headless { "session?step=choose" } else { "session" };
        return Ok(Linked::Opened { to });
    }
    if !session.facts.opens_for(page.map(PageMark::hash).as_deref()) {
        return Err(other_browser(admin, &session).await);
    }
    let is_entitled = view.entitled_user(&session).is_some();
    match is_entitled && session.facts.is_live(admin.deps().clock.now()) {
        true => Ok(Linked::Open(session)),
        false => Err(ConnectRefusal::Ended),
    }
}

/// Shows how far the connect session of this browser is.
///
/// # Errors
/// When this browser has opened no link, or it has ended.
pub async fn show(request: &PageRequest) -> Result<ConnectStep, ConnectRefusal> {
    let admin = &request.admin;
    let opened = BrowserSession::of(admin, &request.cookies());
    let mut opened = opened.ok_or(ConnectRefusal::UnknownBrowser)?;
    let settled = admin.deps().flows.settle_connect_session(&opened.session).await;
    opened.session = settled.map_err(|error| ConnectRefusal::Failed(error.into()))?;
    let asked = PageQuery::of(request.query());
    match opened.session.headless {
        true => headless(admin, &opened, asked.step.is_some()).await,
        false => shown(admin, &opened, &asked).await,
    }
}

/// Sends the browser of a headless link on, for a platform with pages of its own: to the provider, or with the result back to
/// the platform. `again`: another attempt, after one that failed.
async fn headless(
    admin: &Admin,
    opened: &BrowserSession,
    again: bool,
) -> Result<ConnectStep, ConnectRefusal> {
    let session = &opened.session;
    let now = admin.deps().clock.now();
    let has_consented = session.facts.connected.is_some() || is_held(admin, session).await;
    let has_failed = session.facts.state(now) == ConnectSessionState::Failed;
    if has_consented || (has_failed && !again) || !session.facts.is_live(now) {
        let url = opened.return_url(has_consented);
        return url.map(ConnectStep::moved).ok_or(ConnectRefusal::Ended);
    }
    match headless_consent(admin, opened).await {
        Ok(url) => Ok(ConnectStep::moved(url)),
        Err(error) => headless_failed(admin, opened, error).await,
    }
}

async fn headless_consent(admin: &Admin, opened: &BrowserSession) -> Result<String, ApiError> {
    let session = &opened.session;
    let attempt = ConnectAttempt::of(admin, session.clone())?;
    let choice = Offers::consent(admin, &session.org, &session.spec)?;
    Ok(attempt.consent(choice, opened).await?.url)
}

/// A consent that cannot begin is a failed attempt: the platform reads why.
async fn headless_failed(
    admin: &Admin,
    opened: &BrowserSession,
    error: ApiError,
) -> Result<ConnectStep, ConnectRefusal> {
    let (flows, why) = (&admin.deps().flows, error.to_string());
    let noted = flows.fail_connect_session(&opened.session, &why).await;
    match (noted, opened.return_url(false)) {
        (Ok(_), Some(url)) => Ok(ConnectStep::moved(url)),
        _ => Err(ConnectRefusal::Failed(error)),
    }
}

/// Whether the person has consented and the tokens wait.
async fn is_held(admin: &Admin, session: &Record<ConnectSession>) -> bool {
    let Some(flow) = &session.facts.flow else { return false };
    let view = admin.deps().flows.view(&session.org, flow).await;
    view.is_ok_and(|view| matches!(view.state, FlowState::Held { .. }))
}

async fn shown(
    admin: &Admin,
    opened: &BrowserSession,
    asked: &PageQuery,
) -> Result<ConnectStep, ConnectRefusal> {
    let (session, now) = (&opened.session, admin.deps().clock.now());
    let facts = &session.facts;
    if let Some(connected) = &facts.connected {
        let catalogue = admin.deps().vault.catalogue(&session.org);
        let provider = catalogue.get(&connected.provider).map(|provider| &provider.name);
        let provider = provider.unwrap_or(&connected.provider).clone();
        return Ok(page_of(admin, opened, PageContent::Done { provider }));
    }
    if admin.deps().directory.view().entitled_user(session).is_none() {
        return Err(ConnectRefusal::Ended);
    }
    if let Some(content) = in_consent(admin, session, asked).await {
        return Ok(page_of(admin, opened, content));
    }
    if !facts.is_live(now) {
        return Err(ConnectRefusal::Ended);
    }
    let has_failed = facts.state(now) == ConnectSessionState::Failed;
    let failure = facts.failure.as_ref().filter(|_| has_failed && asked.is_start());
    let content = match failure {
        Some(why) => PageContent::Failed { why: why.clone() },
        None => question(&Offers::of(admin, session), asked),
    };
    Ok(page_of(admin, opened, content))
}

/// The page while the browser is at the provider, or while the person must decide about another account. A new choice
/// begins another attempt.
async fn in_consent(
    admin: &Admin,
    session: &Record<ConnectSession>,
    asked: &PageQuery,
) -> Option<PageContent> {
    let flow = session.facts.flow.as_ref()?;
    let view = admin.deps().flows.view(&session.org, flow).await.ok()?;
    match view.state {
        FlowState::Confirm { before, account } => {
            Some(PageContent::OtherAccount { before, account })
        }
        FlowState::Open if asked.is_start() => {
            let directory = admin.deps().directory.view();
            let connection = directory.connection(&session.org, &view.connection)?;
            let catalogue = admin.deps().vault.catalogue(&session.org);
            let provider = catalogue.get(&connection.provider)?;
            Some(PageContent::AtProvider { provider: provider.name.clone() })
        }
        _ => None,
    }
}

/// The next question: which provider, which method, or the form of the only one.
fn question(offers: &Offers, asked: &PageQuery) -> PageContent {
    let providers = offers.providers();
    let all = || PageContent::Providers(providers.iter().copied().cloned().collect());
    let provider = match (&asked.provider, providers.as_slice()) {
        (Some(id), _) => id.as_str(),
        (None, [only]) => &only.id,
        (None, _) => return all(),
    };
    let at = offers.at(provider);
    let chosen = asked.auth.as_deref();
    let chosen = at.iter().find(|offer| chosen == Some(&*offer.auth().id));
    match (chosen, at.as_slice()) {
        (Some(&offer), _) | (None, &[offer]) => PageContent::Method(offer.clone(), None),
        (None, []) => all(),
        (None, several) => PageContent::Methods(several.iter().copied().cloned().collect()),
    }
}

/// A form or a button of our own page, in the browser that opened the link.
///
/// # Errors
/// As [`show`], and when the step fails.
pub async fn step(request: &PageRequest, body: Body) -> Result<ConnectStep, ConnectRefusal> {
    let (admin, asked) = (&request.admin, PageQuery::of(request.query()));
    if !request.is_of_our_page() {
        return Err(ConnectRefusal::ForeignForm);
    }
    let cookies = request.cookies();
    let opened = BrowserSession::of(admin, &cookies).ok_or(ConnectRefusal::UnknownBrowser)?;
    if opened.session.headless {
        // It has no forms.
        return Ok(ConnectStep::moved("session"));
    }
    let Ok(attempt) = ConnectAttempt::of(admin, opened.session.clone()) else {
        // A completed one shows its result.
        return shown(admin, &opened, &PageQuery::default()).await;
    };
    if asked.step.as_deref() == Some("account") {
        let decided = attempt.decide(&cookies, asked.accepts).boxed().await;
        return decided.map(|()| ConnectStep::moved("session")).map_err(ConnectRefusal::Failed);
    }
    let offers = Offers::of(admin, &opened.session);
    let chosen = offers.chosen(asked.provider.as_deref(), asked.auth.as_deref());
    let offer = chosen.map_err(ConnectRefusal::Failed)?;
    let reader = FormReader { offers: &offers, offer: &offer, insists: asked.anyway };
    let form = reader.read(request, body).await;
    match form {
        Ok(form) => tried(admin, &opened, attempt, offer, form).await,
        Err(problem) => {
            Ok(page_of(admin, &opened, PageContent::Method(offer, Some(Box::new(problem)))))
        }
    }
}

/// Begins a consent, or tests and stores a key. After a refusal the form is shown again, without secrets.
async fn tried(
    admin: &Admin,
    opened: &BrowserSession,
    attempt: ConnectAttempt,
    offer: ConnectOffer,
    form: KeyForm,
) -> Result<ConnectStep, ConnectRefusal> {
    let KeyForm { fields, variables, entered } = form;
    let choice = ConnectChoice { offer: offer.clone(), variables };
    let made = match offer.consents() {
        true => attempt.consent(choice, opened).await.map(Some),
        false => attempt.with_key(choice, fields).await.map(|_| None),
    };
    let content = match made {
        Ok(None) => return Ok(ConnectStep::moved("session")),
        Ok(Some(sent)) => {
            PageContent::ToProvider { provider: offer.provider.name.clone(), url: sent.url }
        }
        Err(error) if error.code().status().is_server_error() => {
            return Err(ConnectRefusal::Failed(error));
        }
        // Hints of refusals are for the command line.
        Err(error) => {
            let problem = FormProblem { entered, ..FormProblem::of(error.to_string()) };
            PageContent::Method(offer, Some(Box::new(problem)))
        }
    };
    Ok(page_of(admin, opened, content))
}

/// A page of this browser.
fn page_of(admin: &Admin, opened: &BrowserSession, content: PageContent) -> ConnectStep {
    let back = opened.return_url(opened.session.facts.connected.is_some());
    page(admin, &opened.session, back, content)
}

fn page(
    admin: &Admin,
    session: &Record<ConnectSession>,
    back: Option<String>,
    content: PageContent,
) -> ConnectStep {
    let view = admin.deps().directory.view();
    let user = view.connecting_user(session);
    let connection = target(admin, &session.org, &session.spec);
    ConnectStep::Page(Box::new(ConnectPage {
        user: user.map_or_else(String::new, |user| user.name.clone()),
        connection: connection.map(|connection| connection.name.clone()),
        back,
        content,
    }))
}

/// The refusal of a link that another browser opened, which leaves an audit record.
async fn other_browser(admin: &Admin, session: &Record<ConnectSession>) -> ConnectRefusal {
    let why = "it was opened in another browser";
    recorded(admin, session, "opened", Outcome::Refused, Some(why)).await;
    ConnectRefusal::OtherBrowser
}
