//! One delivery attempt: sends the request and interprets the response.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;

use super::keys::SigningKeys;
use keyward_base::time;
use keyward_base::webhooks::WebhookSettings;
use keyward_net::call::{Bounds, CallError, Caller};
use keyward_net::dial::DialError;
use keyward_state::observe::notice::{About, Notice};

/// How much of a response body is read, in bytes: its content is not used.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A wait that a webhook may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// The body of an event.
#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'a str,
    timestamp: Timestamp,
    data: Data<'a>,
}

/// What it tells.
#[derive(Serialize)]
struct Data<'a> {
    org: &'a str,
    by: &'a str,
    #[serde(flatten)]
    about: &'a About,
}

/// A webhook's URL, and the keys that sign its deliveries.
pub(super) struct Destination<'a> {
    pub(super) url: &'a str,
    pub(super) keys: &'a SigningKeys,
}

/// What became of a try.
#[derive(Debug)]
pub(super) enum Tried {
    /// It was taken.
    Taken(StatusCode),
    /// The webhook wants nothing any more.
    Gone,
    /// It was not taken.
    Failed {
        /// In words.
        why: String,
        /// Not before.
        retry_after: Option<Duration>,
    },
}

/// What is posted. The same bytes at each try.
pub(super) fn body(notice: &Notice) -> Vec<u8> {
    let data = Data { org: notice.org.as_str(), by: &notice.by, about: &notice.about };
    let payload = Payload { r#type: notice.kind.code(), timestamp: notice.at, data };
    serde_json::to_vec(&payload).expect("it holds text and times alone")
}

/// Posts an event.
pub(super) async fn post(
    caller: &Caller,
    to: Destination<'_>,
    notice: &Notice,
    settings: &WebhookSettings,
    now: Timestamp,
) -> Tried {
    let body = body(notice);
    let id = notice.id.as_str();
    let signatures = to.keys.signatures(id, now, &body, now);
    let request = Request::post(to.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", id)
        .header("webhook-timestamp", now.as_second())
        .header("webhook-signature", signatures);
    let Ok(request) = request.body(Bytes::from(body)) else {
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
        insecure_loopback: true,
    }
}

/// Any 2xx takes it, whatever else the answer says; 410 ends the webhook; all else is tried again.
fn judge(answer: Result<Response<Bytes>, CallError>, now: Timestamp) -> Tried {
    let (status, retry_after) = match &answer {
        Ok(answer) => (answer.status(), answer.headers().get(header::RETRY_AFTER)),
        Err(CallError::Unusable { status: Some(status), retry_after, .. }) => {
            (*status, retry_after.as_ref())
        }
        Err(error @ CallError::Dial(DialError::Refused { .. })) => {
            let remedy = "name it under `upstream.allow_private` if it is meant";
            return failed(format!("{error}: {remedy}"), None);
        }
        Err(error) => return failed(error.to_string(), None),
    };
    match status {
        status if status.is_success() => Tried::Taken(status),
        StatusCode::GONE => Tried::Gone,
        status => failed(
            format!("answered {}", status.as_u16()),
            retry_after.and_then(|value| wait(value, now)),
        ),
    }
}

fn failed(why: impl Into<String>, retry_after: Option<Duration>) -> Tried {
    Tried::Failed { why: why.into(), retry_after }
}

/// `Retry-After`, seconds or a date (RFC 9110 §10.2.3), bounded.
fn wait(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let wait = time::retry_after(value.to_str().ok()?, now)?;
    Some(wait.min(RETRY_AFTER_MAX))
}
