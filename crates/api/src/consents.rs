//! The browser pages of a consent: `/oauth/start`, the callback, and the result. Everything is escaped; the
//! pages run no scripts, load nothing and are not cached.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use zeroize::Zeroizing;

use super::body::Segments;
use super::body_bytes::collect;
use super::connect_sessions::PendingConsent;
use super::consent_pages::{confirmation, unfinished};
use super::error::ApiError;
use super::html::{self, HtmlPage};
use super::state::Admin;
use crate::handler::{boxed, get};
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::id::{AppId, FlowId, OrgId};
use keyward_rules::provider::scope_words::ScopeWords;
use keyward_vault::oauth::{
    CallbackRefusal, CallbackRequest, Cookies, FORM_BYTES_MAX, FlowState, Flows, StartPage,
};

/// Fetch Metadata: the field in which a browser states the origin of its request.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The headers of a page request: cookies and origin.
pub(super) struct ConsentVisit<'a>(pub(super) &'a HeaderMap);

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/oauth/start/{ticket}", get(start).post(boxed(begin)))
        .route("/oauth/callback/{app}", get(callback).post(boxed(posted)))
        .route("/oauth/posted/{app}/{handle}", get(goes_on))
        .route("/oauth/done/{flow}", get(done).post(boxed(decide)))
        .route("/oauth/client/{app}", get(client))
}

/// Shows what is connected, as whom, and a button. The provider is not contacted before the button is pressed.
async fn start(
    State(admin): State<Admin>,
    Segments(ticket): Segments<String>,
    headers: HeaderMap,
) -> Response {
    let flows = match open(&admin) {
        Ok(flows) => flows,
        Err(page) => return *page,
    };
    let offer = match flows.offer(&org_of(&ticket).0, &ticket).await {
        Ok(offer) => offer,
        Err(refusal) => return refused(&refusal),
    };
    let name = flows.cookie(&offer.flow);
    let mut answer = offered(&offer).answer(StatusCode::OK);
    // If it is opened twice in one browser, it stays bound to that browser.
    if ConsentVisit(&headers).cookies().one(&name).is_none() {
        let cookie = flows.new_cookie(&offer.flow);
        let mut value = HeaderValue::from_str(&cookie).expect("a cookie of ours is ASCII");
        value.set_sensitive(true);
        answer.headers_mut().insert(header::SET_COOKIE, value);
    }
    answer
}

/// Handles the button: only from our own page, in the browser that opened it.
async fn begin(
    State(admin): State<Admin>,
    Segments(ticket): Segments<String>,
    headers: HeaderMap,
) -> Response {
    let flows = match open(&admin) {
        Ok(flows) => flows,
        Err(page) => return *page,
    };
    let visit = ConsentVisit(&headers);
    if !visit.is_of_our_page(&admin.deps().public_url) {
        return refused(&CallbackRefusal::OtherBrowser);
    }
    let org = org_of(&ticket).0;
    let offer = match flows.offer(&org, &ticket).await {
        Ok(offer) => offer,
        Err(refusal) => return refused(&refusal),
    };
    if !visit.is_at_host_of(&admin.deps().public_url) {
        return at_other_host(&admin.deps().public_url, &ticket);
    }
    let cookies = visit.cookies();
    let Some(session) = cookies.one(&flows.cookie(&offer.flow)) else {
        return refused(&CallbackRefusal::OtherBrowser);
    };
    match flows.begin(&org, &ticket, session).await {
        Ok(url) => {
            let to = format!("You are sent to {}.", offer.goes_to);
            HtmlPage::new("To the provider").text(&to).forward_to(&url).answer(StatusCode::OK)
        }
        Err(refusal) => refused(&refusal),
    }
}

/// GET only: a HEAD request must not spend a code.
async fn callback(
    State(admin): State<Admin>,
    Segments(app): Segments<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET {
        return ApiError::Method.into_response();
    }
    let query = uri.query().unwrap_or_default();
    finished(&admin, &app, query, &headers, "../").await
}

/// Handles a provider that sends the browser back by POST (Form Post Response Mode). The browser sends no
/// cookies then, so it is redirected to our own page, where they are checked.
async fn posted(
    State(admin): State<Admin>,
    Segments(app): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let flows = match open(&admin) {
        Ok(flows) => flows,
        Err(page) => return *page,
    };
    let (org, id) = (org_of_app(&admin, &app), AppId::parse(&app).ok());
    let Some(id) = id.filter(|id| flows.takes_posts(&org, id)) else {
        return ApiError::Method.into_response();
    };
    let Some(form) = form(&admin, &headers, body).await else {
        return refused(&CallbackRefusal::Malformed("it is not the form of a provider"));
    };
    match flows.keep_posted(&org, &id, &form).await {
        Ok(handle) => HtmlPage::new("Back from the provider")
            .text("You are sent on.")
            .forward_to(&format!("../posted/{app}/{}", *handle))
            .answer(StatusCode::OK),
        Err(refusal) => refused(&refusal),
    }
}

/// Continues with a browser whose form was stored, now with its cookies, from our own page.
async fn goes_on(
    State(admin): State<Admin>,
    Segments((app, handle)): Segments<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET {
        return ApiError::Method.into_response();
    }
    if !ConsentVisit(&headers).is_of_our_page(&admin.deps().public_url) {
        return refused(&CallbackRefusal::OtherBrowser);
    }
    let flows = match open(&admin) {
        Ok(flows) => flows,
        Err(page) => return *page,
    };
    let Ok(id) = AppId::parse(&app) else { return refused(&CallbackRefusal::NoFlow) };
    match flows.take_posted(&org_of_app(&admin, &app), &id, &handle).await {
        Ok(form) => finished(&admin, &app, &form, &headers, "../../").await,
        Err(refusal) => refused(&refusal),
    }
}

/// Completes a consent with the callback's `parameters`, and redirects to its result page; `up` leads to `/oauth/`. In a
/// connect session, its own page shows the result.
async fn finished(
    admin: &Admin,
    app: &str,
    parameters: &str,
    headers: &HeaderMap,
    up: &str,
) -> Response {
    let flows = match open(admin) {
        Ok(flows) => flows,
        Err(page) => return *page,
    };
    let cookies = ConsentVisit(headers).cookies();
    let back = CallbackRequest { app, query: parameters, cookies: &cookies };
    let org = org_of_app(admin, app);
    let link = PendingConsent::of(admin, &cookies);
    let finished = flows.callback(&org, &back).await;
    enforced(admin).await;
    if link.settle(admin).await {
        return see_other(&format!("{up}../connect/session"));
    }
    match finished {
        Ok(flow) => see_other(&format!("{up}done/{}", flows.with_org_prefix(&org, flow.as_str()))),
        Err(refusal) => refused(&refusal),
    }
}

/// The form of a POST, limited to the size of a callback query.
async fn form(admin: &Admin, headers: &HeaderMap, body: Body) -> Option<Zeroizing<String>> {
    let whole = form_of(admin, headers, body, FORM_BYTES_MAX).await?;
    std::str::from_utf8(&whole).ok().map(|form| Zeroizing::new(form.to_owned()))
}

/// The body of a form of our own or of a provider; its buffer is wiped.
pub(super) async fn form_of(
    admin: &Admin,
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let read = collect(body, max_bytes, None);
    tokio::time::timeout(admin.deps().limits.head_timeout, read).await.ok()?.ok()
}

/// The organisation of an app; the default one if the app does not exist.
fn org_of_app(admin: &Admin, app: &str) -> OrgId {
    let found = AppId::parse(app).ok();
    let found = found.and_then(|id| admin.deps().directory.view().org_of_app(&id).cloned());
    found.unwrap_or_else(OrgId::default_org)
}

/// Waits until the stored grant is in force, so that agents can use it before the person reads so.
async fn enforced(admin: &Admin) {
    if let Err(error) = admin.enforce().await {
        tracing::error!(%error, "a consent is stored but not in force");
    }
}

async fn done(
    State(admin): State<Admin>,
    Segments(flow): Segments<String>,
    headers: HeaderMap,
) -> Response {
    let cookies = ConsentVisit(&headers).cookies();
    // The callback does not wait for a late answer, so the result of a connect session may be shown from here.
    let (_, id) = org_of(&flow);
    if PendingConsent::of(&admin, &cookies).of_flow(id).settle(&admin).await {
        return see_other("../../connect/session");
    }
    shown(&admin, &flow, &cookies).await
}

/// The person's decision about a different account: `?accept=yes` or `no`.
async fn decide(
    State(admin): State<Admin>,
    Segments(flow): Segments<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let (flows, visit) = (&admin.deps().flows, ConsentVisit(&headers));
    let cookies = visit.cookies();
    let agrees = match uri.query() {
        Some("accept=yes") => true,
        Some("accept=no") => false,
        _ => return refused(&CallbackRefusal::Malformed("it says neither yes nor no")),
    };
    let (org, id) = org_of(&flow);
    let is_ours = visit.is_of_our_page(&admin.deps().public_url);
    let id = FlowId::parse(id).ok().filter(|_| is_ours);
    let Some(id) = id else { return refused(&CallbackRefusal::OtherBrowser) };
    let decided = flows.confirm(&org, &id, Some(&cookies), agrees).await;
    enforced(&admin).await;
    match decided {
        Ok(_) => see_other(&flow),
        Err(error) => {
            tracing::info!(%error, "a decision about an account was refused");
            refused(&CallbackRefusal::NoFlow)
        }
    }
}

/// The client metadata document, for servers that use its URL as client id.
async fn client(
    State(admin): State<Admin>,
    Segments(app): Segments<String>,
) -> Result<axum::Json<serde_json::Value>, ApiError> {
    let (view, id) = (admin.deps().directory.view(), AppId::parse(&app).ok());
    let org = id.and_then(|id| view.org_of_app(&id).cloned());
    let document = org.and_then(|org| admin.deps().flows.client_document(&org, &app));
    document.map(axum::Json).ok_or(ApiError::NoSuchPath)
}

/// Splits a start link or a flow's page at the dot into organisation and rest; without a dot it is the default
/// organisation. This only selects where to look.
fn org_of(segment: &str) -> (OrgId, &str) {
    match segment.split_once('.').map(|(name, rest)| (OrgId::named(name), rest)) {
        Some((Ok(org), rest)) => (org, rest),
        _ => (OrgId::default_org(), segment),
    }
}

/// The flows, unless the gateway ends with its runs and so could not handle the browser's return.
fn open(admin: &Admin) -> Result<&Arc<Flows>, Box<Response>> {
    match admin.runs().is_private() {
        false => Ok(&admin.deps().flows),
        true => Err(Box::new(
            HtmlPage::new("No consents here")
                .text("This gateway belongs to `keyward run` and ends with it.")
                .text("Start a gateway that keeps running, `keyward serve`, and begin again.")
                .answer(StatusCode::FORBIDDEN),
        )),
    }
}

async fn shown(admin: &Admin, flow: &str, cookies: &Cookies) -> Response {
    let flows = &admin.deps().flows;
    let (org, id) = org_of(flow);
    let Ok(id) = FlowId::parse(id) else { return refused(&CallbackRefusal::NoFlow) };
    // The address of the page alone reveals nothing.
    let view = match flows.view_in_browser(&org, &id, cookies).await {
        Ok(view) => view,
        Err(refusal) => return refused(&refusal),
    };
    let page = match &view.state {
        FlowState::Open => unfinished(),
        FlowState::Held { .. } => {
            HtmlPage::new("Not finished").text("This consent is not finished yet.")
        }
        FlowState::Failed { why } => {
            let back = format!("/connections/{}", view.connection);
            HtmlPage::new("Not connected").text(why).links(&[("Open it in the console", &back)])
        }
        FlowState::Connected { ends } => {
            let next = format!("/connect/done/{}", view.connection);
            let page = HtmlPage::new("Connected").text("You can close this window.");
            let page = page.links(&[("Continue in the console", &next)]);
            match ends {
                false => page,
                true => page.text(
                    "The provider gave no refresh token: this access will end, and you will have to \
                     connect again.",
                ),
            }
        }
        FlowState::Confirm { before, account } => confirmation(before, account.as_deref()),
    };
    page.answer(StatusCode::OK)
}

fn offered(offer: &StartPage) -> HtmlPage {
    let page = HtmlPage::new(&format!("Connect {}", offer.provider))
        .text(
            "Agents that may use this connection will act with the account that you choose at the \
             provider. Go on only if you started this yourself.",
        )
        .fact("Connection", &offer.connection)
        .fact("Started by", &offer.person)
        .fact("At", &offer.created.strftime("%Y-%m-%d %H:%M UTC").to_string())
        .fact("App", &offer.app);
    let page = asks_for(page, &offer.scopes, &offer.scope_words);
    let page = match &offer.account {
        Some(account) => page.fact("Account so far", account),
        None => page,
    };
    let page = offer.hint.iter().fold(page, |page, hint| page.text(hint));
    page.button(&format!("Continue to {}", offer.goes_to), "")
}

/// What the consent is for. Scopes with words are a line each.
pub(super) fn asks_for(page: HtmlPage, scopes: &[String], words: &ScopeWords) -> HtmlPage {
    let line = |scope: &String| match words.get(scope) {
        Some(words) => format!("{words} (`{scope}`)"),
        None => format!("`{scope}`"),
    };
    match (scopes, words.is_empty()) {
        ([], _) => page.fact("Asks for", "the default scopes of the provider"),
        (scopes, true) => page.fact("Asks for", &scopes.join(", ")),
        (scopes, false) => page.fact_list("Asks for", &scopes.iter().map(line).collect::<Vec<_>>()),
    }
}

fn refused(refusal: &CallbackRefusal) -> Response {
    // The same address may have connected the account before.
    let (title, next) = match refusal {
        CallbackRefusal::NoFlow => (
            "Consent ended",
            "If it connected the account before, the account stays connected. Otherwise start again from the command \
             line or the console.",
        ),
        _ => (
            "Not connected",
            "Nothing was changed. Start again from the command line or the console.",
        ),
    };
    let page = HtmlPage::new(title).text(&html::sentence(&refusal.to_string()));
    let Some(seconds) = refusal.retry_after() else {
        return page
            .text(next)
            .links(&[("Go to the connections in the console", "/connections")])
            .answer(refusal.status());
    };
    // The page stays valid: the server that it leads to is unavailable.
    let mut answer =
        page.text("Nothing was changed. Try again in a moment.").answer(refusal.status());
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// The page for a browser that opened the start page at another host than that of `public_url`, such as `127.0.0.1` for
/// `localhost`: the provider would send it back to `public_url`, without the cookie of this host.
fn at_other_host(public_url: &str, ticket: &str) -> Response {
    HtmlPage::new("Another address")
        .text(&format!(
            "This page was opened at another host than that of `public_url`, `{public_url}`, where the provider \
             sends your browser back. Nothing was changed. Begin there."
        ))
        .links(&[("Begin there", &format!("{public_url}/oauth/start/{ticket}"))])
        .answer(StatusCode::FORBIDDEN)
}

/// Redirects (303) to our own page, so that the URL with the code is replaced. The location is relative,
/// because we may be served below a path.
pub(super) fn see_other(to: &str) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    match HeaderValue::from_str(to) {
        Ok(value) => {
            answer.headers_mut().insert(header::LOCATION, value);
            answer
        }
        Err(_) => refused(&CallbackRefusal::Internal),
    }
}

impl ConsentVisit<'_> {
    pub(super) fn cookies(&self) -> Cookies {
        let fields = self.0.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
        let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Cookies(pairs.collect())
    }

    /// Checks the origin of the request as the browser states it. Over plain HTTP to another machine, and in
    /// old browsers, only `Origin` is present. Without both, the `SameSite=Lax` cookie protects.
    pub(super) fn is_of_our_page(&self, public_url: &str) -> bool {
        if self.0.contains_key(SEC_FETCH_SITE) {
            return self.0.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin");
        }
        let host = self.0.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        self.0.get_all(header::ORIGIN).iter().all(|origin| {
            let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
            origin.is_some_and(|(scheme, authority)| {
                is_own_origin(scheme, authority, host, public_url)
            })
        })
    }

    /// Whether the page has the host of `public_url`, whose cookies the callback gets: those of a host are for all of its
    /// ports. Without `Origin` this is not known, because `Host` may be a reverse proxy's.
    fn is_at_host_of(&self, public_url: &str) -> bool {
        let public = host_of(public_url);
        let origins = self.0.get_all(header::ORIGIN).iter();
        let mut hosts = origins.filter_map(|origin| host_of(origin.to_str().ok()?));
        hosts.all(|host| public.as_ref() == Some(&host))
    }
}

/// The host of a URL without a user; `None` if it has none.
fn host_of(url: &str) -> Option<Host> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Some(Target::parse(Scheme::Https, authority).ok()?.host().clone())
}

/// Whether a page of this scheme and authority is ours: the request's `Host`, which was checked, or that of
/// `public_url`, if a reverse proxy uses another.
fn is_own_origin(scheme: &str, authority: &str, host: &str, public_url: &str) -> bool {
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return false,
    };
    let Ok(origin) = Target::parse(scheme, authority) else { return false };
    let public = public_url.split_once("://").filter(|(public, _)| *public == scheme.as_str());
    let public = public.map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    [Some(host), public]
        .into_iter()
        .flatten()
        .any(|own| Target::parse(scheme, own).is_ok_and(|own| own == origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_requested_host_and_the_public_url_are_origins_of_the_gateway() {
        let is_ours = |origin: &str, host: &str| {
            let (scheme, authority) = origin.split_once("://").unwrap_or(("", origin));
            is_own_origin(scheme, authority, host, "https://kw.example.com/keyward")
        };
        for origin in [
            "null",
            "http://kw.example.com",
            "https://kw.example.com:8443",
            "https://kw.example.com.evil.test",
            "https://user@kw.example.com",
            "https://kw.example.com/",
            "http://localhost",
            "http://localhost:8082",
            "ftp://localhost:8081",
            "",
        ] {
            assert!(!is_ours(origin, "localhost:8081"), "{origin}");
        }
        for origin in
            ["http://localhost:8081", "https://kw.example.com", "https://kw.example.com:443"]
        {
            assert!(is_ours(origin, "localhost:8081"), "{origin}");
        }
        assert!(is_ours("https://gate.test", "gate.test"), "TLS ends before us");
    }
}
