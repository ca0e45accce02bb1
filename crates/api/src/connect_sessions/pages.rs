//! The pages of a link. `/connect/{token}` shows what will be connected; its button binds the connect session to that browser.
//! Everything after that is at `/connect/session`, without the token, and needs the browser's cookie. A headless link has no
//! pages: it binds the first browser, which goes on to the provider.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::attempt::{ConnectAttempt, recorded};
use super::browser::{BrowserSession, NewBrowser, PageMark};
use super::form::{EnteredValues, FormProblem, FormReader, KeyForm};
use super::headless;
use super::offers::target;
use super::offers::{ConnectChoice, ConnectOffer, Offers};
use super::render::{self, OtherAccount, PageFrame};
use super::render::{ended_page, failure_page, foreign_page, unknown_browser_page};
use crate::body::Segments;
use crate::consents::{ConsentVisit, form_of, see_other};
use crate::error::ApiError;
use crate::handler::{boxed, get};
use crate::state::Admin;
use keyward_model::{ConnectSession, ConnectSessionState, Record};
use keyward_state::directory::ConnectStepError;
use keyward_state::observe::event::Outcome;
use keyward_vault::oauth::FlowState;

/// The form that opens a link: its mark.
const OPENING_BYTES_MAX: usize = 1024;

/// The query of `/connect/session`.
#[derive(Default)]
struct PageQuery {
    provider: Option<String>,
    auth: Option<String>,
    step: Option<String>,
    accepts: bool,
    anyway: bool,
}

impl PageQuery {
    fn of(uri: &Uri) -> Self {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
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
}

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/connect/session", get(show).post(boxed(step)))
        .route("/connect/{token}", get(offer).post(boxed(open)))
}

/// Shows what will be connected. Does not use the link up, because link previews open it too. A headless link is not
/// sent in messages, so it binds its browser at once.
async fn offer(
    State(admin): State<Admin>,
    Segments(token): Segments<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let session = match linked(&admin, &token, &headers, None).await {
        Ok(session) => session,
        Err(answer) => return *answer,
    };
    if session.headless {
        return match method {
            Method::GET => bind(&admin, &session, None).await,
            _ => ApiError::Method.into_response(),
        };
    }
    let offers = Offers::of(&admin, &session);
    let names: Vec<_> = offers.providers().iter().map(|it| it.name.as_str()).collect();
    let Some(mark) = PageMark::fresh() else { return ApiError::Internal.into_response() };
    frame(&admin, &session, None).offered(&names, mark)
}

/// Binds the link to this browser. Of several browsers, the first one wins. A second click on the button binds the same
/// one again, which has lost the answer to the first click.
async fn open(
    State(admin): State<Admin>,
    Segments(token): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !ConsentVisit(&headers).is_of_our_page(&admin.deps().public_url) {
        return foreign_page(&admin);
    }
    let form = form_of(&admin, &headers, body, OPENING_BYTES_MAX).await;
    let page = form.and_then(|form| PageMark::of(&form));
    let session = match linked(&admin, &token, &headers, page.as_ref()).await {
        Ok(session) => session,
        Err(answer) => return *answer,
    };
    bind(&admin, &session, page.as_ref()).await
}

/// Binds the link to the browser that sent the request from this page.
async fn bind(
    admin: &Admin,
    session: &Record<ConnectSession>,
    page: Option<&PageMark>,
) -> Response {
    let Some(browser) = NewBrowser::fresh(admin, page) else {
        return ApiError::Internal.into_response();
    };
    let NewBrowser { bound, set_cookie } = browser;
    match admin.deps().directory.open_connect_session(session, bound).await {
        Ok(session) => {
            recorded(admin, &session, "opened", Outcome::Completed, None).await;
            let mut answer = see_other("session");
            answer.headers_mut().insert(header::SET_COOKIE, set_cookie);
            answer
        }
        Err(ConnectStepError::OtherBrowser) => other_browser(admin, session).await,
        Err(ConnectStepError::Ended) => ended_page(admin),
        Err(ConnectStepError::Directory(error)) => ApiError::from(error).into_response(),
    }
}

/// The connect session of a link that this browser may open from this page; otherwise the page that says why not.
async fn linked(
    admin: &Admin,
    token: &str,
    headers: &HeaderMap,
    page: Option<&PageMark>,
) -> Result<std::sync::Arc<Record<ConnectSession>>, Box<Response>> {
    let view = admin.deps().directory.view();
    let found = view.connect_session_of_link(token).cloned();
    let found = found.filter(|session| view.connecting_user(session).is_some());
    let Some(session) = found else { return Err(Box::new(ended_page(admin))) };
    let opened = BrowserSession::of(admin, &ConsentVisit(headers).cookies());
    if opened.is_some_and(|opened| opened.session.id == session.id) {
        // The platform sends a person here again for another attempt.
        let to = if session.headless { "session?step=choose" } else { "session" };
        return Err(Box::new(see_other(to)));
    }
    if !session.facts.opens_for(page.map(PageMark::hash).as_deref()) {
        return Err(Box::new(other_browser(admin, &session).await));
    }
    let is_entitled = view.entitled_user(&session).is_some();
    match is_entitled && session.facts.is_live(admin.deps().clock.now()) {
        true => Ok(session),
        false => Err(Box::new(ended_page(admin))),
    }
}

/// Shows how far the connect session of this browser is.
async fn show(State(admin): State<Admin>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(mut opened) = BrowserSession::of(&admin, &ConsentVisit(&headers).cookies()) else {
        return unknown_browser_page(&admin);
    };
    match admin.deps().flows.settle_connect_session(&opened.session).await {
        Ok(session) => opened.session = session,
        Err(error) => return failure_page(&admin, &error.into()),
    }
    let asked = PageQuery::of(&uri);
    match opened.session.headless {
        true => headless::next(&admin, &opened, asked.step.is_some()).await,
        false => shown(&admin, &opened, &asked).await,
    }
}

async fn shown(admin: &Admin, opened: &BrowserSession, asked: &PageQuery) -> Response {
    let (session, offers) = (&opened.session, Offers::of(admin, &opened.session));
    let frame = frame(admin, session, opened.return_url(opened.session.facts.connected.is_some()));
    let facts = &session.facts;
    if let Some(connected) = &facts.connected {
        let catalogue = admin.deps().vault.catalogue(&session.org);
        let provider = catalogue.get(&connected.provider);
        return frame.done(provider.map_or(&*connected.provider, |provider| &provider.name));
    }
    if admin.deps().directory.view().entitled_user(session).is_none() {
        return ended_page(admin);
    }
    if let Some(answer) = in_consent(admin, session, &frame, asked).await {
        return answer;
    }
    if !facts.is_live(admin.deps().clock.now()) {
        return ended_page(admin);
    }
    let is_start = asked.provider.is_none() && asked.step.is_none();
    if let (true, ConnectSessionState::Failed, Some(why)) =
        (is_start, facts.state(admin.deps().clock.now()), &facts.failure)
    {
        return frame.failed(why, "?step=choose");
    }
    form(&frame, &offers, asked, None)
}

/// The page while the browser is at the provider, or while the person must decide about another account. A new choice
/// begins another attempt.
async fn in_consent(
    admin: &Admin,
    session: &Record<ConnectSession>,
    frame: &PageFrame,
    asked: &PageQuery,
) -> Option<Response> {
    let flow = session.facts.flow.as_ref()?;
    let view = admin.deps().flows.view(&session.org, flow).await.ok()?;
    match view.state {
        FlowState::Confirm { before, account } => {
            Some(frame.other_account(&OtherAccount { before, account }))
        }
        FlowState::Open if asked.provider.is_none() && asked.step.is_none() => {
            let directory = admin.deps().directory.view();
            let connection = directory.connection(&session.org, &view.connection)?;
            let catalogue = admin.deps().vault.catalogue(&session.org);
            let provider = catalogue.get(&connection.provider)?;
            Some(frame.at_provider(&provider.name, "?step=choose"))
        }
        _ => None,
    }
}

/// The next question: which provider, which method, or the form of the only one.
fn form(
    frame: &PageFrame,
    offers: &Offers,
    asked: &PageQuery,
    problem: Option<&FormProblem>,
) -> Response {
    let providers = offers.providers();
    let provider = match (&asked.provider, providers.as_slice()) {
        (Some(id), _) => id.as_str(),
        (None, [only]) => &only.id,
        (None, _) => return frame.providers(offers),
    };
    let at = offers.at(provider);
    let chosen = asked.auth.as_deref();
    let chosen = at.iter().find(|offer| chosen == Some(&*offer.auth().id));
    match (chosen, at.as_slice()) {
        (Some(offer), _) | (None, [offer]) => frame.method(offer, problem),
        (None, []) => frame.providers(offers),
        (None, several) => frame.methods(several),
    }
}

/// A form or a button of our own page, in the browser that opened the link.
async fn step(State(admin): State<Admin>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    let (visit, asked) = (ConsentVisit(&headers), PageQuery::of(&uri));
    if !visit.is_of_our_page(&admin.deps().public_url) {
        return foreign_page(&admin);
    }
    let cookies = visit.cookies();
    let Some(opened) = BrowserSession::of(&admin, &cookies) else {
        return unknown_browser_page(&admin);
    };
    if opened.session.headless {
        // It has no forms.
        return see_other("session");
    }
    let attempt = match ConnectAttempt::of(&admin, opened.session.clone()) {
        Ok(attempt) => attempt,
        // A completed one shows its result.
        Err(_) => return shown(&admin, &opened, &PageQuery::default()).await,
    };
    if asked.step.as_deref() == Some("account") {
        return match attempt.decide(&cookies, asked.accepts).boxed().await {
            Ok(()) => see_other("session"),
            Err(error) => failure_page(&admin, &error),
        };
    }
    let offers = Offers::of(&admin, &opened.session);
    let chosen = offers.chosen(asked.provider.as_deref(), asked.auth.as_deref());
    let offer = match chosen {
        Ok(offer) => offer,
        Err(error) => return failure_page(&admin, &error),
    };
    let frame =
        frame(&admin, &opened.session, opened.return_url(opened.session.facts.connected.is_some()));
    let reader = FormReader { offers: &offers, offer: &offer, insists: asked.anyway };
    let form = reader.read(&admin, &headers, body).await;
    let attempted = Attempted { admin: &admin, opened: &opened, frame: &frame, offer: &offer };
    match form {
        Ok(form) => attempted.next(attempt, form).await,
        Err(problem) => frame.method(&offer, Some(&problem)),
    }
}

/// A step with a chosen method.
struct Attempted<'a> {
    admin: &'a Admin,
    opened: &'a BrowserSession,
    frame: &'a PageFrame,
    offer: &'a ConnectOffer,
}

impl Attempted<'_> {
    async fn next(&self, attempt: ConnectAttempt, form: KeyForm) -> Response {
        let KeyForm { fields, variables, entered } = form;
        let choice = ConnectChoice { offer: self.offer.clone(), variables };
        if self.offer.consents() {
            return match attempt.consent(choice, self.opened).await {
                Ok(sent) => self.frame.forward_to_provider(&self.offer.provider.name, &sent.url),
                Err(error) => self.wrong(&error, entered),
            };
        }
        match attempt.with_key(choice, fields).await {
            Ok(_) => see_other("session"),
            Err(error) => self.wrong(&error, entered),
        }
    }

    /// The form again, without secrets.
    fn wrong(&self, error: &ApiError, entered: EnteredValues) -> Response {
        let text = error.text();
        if text.code.status().is_server_error() {
            return failure_page(self.admin, error);
        }
        // Hints of refusals are for the command line.
        let problem = FormProblem {
            message: text.message,
            hint: None,
            may_insist: false,
            input: None,
            entered,
        };
        self.frame.method(self.offer, Some(&problem))
    }
}

fn frame(admin: &Admin, session: &Record<ConnectSession>, back: Option<String>) -> PageFrame {
    let view = admin.deps().directory.view();
    let user = view.connecting_user(session);
    PageFrame {
        brand: admin.deps().connect.borrow().branding.clone(),
        user: user.map_or_else(String::new, |user| user.name.clone()),
        connection: target(admin, &session.org, &session.spec)
            .map(|connection| connection.name.clone()),
        back,
    }
}

/// The link was opened by another browser: nothing of it is shown.
async fn other_browser(admin: &Admin, session: &Record<ConnectSession>) -> Response {
    let why = "it was opened in another browser";
    recorded(admin, session, "opened", Outcome::Refused, Some(why)).await;
    let brand = admin.deps().connect.borrow().branding.clone();
    let (why, remedy) = (
        "This link was opened in another browser, and works only there.",
        "If that was not you, ask for another link, and say that this one was opened.",
    );
    render::refused(&brand, StatusCode::FORBIDDEN, why, remedy)
}
