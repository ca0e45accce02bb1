//! One delivery attempt: sends the request and interprets the response.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;

use super::keys::WebhookSigningKeys;
use keyward_base::time;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::DeliveryAttempt;
use keyward_net::call::{AllowedServers, Bounds, CallError, HttpClient};
use keyward_net::dial::DialError;
use keyward_state::observe::notice::{Notice, NoticeDetails};

/// Most bytes read of a response body, which is not used.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest accepted `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// The body of an event.
#[derive(Serialize)]
struct EventPayload<'a> {
    r#type: &'a str,
    timestamp: Timestamp,
    data: PayloadData<'a>,
}

/// The data of an event.
#[derive(Serialize)]
struct PayloadData<'a> {
    org: &'a str,
    by: &'a str,
    #[serde(flatten)]
    about: &'a NoticeDetails,
}

/// A URL, and the keys that sign the messages to it.
#[derive(Debug)]
pub struct DeliveryTarget<'a> {
    pub url: &'a str,
    pub keys: &'a WebhookSigningKeys,
}

/// What is posted.
#[derive(Debug)]
pub struct WebhookMessage<'a> {
    /// Equal for all attempts, so that the receiver can detect a repeated delivery.
    pub id: &'a str,
    /// The type of the body.
    pub content_type: &'a str,
    pub fields: &'a [(String, String)],
    /// The body; the same bytes for each attempt.
    pub body: Bytes,
}

#[derive(Debug)]
pub enum AttemptResult {
    /// The webhook accepted the event.
    Accepted(StatusCode),
    /// The webhook answered 410: it accepts no more events.
    Gone,
    Failed {
        /// The reason, for people.
        why: String,
        /// The webhook's `Retry-After`.
        retry_after: Option<Duration>,
    },
}

impl AttemptResult {
    /// The result as it is shown.
    pub fn shown(&self, at: Timestamp) -> DeliveryAttempt {
        let (taken, what) = match self {
            Self::Accepted(status) => (true, format!("answered {}", status.as_u16())),
            Self::Gone => (false, "answered 410".to_owned()),
            Self::Failed { why, .. } => (false, why.clone()),
        };
        DeliveryAttempt { at, taken, what }
    }
}

/// The body; the same bytes for each attempt.
pub(super) fn body(notice: &Notice) -> Vec<u8> {
    let data = PayloadData { org: notice.org.as_str(), by: &notice.by, about: &notice.about };
    let payload = EventPayload { r#type: notice.kind.code(), timestamp: notice.at, data };
    serde_json::to_vec(&payload).expect("it holds text and times alone")
}

/// Posts an event.
pub(super) async fn post_notice(
    caller: &HttpClient,
    to: DeliveryTarget<'_>,
    notice: &Notice,
    settings: &WebhookSettings,
    now: Timestamp,
) -> AttemptResult {
    let body = body(notice).into();
    let id = notice.id.as_str();
    let message = WebhookMessage { id, content_type: "application/json", fields: &[], body };
    post(caller, to, message, settings, now).await
}

/// Posts a message, signed by Standard Webhooks.
pub async fn post(
    caller: &HttpClient,
    to: DeliveryTarget<'_>,
    message: WebhookMessage<'_>,
    settings: &WebhookSettings,
    now: Timestamp,
) -> AttemptResult {
    let WebhookMessage { id, content_type, fields, body } = message;
    let signatures = to.keys.signatures(id, now, &body, now);
    let mut request = Request::post(to.url)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::USER_AGENT, concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", id)
        .header("webhook-timestamp", now.as_second())
        .header("webhook-signature", signatures);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(body) else {
        return failed("its URL cannot be posted to", None);
    };
    judge(caller.call(request, &bounds(settings)).await, now)
}

fn bounds(settings: &WebhookSettings) -> Bounds {
    Bounds {
        whole: settings.timeout,
        connect: settings.timeout,
        answer: None,
        head_bytes_max: 16 * 1024,
        body_bytes_max: ANSWER_BYTES_MAX,
        servers: AllowedServers::SecureOrLoopback,
    }
}

/// 2xx is success, regardless of the body; 410 ends the webhook; everything else is retried.
fn judge(answer: Result<Response<Bytes>, CallError>, now: Timestamp) -> AttemptResult {
    let (status, retry_after) = match &answer {
        Ok(answer) => (answer.status(), answer.headers().get(header::RETRY_AFTER)),
        Err(CallError::Unusable { status: Some(status), retry_after, .. }) => {
            (*status, retry_after.as_ref())
        }
        Err(error @ CallError::Dial(DialError::Refused { .. })) => {
            let remedy = "if that is right, name it in `upstream.allow_private`";
            return failed(format!("{error}: {remedy}"), None);
        }
        Err(error) => return failed(error.to_string(), None),
    };
    match status {
        status if status.is_success() => AttemptResult::Accepted(status),
        StatusCode::GONE => AttemptResult::Gone,
        status => failed(
            format!("answered {}", status.as_u16()),
            retry_after.and_then(|value| wait(value, now)),
        ),
    }
}

fn failed(why: impl Into<String>, retry_after: Option<Duration>) -> AttemptResult {
    AttemptResult::Failed { why: why.into(), retry_after }
}

/// `Retry-After`, seconds or a date (RFC 9110 §10.2.3), bounded.
fn wait(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let wait = time::retry_after(value.to_str().ok()?, now)?;
    Some(wait.min(RETRY_AFTER_MAX))
}
