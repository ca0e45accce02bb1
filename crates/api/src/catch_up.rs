//! Read-your-writes across replicas behind a load balancer: a replica first catches up with what the others have
//! stored. If one process owns the store, nothing waits.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, StatusCode};

use super::state::Admin;

/// Catches up before a page is served, because another replica may just have created its link.
pub(super) async fn before_pages(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    catch_up(&admin).await;
    next.run(request).await
}

/// Repeats a read that found nothing, after catching up.
pub(super) async fn read_again(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read || !admin.deps().directory.is_shared() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let again = Request::from_parts(parts.clone(), Body::empty());
    let response = next.clone().run(Request::from_parts(parts, body)).await;
    match response.status() == StatusCode::NOT_FOUND && catch_up(&admin).await {
        true => next.run(again).await,
        false => response,
    }
}

/// Waits until this replica knows what the others have stored. Returns whether it shares the store and has
/// caught up.
pub(super) async fn catch_up(admin: &Admin) -> bool {
    let directory = &admin.deps().directory;
    match directory.catch_up().await {
        Ok(()) => directory.is_shared(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the changes of other replicas: a request is answered from memory");
            false
        }
    }
}
