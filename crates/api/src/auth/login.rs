//! Authentication by the cookie of a login, over the network only, and what protects it from pages of other sites: a
//! request that changes something needs the CSRF value of its cookie.

use std::sync::Arc;

use axum::extract::Request;
use http::{HeaderMap, Method, header};
use keyward_model::{Login, Record};

use super::{Caller, CallerIdentity, RENEWAL_FIELD};
use crate::body::is_json;
use crate::error::ApiError;
use crate::request_id::SecureRequest;
use crate::request_refusal::RequestRefusal;
use crate::sign_in::cookie;
use crate::state::{Admin, Deps};

/// Fetch Metadata: the field in which a browser states where its request comes from.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

impl Caller {
    /// The caller of a request over the network: by its token, or if it has none, by its cookie.
    ///
    /// # Errors
    /// When neither is valid, and when a page of another site may have sent the cookie.
    pub(crate) fn on_network(
        admin: &Admin,
        request: &Request,
        visit: &SecureRequest,
    ) -> Result<Self, ApiError> {
        let fields = request.headers();
        // Pages of other origins that may use the API have tokens.
        if fields.contains_key(header::AUTHORIZATION) || visit.is_foreign {
            return Self::with_token(admin, request);
        }
        let Some(token) = cookie::token(fields, visit.is_https)? else {
            return Err(ApiError::Unauthenticated);
        };
        let deps = admin.deps();
        let (view, now) = (deps.directory.view(), deps.clock.now());
        let found = view.signed_in(token, deps.sign_in.idle, now);
        let (person, login) = found.ok_or(RequestRefusal::LoginEnded)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            is_of_own_page(fields)?;
            if !is_json(fields) {
                return Err(ApiError::MediaType);
            }
            if !cookie::has_csrf(fields, token) {
                return Err(RequestRefusal::CsrfMissing.into());
            }
        }
        if !is_background(fields) {
            note_use(deps, login);
        }
        Self::of(admin, request, CallerIdentity::User(Box::new(person)))
    }
}

/// Refuses a request that a browser sends for a page of another origin. `Origin` was checked.
pub(crate) fn is_of_own_page(fields: &HeaderMap) -> Result<(), RequestRefusal> {
    let all = fields.get_all(SEC_FETCH_SITE);
    match all.iter().all(|site| site == "same-origin" || site == "none") {
        true => Ok(()),
        false => Err(RequestRefusal::ForeignOrigin),
    }
}

/// Whether a page sends the request by itself, and not for an action of its reader. Scripts cannot mark the requests of
/// an event stream, which browsers repeat for as long as the page is open.
fn is_background(fields: &HeaderMap) -> bool {
    let accepted = fields.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|value| value.split(',')).filter_map(|it| it.split(';').next());
    fields.contains_key(RENEWAL_FIELD) || types.any(|it| it.trim() == "text/event-stream")
}

/// Notes the use of the login beside the request, which does not wait for the store.
fn note_use(deps: &Deps, login: Arc<Record<Login>>) {
    let every = deps.sign_in.last_use_interval();
    let age = deps.clock.now().duration_since(login.facts.last_used);
    if age.unsigned_abs() < every {
        return;
    }
    let directory = deps.directory.clone();
    tokio::spawn(async move {
        if let Err(error) = directory.use_login(&login, every).await {
            tracing::debug!(%error, "cannot store the last use of a login");
        }
    });
}
