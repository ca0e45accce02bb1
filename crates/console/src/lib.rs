//! The console: HTML pages over the admin API, for people. A page calls the API within the process, with the cookie
//! or token of its reader, so the console has no rights of its own. All changes are requests of the page's script to
//! the same API.
//!
//! ```text
//! pages    one file for each page: asks the API, and gives its markup
//! public   pages that need no sign-in: consents, connect sessions, `/ca`, `/errors`
//! frame    what all pages have: rail, head, keys
//! parts    what several pages show: states, times, marks, forms, charts
//! listing  the page with the list of a kind of resources
//! visible  markup whose texts hide no characters
//! words    sentences from messages of the API
//! visit    the reader of a page, and the API for them
//! assets   style sheet and script, whose addresses change with their content
//! ```

mod assets;
mod frame;
mod icons;
mod listing;
mod pages;
mod parts;
mod public;
mod visible;
mod visit;
mod words;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use keyward_api::{Admin, NetworkAccess, OwnNames, own_names_only};

/// Pages run our own script and style sheet, and ask this origin only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The type of the API's answers.
const JSON: &str = "application/json";

/// All pages, and the API for all other paths, at the gateway's own names alone.
pub fn router(admin: &Admin, access: NetworkAccess) -> Router {
    let names = access.names.clone();
    let api = keyward_api::network_router(admin.clone(), access, public::routes(admin));
    pages::routes()
        .merge(assets::routes())
        // The API checks them for its own paths.
        .layer(middleware::from_fn_with_state(names, own_names_only))
        .layer(middleware::from_fn(harden))
        // The page of the sign-in offers what the settings allow.
        .with_state(visit::Console::new(api.clone(), admin.sign_in().clone()))
        .fallback_service(api.layer(middleware::from_fn(page_for_browsers)))
}

/// The pages that need no sign-in, where a command serves a consent by itself.
pub fn open_router(admin: &Admin, names: OwnNames) -> Router {
    keyward_api::open_router(admin.clone(), names, public::routes(admin))
}

/// Where nothing is at a path, a browser gets a page, and a program the API's answer.
async fn page_for_browsers(request: Request, next: Next) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let is_browser = accepts.is_some_and(|accepts| accepts.contains("text/html"));
    let response = next.run(request).await;
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == JSON);
    match is_browser && is_json && response.status() == StatusCode::NOT_FOUND {
        true => hardened(visit::PageError::nothing_here().into_response()),
        false => response,
    }
}

/// Adds the security headers of pages.
async fn harden(request: Request, next: Next) -> Response {
    hardened(next.run(request).await)
}

fn hardened(mut response: Response) -> Response {
    let fields = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Without a referrer, a browser would send `null` as the origin of our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    // Pages show what their reader may see now; assets say how long they may be kept.
    fields.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
