//! `/hooks/…`: accepts the requests of services. Their signature is the only authentication. A service learns the
//! status; the reason of a refusal is in the audit log and shown with the hook.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, extract};
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Uri, header};

use crate::body::Segments;
use crate::body_bytes::collect;
use crate::error::ApiError;
use crate::handler::{boxed, get};
use crate::request_id;
use crate::state::Admin;
use crate::wire::{ErrorBody, HookAccepted};
use keyward_base::codes::Code;
use keyward_base::id::OrgId;
use keyward_hooks::{EventAnswer, Incoming, Scheme};
use keyward_inbox::{Accepted, HookKeyRequest, InboxRefusal, RECORDS_MAX};
use keyward_model::{Hook, Record};
use keyward_proxy::BudgetShare;
use keyward_proxy::test_request::{self, TestError};
use keyward_state::observe::change::{Actor, Change};
use keyward_state::observe::event::{Event, Outcome};

/// Seconds after which a service may repeat a request that could not be taken.
const RETRY_AFTER: u32 = 30;

pub(crate) fn routes() -> Router<Admin> {
    Router::new()
        .route("/hooks/{hook}", get(of_default).post(boxed(of_default)))
        .route("/hooks/{org}/{hook}", get(of_org).post(boxed(of_org)))
}

async fn of_default(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
    request: extract::Request,
) -> Response {
    receive(&admin, &OrgId::default_org(), &name, request).await
}

async fn of_org(
    State(admin): State<Admin>,
    Segments((org, name)): Segments<(String, String)>,
    request: extract::Request,
) -> Response {
    match OrgId::named(&org) {
        Ok(org) => receive(&admin, &org, &name, request).await,
        Err(_) => no_hook().into_response(),
    }
}

fn no_hook() -> ApiError {
    Code::NotFound
        .because("no hook has this URL")
        .hint("a hook of another organisation than `default` has its name in the URL: /hooks/ORG/NAME")
        .into()
}

async fn receive(admin: &Admin, org: &OrgId, name: &str, request: extract::Request) -> Response {
    let view = admin.deps().directory.view();
    // By name alone: ids are not told to services.
    let hook = view.find::<Hook>(org, name).filter(|hook| hook.name() == name).cloned();
    let Some(hook) = hook else { return no_hook().into_response() };
    let (parts, body) = request.into_parts();
    let scheme = admin.deps().inbox.scheme(&hook);
    if parts.method == Method::HEAD && !scheme.is_some_and(Scheme::checks_by_head) {
        return ApiError::Method.into_response();
    }
    // Held until the request is answered: a proved body is stored from this memory.
    let mut memory = admin.unproved_body(&parts.extensions);
    let body = match whole(admin, &hook, body, &mut memory).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let form = scheme.map(Scheme::event_answer).unwrap_or_default();
    let (admin, url) = (admin.clone(), url(admin, &hook, &parts.uri));
    // To its end, also when the service goes away: else an event could be stored and not queued.
    let work = async move {
        let _memory = memory;
        let Parts { method, headers, .. } = &parts;
        let incoming = Incoming { method, url: &url, headers, body: &body };
        let ask = |question| key_of_service(&admin, question);
        match admin.deps().inbox.accept(&hook, &incoming, ask).await {
            Ok(accepted) => {
                record_accepted(&admin, &hook, &accepted).await;
                answer(accepted, form)
            }
            Err(refused) => {
                let why = refused.to_string();
                record_refusal(&admin, &hook, "request refused", refused.code(), why).await;
                refusal(&refused, form)
            }
        }
    };
    let answered = request_id::spawn(work).await;
    answered.unwrap_or_else(|error| ApiError::internal(error).into_response())
}

/// Asks a service for the key of a request, at the API that the test of the connection uses and through the same stages: permit,
/// credential, injection, checked address. It leaves an audit record.
async fn key_of_service(admin: &Admin, question: HookKeyRequest) -> Result<Bytes, String> {
    let view = admin.deps().directory.view();
    let connection = view.connection(&question.org, &question.connection).cloned();
    let connection = connection.ok_or("the connection of the hook was removed")?;
    let request = admin.deps().vault.refresh().test_request(&connection, None).await;
    let request = request.map_err(|error| error.to_string())?;
    let mut request = request.ok_or("the provider of the connection has no API of this kind")?;
    let mut parts = request.uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(question.path));
    request.uri = Uri::from_parts(parts).map_err(|error| error.to_string())?;
    request.method = Method::POST;
    request.body = Bytes::from(question.body);
    let json = HeaderValue::from_static("application/json");
    request.headers.insert(header::CONTENT_TYPE, json);
    let gateway = admin.deps().data_path.upgrade().ok_or("the gateway is stopping")?;
    match test_request::fetch(&gateway, &connection, request).await {
        Ok((200, body)) => Ok(body),
        Ok((status, _)) => Err(format!("the service answered {status}")),
        Err(TestError::NotSent(text)) => Err(text.message.to_string()),
        Err(_) => Err("the service did not answer".to_owned()),
    }
}

async fn whole(
    admin: &Admin,
    hook: &Record<Hook>,
    body: Body,
    memory: &mut BudgetShare,
) -> Result<zeroize::Zeroizing<Vec<u8>>, ApiError> {
    let read = collect(body, admin.deps().inbox.body_bytes_max(hook), Some(memory));
    let slow = |_| ApiError::Unreadable("the body came too slowly".to_owned());
    tokio::time::timeout(admin.deps().limits.head_timeout, read).await.map_err(slow)?
}

/// The URL that the service was given, with the query of this request: some services sign it.
fn url(admin: &Admin, hook: &Record<Hook>, uri: &Uri) -> String {
    let url = admin.deps().inbox.url(hook);
    match uri.query() {
        Some(query) => format!("{url}?{query}"),
        None => url,
    }
}

fn answer(accepted: Accepted, form: EventAnswer) -> Response {
    match accepted {
        Accepted::Stored { id, .. } => event_answer(HookAccepted { id, repeated: false }, form),
        Accepted::Repeated { id } => event_answer(HookAccepted { id, repeated: true }, form),
        Accepted::Acknowledged => no_content(),
        Accepted::Answer { content_type, body, field } => {
            let mut answer = body.into_response();
            let content_type = HeaderValue::from_static(content_type);
            answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
            answer.headers_mut().extend(field);
            answer
        }
    }
}

fn event_answer(accepted: HookAccepted, form: EventAnswer) -> Response {
    match form {
        EventAnswer::Json => Json(accepted).into_response(),
        EventAnswer::Empty => StatusCode::OK.into_response(),
        EventAnswer::NoContent => no_content(),
    }
}

fn no_content() -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    // Discord demands a content type.
    let content_type = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}

fn refusal(refused: &InboxRefusal, form: EventAnswer) -> Response {
    // The reason is for the operator only: it would help a forger.
    let (code, message) = match refused {
        InboxRefusal::Rejected(_) | InboxRefusal::HasSecret => {
            (Code::HookRefused, "the request has no valid signature of the service, or is too old")
        }
        InboxRefusal::NoScheme
        | InboxRefusal::Full
        | InboxRefusal::NoKey(_)
        | InboxRefusal::Unconfirmed(_)
        | InboxRefusal::Inbox(_) => {
            (Code::HookUnavailable, "the hook cannot accept the request now")
        }
    };
    if let InboxRefusal::Inbox(error) = refused {
        tracing::error!(%error, "a hook cannot store an event");
    }
    let text = code.because(message).usual_hint();
    let mut answer = ApiError::from(text).into_response();
    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER.into());
    }
    match form {
        EventAnswer::Json => answer,
        EventAnswer::Empty | EventAnswer::NoContent => without_body(answer),
    }
}

fn without_body(answer: Response) -> Response {
    let (mut parts, _) = answer.into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    // A link to the page of errors would be added to it.
    parts.extensions.remove::<ErrorBody>();
    Response::from_parts(parts, Body::empty())
}

/// Writes to the audit log that an event was accepted, or came again: its service repeats it, or an attacker replays it.
async fn record_accepted(admin: &Admin, hook: &Record<Hook>, accepted: &Accepted) {
    match accepted {
        Accepted::Stored { id, is_again } => {
            let action = if *is_again { "event accepted again" } else { "event accepted" };
            let event = record_of(admin, hook, action, format!("event {id}"), Outcome::Completed);
            admin.deps().changes.record(event).await;
        }
        Accepted::Repeated { id } => {
            let why = format!("event {id} was accepted before; it is not delivered again");
            record_refusal(admin, hook, "request repeated", "repeated", why).await;
        }
        Accepted::Acknowledged | Accepted::Answer { .. } => {}
    }
}

/// Writes to the audit log that a request was refused or has no effect. Everybody can send such requests.
async fn record_refusal(admin: &Admin, hook: &Record<Hook>, action: &str, code: &str, why: String) {
    let mut event = record_of(admin, hook, action, why, Outcome::Refused);
    event.code = Some(code.to_owned());
    admin.deps().changes.record_refusal(event, RECORDS_MAX).await;
}

fn record_of(
    admin: &Admin,
    hook: &Record<Hook>,
    action: &str,
    why: String,
    outcome: Outcome,
) -> Event {
    let change = Change::new(&Actor::Gateway, "hook", action);
    let change = change.of(&hook.id, hook.name()).because(why);
    change.event(admin.deps().clock.now(), &hook.org, outcome)
}
