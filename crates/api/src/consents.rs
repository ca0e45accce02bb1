//! Consents in browsers: what each page below `/oauth` shows, or where it sends its browser. The console has the pages;
//! the document of a client, which is JSON, is served here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::{Json, Router};
use http::HeaderValue;
use serde_json::Value;

use super::body::Segments;
use super::connect_sessions::PendingConsent;
use super::error::ApiError;
use super::page_request::PageRequest;
use super::state::Admin;
use crate::handler::get;
use keyward_base::id::{AppId, FlowId, OrgId};
use keyward_vault::oauth::{CallbackRequest, FORM_BYTES_MAX, Flows};

pub use keyward_vault::oauth::{CallbackRefusal, FlowState, FlowView, StartPage};

/// What a browser gets.
pub enum ConsentStep {
    /// What is connected, as whom, and a button. The cookie binds the browser.
    Offered { page: Box<StartPage>, cookie: Option<HeaderValue> },
    /// The way to the provider, where the person consents.
    ToProvider { origin: String, url: String },
    /// The way to our own page, for which the browser sends its cookies.
    Back { to: String },
    /// A redirect to another page of ours, relative to this one.
    Moved { to: String },
    /// The state of the consent.
    State(Box<FlowView>),
}

/// Why it gets none of these.
pub enum ConsentRefusal {
    /// The gateway ends with its runs, and so could not handle the browser's return.
    Private,
    /// The provider would send the browser to the host of `public_url`, without the cookie of this one. The person begins
    /// at `start` instead.
    OtherHost {
        public_url: String,
        start: String,
    },
    /// The path does not accept the method.
    Method,
    Callback(CallbackRefusal),
}

impl From<CallbackRefusal> for ConsentRefusal {
    fn from(refusal: CallbackRefusal) -> Self {
        Self::Callback(refusal)
    }
}

/// Shows what a start link is for. The provider is not contacted before the button is pressed.
///
/// # Errors
/// When the link was used or has expired.
pub async fn start(request: &PageRequest, ticket: &str) -> Result<ConsentStep, ConsentRefusal> {
    let flows = flows_of(&request.admin)?;
    let page = flows.offer(&org_of(ticket).0, ticket).await?;
    // If it is opened twice in one browser, it stays bound to that browser.
    let is_bound = request.cookies().one(&flows.cookie(&page.flow)).is_some();
    let cookie = (!is_bound).then(|| {
        let cookie = flows.new_cookie(&page.flow);
        let mut value = HeaderValue::from_str(&cookie).expect("a cookie of ours is ASCII");
        value.set_sensitive(true);
        value
    });
    Ok(ConsentStep::Offered { page: Box::new(page), cookie })
}

/// Handles the button: only from our own page, in the browser that opened it.
///
/// # Errors
/// As [`start`], and when it is another browser or another host.
pub async fn begin(request: &PageRequest, ticket: &str) -> Result<ConsentStep, ConsentRefusal> {
    let flows = flows_of(&request.admin)?;
    is_of_our_page(request)?;
    let org = org_of(ticket).0;
    let page = flows.offer(&org, ticket).await?;
    if !request.is_at_public_host() {
        let public_url = request.admin.deps().public_url.clone();
        let start = format!("{public_url}/oauth/start/{ticket}");
        return Err(ConsentRefusal::OtherHost { public_url, start });
    }
    let cookies = request.cookies();
    let session = cookies.one(&flows.cookie(&page.flow));
    let session = session.ok_or(CallbackRefusal::OtherBrowser)?;
    let url = flows.begin(&org, ticket, session).await?;
    Ok(ConsentStep::ToProvider { origin: page.goes_to, url })
}

/// Handles the return from the provider. Not for a HEAD request, which must not spend a code.
///
/// # Errors
/// When the consent did not end in a grant.
pub async fn callback(request: &PageRequest, app: &str) -> Result<ConsentStep, ConsentRefusal> {
    is_get(request)?;
    finished(request, app, request.query(), "../").await
}

/// Handles a provider that sends the browser back by POST (Form Post Response Mode). The browser sends no
/// cookies then, so it goes on to our own page, where they are checked.
///
/// # Errors
/// When the form is not an expected one.
pub async fn posted(
    request: &PageRequest,
    app: &str,
    body: Body,
) -> Result<ConsentStep, ConsentRefusal> {
    let flows = flows_of(&request.admin)?;
    let (org, id) = (org_of_app(&request.admin, app), AppId::parse(app).ok());
    let id = id.filter(|id| flows.takes_posts(&org, id)).ok_or(ConsentRefusal::Method)?;
    let no_form = CallbackRefusal::Malformed("it is not the form of a provider");
    let form = request.form(body, FORM_BYTES_MAX).await;
    let form = form.as_deref().and_then(|form| std::str::from_utf8(form).ok()).ok_or(no_form)?;
    let handle = flows.keep_posted(&org, &id, form).await?;
    Ok(ConsentStep::Back { to: format!("../posted/{app}/{}", *handle) })
}

/// Continues with a browser whose form was stored, now with its cookies, from our own page.
///
/// # Errors
/// As [`callback`], and when there is no such form.
pub async fn resumed(
    request: &PageRequest,
    app: &str,
    handle: &str,
) -> Result<ConsentStep, ConsentRefusal> {
    is_get(request)?;
    is_of_our_page(request)?;
    let flows = flows_of(&request.admin)?;
    let id = AppId::parse(app).map_err(|_| CallbackRefusal::NoFlow)?;
    let form = flows.take_posted(&org_of_app(&request.admin, app), &id, handle).await?;
    finished(request, app, &form, "../../").await
}

/// Completes a consent with the callback's `parameters`, and redirects to its result page; `up` leads to `/oauth/`. In a
/// connect session, its own page shows the result.
async fn finished(
    request: &PageRequest,
    app: &str,
    parameters: &str,
    up: &str,
) -> Result<ConsentStep, ConsentRefusal> {
    let (flows, cookies) = (flows_of(&request.admin)?, request.cookies());
    let back = CallbackRequest { app, query: parameters, cookies: &cookies };
    let org = org_of_app(&request.admin, app);
    let link = PendingConsent::of(&request.admin, &cookies);
    let finished = flows.callback(&org, &back).await;
    enforced(&request.admin).await;
    if link.settle(&request.admin).await {
        return Ok(ConsentStep::Moved { to: format!("{up}../connect/session") });
    }
    let flow = flows.with_org_prefix(&org, finished?.as_str());
    Ok(ConsentStep::Moved { to: format!("{up}done/{flow}") })
}

/// Shows the state of a consent to its browser: the address of the page alone reveals nothing.
///
/// # Errors
/// When it is another browser.
pub async fn done(request: &PageRequest, flow: &str) -> Result<ConsentStep, ConsentRefusal> {
    let (cookies, (org, id)) = (request.cookies(), org_of(flow));
    // The callback does not wait for a late answer, so the result of a connect session may be shown from here.
    if PendingConsent::of(&request.admin, &cookies).of_flow(id).settle(&request.admin).await {
        return Ok(ConsentStep::Moved { to: "../../connect/session".to_owned() });
    }
    let id = FlowId::parse(id).map_err(|_| CallbackRefusal::NoFlow)?;
    let view = request.admin.deps().flows.view_in_browser(&org, &id, &cookies).await?;
    Ok(ConsentStep::State(Box::new(view)))
}

/// Takes the person's decision about a different account: `accept=yes` or `no`.
///
/// # Errors
/// When it says neither, and when no decision is pending in this browser.
pub async fn decide(request: &PageRequest, flow: &str) -> Result<ConsentStep, ConsentRefusal> {
    let (flows, cookies, (org, id)) =
        (&request.admin.deps().flows, request.cookies(), org_of(flow));
    let agrees = match request.query() {
        "accept=yes" => true,
        "accept=no" => false,
        _ => return Err(CallbackRefusal::Malformed("it says neither yes nor no").into()),
    };
    is_of_our_page(request)?;
    let id = FlowId::parse(id).map_err(|_| CallbackRefusal::OtherBrowser)?;
    let decided = flows.confirm(&org, &id, Some(&cookies), agrees).await;
    enforced(&request.admin).await;
    decided.map_err(|error| {
        tracing::info!(%error, "a decision about an account was refused");
        CallbackRefusal::NoFlow
    })?;
    Ok(ConsentStep::Moved { to: flow.to_owned() })
}

fn flows_of(admin: &Admin) -> Result<&Arc<Flows>, ConsentRefusal> {
    match admin.runs().is_private() {
        false => Ok(&admin.deps().flows),
        true => Err(ConsentRefusal::Private),
    }
}

fn is_get(request: &PageRequest) -> Result<(), ConsentRefusal> {
    if request.is_get() { Ok(()) } else { Err(ConsentRefusal::Method) }
}

fn is_of_our_page(request: &PageRequest) -> Result<(), CallbackRefusal> {
    match request.is_of_our_page() {
        true => Ok(()),
        false => Err(CallbackRefusal::OtherBrowser),
    }
}

/// The organisation of an app; the default one if the app does not exist.
fn org_of_app(admin: &Admin, app: &str) -> OrgId {
    let view = admin.deps().directory.view();
    let found = AppId::parse(app).ok().and_then(|id| view.org_of_app(&id).cloned());
    found.unwrap_or_else(OrgId::default_org)
}

/// Waits until the stored grant is in force, so that agents can use it before the person reads so.
async fn enforced(admin: &Admin) {
    if let Err(error) = admin.enforce().await {
        tracing::error!(%error, "a consent is stored but not in force");
    }
}

/// Splits a start link or a flow's page at the dot into organisation and rest; without a dot it is the default
/// organisation. This only selects where to look.
fn org_of(segment: &str) -> (OrgId, &str) {
    match segment.split_once('.').map(|(name, rest)| (OrgId::named(name), rest)) {
        Some((Ok(org), rest)) => (org, rest),
        _ => (OrgId::default_org(), segment),
    }
}

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/oauth/client/{app}", get(client))
}

/// The client metadata document, for servers that use its URL as client id.
async fn client(
    State(admin): State<Admin>,
    Segments(app): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let (view, id) = (admin.deps().directory.view(), AppId::parse(&app).ok());
    let org = id.and_then(|id| view.org_of_app(&id).cloned());
    let document = org.and_then(|org| admin.deps().flows.client_document(&org, &app));
    document.map(Json).ok_or(ApiError::NoSuchPath)
}
