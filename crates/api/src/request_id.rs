//! The id of a request of the API: in the answer's `Keyward-Request`, in error bodies as `request`, in log lines, and
//! as `exchange` in the audit record of a change.

use std::future::Future;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{FutureExt as _, Stream, stream};
use http::{HeaderName, HeaderValue};
use tokio::task::JoinHandle;

use keyward_base::id::ExchangeId;
use keyward_state::observe::change::TaskActor;

/// The field of answers.
const FIELD: HeaderName = HeaderName::from_static("keyward-request");

tokio::task_local! {
    static CURRENT: ExchangeId;
}

/// The id of the request that the current task answers.
pub(super) fn current() -> Option<ExchangeId> {
    CURRENT.try_with(Clone::clone).ok()
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
    let (id, mut events) = (carried(), Box::pin(events));
    stream::poll_fn(move |context| {
        CURRENT.sync_scope(id.clone(), || events.as_mut().poll_next(context))
    })
}

/// The id of the current request; a new one outside of a request.
fn carried() -> ExchangeId {
    current().unwrap_or_else(ExchangeId::random)
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_task_and_a_streamed_answer_of_a_request_have_its_id() {
        let id = ExchangeId::random();
        let begun =
            async { (spawn(async { current() }), streamed(stream::once(async { current() }))) };
        let (task, answer) = CURRENT.scope(id.clone(), begun).await;
        assert_eq!(task.await.unwrap(), Some(id.clone()));
        assert_eq!(answer.collect::<Vec<_>>().await, [Some(id)]);
    }
}
