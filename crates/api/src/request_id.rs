//! The id of a request of the API: in the answer's `Keyward-Request`, in error bodies as `request`, in log lines, and
//! as `exchange` in the audit record of a change.

use std::future::Future;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};

use keyward_base::id::ExchangeId;

/// The field of answers.
const FIELD: HeaderName = HeaderName::from_static("keyward-request");

tokio::task_local! {
    static CURRENT: ExchangeId;
}

/// The id of the request that the current task answers.
pub(super) fn current() -> Option<ExchangeId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs `work`, in a task of its own, for the current request.
pub(super) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(current().unwrap_or_else(ExchangeId::random), work)
}

/// Gives the request an id, and logs how it was answered.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = ExchangeId::random();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = CURRENT.scope(id.clone(), next.run(request)).await;
    // Other paths may contain a ticket.
    if path.starts_with("/api/") {
        let status = response.status().as_u16();
        tracing::debug!(id = "api_request", request = %id, %method, path, status, "a request was answered");
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(FIELD, value);
    }
    response
}
