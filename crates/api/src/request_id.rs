//! Facts about a request that precede authentication. Its id is in the answer's `Keyward-Request`, in error bodies
//! as `request`, in log lines, and as `exchange` in the audit record of a change.

use std::future::Future;
use std::net::IpAddr;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{FutureExt as _, Stream, stream};
use http::{HeaderName, HeaderValue, Method};
use tokio::task::JoinHandle;

use keyward_base::id::ExchangeId;
use keyward_state::observe::change::TaskActor;

/// The field of answers.
const FIELD: HeaderName = HeaderName::from_static("keyward-request");

/// A request that is answered.
#[derive(Clone)]
struct CurrentRequest {
    id: ExchangeId,
    /// Whether its method is one that changes nothing.
    is_read: bool,
}

tokio::task_local! {
    static CURRENT: CurrentRequest;
}

/// The id of the request that the current task answers.
pub(super) fn current() -> Option<ExchangeId> {
    CURRENT.try_with(|request| request.id.clone()).ok()
}

/// Whether the current task answers a request of the API that changes nothing.
pub(super) fn is_read() -> bool {
    CURRENT.try_with(|request| request.is_read).unwrap_or_default()
}

/// Runs `work` for the current request, and as its actor, in a task of its own, so that it runs to its end also when the
/// client disconnects.
pub(super) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(CURRENT.scope(carried(), TaskActor::current().scope(work)).boxed())
}

/// A part of the answer of the current request that is made after its handler has returned.
pub(super) fn streamed<S: Stream>(events: S) -> impl Stream<Item = S::Item> {
    let (request, mut events) = (carried(), Box::pin(events));
    stream::poll_fn(move |context| {
        CURRENT.sync_scope(request.clone(), || events.as_mut().poll_next(context))
    })
}

/// The current request; outside of a request, one with a new id.
fn carried() -> CurrentRequest {
    let new = |_| CurrentRequest { id: ExchangeId::random(), is_read: false };
    CURRENT.try_with(Clone::clone).unwrap_or_else(new)
}

/// Gives the request an id, and logs how it was answered.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = ExchangeId::random();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // Elsewhere, a link that is opened is used up.
    let is_read = path.starts_with("/api/") && (method == Method::GET || method == Method::HEAD);
    let current = CurrentRequest { id: id.clone(), is_read };
    let mut response = CURRENT.scope(current, next.run(request)).await;
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

/// A request that did not come in cleartext from another machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecureRequest {
    /// The address of the client.
    pub(super) client: IpAddr,
    /// Whether the client used TLS, which decides the name of the cookie.
    pub(super) is_https: bool,
    /// Whether a page of another origin sent it, as the configuration allows: without cookies.
    pub(super) is_foreign: bool,
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_task_and_a_streamed_answer_of_a_request_have_its_id() {
        let id = ExchangeId::random();
        let begun =
            async { (spawn(async { current() }), streamed(stream::once(async { current() }))) };
        let request = CurrentRequest { id: id.clone(), is_read: false };
        let (task, answer) = CURRENT.scope(request, begun).await;
        assert_eq!(task.await.unwrap(), Some(id.clone()));
        assert_eq!(answer.collect::<Vec<_>>().await, [Some(id)]);
    }
}
